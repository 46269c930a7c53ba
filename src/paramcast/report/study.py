"""A study in the terminal: one line per cell and judged method."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.console import Console

from ..study.store.folder import RESULT
from ..study.stored import Judged, Result
from .columns import ALWAYS, Column, captured, fitted, interval, left_out
from .progress import WIDE


def render(result: Result) -> str:
    """Render a study's cells and verdicts as text for standard output."""
    return captured(partial(show, result), WIDE + 50)


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
    values = {name: {cell["settings"][name] for cell in cells} for name in cells[0]["settings"]}
    axes = [name for name, own in values.items() if name == "task" or len(own) > 1]
    one = len(values["task"]) == 1
    # the differences stay in the narrowest terminal
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
                    interval(arms[name]["to_base"], metric),
                    interval(arms[name]["to_lr_matched"], metric),
                    answers["quality"].kind,
                ]
            )
    return [
        Column(heading, [row[i] for row in rows], rank, right=i > len(axes))
        for i, (heading, rank) in enumerate(headings)
    ]


def _word(value: Any) -> str:
    if value is None:
        return "own"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
