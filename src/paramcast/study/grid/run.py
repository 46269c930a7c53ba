"""Running a study: what is missing of all cells, then each cell's table and verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ..engines import Engine
from ..engines.environment import describe_environment
from ..pilot import estimate_seconds
from ..result import summarise
from ..runner import PLANNED, Runner, Watcher
from ..spec import DEFAULT, Numerics, hash_of
from ..store.folder import opened, write_json
from ..store.live import Live
from .cells import Cell, final_jobs, make_cells, tuning_jobs
from .file import StudyFile
from .place import DATABASE, RESULT


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
) -> dict[str, Any]:
    """Do what is not stored yet and write study.json.

    Args:
        study, text: the study and the text that it was read from, which is kept in the store.
        out: the folder.
        engine: what runs it.
        store_url: of the PostgreSQL database that holds the runs; None for the one that the
            folder names, else study.db in it.

    Returns:
        What study.json holds: one entry per cell, as `result.summarise` makes them.

    Raises:
        StudyError: a grid that cannot be run as asked.
        StoreError: the folder cannot be used, or holds another study's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    cells = make_cells(study, out, device=device, numerics=numerics, data_dir=data_dir)
    identity = {
        "identity": _identity(text, numerics),
        "name": study.name,
        "text": text,
        "device": device,
        "numerics": numerics._asdict(),
    }
    with (
        opened(out, DATABASE, "study", identity, partial(_differs, text), store_url) as store,
        Live(out) as live,
    ):
        tuning, final = count(cells)
        store.set_about(PLANNED, {"tuning": tuning, "final": final})
        environment = describe_environment(cells[0].plan.options.source, engine)
        runner = Runner(store, out, environment, engine=engine, watcher=watcher, live=live)
        outcomes = runner.phase("tuning", tuning_jobs(cells))
        chosen = [cell.plan.choose(outcomes) for cell in cells]
        outcomes = runner.phase("final", final_jobs(cells, chosen))
        result = {
            "schema": 1,
            "study": study.name,
            "question": study.question,
            "notes": list(study.notes),
            "cells": [_judge(cell, c, outcomes) for cell, c in zip(cells, chosen, strict=True)],
            "environment": environment,
            "reused_runs": runner.reused,
            "wall_seconds": time.perf_counter() - begun,
            "text": text,
            "out": str(out),
        }
        write_json(out / RESULT, result)
    return result


def count(cells: Sequence[Cell]) -> tuple[int, int]:
    """Tuning runs and final runs; those that two cells share are counted once.

    Final runs at a tuned rate are counted as if every method had a rate of its own.
    """
    final = set()
    for i, cell in enumerate(cells):
        plan = cell.plan
        rates = dict.fromkeys(plan.with_own_rate, plan.options.lr or -1.0 - i)
        final |= {(plan.common, *point) for point in plan.final_points(plan.rows(rates))}
    return len(tuning_jobs(cells)), len(final)


def estimate(cells: Sequence[Cell], workers: int) -> float:
    """Seconds that the study takes: one epoch measured per task, network and batch size."""
    known: dict[tuple[str, int], float] = {}
    total = 0.0
    for cell in cells:
        plan = cell.plan
        kind = (cell.settings["task"], plan.options.batch_size)
        tuning, final = plan.count()
        work = (tuning + final) * plan.options.epochs
        if kind not in known:
            known[kind] = estimate_seconds(plan, workers) / work
        total += known[kind] * work
    return total


def default_folder(study: StudyFile, text: str, numerics: Numerics = DEFAULT) -> Path:
    """Where a study's results go unless told otherwise."""
    return Path("paramcast-runs") / f"{study.name}-{_identity(text, numerics)[:8]}"


def _identity(text: str, numerics: Numerics) -> str:
    """What makes two studies the same: the file and, where not the usual ones, the numerics."""
    return hash_of(text if numerics == DEFAULT else [text, *numerics])


def _judge(cell: Cell, chosen: dict[str, float], outcomes: dict[str, Any]) -> dict[str, Any]:
    plan = cell.plan
    confidence = 1.0 - 0.05 / max(1, plan.judged)
    result = summarise(
        plan, plan.rows(chosen), chosen, outcomes, confidence, plan.options.seeds, None
    )
    for name in ("identity", "command", "out"):
        del result[name]
    return {"settings": cell.settings, "label": cell.label, **result}


def _differs(text: str, found: dict[str, Any]) -> str:
    if found.get("name") is None:
        raise StudyError("the store names no study")
    if found["text"] != text:
        return f"study {found['name']}, of another text"
    stored = {**DEFAULT._asdict(), **found.get("numerics", {})}
    return f"study {found['name']}, with {', '.join(f'{k} {v}' for k, v in stored.items())}"
