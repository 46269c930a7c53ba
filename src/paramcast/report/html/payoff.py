"""The section on key figures and return on investment, as `paramcast roi` counts them."""

from __future__ import annotations

from typing import Any

from ...errors import StudyError
from ...study.words import Words
from ..roi import Inputs, defaults, summary
from ..roi.lines import lines, notes, table
from ..roi.rows import UncountableError, joined
from .load import Stored


def section(stored: Stored, words: Words, inputs: Inputs | None) -> dict[str, Any] | None:
    """The page's section on money; None for a study, or if no method was judged.

    Args:
        stored: a folder's files.
        words: the language.
        inputs: the user's; None for the defaults, with which the page says why it counts nothing.

    Raises:
        StudyError: the user's inputs do not fit.
    """
    if stored.kind == "study" or not stored.result["cells"][0]["verdicts"]:
        if inputs is not None:
            raise StudyError(
                f"--inputs counts the return of a judged method, and {stored.folder} judges none; "
                "give the folder of a pilot with a predictor, or leave --inputs out"
            )
        return None
    try:
        # what cannot be counted is an error if the user asked for it, else a sentence on the page
        outcomes = {run.key: run.outcome for run in stored.runs}
        found = summary(joined(stored.result, outcomes, stored.folder), inputs or defaults())
    except UncountableError as error:
        if inputs is not None:
            raise
        return {"reason": error.said(words), "methods": [], "notes": []}
    # the same lines and table as in the terminal
    methods = [
        {
            "name": name,
            "lines": lines(name, found, words),
            "table": table(name, found, words),
        }
        for name in found["methods"]
    ]
    return {"reason": "", "methods": methods, "notes": notes(found, words)}
