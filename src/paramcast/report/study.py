"""A study in the terminal: one line per cell and judged method."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from ..study.judging.stats import Comparison
from ..study.judging.verdict import Metric
from ..study.store.folder import RESULT
from ..study.stored import Judged, Result
from .columns import ALWAYS, Column, fitted, left_out
from .progress import WIDE


def render(result: Result) -> str:
    """Render a study's cells and verdicts as text for standard output."""
    out = Console(file=sys.__stdout__, force_jupyter=False)
    if not out.is_terminal:
        out = Console(file=sys.__stdout__, force_jupyter=False, width=WIDE + 50)
    with out.capture() as captured:
        show(result, out)
    return captured.get()


def show(result: Result, console: Console) -> None:
    """Print a study's question, a line for each cell and method, and its notes."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"{result['name']}: {result['question']}")
    say(
        f"{len(result['cells'])} cells, {result['wall_seconds']:.0f} s, "
        f"{result['reused_runs']} runs reused\n"
    )
    table, left = fitted(_columns(result["cells"]), console.width)
    console.print(table)
    if left:
        say(left_out(left))
    for note in result["notes"]:
        say(note)
    say(f"Details: {result['out']}/{RESULT}")


def _columns(cells: list[Judged]) -> list[Column]:
    """A method in a row; a column for the task and for each setting that differs between cells."""
    axes = [name for name in cells[0]["settings"] if _varies(cells, name)]
    one = len({cell["task"] for cell in cells}) == 1
    headings = [
        ("method", ALWAYS),
        *((axis, 5 if axis == "task" and one else ALWAYS) for axis in axes),
        ("n", 3), ("base's mean", 4), ("minus base", ALWAYS), ("minus lr x G", 2), ("verdict", 1),
    ]  # fmt: skip
    rows: list[list[str]] = []
    for cell in cells:
        metric, arms = cell["metric"], {row["method"]: row for row in cell["table"]}
        for name, answers in cell["verdicts"].items():
            rows.append(
                [
                    name,
                    *(_word(cell["settings"][axis]) for axis in axes),
                    str(cell["seeds"]),
                    metric.value(cell["table"][0]["mean"]),
                    _interval(metric, arms[name]["to_base"]),
                    _interval(metric, arms[name]["to_lr_matched"]),
                    answers["quality"].kind,
                ]
            )
    return [
        Column(heading, [row[i] for row in rows], rank, right=i > len(axes))
        for i, (heading, rank) in enumerate(headings)
    ]


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
