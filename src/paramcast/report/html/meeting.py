"""One page for a meeting: of many methods those that matter most, and how many more there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...study.judging.verdict import HARMFUL, INCONCLUSIVE, SAME, SLIGHTLY_WORSE
from ...study.stored import Judged
from ...study.words import Words
from ..roi import Inputs
from . import payoff
from .comparison import WORTH
from .load import Stored
from .page import render
from .pdf import to_pdf
from .report import build

WHOLE = 2
"""Judged methods of which all is shown, if that fits."""
CUTS = ((3, 16), (2, 12), (1, 8), (1, 4))
"""Judged methods and rows of the table to show, tried in turn until they fit on one page."""
FIRST = (
    *(kind for kind in WORTH if kind != INCONCLUSIVE),
    HARMFUL,
    INCONCLUSIVE,
    SLIGHTLY_WORSE,
    SAME,
)
"""Verdicts by what a meeting has to decide: what to take, then what to keep away from."""


def one_page(stored: Stored, words: Words, inputs: Inputs | None) -> bytes:
    """The PDF: verdict, effect, facts, money and table; the shortest if nothing fits.

    Raises:
        StudyError: as for `report.build` and `pdf.to_pdf`.
    """
    printed = b""
    for data in ever_shorter(stored, words, inputs):
        printed = to_pdf(render(data, words, eager=True, one_page=True))
        if len(re.findall(rb"/Type\s*/Page\b", printed)) == 1:
            break
    return printed


def ever_shorter(stored: Stored, words: Words, inputs: Inputs | None) -> Iterator[dict[str, Any]]:
    """What to print: all of it where that may fit, then less and less."""
    if stored.kind == "study" or len(stored.result["cells"][0]["verdicts"]) <= WHOLE:
        yield build(stored, words, inputs)
    money = payoff.section(stored, words, inputs)  # what the pilot cost, with all its methods
    for methods, rows in CUTS:
        shown, others = shortened(stored, methods)
        data = _cut(build(shown, words, inputs), others, rows, words)
        if money:
            lead = data["verdicts"][0]["method"]
            own = [each for each in money["methods"] if each["name"] == lead]
            data["payoff"] = {**money, "methods": own}
        yield data


def shortened(stored: Stored, methods: int) -> tuple[Stored, list[str]]:
    """A pilot's files with its most important methods only, and the names of the others.

    The verdicts stay as they were given, over all methods; only what is shown is less.
    """
    if stored.kind == "study":
        return stored, []
    (cell,) = stored.result["cells"]
    # a method counts by the more important of its verdicts; the order is stable
    places = {
        name: min(FIRST.index(v.kind) if v.kind in FIRST else len(FIRST) for v in answers.values())
        for name, answers in cell["verdicts"].items()
    }
    names = sorted(places, key=places.__getitem__)
    kept, others = names[:methods], names[methods:]
    less: Judged = {
        **cell,
        "verdicts": {name: cell["verdicts"][name] for name in kept},
        "table": [
            row
            for row in cell["table"]
            if row["method"] not in others and row["control_of"] not in others
        ],
    }
    return stored._replace(result={**stored.result, "cells": [less]}), others


def _cut(data: dict[str, Any], others: list[str], rows: int, words: Words) -> dict[str, Any]:
    """The first method whole; of the others the verdict on quality; and what is left out."""
    # of the first method everything, of others the answer to the same question, without advice
    table, effect = data["table"], data["effect"]
    first, *rest = data["verdicts"]
    brief = [
        {**v, "next": "", "command": None} if v["method"] != first["method"] else v
        for v in rest
        if v["method"] == first["method"] or v["about"] == first["about"]
    ]
    # the chart as low as its lines allow
    if effect:
        (view,) = effect["views"]
        layout = {**view["layout"], "height": 80 + 28 * len(effect["table"]["rows"])}
        effect = {**effect, "views": [{**view, "layout": layout}]}
    # what is missing is said
    more = []
    if others:
        names = words("page.comma").join(others)
        more.append(words("page.more_methods", n=len(others), names=names))
    if len(table["rows"]) > rows:
        more.append(words("page.more_rows", n=len(table["rows"]) - rows))
    return {
        **data,
        "verdicts": [first, *brief],
        "effect": effect,
        "table": {**table, "rows": table["rows"][:rows]},
        "more": more,
    }
