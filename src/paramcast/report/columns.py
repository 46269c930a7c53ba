"""Tables for any terminal: where it is narrow, the least important columns are left out."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ..study.judging.stats import Comparison
from ..study.judging.verdict import Metric

ALWAYS = 0
"""The rank of a column that is never left out."""
GAP = 2  # columns between two columns of a table
NAME = 12, 28
"""Terminal columns that a name takes at least where it is folded, and before others make room."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: folded between words where that makes room.
        cells: one for each row.
        rank: the higher, the sooner it is left out; ALWAYS stays.
        right: whether it is aligned to the right, as numbers are.
        width: of cells that are not text.
    """

    heading: str
    cells: Sequence[RenderableType]
    rank: int = ALWAYS
    right: bool = True
    width: int = 0


def fitted(
    columns: Sequence[Column], width: int, styles: Sequence[str | None] = ()
) -> tuple[Table, list[str]]:
    """A table no wider than a terminal, and the headings of the columns that it lacks.

    Figures are never cut. The first column holds names, which are folded where it must be.

    Args:
        columns: the names first.
        width: of the terminal.
        styles: of the rows.
    """
    shown = list(columns)
    # one line of headings where all fit; else folded headings, and then fewer columns
    folded = _total(shown, folded=False) > width
    while _total(shown, folded=folded) > width:
        least = max(shown, key=lambda column: column.rank)
        if least.rank == ALWAYS:
            break
        shown.remove(least)
    # what the others leave to the names; if that is too little, long cells are folded, too
    others = sum(GAP + _width(column, folded=folded) for column in shown[1:])
    names = max(NAME[0], width - others)
    narrow = _widest(shown[0]) > names and names == NAME[0]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for i, column in enumerate(shown):
        fixed = i > 0 and not narrow
        heading = column.heading
        if folded:
            heading = textwrap.fill(heading, _width(column, folded=True), break_long_words=False)
        table.add_column(
            Text(heading),
            justify="right" if column.right and i else "left",
            no_wrap=fixed,
            overflow="fold",
            width=column.width or None,
            min_width=min(NAME[0], _widest(column)) if i == 0 else None,
            max_width=names if i == 0 else None,
        )
    for row, cells in enumerate(zip(*(column.cells for column in shown), strict=True)):
        table.add_row(
            *(Text(cell) if isinstance(cell, str) else cell for cell in cells),
            style=styles[row] if styles else None,
        )
    # what is missing is named by the caller
    left = {id(column) for column in shown}
    return table, [column.heading for column in columns if id(column) not in left]


def captured(show: Callable[[Console], None], wide: int) -> str:
    """What `show` prints on standard output: in colour on a terminal, elsewhere so many columns."""
    out = Console(file=sys.__stdout__, force_jupyter=False)
    if not out.is_terminal:
        out = Console(file=sys.__stdout__, force_jupyter=False, width=wide)
    with out.capture() as text:
        show(out)
    return text.get()


def interval(c: Comparison | None, metric: Metric) -> str:
    """A difference with its interval; empty where there is none."""
    if c is None:
        return ""
    mean, low, high = map(metric.signed, (c.mean, c.low, c.high))
    return f"{mean} ({low} to {high})"


def left_out(headings: Sequence[str]) -> str:
    """Where the columns that `fitted` left out can be seen."""
    return f"For a wider terminal, and in the report: {', '.join(headings)}."


def _total(columns: Sequence[Column], *, folded: bool) -> int:
    """The width of a table, whose long names are folded before a column is left out."""
    first, *others = columns
    name = min(_widest(first), NAME[1])
    return name + sum(GAP + _width(column, folded=folded) for column in others)


def _width(column: Column, *, folded: bool) -> int:
    words = column.heading.split() if folded else [column.heading]
    return max(column.width, _widest(column), *(cell_len(word) for word in words or [""]))


def _widest(column: Column) -> int:
    lines = [line for cell in column.cells if isinstance(cell, str) for line in cell.split("\n")]
    return max(map(cell_len, lines), default=0)
