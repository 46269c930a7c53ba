"""The pilot: tune every method alike, run the final seeds in pairs, and judge."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import torch

from ..errors import StudyError
from .engines import Engine
from .engines.environment import describe_environment
from .plan import Plan
from .result import summarise
from .runner import PLANNED, Runner, Watcher
from .spec import DEFAULT
from .store.folder import opened, write_json
from .store.live import Live
from .training.loop import run

DATABASE, RESULT = "pilot.db", "pilot.json"


def run_pilot(
    plan: Plan, *, engine: Engine, watcher: Watcher, store_url: str | None = None
) -> dict[str, Any]:
    """Do what is not stored yet, judge, and write pilot.json.

    Args:
        plan: what to run, and where the results go.
        engine: what runs it.
        watcher: who is told how far it is.
        store_url: of the PostgreSQL database that holds the runs; None for the one that the
            folder names, else pilot.db in it.

    Returns:
        What pilot.json holds.

    Raises:
        StoreError: the folder cannot be used, or holds another specification's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    specification = plan.specification()
    with (
        opened(
            plan.out,
            DATABASE,
            "pilot",
            {"identity": plan.identity, **specification},
            lambda found: _differences(found, specification),
            store_url,
        ) as store,
        Live(plan.out) as live,
    ):
        looks = store.looks()
        confidence = _confidence(plan, looks)
        tuning, final = plan.count()
        store.set_about(PLANNED, {"tuning": tuning, "final": final, "seeds": plan.options.seeds})
        runner = Runner(
            store,
            plan.out,
            describe_environment(plan.options.source, engine),
            engine=engine,
            watcher=watcher,
            live=live,
        )
        chosen = plan.choose(runner.phase("tuning", plan.jobs(plan.tuning_specs())))
        rows = plan.rows(chosen)
        outcomes = runner.phase("final", plan.jobs(plan.final_specs(rows)))
        first_look = looks[0] if looks else plan.options.seeds
        result = summarise(plan, rows, chosen, outcomes, confidence, first_look, engine.workers)
        result["environment"] = runner.environment
        result["reused_runs"] = runner.reused
        result["wall_seconds"] = time.perf_counter() - begun
        store.add_look(plan.options.seeds)  # first: a verdict that was read must count
        write_json(plan.out / RESULT, result)
    return result


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
    prepared = plan.prepared.to(spec.device)
    try:
        run(spec, prepared)
    except Exception as error:
        raise StudyError(
            f"one epoch of the task failed with {type(error).__name__}: {error}"
        ) from error
    start = time.perf_counter()
    run(spec, prepared)
    epoch = time.perf_counter() - start
    tuning, final = plan.count()
    share = sum(plan.shares) / len(plan.shares)
    return (tuning + final * share) * epoch * plan.options.epochs / workers


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
    others = {k: v for k, v in value.items() if k != "common"}
    return {**others, **DEFAULT._asdict(), **value["common"]}
