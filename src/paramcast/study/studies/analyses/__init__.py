"""What a finished study says: each analysis turns its cells into a page of tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....errors import StudyError
from ...reading import as_written
from . import conditions, fewer_steps, heatmap, measures, synergy, table
from .page import Page

# Two need torch, and the report reads the maps without it: they are imported when they are used.


def _online(result: dict[str, Any]) -> Page:
    from . import online

    return online.analyse(result)


def _stability(result: dict[str, Any]) -> Page:
    from . import stability

    return stability.analyse(result)


ANALYSES: dict[str, Callable[[dict[str, Any]], Page]] = {
    "table": table.analyse,
    "heatmap": heatmap.analyse,
    "measures": measures.analyse,
    "synergy": synergy.analyse,
    "conditions": conditions.analyse,
    "stability": _stability,
    "online": _online,
    "fewer-steps": fewer_steps.analyse,
}


def analyse(result: dict[str, Any], names: list[str], folder: Path | None) -> str:
    """Run analyses of a finished study.

    Args:
        result: what study.json holds.
        names: which, in this order.
        folder: where figures go as SVG files; None draws none.

    Returns:
        Markdown.

    Raises:
        StudyError: the study does not hold what an analysis needs, or the folder cannot be written.
    """
    with as_written("study.json", "go on with `paramcast study resume`, which writes it anew"):
        pages = [ANALYSES[name](result) for name in names]
        if folder is None:
            return "\n".join(page.text() for page in pages)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return "\n".join(page.text(folder, result["study"]) for page in pages)
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from None
