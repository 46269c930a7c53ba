"""The gain of PLP and of the larger step over SGD, against the learning rate."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

from paramcast.errors import StudyError
from paramcast.study.judging.table import LR_MATCHED
from paramcast.study.judging.verdict import PERCENT
from paramcast.study.stored import ArmResult, Judged, Result

from .page import Page, made_by

INK, BLUE, ORANGE = "#444444", "#0072b2", "#d55e00"


def analyse(result: Result) -> Page:
    """A table and a chart: by learning rate, a predictor and its larger step minus the base.

    Raises:
        StudyError: the cells do not differ in the learning rate alone.
    """
    cells = {cell["table"][0]["lr"]: cell for cell in result["cells"]}
    if len(cells) < len(result["cells"]) or len(cells) < 2 or None in cells:
        raise StudyError("a chart of rates needs cells that differ in the learning rate alone")
    ordered = [cell for _, cell in sorted(cells.items(), key=lambda each: each[0] or 0.0)]
    lines = [(cell, *_arms(cell)) for cell in ordered]
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    page.say(f"Differences from the base at the same rate, n = {ordered[0]['seeds']} seeds.")
    page.table(
        ("learning rate", ordered[0]["table"][0]["method"], "predictor", "larger step"),
        [
            [f"{cell['table'][0]['lr']:g}", f"{_scale(cell) * cell['table'][0]['mean']:.2f}",
             _said(predictor, cell), _said(matched, cell)]
            for cell, predictor, matched in lines
        ],
    )  # fmt: skip
    page.figure("gain", "gain over the base against the learning rate", partial(_draw, lines))
    return page


def _arms(cell: Judged) -> tuple[ArmResult, ArmResult]:
    """The predictor and the base at its rate times the predictor's velocity gain."""
    rows = {row["family"]: row for row in cell["table"]}
    predictor = next((row for row in cell["table"] if row["role"] == "predictor"), None)
    if predictor is None or LR_MATCHED not in rows:
        raise StudyError("a chart of rates needs a predictor and its larger step in every cell")
    return predictor, rows[LR_MATCHED]


def _scale(cell: Judged) -> float:
    return 100.0 if cell["metric"].name in PERCENT else 1.0


def _said(row: ArmResult, cell: Judged) -> str:
    c, scale = row["to_base"], _scale(cell)
    if c is None:
        return ""
    return f"{scale * c.mean:+.2f} ({scale * c.low:+.2f} to {scale * c.high:+.2f})"


def _draw(lines: list[tuple[Judged, ArmResult, ArmResult]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4))
    panel = figure.subplots()
    rates = [float(cell["table"][0]["lr"] or 0.0) for cell, _, _ in lines]
    gain = Fraction((lines[0][2]["lr"] or 0.0) / rates[0]).limit_denominator(12)
    drawn = (
        ([row for _, row, _ in lines], lines[0][1]["method"].upper(), BLUE, "o-", 1.0),
        ([row for _, _, row in lines], f"the base at {gain} of the rate", ORANGE, "s--", 1.035),
    )
    for rows, name, colour, style, shift in drawn:
        found = [
            (_scale(cell), row["to_base"]) for (cell, _, _), row in zip(lines, rows, strict=True)
        ]
        known = [(x * shift, s, c) for x, (s, c) in zip(rates, found, strict=True) if c is not None]
        panel.errorbar(
            [x for x, _, _ in known], [s * c.mean for _, s, c in known],
            yerr=[s * (c.high - c.mean) for _, s, c in known],
            fmt=style, color=colour, label=name, capsize=3, linewidth=1.6, markersize=5,
        )  # fmt: skip
    panel.axhline(0, color=INK, linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xlabel("learning rate of the base")
    panel.set_ylabel("test accuracy minus the base's, points")
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.legend(frameon=False)
    figure.tight_layout()
    return figure
