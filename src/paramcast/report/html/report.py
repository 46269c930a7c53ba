"""Everything that a report shows, as a plain dict in one language."""

from __future__ import annotations

from typing import Any

from ... import __version__
from ...study.reading import as_written
from ...study.store.folder import RESULT
from ...study.stored import AGAIN
from ...study.words import Words
from ..roi import Inputs
from . import curves, effect, method, numbers, payoff, predictions, runs, study, tuning, verdict
from .comparison import Cell, cells_of
from .load import MOST_ROWS, Stored
from .plotting import Chart, numbered

MOST_CELLS = 120
"""At most that many comparisons have charts in the page; a reader chooses one at a time."""


def build(stored: Stored, words: Words, inputs: Inputs | None = None) -> dict[str, Any]:
    """Build what the page and the Markdown show.

    Args:
        stored: a folder's files.
        words: the language.
        inputs: costs and values for the return; None for the defaults.

    Raises:
        StudyError: the stored result lacks what a report needs, or the inputs do not fit it.
    """
    with as_written(stored.folder / RESULT, AGAIN):
        return {**_build(stored, words), "payoff": payoff.section(stored, words, inputs)}


def _build(stored: Stored, words: Words) -> dict[str, Any]:
    is_study, result = stored.kind == "study", stored.result
    cells = cells_of(stored, words)
    asked = None if is_study else words(f"question.{cells[0].result['question']}")
    return {
        "language": words.language,
        "kind": stored.kind,
        "name": result["name"],
        # the first screen
        "question": result["question"] if is_study else verdict.question(cells[0], words),
        "asked": asked,
        "verdicts": verdict.study_verdicts(cells, words)
        if is_study
        else verdict.verdicts(cells[0], words),
        "notes": verdict.notes(stored, cells, words),
        "description": verdict.description(cells, words),
        "facts": verdict.facts(stored, cells, words),
        "effect": effect.effect(cells, words) if not is_study and cells[0].judged else None,
        # the charts: of a study as a whole, then of each comparison
        "whole": study.charts_of(cells, words) if is_study else [],
        "cells": [
            {"label": numbered(cell, words), "charts": charts_of(cell, words)}
            for cell in cells[:MOST_CELLS]
        ],
        "count": len(cells),
        # all numbers, and the runs behind them
        "table": numbers.table(cells, words),
        "reads": reads(stored.kind, words, cells[0].made)
        | ({} if stored.runs else {"runs_read": words("page.runs_read_many", n=MOST_ROWS)}),
        **runs.run_tables(stored, cells, words),
        # how it was made, and how to repeat it
        "arms": method.arms(cells, words),
        "protocol": method.protocol(cells, words),
        "environment": [
            [words.either(f"env.{k}", k), str(v)]
            for k, v in result["environment"].items() if v is not None
        ],
        "specification": method.specification(stored),
        "study_text": result["text"] or None,
        "command": result["command"],
        "downloads": runs.downloads(stored, cells, words),
        "made": words("page.made", version=__version__, folder=str(stored.folder)),
    }  # fmt: skip


def reads(kind: str, words: Words, made: str = "") -> dict[str, str]:
    """How to read the parts of the page, by kind and by who trained (`Cell.made`)."""
    names = ("table_read", "failed_read", "runs_read", "repeat_read", "failed_none")
    ending = "_table" if kind == "table" else made
    usual = {name: words(f"page.{name}") for name in names}
    return {name: words.either(f"page.{name}{ending}", usual[name]) for name in names}


def charts_of(cell: Cell, words: Words) -> list[Chart]:
    """The charts for which the cell has runs."""
    made = [
        effect.paired(cell, words), effect.controls(cell, words), curves.curves(cell, words),
        curves.target(cell, words), tuning.tuning(cell, words), predictions.chart_of(cell, words),
    ]  # fmt: skip
    return [each for each in made if each is not None]


def before_verdict(cell: Cell, words: Words) -> list[Chart]:
    """The charts to show while runs finish: validation values, and no interval between methods."""
    shown = curves.curves(cell, words)
    if shown is not None:
        shown["read"] = words("watch.curves")
        # a band would invite a verdict before the last run; its column goes too
        for trace in (trace for view in shown["views"] for trace in view.get("data", [])):
            del trace["band"]
        table = shown["table"]
        table["head"], table["rows"] = table["head"][:-1], [row[:-1] for row in table["rows"]]
    made = [shown, tuning.tuning(cell, words), predictions.chart_of(cell, words)]
    return [each for each in made if each is not None]
