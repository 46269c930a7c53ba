"""Key figures and return on investment in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...study.reading import printable
from ...study.words import Words
from ..columns import captured
from .lines import lines, notes, number, table

WIDTH = 120
"""Characters of a table in a file or a pipe."""


def render(found: dict[str, Any], *, full: bool = False) -> str:
    """Render a summary as text for standard output, in colour on a terminal.

    Args:
        found: of `summary`.
        full: also print key figures, terms, inputs and formulas.
    """
    return captured(partial(show, found, full=full), WIDTH)


def show(found: dict[str, Any], console: Console, *, full: bool) -> None:
    """Print five lines for each method; with `full`, also what they are made of."""
    words = Words("en")
    for i, name in enumerate(found["methods"]):
        if i:
            console.print()
        # the first line is the answer
        first, *rest = lines(name, found, words)
        _say(console, first, style="bold")
        for line in rest:
            _say(console, line)
        if full:
            console.print()
            console.print(_table(**table(name, found, words)))
    if full:
        # every input, and whether the user gave it
        cells = [
            (key, *(number(i[at]) for at in ("value", "low", "high")), i["unit"],
             "default" if i["default"] else "yours")
            for key, i in found["inputs"].items()
        ]  # fmt: skip
        console.print()
        console.print(_table(("Input", "Value", "Low", "High", "Unit", "Source"), cells))
        console.print()
        formulas = [f"{name} = {formula}" for name, formula in found["formulas"].items()]
        for line in (*formulas, *notes(found, words)):
            _say(console, line)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(head):
        made.add_column(escape(heading), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*(escape(printable(cell)) for cell in row))
    return made


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line, wrapped only on a terminal; names in it come from a file, so escape them."""
    text = printable(text).replace("\n", " ")
    if console.is_terminal:
        text = textwrap.fill(text, console.width, subsequent_indent="  ", break_on_hyphens=False)
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
