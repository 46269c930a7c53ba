"""The chart of a comparison's predictions: error, agreement, length, and anomalies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ...study.words import Words
from .comparison import FORECASTS, Arm, Cell
from .load import Run
from .plotting import NONE, Chart, chart, line_of, plain, scaled, style

LONG = 0.2
"""In per cent of the weights; the default anomaly rule does not write a longer jump."""
MARKS = {"non-finite": "x", "jump": "triangle-up"}
SCALES = {"error": 1.0, "cosine": 1.0, "relative_jump": 100.0}
LIMIT = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": LONG, "y1": LONG,
         "line": {"color": "$faint", "dash": "dash", "width": 1.5}}  # fmt: skip
FORECAST = {"error": "error", "cosine": "agreement", "relative_jump": "jump_percent"}


def chart_of(cell: Cell, words: Words) -> Chart | None:
    """The chart: means over the final runs by step, with a strip of the rules that fired below."""
    arms = [arm for arm in cell.arms if any(arm.forecasts.values())]
    if not arms:
        return None
    # the strip is the same in every view, so it is stored once
    strip = [trace for arm in arms for trace in _strip(arm, cell, words)]
    views = []
    for quantity in FORECASTS:
        lines = [(arm, scaled(arm.forecasts[quantity], SCALES[quantity])) for arm in arms]
        data = [trace for arm, points in lines for trace in line_of(arm, cell, points, 0)]
        if data:
            name = words(f"chart.{FORECAST[quantity]}")
            layout = _layout(name, arms, strip, words)
            # the length from which the default rule would not write a jump
            if quantity == "relative_jump":
                layout["shapes"] = [LIMIT]
            views.append({"label": name, "data": data, "layout": layout})
    columns = ("method", "predictions", "accepted", "jump", "agreement", "error", "anomalies")
    rows = [_row(arm, words) for arm in arms]
    behind = [{"method": arm.name} for arm in arms]
    return {**chart("predictions", words, views, columns, rows, behind), "common": strip}


def _layout(
    name: str, arms: list[Arm], strip: list[dict[str, Any]], words: Words
) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": words("chart.steps")}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": plain(name)}},
        "height": 420,
    }
    if strip:  # a second y axis below, with a line per arm
        names = [plain(arm.name) for arm in arms]
        share = min(0.4, 0.06 + 0.055 * len(arms))
        layout["yaxis"]["domain"] = [share + 0.06, 1]
        layout["yaxis2"] = {
            "domain": [0, share], "type": "category", "categoryorder": "array",
            "categoryarray": names[::-1], "range": [-0.6, len(arms) - 0.4], "automargin": True,
            "showgrid": True, "gridcolor": "$grid", "zeroline": False, "fixedrange": True,
        }  # fmt: skip
        layout["xaxis"]["anchor"] = "y2"
        layout["height"] += 26 * len(arms)
    return layout


def _strip(arm: Arm, cell: Cell, words: Words) -> Iterator[dict[str, Any]]:
    """Marks for each rule and action at the points where it fired, over all runs of the arm.

    The larger the share of predictions on which the rule fired, the darker the mark.
    """
    runs = [run for run in arm.final if run is not None]
    # predictions made by step, over all runs; and by rule, how often each run had it fire there
    made: Counter[int] = Counter()
    for point in _points(runs):
        made[point["step"]] += point["predictions"]["count"]
    found: dict[tuple[str, str], dict[int, list[int]]] = {}
    for point, rule, action, count in _fired(runs):
        found.setdefault((rule, action), {}).setdefault(point["step"], []).append(count)
    for (rule, action), counts in found.items():
        steps = sorted(counts)
        told = words("chart.fired", n="%{customdata[0]}", all="%{customdata[1]}",
                     runs="%{customdata[2]}", of=len(runs))  # fmt: skip
        shares = [sum(counts[s]) / made[s] for s in steps]
        what = f"{plain(said(rule, action, words))}<br>{told}"
        yield {
            "type": "scatter", "mode": "markers", "x": steps, "y": [plain(arm.name)] * len(steps),
            "yaxis": "y2", "customdata": [[sum(counts[s]), made[s], len(counts[s])] for s in steps],
            "showlegend": False,
            "marker": {"symbol": MARKS.get(rule, "square"), "color": style(arm, cell)[0],
                       "size": 9, "opacity": [round(0.3 + 0.7 * share, 2) for share in shares]},
            "hovertemplate": f"%{{x}}: {what}<extra>{plain(arm.name)}</extra>",
        }  # fmt: skip


def _points(runs: Iterable[Run]) -> Iterator[dict[str, Any]]:
    return (point for run in runs for point in run.curve if "predictions" in point)


def _fired(runs: Iterable[Run]) -> Iterator[tuple[dict[str, Any], str, str, int]]:
    for point in _points(runs):
        for each in point["predictions"].get("anomalies", []):
            yield point, each["rule"], each["action"], each["count"]


def said(rule: str, action: str, words: Words) -> str:
    """An anomaly rule and its action, in words."""
    what = words.either(f"rule.{rule}", rule)
    return f"{what}{words('page.colon')}{words.either(f'action.{action}', action)}"


def _row(arm: Arm, words: Words) -> list[str]:
    runs = [run for run in arm.final if run is not None]
    points = [point["predictions"] for point in _points(runs)]
    made = sum(point["count"] for point in points)
    fired: Counter[tuple[str, str]] = Counter()
    for _, rule, action, count in _fired(runs):
        fired[rule, action] += count
    anomalies = words("payoff.and").join(
        said(*key, words) + words("page.bracketed", x=f"{n} / {made}") for key, n in fired.items()
    )
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
