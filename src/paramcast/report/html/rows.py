"""The rows behind the numbers: runs with what they are filtered by, and those that went wrong."""

from __future__ import annotations

from typing import Any

from ...study.judging.sentences import divergence
from ...study.words import Words
from .cells import Cell
from .load import Run, Stored
from .marks import NONE, number

RUN_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "result", "loss",
            "seconds", "key")  # fmt: skip
BAD_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "reason")


def behind_of(cells: list[Cell]) -> dict[str, list[tuple[int, str]]]:
    """By key of a run: the comparisons and methods that it belongs to."""
    found: dict[str, list[tuple[int, str]]] = {}
    for cell in cells:
        for arm in cell.arms:
            for run in (*arm.final, *arm.early):
                if run is not None:
                    found.setdefault(run.key, []).append((cell.index, arm.name))
        for method, by_lr in cell.tuning.items():
            name = cell.arms[0].name if method == "base" else method
            for run in (run for runs in by_lr.values() for run in runs):
                found.setdefault(run.key, []).append((cell.index, name))
    return found


def run_row(
    run: Run, behind: list[tuple[int, str]], words: Words, *, study: bool
) -> dict[str, Any]:
    """A row of the table of runs: what is shown, and what it is filtered by."""
    outcome, spec = run.outcome, run.spec
    values = outcome.get("test") or outcome.get("validation") or {}
    methods = list(dict.fromkeys(name for _, name in behind)) or [spec["method"]]
    cells = list(dict.fromkeys(i for i, _ in behind))
    shown = [
        ", ".join(str(i + 1) for i in cells), ", ".join(methods),
        words.either(f"phase.{spec['phase']}", spec["phase"]), spec["seed"],
        f"{outcome['steps']}", f"{spec['lr']:.4g}",
        words.either(f"status.{outcome['status']}", outcome["status"]),
        *("" if values.get(k) is None else number(values[k]) for k in ("metric", "loss")),
        f"{outcome['seconds']:.3g}", run.key[:12],
    ]  # fmt: skip
    return {
        "shown": shown if study else shown[1:],
        "cells": cells,
        "methods": methods,
        "phase": spec["phase"],
        "share": f"{spec['share']:g}",
        "status": outcome["status"],
    }


def bad_of(stored: Stored, cells: list[Cell], words: Words) -> list[list[str]]:
    """Runs that diverged and attempts that failed, with the reason of each."""
    behind = behind_of(cells)
    rows = []
    for run in stored.runs:
        if run.outcome["status"] != "done":
            known = behind.get(run.key, [])
            where = ", ".join(dict.fromkeys(str(i + 1) for i, _ in known))
            name = ", ".join(dict.fromkeys(name for _, name in known)) or run.spec["method"]
            reason = divergence(run.outcome, words)
            rows.append([where, name, *_where(run.spec, words), words("status.diverged"), reason])
    for failure in stored.failures:
        status = words.either(f"status.{failure.status}", failure.status)
        place = [NONE, failure.spec["method"], *_where(failure.spec, words)]
        rows.append([*place, status, failure.reason])
    return rows


def _where(spec: dict[str, Any], words: Words) -> list[str]:
    """Phase, seed, length and learning rate of a run."""
    length = "T" if spec["share"] == 1.0 else f"{spec['share']:g} T"
    phase = words.either(f"phase.{spec['phase']}", spec["phase"])
    return [phase, str(spec["seed"]), length, f"{spec['lr']:.4g}"]
