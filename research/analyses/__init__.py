"""What a finished study says: each analysis turns its cells into a page of tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paramcast.errors import StudyError
from paramcast.study.reading import as_written
from paramcast.study.store.folder import RESULT
from paramcast.study.stored import AGAIN, Result

from . import (
    anytime,
    conditions,
    fewer_steps,
    heatmap,
    measures,
    online,
    rates,
    stability,
    synergy,
    table,
)
from .page import Page

ANALYSES: dict[str, Callable[[Result], Page]] = {
    "table": table.analyse,
    "heatmap": heatmap.analyse,
    "measures": measures.analyse,
    "synergy": synergy.analyse,
    "conditions": conditions.analyse,
    "stability": stability.analyse,
    "online": online.analyse,
    "rates": rates.analyse,
    "fewer-steps": fewer_steps.analyse,
    "anytime": anytime.analyse,
}


def analyse(result: Result, names: list[str], folder: Path | None) -> str:
    """Run analyses of a finished study.

    Args:
        result: of a study.
        names: which, in this order.
        folder: where figures go as SVG files; None draws none.

    Returns:
        Markdown.

    Raises:
        StudyError: the study does not hold what an analysis needs, or the folder cannot be written.
    """
    with as_written(RESULT, AGAIN):
        pages = [ANALYSES[name](result) for name in names]
        if folder is None:
            return "\n".join(page.text() for page in pages)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return "\n".join(page.text(folder, result["name"]) for page in pages)
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from None
