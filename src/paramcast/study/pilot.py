"""The pilot: tune every method alike, run the final seeds in pairs, and judge."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout

from ..errors import RunError, StoreError, StudyError
from .engine import Finished, run_all
from .environment import describe_environment
from .loop import run
from .plan import Plan
from .result import summarise
from .spec import RunSpec
from .store import Store
from .verdict import EARLY

DATABASE, RESULT, LOCK = "pilot.db", "pilot.json", ".lock"


class Watcher(Protocol):
    """Who is told how far a pilot is."""

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins with so many runs, of which some are stored already."""

    def finished(self, finished: Finished) -> None:
        """An attempt ended."""


def run_pilot(
    plan: Plan, *, workers: int, watcher: Watcher, timeout: float | None = None
) -> dict[str, Any]:
    """Do what is not stored yet, judge, and write pilot.json.

    Args:
        plan: what to run, and where the results go.
        workers: processes with one thread each.
        watcher: who is told how far it is.
        timeout: seconds that one run may take.

    Returns:
        What pilot.json holds.

    Raises:
        StoreError: the folder cannot be used, or holds another specification's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    with _open(plan) as store:
        looks = store.looks()
        confidence = _confidence(plan, looks)
        runner = _Runner(plan, store, workers, watcher, timeout)
        chosen = plan.choose(runner.phase("tuning", plan.tuning_specs()))
        rows = plan.rows(chosen)
        outcomes = runner.phase("final", plan.final_specs(rows))
        first_look = looks[0] if looks else plan.options.seeds
        result = summarise(plan, rows, chosen, outcomes, confidence, first_look, workers)
        result["environment"] = runner.environment
        result["reused_runs"] = runner.reused
        result["wall_seconds"] = time.perf_counter() - begun
        store.add_look(plan.options.seeds)  # first: a verdict that was read must count
        _write_json(plan.out / RESULT, result)
    return result


class _Runner:
    """Runs what is missing of a phase and stores it."""

    def __init__(
        self, plan: Plan, store: Store, workers: int, watcher: Watcher, timeout: float | None
    ) -> None:
        self.plan, self.store, self.workers = plan, store, workers
        self.watcher, self.timeout, self.reused = watcher, timeout, 0
        self.environment = describe_environment(plan.options.source)
        self.failures: dict[str, Finished] = {}

    def phase(self, name: str, specs: list[RunSpec]) -> dict[str, dict[str, Any]]:
        """All outcomes of these specifications, by key."""
        unique = {spec.key: spec for spec in specs}
        outcomes = self.store.outcomes(unique)
        missing = [spec for key, spec in unique.items() if key not in outcomes]
        self.reused += len(outcomes)
        if unique:
            self.watcher.phase(name, len(unique), len(outcomes))

        def note(done: Finished) -> None:
            if done.outcome["status"] in ("done", "diverged"):
                outcomes[done.spec.key] = done.outcome
            self._keep(done)
            self.watcher.finished(done)

        if missing:
            run_all(
                missing,
                self.plan.options.source,
                workers=self.workers,
                finished=note,
                timeout=self.timeout,
            )
        if self.failures:
            raise RunError(self._explain(name, len(unique)))
        return outcomes

    def _keep(self, done: Finished) -> None:
        if done.outcome["status"] in ("done", "diverged"):
            self.store.put(done.spec, done.outcome, self.environment)
            self.failures.pop(done.spec.key, None)
        else:
            self.store.put_failure(done.spec, done.outcome)
            self.failures[done.spec.key] = done

    def _explain(self, name: str, total: int) -> str:
        first = next(iter(self.failures.values()))
        return (
            f"{len(self.failures)} of {total} {name} runs failed twice, so there is no verdict; "
            f"the first was {first.spec.method} at learning rate {first.spec.lr:.4g}, seed "
            f"{first.spec.seed}: {first.outcome['reason']}. The finished runs are kept in "
            f"{self.plan.out}; mend the cause and start the same command again"
        )


@contextmanager
def _open(plan: Plan) -> Iterator[Store]:
    """The folder's store, locked, checked to hold this specification's runs."""
    out = plan.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be a folder ({error.strerror}); choose another"
        ) from None
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out} is not writable; choose another folder")
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another paramcast is running in {out}; wait for it, or choose another --out"
        ) from None
    try:
        store = Store(out / DATABASE)
        try:
            found = store.about("pilot")
            if found is None:
                store.set_about("pilot", {"identity": plan.identity, **plan.specification()})
            elif found["identity"] != plan.identity:
                raise StoreError(
                    f"{out} holds the results of another specification "
                    f"({_differences(found, plan.specification())}); "
                    "choose another --out folder, nothing was changed"
                )
            yield store
        finally:
            store.close()
    finally:
        lock.release()


def _confidence(plan: Plan, looks: list[int]) -> float:
    """95 % at the first look, 98 % at 2 n and 4 n seeds; shared among the predictors judged."""
    seeds = plan.options.seeds
    if looks:
        left = [n for n in (looks[0], 2 * looks[0], 4 * looks[0]) if n >= looks[-1]]
        if seeds not in left:
            raise StudyError(
                f"{plan.out} was judged at {looks[-1]} seeds; there --seeds can be "
                f"{' or '.join(map(str, left))}, got {seeds} (looking after every few seeds finds "
                "differences that are not there)"
            )
    alpha = 0.05 if not looks or seeds == looks[0] else 0.02
    return 1.0 - alpha / max(1, plan.judged)


def estimate_seconds(plan: Plan, workers: int) -> float:
    """How long the pilot will take: one epoch measured here, times the runs."""
    torch.set_num_threads(1)
    lr = plan.options.lr or plan.options.lr_range[0]
    spec = replace(plan.common, lr=lr, epochs=1, method="base")
    try:
        run(spec, plan.prepared)
    except Exception as error:
        raise StudyError(
            f"one epoch of the task failed with {type(error).__name__}: {error}"
        ) from error
    start = time.perf_counter()
    run(spec, plan.prepared)
    epoch = time.perf_counter() - start
    tuning, final = plan.count()
    return (tuning + final * (1 + EARLY) / 2) * epoch * plan.options.epochs / workers


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first settings in which a stored specification differs, in words."""
    flat_found, flat_wanted = _flat(found), _flat(json.loads(json.dumps(wanted)))
    names = [k for k in flat_wanted if flat_found.get(k) != flat_wanted[k]]
    parts = [
        f"{k}: there {flat_found.get(k)}, asked {flat_wanted[k]}" if k != "fingerprint"
        else "the task's data or code changed"
        for k in names[:3]
    ]  # fmt: skip
    return "; ".join(parts)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in value.items() if k != "common"}, **value["common"]}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(partial, path)
