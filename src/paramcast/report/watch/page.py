"""The report's page before the verdict: how far it is, curves and means on the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import StudyError
from ...study.reading import as_written
from ...study.stored import AGAIN
from ...study.words import Words
from ..html.load import Stored
from ..html.page import render
from ..html.plotting import numbered
from ..html.report import MOST_CELLS, before_verdict, reads
from ..html.runs import run_tables
from ..html.write import content
from .board import Board
from .following import Look

LATER: dict[str, Any] = {
    "asked": None, "notes": [], "description": [], "effect": None, "whole": [], "payoff": None,
}  # fmt: skip
"""What the page has only when all runs are there."""
NOTHING = Look("pilot", "paramcast", Path(), "waiting", {}, None, [], [], [])
"""What is shown before there is something to read."""


def build(board: Board, look: Look, reason: str, live: dict[str, Any]) -> str:
    """The page: the report itself when all has finished, else what may be seen before.

    Args:
        board, look: what is known.
        reason: why nothing can be read, where the look is NOTHING.
        live: "every", the seconds after which the page asks for its "tag" again.
    """
    words = board.words
    try:
        if look.state == "finished":
            return content(look.folder, words.language, "html").decode()
        with as_written(look.folder, AGAIN):
            return render(_data(board, look, reason), words, live=live)
    except StudyError as error:
        waiting = Board(board.folder, language=words.language)
        look = look._replace(state="waiting")
        return render(_data(waiting, look, str(error)), words, live=live)


def _data(board: Board, look: Look, reason: str) -> dict[str, Any]:
    """What the template shows; see `html.report.build`."""
    words, cells, waiting = board.words, [*board.cells.values()], look.state == "waiting"
    # how far it is stands where the verdict will
    phases = board.phases(look.planned)
    # the one thing that a page without a verdict says
    totals = [total for *_, total in phases if total is not None]
    planned = sum(totals) if len(totals) == len(phases) else None
    sentence = words("watch.none", runs=_of(sum(done for _, done, _ in phases), planned, words))
    if look.planned.get("price"):
        _, usual, most = look.planned["price"]
        sentence += words("page.space") + words("watch.price", usual=usual, most=most)
    if waiting:
        sentence = words("watch.waiting_for", reason=reason)
    # the parts of the report that need no verdict
    bad = words("facts.bad_value", diverged=board.diverged(), failed=len(board.failures))
    none: Any = {}
    stored = Stored(look.kind, look.folder, none, board.runs, board.failures)
    return {
        **LATER,
        "language": words.language,
        "kind": look.kind,
        "reads": reads(look.kind, words),
        "name": look.name,
        "question": words("watch.waiting" if waiting else "watch.heading", name=look.name),
        "verdicts": [
            dict.fromkeys(("method", "about", "kind", "word", "caution"), "")
            | {"sentence": sentence, "next": words(f"watch.{look.state}_next"), "command": None}
        ],
        "facts": [
            (words("watch.state"), words(f"watch.{look.state}"), "summary"),
            *((words(f"watch.{name}"), _of(n, total, words), "runs") for name, n, total in phases),
            (words("facts.bad"), bad, "failed"),
        ],
        "cells": [
            {"label": numbered(cell, words), "charts": before_verdict(cell, words)}
            for cell in cells[:MOST_CELLS]
        ],
        "count": len(cells),
        **run_tables(stored, cells, words),
        "made": words("page.made", version=__version__, folder=str(look.folder)),
    }


def _of(done: int, planned: int | None, words: Words) -> str:
    """Runs done, of how many where that is known."""
    return str(done) if planned is None else words("watch.of", done=done, planned=planned)
