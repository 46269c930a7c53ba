"""Run a comparison: train what is missing of all cells, then make each cell's table and verdicts.

A pilot is a study of one cell whose verdict may be read again with more seeds.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...errors import StudyError
from ..engines import Engine
from ..engines.environment import describe_environment
from ..plan import Plan
from ..result import summarise
from ..runner import PLANNED, Runner, Watcher
from ..spec import DEFAULT, Numerics, hash_of
from ..store.folder import RESULT, opened, write_json
from ..store.live import Live
from ..stored import SCHEMA, Judged, Result
from ..tasks.source import Source
from ..tasks.task import Prepared
from ..training.loop import run
from .cells import final_jobs, make_cells, tuning_jobs
from .file import StudyFile

Outcomes = dict[str, dict[str, Any]]


def run_pilot(
    plan: Plan, *, engine: Engine, watcher: Watcher, store_url: str | None = None
) -> Result:
    """Train what is not stored yet, judge, and write result.json.

    Args:
        plan: what to run, and where the results go.
        engine: what runs it.
        watcher: told how far it is.
        store_url: of the PostgreSQL database that holds the runs; None for the one that the
            folder names, else runs.db in the folder.

    Returns:
        The content of result.json, with one cell.

    Raises:
        StoreError: the folder cannot be used, or holds another specification's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    specification = {"kind": "pilot", "identity": plan.identity, **plan.specification()}
    source, seeds = plan.options.source, plan.options.seeds
    with _running(plan.out, specification, source, engine, watcher, store_url) as runner:
        looks = runner.store.looks()
        confidence = _confidence(plan, looks)
        (chosen,), outcomes = _outcomes(runner, [plan], seeds=seeds)
        rows, first_look = plan.rows(chosen), looks[0] if looks else seeds
        judged = summarise(plan, rows, chosen, outcomes, confidence, first_look, engine.workers)
        result: Result = {
            "schema": SCHEMA,
            "kind": "pilot",
            "identity": plan.identity,
            "name": judged["task"],
            "question": "",
            "notes": [],
            "cells": [judged],
            "command": plan.command(seeds),
            "out": str(plan.out),
            "environment": runner.environment,
            "reused_runs": runner.reused,
            "wall_seconds": time.perf_counter() - begun,
            "text": "",
        }
        runner.store.add_look(seeds)  # before anyone can read the verdict: it must count
        write_json(plan.out / RESULT, result)
    return result


def run_study(
    study: StudyFile,
    text: str,
    out: Path,
    *,
    engine: Engine,
    watcher: Watcher,
    device: str = "cpu",
    numerics: Numerics = DEFAULT,
    data_dir: str | None = None,
    store_url: str | None = None,
) -> Result:
    """Train what is not stored yet, judge, and write result.json.

    Args:
        study, text: the study and the text that it was read from, which the store keeps.
        out: the folder.
        engine, watcher, store_url: as those of `run_pilot`.
        device, numerics, data_dir: as those of `make_cells`.

    Returns:
        The content of result.json, with a cell for each comparison.

    Raises:
        StudyError: a grid that cannot be run as asked.
        StoreError: the folder cannot be used, or holds another study's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    cells = make_cells(study, out, device=device, numerics=numerics, data_dir=data_dir)
    plans = [cell.plan for cell in cells]
    specification: dict[str, Any] = {
        "kind": "study",
        "identity": _identity(text, numerics),
        "name": study.name,
        "text": text,
        "device": device,
        "numerics": numerics._asdict(),
    }
    source = plans[0].options.source
    with _running(out, specification, source, engine, watcher, store_url) as runner:
        # all cells' runs at once, so that no worker waits for the end of a cell; then cell by cell
        rates, outcomes = _outcomes(runner, plans)
        judged: list[Judged] = []
        for cell, plan, chosen in zip(cells, plans, rates, strict=True):
            seeds, rows = plan.options.seeds, plan.rows(chosen)
            made = summarise(plan, rows, chosen, outcomes, _confidence(plan, []), seeds, None)
            judged.append({**made, "settings": cell.settings, "label": cell.label})
        result: Result = {
            "schema": SCHEMA,
            "kind": "study",
            "identity": specification["identity"],
            "name": study.name,
            "question": study.question,
            "notes": list(study.notes),
            "cells": judged,
            "command": f"paramcast study resume {shlex.quote(str(out))}",
            "out": str(out),
            "environment": runner.environment,
            "reused_runs": runner.reused,
            "wall_seconds": time.perf_counter() - begun,
            "text": text,
        }
        write_json(out / RESULT, result)
    return result


@contextmanager
def _running(
    out: Path,
    specification: dict[str, Any],
    source: Source,
    engine: Engine,
    watcher: Watcher,
    store_url: str | None,
) -> Iterator[Runner]:
    """A runner for a comparison, whose folder is locked meanwhile."""
    with opened(out, specification, store_url) as store, Live(out) as live:
        environment = describe_environment(source, engine)
        if code := specification.get("code"):  # of methods that are the user's
            environment["methods"] = ", ".join(f"{name}: {own}" for name, own in code.items())
        yield Runner(store, out, environment, engine=engine, watcher=watcher, live=live)


def _outcomes(
    runner: Runner, plans: Sequence[Plan], **planned: int
) -> tuple[list[dict[str, float]], Outcomes]:
    """Tune, then run the final runs: each plan's learning rates, and all final outcomes by key.

    Args:
        planned: what else to keep beside the number of runs, for `paramcast watch`.
    """
    tuning, final = count(plans)
    runner.store.set_about(PLANNED, {"tuning": tuning, "final": final, **planned})
    tuned = runner.phase("tuning", tuning_jobs(plans))
    rates = [plan.choose(tuned) for plan in plans]
    return rates, runner.phase("final", final_jobs(plans, rates))


def _confidence(plan: Plan, looks: list[int]) -> float:
    """95 % at the first look, 98 % at 2 n and 4 n seeds; the methods judged share the rest."""
    seeds = plan.options.seeds
    if looks:
        # the looks that are left, including the last one again
        left = [n for n in (looks[0], 2 * looks[0], 4 * looks[0]) if n >= looks[-1]]
        if seeds not in left:
            raise StudyError(
                f"{plan.out} was judged at {looks[-1]} seeds; --seeds can be "
                f"{' or '.join(map(str, left))}, got {seeds} (looking after every few seeds finds "
                "differences that are not there)"
            )
    alpha = 0.05 if not looks or seeds == looks[0] else 0.02
    return 1.0 - alpha / max(1, plan.judged)


def count(plans: Sequence[Plan]) -> tuple[int, int]:
    """Count tuning runs and final runs; a run that plans share counts once.

    Rates that are yet to be tuned count as if every method had one of its own.
    """
    final = set()
    for i, plan in enumerate(plans):
        # a negative number stands for a rate not known yet, a different one for each plan
        rates = dict.fromkeys(plan.with_own_rate, plan.options.lr or -1.0 - i)
        final |= {(plan.common, *point) for point in plan.final_points(plan.rows(rates))}
    return len(tuning_jobs(plans)), len(final)


def estimate(plans: Sequence[Plan], workers: int) -> float:
    """Estimate the seconds that the runs take, from one epoch here per task and batch size."""
    torch.set_num_threads(1)
    epochs: dict[tuple[Source, int], float] = {}
    total = 0.0
    for plan in plans:
        options = plan.options
        kind = options.source, options.batch_size
        if kind not in epochs:
            lr = options.lr or options.lr_range[0]
            spec = replace(plan.common, lr=lr, epochs=1, method="base")
            if not isinstance(plan.subject, Prepared):  # only running it would tell
                return math.nan
            prepared = plan.subject.to(spec.device)
            try:  # the first run warms up, the second is timed
                run(spec, prepared)
            except Exception as error:
                raise StudyError(
                    f"one epoch of the task failed with {type(error).__name__}: {error}"
                ) from error
            start = time.perf_counter()
            run(spec, prepared)
            epochs[kind] = time.perf_counter() - start
        tuning, final = count([plan])
        # the mean length of a final run
        share = sum(plan.shares) / len(plan.shares)
        total += (tuning + final * share) * epochs[kind] * options.epochs
    return total / workers


def default_folder(study: StudyFile, text: str, numerics: Numerics = DEFAULT) -> Path:
    """The folder for a study's results if the user names none."""
    return Path("paramcast-runs") / f"{study.name}-{_identity(text, numerics)[:8]}"


def _identity(text: str, numerics: Numerics) -> str:
    """The hash that identifies a study: of its file and, unless they are DEFAULT, its numerics."""
    return hash_of(text if numerics == DEFAULT else [text, *numerics])
