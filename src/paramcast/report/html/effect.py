"""The effect and its controls: differences of methods by seed, and with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from ...study.judging.stats import Comparison, shown_p
from ...study.judging.verdict import EARLY, INSTEAD
from ...study.words import Words
from .comparison import Cell
from .plotting import (
    Chart,
    arm_of,
    between,
    by_arm,
    chart,
    dots_of,
    intervals_of,
    plain,
    short,
    spread,
    unit_of,
    zone,
)


def effect(cells: Sequence[Cell], words: Words) -> Chart:
    """The judged methods minus the base, with intervals, for the first screen.

    Where a verdict names a control to use instead, also what it says so by: that control minus the
    base, and the method minus that control.
    """
    cell = cells[0]
    made = [(arm, arm.row["to_base"]) for name in cell.judged if (arm := arm_of(cell, name))]
    lines = {(arm.name, cell.arms[0].name): c for arm, c in made if c is not None}
    for verdict in (answers["quality"] for answers in cell.result["verdicts"].values()):
        if verdict.kind == INSTEAD:
            lines |= {
                (pair.a, pair.b): pair.comparison
                for pair in verdict.comparisons
                if verdict.control in (pair.a, pair.b)
            }
    return forest("effect", [*lines.items()], cell, words)


def forest(
    name: str,
    lines: Sequence[tuple[Sequence[str], Comparison]],
    cell: Cell,
    words: Words,
) -> Chart:
    """Differences of two methods with their intervals, a line each, and the margin as a band."""
    scale, unit = cell.scale, unit_of(cell, words)
    found = [c for _, c in lines]
    # a line of the table for each line of the chart
    rows = [
        [" − ".join(pair), cell.signed(scale * c.mean),  # noqa: RUF001 - minus
         between(cell.signed, scale * c.low, scale * c.high), shown_p(c), str(c.n),
         words(f"relation.{c.relation}")]
        for pair, c in lines
    ]  # fmt: skip
    # differences within the margin do not matter: a band
    margin = scale * cell.metric.margin
    # the plot is twice as wide as the margin, whose band would else be its background
    ends = [-2 * margin, 2 * margin, *(scale * end for c in found for end in (c.low, c.high))]
    room = 0.05 * (max(ends) - min(ends))
    trace = intervals_of([plain(row[0]) for row in rows], found, scale, [])
    trace["marker"] |= {"color": "$c0", "size": 13, "symbol": "diamond"}
    trace["error_x"] |= {"color": "$c0", "thickness": 3, "width": 7}
    trace["hovertemplate"] = "%{y}: %{x}" + f" {plain(unit)}<extra></extra>"
    layout = {
        "xaxis": {
            "title": {"text": plain(words("chart.difference", unit=unit))},
            "zeroline": True,
            "range": [short(min(ends) - room), short(max(ends) + room)],
        },
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        "shapes": [zone("x", -margin, margin)],
        "height": 110 + 46 * len(lines),
    }
    return chart(
        name, words, [{"label": "", "data": [trace], "layout": layout}],
        ("comparison", "mean", "interval", "p", "n", "relation"), rows,
        [{"method": list(pair)} for pair, _ in lines],
        text=_text(name, cell), base=cell.arms[0].name, margin=f"{margin:.3g} {unit}",
    )  # fmt: skip


def _text(name: str, cell: Cell) -> str:
    """How to read a chart; what pairs share, only we know of our trainings."""
    return name if name == "controls" and cell.made == "_own" else f"{name}{cell.made}"


def paired(cell: Cell, words: Words) -> Chart | None:
    """Each seed's difference from the base, with the mean and its interval."""
    others = cell.arms[1:]
    if not others or not cell.metric.paired:
        return None
    unit, base = unit_of(cell, words), cell.arms[0].name
    least, overlap = cell.scale * cell.metric.half_example, cell.metric.overlap
    views, rows, behind = [], [], []
    # a view at T and one of what ran at 0.8 T, where the base is compared with the base at T, too
    shorter = [arm for arm in cell.arms if arm.early]
    for early, arms in ((False, others), (True, shorter)):
        if not arms:
            continue
        data = []
        for i, arm in enumerate(arms):
            values = [short(d) for d in cell.differences(arm, early=early)]
            judged = arm.row["to_base"]
            level = cell.result["confidence"] if judged is None else judged.confidence
            # the same interval as the verdict's, at least half a test example wide
            floor = least, overlap, level
            data += dots_of(arm, cell, i, values, words("chart.seed"), floor=floor)
            # the same numbers as a line of the table
            share = f"{100 * EARLY if early else 100:g} %"
            by_seed = ", ".join(map(cell.signed, values))
            interval = spread(values, cell.signed, floor)
            rows.append([arm.name, share, *interval, by_seed])
            behind.append({"method": [arm.name, base], **({"share": ""} if early else {})})
        label = words("view.early") if early else words("view.full")
        what = words("chart.minus_base", base=base, unit=unit)
        margin = cell.scale * cell.metric.margin
        layout = by_arm(arms, what)
        layout["shapes"] = [zone("y", -margin, margin)]
        views.append({"label": label, "data": data, "layout": layout})
    return chart(
        "paired", words, views, ("method", "steps", "mean", "interval", "by_seed"), rows, behind,
        text=_text("paired", cell), base=base, margin=f"{margin:.3g} {unit}",
    )  # fmt: skip


def controls(cell: Cell, words: Words) -> Chart | None:
    """The comparisons behind the verdicts: each method, its controls and the base."""
    judged = [answers["quality"] for answers in cell.result["verdicts"].values()]
    # a comparison that several verdicts share is drawn once
    lines = {(p.a, p.b): p.comparison for verdict in judged for p in verdict.comparisons}
    if len(cell.arms) <= 1 + len(judged):  # no control ran: the first screen shows all there is
        return None
    # a verdict holds what it needed; arms that also ran have their differences in the table
    for arm in cell.arms[1:]:
        matched = cell.matched_of(arm.name)
        for other, c in ((cell.arms[0], arm.row["to_base"]), (matched, arm.row["to_lr_matched"])):
            if other is not None and c is not None:
                lines.setdefault((arm.name, other.name), c)
    return forest("controls", [*lines.items()], cell, words) if lines else None
