"""The chart of a comparison's predictions: error, agreement, length, and anomalies."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...study.words import Words
from .comparison import Arm, Cell
from .plotting import NONE, Chart, chart, line_of, plain, scaled

LONG = 0.2
"""In per cent of the weights; the default anomaly rule does not write a longer jump."""
LIMIT = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": LONG, "y1": LONG,
         "line": {"color": "$faint", "dash": "dash", "width": 1.5}}  # fmt: skip
VIEWS = (("error", "error", 1.0), ("cosine", "agreement", 1.0),
         ("relative_jump", "jump_percent", 100.0))  # fmt: skip
"""Each quantity, the key of its name, and the factor to the unit shown."""


def chart_of(cell: Cell, words: Words) -> Chart | None:
    """The chart: means over the final runs by step; the table counts the rules that fired."""
    arms = [arm for arm in cell.arms if any(arm.forecasts.values())]
    if not arms:
        return None
    views = []
    for quantity, key, scale in VIEWS:
        lines = [(arm, scaled(arm.forecasts[quantity], scale)) for arm in arms]
        data = [trace for arm, points in lines for trace in line_of(arm, cell, points, 0)]
        if data:
            name = words(f"chart.{key}")
            layout: dict[str, Any] = {
                "xaxis": {"title": {"text": words("chart.steps")}, "rangemode": "tozero"},
                "yaxis": {"title": {"text": plain(name)}}, "height": 420,
            }  # fmt: skip
            # the length from which the default rule would not write a jump
            if quantity == "relative_jump":
                layout["shapes"] = [LIMIT]
            views.append({"label": name, "data": data, "layout": layout})
    columns = ("method", "predictions", "accepted", "jump", "agreement", "error", "anomalies")
    rows = [_row(arm, words) for arm in arms]
    return chart("predictions", words, views, columns, rows, [{"method": row[0]} for row in rows])


def _row(arm: Arm, words: Words) -> list[str]:
    points = [
        point["predictions"]
        for run in arm.final
        if run is not None
        for point in run.curve
        if "predictions" in point
    ]
    made = sum(point["count"] for point in points)
    fired: Counter[tuple[str, str]] = Counter()
    for each in (each for point in points for each in point.get("anomalies", [])):
        fired[each["rule"], each["action"]] += each["count"]
    anomalies = words("payoff.and").join(
        words.either(f"rule.{rule}", rule) + words("page.colon")
        + words.either(f"action.{action}", action) + words("page.bracketed", x=f"{n} / {made}")
        for (rule, action), n in fired.items()
    )  # fmt: skip
    return [
        arm.name, str(made), _weighted(points, "accepted", "count", "{:.0f} %", 100),
        _weighted(points, "relative_jump", "count", "{:.3f} %", 100),
        _weighted(points, "cosine", "scored", "{:+.3f}"),
        _weighted(points, "error", "scored", "{:.3f}"), anomalies or NONE,
    ]  # fmt: skip


def _weighted(
    points: list[dict[str, Any]], name: str, weight: str, form: str, scale: int = 1
) -> str:
    """The mean of a quantity over all predictions: points count by their number of predictions."""
    # a point without predictions, or without scored ones, has no value
    known = [(p[name], p[weight]) for p in points if p.get(name) is not None and p[weight]]
    if not known:
        return NONE
    return form.format(scale * sum(v * w for v, w in known) / sum(w for _, w in known))
