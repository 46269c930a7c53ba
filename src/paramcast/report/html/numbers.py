"""The table of all numbers: a row per method of each comparison, each number with its runs."""

from __future__ import annotations

from typing import Any

from ...study.judging.stats import Comparison, shown_p
from ...study.search import named
from ...study.words import Words
from .comparison import Arm, Cell, bases
from .plotting import Behind, between, numbered, pair_of

MOST_RETURNED = 6
"""Columns of other results that a training of the user's returned."""
MEASURED = {
    "lr": "lr", "searched": "settings", "minus_matched": "to_lr_matched", "top1": "top1_error",
    "top5": "top5_error", "loss": "loss", "gap": "gap", "median_seconds": "seconds",
    "memory": "peak_memory",
}  # fmt: skip
"""Columns of what not every arm has, by its name in a row of the result."""
RETURNED = "returned "
"""What the names of these columns begin with."""


def table(cells: list[Cell], words: Words) -> dict[str, Any]:
    """Every arm of every comparison; "runs" has, by column, the filter of the runs behind it."""
    heads, many = words.section("head"), len(cells) > 1
    heads["minus_base"] = words("head.minus_base", base=bases(cells, words))
    arms = [arm for cell in cells for arm in cell.arms]
    # a column that is the same in every row, or empty, is left out
    early = any(arm.early for arm in arms)
    uneven = any(len({len(arm.row["values"]) for arm in cell.arms}) > 1 for cell in cells)
    # columns that are empty for every arm are left out
    unknown = {name for name, key in MEASURED.items() if not any(_has(arm, key) for arm in arms)}
    # what else a training of the user's returned stands before the verdict
    own = (arm for cell in cells if cell.made == "_own" for arm in cell.arms)
    returned = sorted({name for arm in own for name in arm.row["measures"]})[:MOST_RETURNED]
    heads |= {f"{RETURNED}{name}": name.replace("_", " ") for name in returned}
    names = [
        *(["comparison"] if many else []), "method", "role", "lr", "searched", "value",
        *(["n"] if uneven else []), *(["early"] if early else []), "minus_base", "p",
        "minus_matched", "top1", "top5", "loss", "gap", "median_seconds", "memory", "diverged",
        *(f"{RETURNED}{name}" for name in returned), "verdict",
    ]  # fmt: skip
    names = [name for name in names if name not in unknown]
    rows = []
    for cell in cells:
        for arm in cell.arms:
            known, judged = _arm_row(cell, arm, words), arm.name in cell.result["verdicts"]
            shown = [known.get(name, "") for name in names]
            rows.append({"cells": shown, "runs": _behind(cell, arm), "judged": judged})
    return {"head": [heads[name] for name in names], "names": names, "rows": rows}


def _has(arm: Arm, key: str) -> bool:
    row: dict[str, Any] = {**arm.row}
    return row[key] not in (None, {})


def _arm_row(cell: Cell, arm: Arm, words: Words) -> dict[str, str]:
    row, metric = arm.row, cell.metric
    verdict = cell.quality(arm.name)
    # the mean ± half of its 95 % interval
    half = (row["high"] - row["low"]) / 2
    shown = f"{100 * half:.2f}" if metric.percent else f"{half:.2g}"

    def put(value: float | None, form: str, scale: float = 1) -> str:
        return "" if value is None else format(scale * value, form)

    return {
        **{f"{RETURNED}{k}": put(v["mean"], ".4g") for k, v in row["measures"].items()},
        "comparison": numbered(cell, words),
        "method": arm.name,
        "role": words.either(f"role.{arm.role}", arm.role),
        "lr": put(row["lr"], ".4g"),
        "searched": named(row["settings"]),
        "value": f"{metric.value(row['mean'])} ± {shown}",
        "n": str(len(row["values"])),
        "early": "" if row["early_mean"] is None else metric.value(row["early_mean"]),
        "minus_base": _difference(cell, row["to_base"]),
        "p": "" if row["to_base"] is None else shown_p(row["to_base"]),
        "minus_matched": _difference(cell, row["to_lr_matched"]),
        "top1": put(row["top1_error"], ".2f", 100),
        "top5": put(row["top5_error"], ".2f", 100),
        "loss": put(row["loss"], ".4g"),
        "gap": put(row["gap"], "+.4g"),
        "median_seconds": put(row["seconds"], ".3g"),
        "memory": put(row["peak_memory"], ".0f", 2**-20),
        "diverged": f"{row['diverged']}/{len(row['values'])}",
        "verdict": words(f"kind.{verdict.kind}") if verdict else "",
    }


def _behind(cell: Cell, arm: Arm) -> dict[str, Behind]:
    """By column, the filter that finds the runs behind its number."""
    own = {"cell": cell.index, "method": arm.name}
    names = ("value", "top1", "top5", "loss", "gap", "median_seconds", "memory")
    found: dict[str, Behind] = dict.fromkeys(names, own)
    # a difference has the runs of both its methods behind it
    found |= {
        "early": own | {"share": "0.8"},
        "diverged": own | {"share": "", "status": "diverged"},
        "minus_base": own | {"method": pair_of(cell, arm, "to_base")},
        "minus_matched": own | {"method": pair_of(cell, arm, "to_lr_matched")},
    }
    found["p"] = found["minus_base"]
    # a control made from a predictor has that one's rate, not one of its own
    if not arm.row["control_of"] and arm.method in cell.tuning:
        found["lr"] = own | {"phase": "tune"}
    return found


def _difference(cell: Cell, c: Comparison | None) -> str:
    if c is None:
        return ""
    signed = cell.metric.signed
    return f"{signed(c.mean)} ({between(signed, c.low, c.high)})"
