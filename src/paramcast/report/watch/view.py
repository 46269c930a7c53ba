"""What the terminal shows, as a plain dictionary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ...study.judging.sentences import caution, kind, sentence
from ...study.judging.verdict import PERCENT
from ...study.store.live import InProgress
from ...study.words import Words
from ..html.comparison import mean_curve
from ..html.load import Run
from .board import (
    PHASES,
    Arms,
    Board,
    Key,
    alarms,
    arm_name,
    key_of,
    labels,
    metric_name,
    phase_name,
    predictions,
    settings_at_rates,
)
from .follow import Look


def view(board: Board, look: Look, folder: str) -> dict[str, Any]:
    """Everything of the comparison that had a run last, and how far the whole is.

    Validation values only: what is judged on the test split is for the verdict.

    Args:
        board, look: what is known.
        folder: its name.
    """
    cells = list(board.cells)
    cell = max(range(len(cells)), key=lambda i: board.last[cells[i]], default=None)
    arms = {} if cell is None else board.cells[cells[cell]]
    metric = metric_name(arms)
    percent = metric in PERCENT
    known = look.about if look.kind == "study" else look.about.get("common", {})
    phases = _phases(board, look)
    return {
        "kind": look.kind,
        "name": str(known.get("name" if look.kind == "study" else "task")),
        "folder": folder,
        "state": "running" if look.driver else "finished" if look.finished else "stopped",
        "phases": phases,
        "price": look.planned.get("price"),
        "diverged": board.diverged,
        "failed": len(board.failures),
        "seconds_left": _seconds_left(board, look, phases),
        "cells": labels(cells, lambda axis: axis.replace("_", " ")),
        "cell": cell,
        "metric": metric.replace("_", " ") + (", %" if percent else ""),
        "arms": _arms(arms, board.lines, percent),
        "tuning": _tuning(arms),
        "running": [_running(run, arms) for run in look.running],
        "events": [event._asdict() for event in reversed(board.events())],
        "verdicts": verdict_sentences(look),
    }  # fmt: skip


def _phases(board: Board, look: Look) -> list[dict[str, Any]]:
    """Name, runs done and planned of each phase; planned is None where it is not known."""
    found = []
    for phase, name in PHASES.items():
        done, planned = board.done[phase], look.planned.get(name)
        if done or planned:
            total = None if planned is None else max(done, planned)
            found.append({"name": name, "done": done, "total": total})
    return found


def _seconds_left(board: Board, look: Look, phases: list[dict[str, Any]]) -> float | None:
    """Of the phase under way: runs left times the time between the latest ends."""
    each = board.seconds_per_run()
    open_ = [p for p in phases if p["total"] is not None and p["done"] < p["total"]]
    if each is None or not open_ or not look.driver:
        return None
    return float(each * (open_[0]["total"] - open_[0]["done"]))


def _arms(arms: Arms, lines: dict[Key, dict[str, Any]], percent: bool) -> list[dict[str, Any]]:
    """The arms of the final runs: full length before 0.8 T, the base first, by name and rate."""
    final = [(key, arm_name(key, arms)) for key in arms if key.phase == "final"]
    final.sort(key=lambda i: (-i[0].share, i[0].method != "base", len(i[1]), i[1], i[0].lr))
    for key, _ in final:
        if key not in lines or lines[key]["done"] < len(arms[key]):  # means take a while
            lines[key] = _arm(key, arms[key], 100.0 if percent else 1.0)
    return [{"method": name, **lines[key]} for key, name in final]


def _arm(key: Key, runs: list[Run], scale: float) -> dict[str, Any]:
    """A line: means over the runs, of the metric and the predictions the last ones."""
    curves = [run.curve for run in runs]
    made = [[{**predictions(p), "seconds": p["seconds"]} for p in curve] for curve in curves]
    return {
        "lr": key.lr,
        "share": key.share,
        "done": len(runs),
        "diverged": sum(run.outcome["status"] == "diverged" for run in runs),
        "anomalous": sum(any(True for _ in alarms(curve)) for curve in curves),
        "loss": _loss(runs),
        "metric": _last(_means(curves, "validation_metric", scale)),
        "losses": _means(curves, "validation_loss"),
        "written": _written(point for curve in curves for point in curve),
        **{n: _last(_means(made, n)) for n in ("cosine", "error")},
    }


def _written(points: Iterable[dict[str, Any]]) -> float | None:
    """The share of all predictions that was written; None where none was made."""
    told = [point["predictions"] for point in points if point.get("predictions")]
    made = sum(each["count"] for each in told)
    return math.fsum(each["count"] * each["accepted"] for each in told) / made if made else None


def _means(
    curves: Sequence[Sequence[dict[str, Any]]], quantity: str, scale: float = 1.0
) -> list[float]:
    return [float(f"{scale * point.mean:.5g}") for point in mean_curve(curves, quantity)]


def _last(values: list[float]) -> float | None:
    return values[-1] if values else None


def _loss(runs: list[Run]) -> float | None:
    """Mean validation loss at the end; of a diverged run the constant predictor's."""
    known = [run.outcome["validation"].get("loss") for run in runs]
    losses = [loss for loss in known if loss is not None]
    return math.fsum(losses) / len(losses) if losses else None


def _tuning(arms: Arms) -> list[dict[str, Any]]:
    """By method: the learning rates tried so far, each with its mean loss, and the best one.

    The best is one of those that were tried on the most seeds: the search has left the others.
    """
    found: dict[str, list[tuple[float, float, int]]] = {}
    beside = settings_at_rates(arms)
    for key in sorted(arms, key=lambda key: (key.method != "base", key)):
        if key.phase == "tune" and (loss := _loss(arms[key])) is not None:
            found.setdefault(arm_name(key, arms), []).append((key.lr, loss, len(arms[key])))
    best = {
        method: min(points, key=lambda point: (-point[2], point[1]))[:2]
        for method, points in found.items()
    }
    return [
        {
            "method": method,
            "points": [(lr, loss) for lr, loss, _ in points],
            "best": best[method],
            "searched": beside.get(best[method][0], {}),
        }
        for method, points in found.items()
    ]


def _running(run: InProgress, arms: Arms) -> dict[str, Any]:
    key = key_of(run.spec)
    last = run.curve[-1] if run.curve else {}
    losses = [point.get("validation_loss") for point in run.curve]
    return {
        "method": arm_name(key, arms),
        "lr": key.lr,
        "phase": phase_name(run.spec),
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
        (judged,), words = look.result["cells"], Words("en")
        return [
            f"{method}, {question}: {kind(verdict, words)}. "
            + " ".join(
                filter(None, (say(verdict, judged["metric"], words) for say in (sentence, caution)))
            )
            for method, answers in judged["verdicts"].items()
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
