"""Rows for tables and downloads: comparisons, runs and curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ...study.sheets import harmless
from .cells import Cell
from .load import Run
from .profiles import NEVER, times_of

COMPARISON = (
    "comparison", "task", "metric", "seeds", "method", "role", "lr", "mean", "low", "high",
    "top1_error", "top5_error", "loss", "gap", "seconds", "peak_memory", "diverged", "early_mean",
    "minus_base_mean", "minus_base_low", "minus_base_high", "minus_base_p",
    "minus_lr_matched_mean", "minus_lr_matched_low", "minus_lr_matched_high", "verdict",
    "validation_target", "steps_to_target", "seconds_to_target",
)  # fmt: skip
CURVE = ("comparison", "method", "quantity", "step", "seconds", "mean", "low", "high")
SPEC = ("task", "base", "method", "lr", "schedule", "epochs", "batch_size", "momentum",
        "weight_decay", "phase", "seed", "share")  # fmt: skip
OUTCOME = ("status", "steps", "seconds", "peak_memory", "train_loss", "gap")
SPLITS = ("metric", "top1_error", "top5_error", "loss")


def comparison_rows(cells: Iterable[Cell]) -> list[list[Any]]:
    """A row per comparison and method, in the order of COMPARISON."""
    rows = []
    for cell in cells:
        target, times = times_of(cell) or (None, {})
        for arm in cell.arms:
            row, time = arm.row, times.get(arm.name, NEVER)
            verdict, base, matched = cell.quality(arm.name), row["to_base"], row["to_lr_matched"]
            rows.append(
                [
                    cell.index + 1, cell.label, cell.metric.name, cell.result["seeds"], arm.name,
                    arm.role, row["lr"], row["mean"], row["low"], row["high"],
                    row["top1_error"], row["top5_error"], row["loss"], row["gap"],
                    row["seconds"], row["peak_memory"], row["diverged"], row["early_mean"],
                    *(getattr(base, k, None) for k in ("mean", "low", "high", "p")),
                    *(getattr(matched, k, None) for k in ("mean", "low", "high")),
                    verdict and verdict.kind, target,
                    *(value if math.isfinite(value) else None for value in time),
                ]
            )  # fmt: skip
    return rows


def run_head() -> list[str]:
    """The columns of `run_row`."""
    splits = [f"{split}_{name}" for split in ("validation", "test") for name in SPLITS]
    return ["key", "finished_at", *SPEC, *OUTCOME, *splits]


def run_row(run: Run) -> list[Any]:
    """A run in the order of `run_head`."""
    values = [
        (run.outcome.get(split) or {}).get(name)
        for split in ("validation", "test")
        for name in SPLITS
    ]
    return [
        run.key,
        run.finished_at,
        *(run.spec.get(name) for name in SPEC),
        *(run.outcome.get(name) for name in OUTCOME),
        *values,
    ]


def curve_rows(cells: Iterable[Cell]) -> list[list[Any]]:
    """The mean curves and their 95 % bands, of predictions too, in the order of CURVE."""
    return [
        [cell.index + 1, arm.name, name, p.step, *(f"{value:.5g}" for value in p[1:])]
        for cell in cells
        for arm in cell.arms
        for name, points in (*arm.curves.items(), *arm.forecasts.items())
        for p in points
    ]


def to_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV; text that a spreadsheet would take for a formula is quoted with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([harmless(value) for value in row] for row in rows)
    return out.getvalue()
