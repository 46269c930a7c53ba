"""What the terminal shows, as a plain dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ...study.judging.sentences import sentence
from ...study.judging.table import LR_MATCHED
from ...study.judging.verdict import PERCENT
from ...study.store.live import InProgress
from ...study.words import Words
from .board import AXES, CURVES, PREDICTIONS, Arm, Board, Key, key_of, method_name, phases
from .follow import Look


def view(board: Board, look: Look, folder: str) -> dict[str, Any]:
    """Everything of the comparison that had a run last, and how far the whole is.

    Validation values only: what is judged on the test split is for the verdict.

    Args:
        board, look: what is known.
        folder: its name.
    """
    last = board.cells()
    cells = list(last)
    cell = max(range(len(cells)), key=lambda i: last[cells[i]], default=None)
    chosen = None if cell is None else cells[cell]
    arms = {key: arm for key, arm in board.arms.items() if key.cell == chosen}
    metric = board.metric.get(chosen, "metric") if chosen is not None else "metric"
    percent = metric in PERCENT
    return {
        "kind": look.kind,
        "name": _name(look),
        "folder": folder,
        "state": _state(look),
        "phases": phases(board, look),
        "diverged": board.diverged,
        "failed": board.failed,
        "seconds_left": _seconds_left(board, look),
        "cells": labels(cells, lambda axis: axis.replace("_", " ")),
        "cell": cell,
        "metric": metric.replace("_", " ") + (", %" if percent else ""),
        "arms": _arms(arms, percent),
        "tuning": _tuning(arms),
        "running": [_running(run, arms) for run in look.running],
        "events": [event._asdict() for event in reversed(board.events())],
        "verdicts": verdict_sentences(look),
    }  # fmt: skip


def _name(look: Look) -> str:
    known = look.about if look.kind == "study" else look.about.get("common", {})
    return str(known.get("name" if look.kind == "study" else "task"))


def _state(look: Look) -> str:
    if look.driver:
        return "running"
    return "finished" if look.finished else "stopped"


def _seconds_left(board: Board, look: Look) -> float | None:
    """Of the phase under way: runs left times the time between the latest ends."""
    each = board.seconds_per_run()
    open_ = [p for p in phases(board, look) if p["total"] is not None and p["done"] < p["total"]]
    if each is None or not open_ or not look.driver:
        return None
    return float(each * (open_[0]["total"] - open_[0]["done"]))


def labels(cells: list[tuple[Any, ...]], named: Callable[[str], str]) -> list[str]:
    """Comparisons by the settings in which they differ."""
    differ = [i for i in range(len(AXES)) if len({cell[i] for cell in cells}) > 1] or [0]
    return [
        ", ".join(f"{named(AXES[i])} {cell[i]}" for i in differ if cell[i] is not None)
        for cell in cells
    ]


def _arms(arms: dict[Key, Arm], percent: bool) -> list[dict[str, Any]]:
    """The arms of the final runs: full length before 0.8 T, the base first, by name and rate."""
    final = [(key, arm, arm_name(key, arms)) for key, arm in arms.items() if key.phase == "final"]
    final.sort(key=lambda i: (-i[0].share, i[0].method != "base", len(i[2]), i[2], i[0].lr))
    return [_arm(key, arm, name, percent) for key, arm, name in final]


def _arm(key: Key, arm: Arm, name: str, percent: bool) -> dict[str, Any]:
    scale = {"metric": 100.0 if percent else 1.0}
    curve = {n: _scaled(arm.curve.of(column), scale.get(n, 1.0)) for n, column in CURVES.items()}
    return {
        "method": name,
        "lr": key.lr,
        "share": key.share,
        "done": arm.done,
        "diverged": arm.diverged,
        "anomalous": arm.anomalous,
        "loss": arm.loss,
        "metric": next((v for v in reversed(curve["metric"]) if v is not None), None),
        "curve": {"step": arm.curve.of("step"), **curve},
        "predictions": {
            "step": arm.predictions.of("step"),
            **{n: _scaled(arm.predictions.of(n), 1.0) for n in PREDICTIONS},
        },
    }


def arm_name(key: Key, arms: Iterable[Key]) -> str:
    """An arm's name among those of its comparison."""
    name = method_name({"method": key.method, "base": key.cell[AXES.index("base")]})
    return f"{name}-{LR_MATCHED}" if is_matched(key, arms) else name


def is_matched(key: Key, arms: Iterable[Key]) -> bool:
    """Whether it is a predictor's control: the base at a rate that nothing else has."""
    if key.method != "base" or key.phase != "final":
        return False
    own = {other.lr for other in arms if other.phase == "tune" or other.method != "base"}
    return bool(own) and key.lr not in own


def _scaled(values: list[float | None], scale: float) -> list[float | None]:
    return [None if value is None else float(f"{scale * value:.5g}") for value in values]


def _tuning(arms: dict[Key, Arm]) -> list[dict[str, Any]]:
    """By method: the learning rates tried so far with their mean losses, and the best of them."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    for key, arm in sorted(arms.items(), key=lambda i: (i[0].method != "base", i[0])):
        if key.phase == "tune" and arm.loss is not None:
            found.setdefault(arm_name(key, arms), []).append((key.lr, arm.loss, arm.done))
    return [
        {
            "method": method,
            "points": [list(point) for point in points],
            "lr": min(points, key=lambda point: point[1])[0],
        }
        for method, points in found.items()
    ]


def _running(run: InProgress, arms: Iterable[Key]) -> dict[str, Any]:
    key = key_of(run.spec)
    last = run.curve[-1] if run.curve else {}
    losses = [point.get("validation_loss") for point in run.curve]
    return {
        "method": arm_name(key, arms),
        "lr": key.lr,
        "phase": "tuning" if key.phase == "tune" else "final",
        "share": key.share,
        "seed": run.spec["seed"],
        "step": int(last.get("step", 0)),
        "steps": run.steps,
        "loss": [None if loss is None else float(loss) for loss in losses],
    }


def verdict_sentences(look: Look) -> list[str]:
    """The sentences of a pilot, or how often a study gave each verdict."""
    if look.result is None or not look.finished:
        return []
    if look.kind == "pilot":
        words = Words("en")
        return [
            f"{method}, {question}: {sentence(verdict, look.result['metric'], words)}"
            for method, answers in look.result["verdicts"].items()
            for question, verdict in answers.items()
        ]
    counts: dict[str, Counter[str]] = {}
    for cell in look.result["cells"]:
        for method, answers in cell["verdicts"].items():
            counts.setdefault(method, Counter())[answers["quality"].kind] += 1
    return [
        f"{method}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        for method, kinds in counts.items()
    ]
