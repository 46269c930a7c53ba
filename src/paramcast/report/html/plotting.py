"""The parts of charts: an arm's colour, its dots, its curve, and the form of numbers.

A colour is a name such as "$c1" ("$c1/33" with an alpha), which the page looks up in its own
colours, so that a chart follows light, dark and print. A chart is

    {"id", "title", "read", "views": [{"label", "data", "layout"}],
     "table": {"head", "rows", "behind"}}

where a view with "like" instead of "data" repeats the view of that number with other "x" values,
and the page draws a "band" (low and high) around a trace that has one.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from ...study.judging.stats import Comparison
from ...study.judging.table import BASE, PREDICTOR
from ...study.words import Words
from .comparison import Arm, Cell, Point, band

Chart = dict[str, Any]
Behind = dict[str, Any]
"""Filters of the table of runs by name; unless they say otherwise, the page adds the comparison
shown, final runs, and whole schedules."""
COLOURS = ("$c0", "$c1", "$c2", "$c3", "$c4", "$c5", "$c6", "$c7")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
NONE = "\u2013"


def chart(
    name: str,
    words: Words,
    views: list[dict[str, Any]],
    columns: Sequence[str],
    rows: list[list[str]],
    behind: Sequence[Behind] = (),
    *,
    title: str | None = None,
    text: str = "",
    **read: str,
) -> Chart:
    """A chart as the page draws it, with its numbers as a table.

    Args:
        name: the key of its title, and of the text on how to read it, in the catalogue.
        words: the language.
        views: what a reader can switch between: {"label", "data", "layout"}.
        columns, rows: of the table; the columns by their names in the catalogue.
        behind: for each row, the filter that finds its runs in the table of runs.
        title: replaces the catalogue's title.
        text: the key of the text on how to read it, unless that is the name.
        read: values for the title, the headings and the text on how to read it.
    """
    return {
        "id": name,
        "title": title or words(f"charts.{name}", **read),
        "read": words(f"read.{text or name}", **read),
        "views": views,
        "table": {
            "head": [words(f"head.{column}", **read) for column in columns],
            "rows": rows,
            "behind": list(behind),
        },
    }


def style(arm: Arm | None, cell: Cell) -> tuple[str, str, str]:
    """The colour, symbol and dash of an arm: grey for the base, blue for the first predictor."""
    if arm is None or arm.role == BASE:
        return "$base", "circle-open", "solid"
    # an arm looks the same in every chart of its comparison
    order = [a for a in cell.arms if a.role == PREDICTOR] + [
        a for a in cell.arms if a.role not in (BASE, PREDICTOR)
    ]
    i = order.index(arm)
    return COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)], DASHES[i % len(DASHES)]


def arm_of(cell: Cell, name: str) -> Arm | None:
    """The arm of that name; None if there is none."""
    return next((arm for arm in cell.arms if arm.name == name), None)


def pair_of(cell: Cell, arm: Arm, against: str) -> list[str]:
    """The two methods of a difference, "to_base" or "to_lr_matched"."""
    other = cell.arms[0] if against == "to_base" else cell.matched_of(arm.name)
    return [arm.name, *([other.name] if other else [])]


def dots_of(
    arm: Arm,
    cell: Cell,
    i: int,
    values: Sequence[float],
    seed: str,
    *,
    mean: bool = True,
    floor: tuple[float, ...] = (),
) -> list[dict[str, Any]]:
    """A dot per seed, side by side in the i-th column, and their mean with its interval.

    Args:
        arm, cell, i, values: the arm, its comparison, its column, and its values by seed.
        seed: what stands before the number of a seed when a reader points at its dot.
        mean: also draw the mean.
        floor: the `least`, `overlap` and `confidence` of `band`.
    """
    colour, symbol, _ = style(arm, cell)
    n, name = len(values), plain(arm.name)
    # dots from i - 0.22 to i + 0.08, the mean at i + 0.24
    x = [round(i - 0.22 + 0.3 * (s + 0.5) / n, 3) for s in range(n)]
    hover = (f"{plain(seed)} %{{customdata}}: " if seed else "") + "%{y:.4g}<extra>"
    dots = {
        "type": "scatter", "mode": "markers", "name": name, "x": x, "y": list(values),
        "customdata": list(range(n)), "hovertemplate": f"{hover}{name}</extra>",
        "marker": {"color": colour, "size": 8, "symbol": symbol, "opacity": 0.85},
        "showlegend": False,
    }  # fmt: skip
    if not mean or not values:
        return [dots]
    # the mean as a bar beside the dots, with its interval
    centre, low, high = band(values, *floor)
    bar = {
        "type": "scatter", "mode": "markers", "name": name, "x": [i + 0.24], "y": [short(centre)],
        "error_y": {"array": [short(high - centre)], "arrayminus": [short(centre - low)],
                    "color": colour, "thickness": 2.5, "width": 6},
        "marker": {"color": colour, "size": 11, "symbol": "line-ew-open", "line": {"width": 3}},
        "hovertemplate": "%{y:.4g}" + f"<extra>{name}</extra>", "showlegend": False,
    }  # fmt: skip
    return [dots, bar]


def intervals_of(
    labels: Sequence[str], found: Sequence[Comparison], scale: float, colours: Sequence[str]
) -> dict[str, Any]:
    """Differences with their intervals, one below the other.

    Args:
        labels, found, colours: of each.
        scale: the factor to the unit shown.
    """
    # Plotly's error bars are lengths from the mean, which need not be in the middle
    return {
        "type": "scatter", "mode": "markers", "x": [short(scale * c.mean) for c in found],
        "y": labels, "showlegend": False, "marker": {"color": colours, "size": 8},
        "error_x": {"array": [short(scale * (c.high - c.mean)) for c in found],
                    "arrayminus": [short(scale * (c.mean - c.low)) for c in found],
                    "color": "$base", "thickness": 1.4, "width": 0},
    }  # fmt: skip


def scaled(points: list[Point], scale: float) -> list[Point]:
    """A curve, scaled to the unit shown."""
    return [Point(p.step, p.seconds, *(scale * value for value in p[2:])) for p in points]


def line_of(arm: Arm, cell: Cell, points: list[Point], column: int) -> list[dict[str, Any]]:
    """A curve along steps (column 0) or seconds (1); the page draws its "band" itself."""
    if not points:
        return []
    colour, _, dash = style(arm, cell)
    name = plain(arm.name)
    line = {
        "type": "scatter", "mode": "lines" if len(points) > 1 else "markers", "name": name,
        "x": [short(p[column]) for p in points],
        "y": [short(p.mean) for p in points],
        "band": [[short(p.low) for p in points], [short(p.high) for p in points]],
        "line": {"color": colour, "dash": dash, "width": 2.2}, "legendgroup": name,
        "hovertemplate": "%{x:.4g}: %{y:.4g}" + f"<extra>{name}</extra>",
    }  # fmt: skip
    return [line]


def by_arm(arms: Sequence[Arm], what: str) -> dict[str, Any]:
    """A layout with a column per arm."""
    names = [plain(arm.name).replace(" of ", "<br>of ") for arm in arms]
    return {
        "xaxis": {"tickvals": list(range(len(arms))), "ticktext": names, "zeroline": False,
                  "autotickangles": [0, -40], "ticklabeloverflow": "allow",
                  "range": [-0.6, len(arms) - 0.4], "showgrid": False, "automargin": True},
        "yaxis": {"title": {"text": plain(what)}, "zeroline": True},
        "height": 400,
    }  # fmt: skip


def zone(axis: str, low: float, high: float) -> dict[str, Any]:
    """A shaded band across the whole chart."""
    other = "y" if axis == "x" else "x"
    return {"type": "rect", f"{axis}ref": axis, f"{other}ref": "paper", f"{axis}0": low,
            f"{axis}1": high, f"{other}0": 0, f"{other}1": 1, "layer": "below",
            "fillcolor": "$zone", "line": {"width": 0}}  # fmt: skip


def spread(
    values: Sequence[float],
    form: Callable[[float], str],
    floor: tuple[float, ...] = (),
) -> tuple[str, str]:
    """The mean and interval as text."""
    if not values:
        return NONE, NONE
    mean, low, high = band(values, *floor)
    return form(mean), between(form, low, high)


def between(form: Callable[[float], str], low: float, high: float) -> str:
    """An interval as text."""
    return f"{form(low)} … {form(high)}"


def unit_of(cell: Cell, words: Words) -> str:
    """The unit of a difference."""
    return words("chart.points") if cell.metric.percent else cell.metric.name


def metric_name(cell: Cell, words: Words) -> str:
    """The name of the primary metric on the validation split."""
    name, key = cell.metric.name, "percent" if cell.metric.percent else "validation"
    return words(f"chart.{key}", metric=words.either(f"metric.{name}", name))


def numbered(cell: Cell, words: Words) -> str:
    """A comparison of a study: its number and its settings."""
    return f"{cell.index + 1}{words('page.colon')}{cell.label}"


def plain(text: str) -> str:
    """Escape text for Plotly, which reads some HTML."""
    return html.escape(text, quote=False)


def short(value: float) -> float:
    """Round to five digits: enough for a screen, and half the size of the page."""
    return float(f"{value:.5g}")


def number(value: float) -> str:
    """A value in a table."""
    return f"{value:.4g}"
