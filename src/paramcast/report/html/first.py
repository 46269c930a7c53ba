"""The first screen of a report as a piece of HTML, for a notebook: no scripts, and small."""

from __future__ import annotations

from pathlib import Path

from ...study.words import Words
from .comparison import Cell, cells_of
from .load import load
from .page import template
from .report import build

COLUMNS = ("method", "lr", "searched", "value", "p", "minus_base")
WIDTH = 200
"""Pixels of a picture of an interval."""


def first_screen(folder: Path, language: str = "en") -> str:
    """The verdicts, the table with a picture of each difference from the base, facts and notes.

    Args:
        folder: of a finished pilot.
        language: "en" or "ja".

    Raises:
        StudyError: nothing has finished there, or its files cannot be read.
    """
    # the table of the report, with a picture in place of the interval
    words, stored = Words(language), load(folder)
    data, (cell, *_) = build(stored, words), cells_of(stored, words)
    table = data["table"]
    shown = [i for i, name in enumerate(table["names"]) if name in COLUMNS]
    zone, intervals = _pictures(cell)
    rows = [
        {"cells": [row["cells"][i] for i in shown], "judged": row["judged"], "interval": interval}
        for row, interval in zip(table["rows"], intervals, strict=False)
    ]
    return str(
        template("first.html").render(
            d=data, w=words, head=[table["head"][i] for i in shown], rows=rows, width=WIDTH,
            zone=zone,
        )
    )  # fmt: skip


def _pictures(cell: Cell) -> tuple[dict[str, float], list[dict[str, float] | None]]:
    """In pixels: the differences that do not matter, and by arm its difference from the base."""
    found = [arm.row["to_base"] for arm in cell.arms]
    # the widest interval and the margin fit on both sides of 0
    ends = [abs(end) for c in found if c is not None for end in (c.low, c.high)]
    scale = 0.48 * WIDTH / max(*ends, 1.2 * cell.metric.margin, 1e-300)

    def place(value: float) -> float:
        return round(WIDTH / 2 + scale * value, 2)

    half = min(WIDTH / 2, scale * cell.metric.margin)
    zone = {"x": round(WIDTH / 2 - half, 2), "width": round(2 * half, 2)}
    return zone, [
        None if c is None else {"mean": place(c.mean), "low": place(c.low), "high": place(c.high)}
        for c in found
    ]
