"""The runs behind the numbers: a table to filter, failures, and the downloads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ...study.judging.sentences import divergence
from ...study.outcomes import status_of
from ...study.sheets import harmless
from ...study.words import Words
from .comparison import Cell
from .load import Run, Stored
from .plotting import NONE, number
from .profiles import NEVER, times_of

# columns of the page's tables, by their names in the catalogue: all runs, those that went wrong
RUN_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "result", "loss",
            "seconds", "key")  # fmt: skip


BAD_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "reason")


# columns of comparisons.csv
COMPARISON = (
    "comparison", "task", "metric", "seeds", "method", "role", "lr", "mean", "low", "high",
    "top1_error", "top5_error", "loss", "gap", "seconds", "peak_memory", "diverged", "early_mean",
    "minus_base_mean", "minus_base_low", "minus_base_high", "minus_base_p",
    "minus_lr_matched_mean", "minus_lr_matched_low", "minus_lr_matched_high", "verdict",
    "validation_target", "steps_to_target", "seconds_to_target",
)  # fmt: skip


# columns of curves.csv
CURVE = ("comparison", "method", "quantity", "step", "seconds", "mean", "low", "high")


# columns of runs.csv: of the specification, of the outcome, of each split
SPEC = ("task", "base", "method", "lr", "schedule", "epochs", "batch_size", "momentum",
        "weight_decay", "beta2", "phase", "seed", "share")  # fmt: skip


OUTCOME = ("status", "learned", "steps", "seconds", "peak_memory", "train_loss", "gap")


SPLITS = ("metric", "top1_error", "top5_error", "loss")


def run_tables(stored: Stored, cells: list[Cell], words: Words) -> dict[str, Any]:
    """The table of runs that diverged or failed, and the table of all runs."""
    heads, behind = words.section("head"), behind_of(cells)
    rows = [_shown(run, behind.get(run.key, []), words) for run in stored.runs]
    # the comparison is left out where there is one, and what a table of results does not tell
    kept = [*range(0 if stored.kind == "study" else 1, len(RUN_HEAD))]
    if stored.kind == "table":
        kept = [i for i in kept if any(row["shown"][i] != "" for row in rows)]
    for row in rows:
        row["shown"] = [row["shown"][i] for i in kept]
    return {
        "failed": {"head": [heads[k] for k in BAD_HEAD], "rows": bad_of(stored, cells, words)},
        "runs": {"head": [heads[RUN_HEAD[i]] for i in kept], "rows": rows},
    }


def behind_of(cells: list[Cell]) -> dict[str, list[tuple[int, str]]]:
    """The comparisons and methods that a run belongs to, by its key."""
    found: dict[str, list[tuple[int, str]]] = {}
    for cell in cells:
        for arm in cell.arms:
            for run in (*arm.final, *arm.early):
                if run is not None:
                    found.setdefault(run.key, []).append((cell.index, arm.name))
        for method, by_lr in cell.tuning.items():
            # runs call every base "base"
            name = cell.arms[0].name if method == "base" else method
            for run in (run for runs in by_lr.values() for run in runs):
                found.setdefault(run.key, []).append((cell.index, name))
    return found


def _shown(run: Run, behind: list[tuple[int, str]], words: Words) -> dict[str, Any]:
    """A row of the table of runs: the cells shown, and the values to filter by."""
    outcome, spec, status = run.outcome, run.spec, status_of(run.outcome)
    # tuning runs have no test values
    values = outcome.get("test") or outcome.get("validation") or {}
    comma = words("page.comma")
    methods = list(dict.fromkeys(name for _, name in behind)) or [spec["method"]]
    cells = list(dict.fromkeys(i for i, _ in behind))
    shown = [
        comma.join(str(i + 1) for i in cells), comma.join(methods),
        words.either(f"phase.{spec['phase']}", spec["phase"]), spec["seed"],
        "" if outcome["steps"] is None else f"{outcome['steps']}", _rate(spec),
        words.either(f"status.{status}", status),
        *("" if values.get(k) is None else number(values[k]) for k in ("metric", "loss")),
        "" if outcome["seconds"] is None else f"{outcome['seconds']:.3g}",
        run.key if run.finished_at == "" else run.key[:12],
    ]  # fmt: skip
    return {
        "shown": shown,
        "cells": cells,
        "methods": methods,
        "phase": spec["phase"],
        "share": f"{spec['share']:g}",
        "status": status,
    }


def bad_of(stored: Stored, cells: list[Cell], words: Words) -> list[list[str]]:
    """Runs that diverged and attempts that failed, each with its reason."""
    behind, comma = behind_of(cells), words("page.comma")
    rows = []
    for run in stored.runs:
        if run.outcome["status"] != "done":
            known = behind.get(run.key, [])
            where = comma.join(dict.fromkeys(str(i + 1) for i, _ in known))
            name = comma.join(dict.fromkeys(name for _, name in known)) or run.spec["method"]
            reason = divergence(run.outcome, words)
            rows.append([where, name, *_where(run.spec, words), words("status.diverged"), reason])
    for failure in stored.failures:
        status = words.either(f"status.{failure.status}", failure.status)
        place = [NONE, failure.spec["method"], *_where(failure.spec, words)]
        rows.append([*place, status, failure.reason])
    return rows


def _where(spec: dict[str, Any], words: Words) -> list[str]:
    """The phase, seed, length and learning rate of a run."""
    length = f"{100 * spec['share']:g} %"
    phase = words.either(f"phase.{spec['phase']}", spec["phase"])
    return [phase, str(spec["seed"]), length, _rate(spec)]


def _rate(spec: dict[str, Any]) -> str:
    return "" if spec["lr"] is None else f"{spec['lr']:.4g}"


def downloads(stored: Stored, cells: list[Cell], words: Words) -> list[dict[str, str]]:
    """The files that the page offers: comparisons, runs and curves as CSV."""
    curves = curve_rows(cells)
    comparisons = comparison_rows(cells)
    rows = [run_row(run) for run in stored.runs]
    made = (
        ("comparisons", COMPARISON, comparisons),
        ("runs", run_head(), rows),
        ("curves", CURVE, curves),
    )
    return [
        {"file": f"{name}.csv", "label": words(f"page.download_{name}", n=len(rows)),
         "csv": to_csv(head, rows)}
        for name, head, rows in made
    ]  # fmt: skip


def comparison_rows(cells: Iterable[Cell]) -> list[list[Any]]:
    """A row per comparison and method, in the order of COMPARISON."""
    rows = []
    for cell in cells:
        # the time to the target, from the curves
        target, times = times_of(cell) or (None, {})
        for arm in cell.arms:
            row, time = arm.row, times.get(arm.name, NEVER)
            verdict, base, matched = cell.quality(arm.name), row["to_base"], row["to_lr_matched"]
            rows.append(
                [
                    cell.index + 1, cell.label, cell.metric.name, len(row["values"]), arm.name,
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
    """The mean curves with their 95 % bands, also of predictions, in the order of CURVE."""
    return [
        [cell.index + 1, arm.name, name, p.step, *(f"{value:.5g}" for value in p[1:])]
        for cell in cells
        for arm in cell.arms
        for name, points in (*arm.curves.items(), *arm.forecasts.items())
        for p in points
    ]


def to_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV, with an apostrophe before text that a spreadsheet would take for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([harmless(value) for value in row] for row in rows)
    return out.getvalue()
