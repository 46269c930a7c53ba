"""A study in the terminal: one line per cell and judged method."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..study.judging.stats import Comparison
from ..study.judging.verdict import Metric
from ..study.store.folder import RESULT
from ..study.stored import Judged, Result
from .progress import WIDE


def render(result: Result) -> str:
    """Render a study's cells and verdicts as text for standard output."""
    out = Console(file=sys.__stdout__, force_jupyter=False)
    if not out.is_terminal or out.width < WIDE:  # long lines are better than cut numbers
        out = Console(file=sys.__stdout__, force_jupyter=False, width=WIDE + 50, soft_wrap=True)
    with out.capture() as captured:
        out.print(f"{result['name']}: {result['question']}", highlight=False, markup=False)
        out.print(
            f"{len(result['cells'])} cells, {result['wall_seconds']:.0f} s, "
            f"{result['reused_runs']} runs reused\n",
            highlight=False,
        )
        out.print(_table(result["cells"]))
        for note in result["notes"]:
            out.print(note, highlight=False, markup=False)
        out.print(f"Details: {result['out']}/{RESULT}", highlight=False, markup=False)
    return captured.get()


def _table(cells: list[Judged]) -> Table:
    # a column for the task and for each setting that differs between cells
    axes = [name for name in cells[0]["settings"] if _varies(cells, name)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*axes, "method"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "base", "minus base", "minus lr x G", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in cells:
        metric, rows = cell["metric"], {row["method"]: row for row in cell["table"]}
        base = cell["table"][0]
        for name, answers in cell["verdicts"].items():
            words = [
                *(_word(cell["settings"][axis]) for axis in axes),
                name,
                str(cell["seeds"]),
                metric.value(base["mean"]),
                _interval(metric, rows[name]["to_base"]),
                _interval(metric, rows[name]["to_lr_matched"]),
                answers["quality"].kind,
            ]
            table.add_row(*map(escape, words))
    return table


def _interval(metric: Metric, difference: Comparison | None) -> str:
    if difference is None:
        return ""
    mean, low, high = map(metric.signed, (difference.mean, difference.low, difference.high))
    return f"{mean} ({low} to {high})"


def _varies(cells: list[Judged], name: str) -> bool:
    values = {cell["settings"][name] for cell in cells}
    return name == "task" or len(values) > 1


def _word(value: Any) -> str:
    if value is None:
        return "own"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
