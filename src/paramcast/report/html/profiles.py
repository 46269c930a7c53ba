"""A study's performance profile: how fast a method is, in what share of the comparisons."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...study.judging.table import LR_MATCHED
from ...study.words import Words
from .comparison import BASE, PREDICTOR, Arm, Cell, bases
from .plotting import BASE_STYLE, Chart, chart, nth, plain, short

WITHIN = (1.0, 1.1, 1.5, 2.0)
"""Multiples of the least time for which the table says how often a method kept to them."""
ORDER = (BASE, PREDICTOR)


class Time(NamedTuple):
    """The time at which a method reached a comparison's target; infinite if it did not."""

    steps: float
    seconds: float


NEVER = Time(math.inf, math.inf)


def times_of(cell: Cell) -> tuple[float, dict[str, Time]] | None:
    """The target of a comparison and, by arm, the time at which the median run reached it.

    The target is the base's median validation value at the end, so that the base itself reaches it.
    At each epoch a run that has broken off counts as the worst.

    Returns:
        None if the base has no such value.
    """
    higher = cell.metric.higher_is_better
    medians = {arm.name: _median_curve(arm, cell.sign) for arm in cell.arms}
    # no target if the base has no curve, or not a finite end
    ends = medians[cell.arms[0].name]
    if not ends or not math.isfinite(ends[-1][1]):
        return None
    target = ends[-1][1]
    return target, {
        name: next((at for at, value in curve if (value >= target if higher else value <= target)),
                   NEVER)
        for name, curve in medians.items()
    }  # fmt: skip


def _median_curve(arm: Arm, sign: float) -> list[tuple[Time, float]]:
    """For each epoch its time, and the median validation value over the seeds."""
    curves = [run.curve for run in arm.final if run is not None]
    points = []
    for epoch in range(max(map(len, curves), default=0)):
        here = [curve[epoch] if epoch < len(curve) else {} for curve in curves]
        known = [point for point in here if point]
        seconds = statistics.median(point["seconds"] for point in known)
        values = [point.get("validation_metric") for point in here]
        # -sign inf is the worst value in either direction of the metric
        middle = statistics.median(-sign * math.inf if v is None else v for v in values)
        points.append((Time(known[0]["step"], seconds), middle))
    return points


def chart_of(cells: Sequence[Cell], words: Words) -> Chart | None:
    """The share of comparisons in which each method needs at most x times the fastest's time."""
    name_of = _names(cells, words)
    roles: dict[str, str] = {}
    ratios: dict[str, list[Time]] = {}
    # each method's times over the fastest of its comparison
    for cell in cells:
        found = times_of(cell)
        if found is None:
            continue
        fastest = Time(*(min(column) for column in zip(*found[1].values(), strict=True)))
        for arm in cell.arms:
            relative = (_ratio(a, b) for a, b in zip(found[1][arm.name], fastest, strict=True))
            roles.setdefault(name_of(arm), arm.role)
            ratios.setdefault(name_of(arm), []).append(Time(*relative))
    # a profile of one comparison says nothing; the base first, then predictors, then the others
    most = max(map(len, ratios.values()), default=0)
    if most < 2:
        return None
    order = sorted(ratios, key=lambda name: ORDER.index(roles[name]) if roles[name] in ORDER else 2)
    # the base is grey and takes no number in the order of colours
    styles = {name: nth(i - 1) if roles[name] != BASE else BASE_STYLE
              for i, name in enumerate(order)}  # fmt: skip
    views, rows = [], []
    for k, along in enumerate(("steps", "seconds")):
        columns = {name: [times[k] for times in ratios[name]] for name in order}
        views.append(_view(columns, styles, words(f"chart.{along}"), words))
        rows += [
            [name, words(f"chart.{along}"), str(len(own)),
             *(f"{100 * _share(own, x):.0f} %" for x in (*WITHIN, math.inf))]
            for name, own in columns.items()
        ]  # fmt: skip
    head = ("method", "what", "comparisons")
    made = chart("profile", words, views, head, rows, base=bases(cells))
    made["table"]["head"] += [words("chart.within", x=f"{x:g}") for x in WITHIN]
    made["table"]["head"].append(words("head.reached"))
    return made


def _names(cells: Sequence[Cell], words: Words) -> Callable[[Arm], str]:
    """Names for arms that hold in all comparisons, whose bases and predictors may differ."""
    bases = {cell.arms[0].name for cell in cells}
    several = len({arm.row["control_of"] for cell in cells for arm in cell.arms} - {""}) > 1

    def name(arm: Arm) -> str:
        # controls by their family; the base as "base" if cells differ in it
        known, of = arm.name, arm.row["control_of"]
        if arm.matched:
            several_bases = len(bases) > 1
            known = LR_MATCHED if several_bases else f"{next(iter(bases))}-{LR_MATCHED}"
        elif of:
            known = arm.row["family"]
        elif len(bases) > 1 and arm.role == BASE:
            known = words("role.base")
        return f"{known} of {of}" if of and several else known

    return name


def _ratio(time: float, fastest: float) -> float:
    if math.isinf(time):
        return math.inf
    return short(time / fastest) if fastest > 0 else 1.0


def _share(ratios: Sequence[float], x: float) -> float:
    """The share of its comparisons in which a method took at most x times the least time."""
    return sum(math.isfinite(r) and r <= x for r in ratios) / len(ratios)


def _view(
    columns: dict[str, list[float]],
    styles: dict[str, tuple[str, str, str]],
    title: str,
    words: Words,
) -> dict[str, Any]:
    most = max(map(len, columns.values()))
    end = 1.05 * max(1.2, *(r for own in columns.values() for r in own if math.isfinite(r)))
    data = []
    for name, own in columns.items():
        colour, symbol, dash = styles[name]
        label = plain(name if len(own) == most else f"{name} (n = {len(own)})")
        # the curve rises at every ratio; its last value goes on to the right edge
        x = sorted({1.0, *(r for r in own if math.isfinite(r))})
        y = [round(100 * _share(own, ratio), 2) for ratio in x]
        data.append(
            {"type": "scatter", "mode": "lines+markers", "name": label, "x": [*x, end],
             "y": [*y, y[-1]], "line": {"color": colour, "dash": dash, "shape": "hv", "width": 2.2},
             "marker": {"color": colour, "symbol": symbol, "size": [*[7] * len(x), 0]},
             "hovertemplate": "%{x:.3g}: %{y:.0f} %" + f"<extra>{label}</extra>"}
        )  # fmt: skip
    right = [-0.01, math.log10(end)]
    layout = {
        "xaxis": {"type": "log", "title": {"text": words("chart.ratio")}, "range": right},
        "yaxis": {"title": {"text": words("chart.share")}, "range": [-3, 104]},
        "height": 420,
    }
    return {"label": title, "data": data, "layout": layout}
