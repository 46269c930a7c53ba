"""How good the model is on the way: validation against the share of T, arm by arm."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from paramcast.errors import StudyError
from paramcast.study.judging.table import BASE, LR_MATCHED, RANDOM_JUMP
from paramcast.study.store.folder import reading
from paramcast.study.stored import Judged, Result

from .maps import points, short
from .page import Page, made_by

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Of T, where the table looks."""
COLOURS = (
    "#222222",
    "#888888",
    "#0072b2",
    "#56b4e9",
    "#d55e00",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#8c564b",
    "#9467bd",
)


class Line(NamedTuple):
    """An arm: its name and rate, and by share of T its mean on validation; n runs."""

    name: str
    lr: float | None
    shares: list[float]
    means: list[float]
    n: int


def analyse(result: Result) -> Page:
    """Of each task, the mean validation metric at shares of T, of bases, predictors and methods.

    Runs that were restored from rows have no curves and are left out; n says how many are left.

    Raises:
        StudyError: no run has a curve.
    """
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    page.say("Validation metric on the way, means over n runs; a cosine is only good at its end.")
    tasks: dict[str, list[Judged]] = {}
    for cell in result["cells"]:
        tasks.setdefault(cell["settings"]["task"], []).append(cell)
    for name, cells in tasks.items():
        total = max(cell["steps"] or 0 for cell in cells)
        lines = [line for cell in cells for line in _lines(cell, Path(result["out"]), total)]
        if not lines:
            raise StudyError(f"no run of {name} has a curve; run the study anew in another folder")
        page.say(f"**{name}**, {cells[0]['metric'].name}, T = {total} steps")
        page.table(
            ("arm", "lr", "n", *(f"{share:g} T" for share in SHARES)),
            [
                [line.name, short(line.lr), line.n, *(_at(line, share) for share in SHARES)]
                for line in lines
            ],
        )
        title = f"validation on the way, {cells[0]['task']}"
        page.figure(cells[0]["task"], title, partial(_draw, lines))
    return page


def _lines(cell: Judged, folder: Path, total: int) -> list[Line]:
    """The curves of a cell's arms, but for the base at other rates and jumps at random."""
    rows = [row for row in cell["table"] if row["family"] not in (LR_MATCHED, RANDOM_JUMP)]
    settings, base, found = cell["settings"], cell["table"][0]["method"], []
    with reading(folder) as store:
        for row in rows:
            stored = list(store.curves(row["keys"]).values())
            whole = max(map(len, stored), default=0)  # a run that diverged ends before
            curves = [curve for curve in stored if len(curve) == whole > 0]
            if not curves:
                continue
            over = "" if row["role"] == BASE else f" over {base}"
            steps = f"{(cell['steps'] or total) / total:.2g} T"
            name = f"{row['method']}{over}, {settings['schedule']}, {steps}"
            shares = [point["step"] / total for point in curves[0]]
            scale = abs(points(cell["metric"]))
            means = [
                scale * statistics.fmean(point["validation_metric"] for point in at)
                for at in zip(*curves, strict=True)
            ]
            found.append(Line(name, row["lr"], shares, means, len(curves)))
    return found


def _at(line: Line, share: float) -> str:
    """The value at the nearest point of the curve; nothing where the run has ended."""
    place = min(range(len(line.shares)), key=lambda i: abs(line.shares[i] - share))
    return short(line.means[place]) if abs(line.shares[place] - share) < 0.051 else ""


def _draw(lines: list[Line]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8))
    panel = figure.subplots()
    for line, colour in zip(lines, COLOURS * len(lines), strict=False):
        style = "--" if line.shares[-1] < 0.99 else "-"
        panel.plot(
            line.shares,
            line.means,
            style,
            color=colour,
            linewidth=1.3,
            label=f"{line.name}, {short(line.lr)}",
        )
    ends = sorted(line.means[-1] for line in lines)
    span = max(ends[-1] - ends[0], 1e-9)  # the beginning would flatten what matters
    panel.set_ylim(ends[0] - 2 * span, ends[-1] + span / 2)
    panel.set_xlabel("share of T")
    panel.set_ylabel("validation")
    panel.legend(fontsize=6, frameon=False, loc="lower right")
    figure.tight_layout()
    return figure
