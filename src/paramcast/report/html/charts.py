"""Chart specifications of one comparison: plain dictionaries for Plotly, with a table for each.

A colour is a name such as "$c1" ("$c1/33" with an alpha), which the page looks up in its own
colours, so that a chart follows light, dark and print. A chart is

    {"id", "title", "read", "views": [{"label", "data", "layout"}],
     "table": {"head", "rows", "behind"}}

where a view that has "like" instead of "data" is that of this number with other "x" values, a trace
with a "band" (low and high) has one drawn around it, and traces in "common" are in every view.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ...study.judging.stats import Comparison, shown_p
from ...study.words import Words
from . import predictions
from .cells import Cell, reached, target_of
from .marks import (
    NONE,
    Chart,
    arm_of,
    between,
    by_arm,
    chart,
    dots_of,
    line_of,
    metric_name,
    number,
    plain,
    scaled,
    short,
    spread,
    style,
    tests_of,
    unit_of,
    zone,
)


def charts_of(cell: Cell, words: Words) -> list[Chart]:
    """Every chart that the cell's runs allow."""
    made = [
        _paired(cell, words), _controls(cell, words), _curves(cell, words), _errors(cell, words),
        _target(cell, words), _tuning(cell, words), predictions.chart_of(cell, words),
    ]  # fmt: skip
    return [each for each in made if each is not None]


def before_verdict(cell: Cell, words: Words) -> list[Chart]:
    """What may be seen while runs finish: validation values, and no interval between methods."""
    curves = _curves(cell, words)
    if curves is not None:
        curves["read"] = words("watch.curves")
        for trace in (trace for view in curves["views"] for trace in view.get("data", [])):
            del trace["band"]
        table = curves["table"]
        table["head"], table["rows"] = table["head"][:-1], [row[:-1] for row in table["rows"]]
    made = [curves, _tuning(cell, words), predictions.chart_of(cell, words)]
    return [each for each in made if each is not None]


def effect(cells: Sequence[Cell], words: Words) -> Chart:
    """The judged methods minus the base, with intervals, for the first screen."""
    cell = cells[0]
    made = [(arm, arm.row["to_base"]) for name in cell.judged if (arm := arm_of(cell, name))]
    lines = [((arm.name, cell.arms[0].name), c) for arm, c in made if c is not None]
    return forest("effect", lines, cell, words)


def forest(
    name: str,
    lines: Sequence[tuple[Sequence[str], Comparison]],
    cell: Cell,
    words: Words,
) -> Chart:
    """Differences of two methods with their intervals, one line each, and the margin as a band."""
    scale, unit = cell.scale, unit_of(cell, words)
    rows, x, low, high, behind = [], [], [], [], []
    for pair, c in lines:
        label = " − ".join(pair)  # noqa: RUF001 - minus
        behind.append({"method": list(pair)})
        mean, down, up = (scale * value for value in (c.mean, c.low, c.high))
        x.append(short(mean))
        low.append(short(mean - down))
        high.append(short(up - mean))
        rows.append([label, cell.signed(mean), between(cell.signed, down, up), shown_p(c),
                     str(c.n), words(f"relation.{c.relation}")])  # fmt: skip
    margin = scale * cell.metric.margin
    trace = {
        "type": "scatter", "mode": "markers", "x": x, "y": [plain(row[0]) for row in rows],
        "error_x": {"array": high, "arrayminus": low, "color": "$c0", "thickness": 3, "width": 7},
        "marker": {"color": "$c0", "size": 13, "symbol": "diamond"},
        "hovertemplate": "%{y}: %{x}" + f" {plain(unit)}<extra></extra>", "showlegend": False,
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": plain(words("chart.difference", unit=unit))}, "zeroline": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        "shapes": [zone("x", -margin, margin)],
        "height": 110 + 46 * len(lines),
    }
    return chart(
        name, words, [{"label": "", "data": [trace], "layout": layout}],
        ("comparison", "mean", "interval", "p", "n", "relation"), rows, behind,
        margin=f"{margin:.3g} {unit}",
    )  # fmt: skip


def _paired(cell: Cell, words: Words) -> Chart | None:
    others = cell.arms[1:]
    if not others:
        return None
    unit, base = unit_of(cell, words), cell.arms[0].name
    floor = cell.scale * cell.metric.half_example, cell.metric.overlap
    views, rows, behind = [], [], []
    lengths = [False, True] if cell.arms[0].early else [False]
    for early in lengths:
        arms = cell.arms if early else others
        data = []
        for i, arm in enumerate(arms):
            values = [short(d) for d in cell.differences(arm, early=early)]
            data += dots_of(arm, cell, i, values, words("chart.seed"), floor=floor)
            share = "0.8 T" if early else "T"
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
        base=base, margin=f"{margin:.3g} {unit}",
    )  # fmt: skip


def _controls(cell: Cell, words: Words) -> Chart | None:
    judged = [answers["quality"] for answers in cell.result["verdicts"].values()]
    lines = {(p.a, p.b): p.comparison for verdict in judged for p in verdict.comparisons}
    if not lines:
        base = cell.arms[0].name
        to_base = {(arm.name, base): arm.row["to_base"] for arm in cell.arms[1:]}
        lines = {pair: c for pair, c in to_base.items() if c is not None}
    return forest("controls", [*lines.items()], cell, words) if lines else None


def _curves(cell: Cell, words: Words) -> Chart | None:
    quantities = [
        ("validation_metric", metric_name(cell, words), cell.scale),
        ("validation_loss", words("chart.validation_loss"), 1.0),
        ("train_loss", words("chart.train_loss"), 1.0),
    ]
    views: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for quantity, name, scale in quantities:
        lines = [(arm, scaled(arm.curves[quantity], scale)) for arm in cell.arms]
        if not any(points for _, points in lines):
            continue
        for column, axis in enumerate(("steps", "seconds")):
            data = [t for arm, points in lines for t in line_of(arm, cell, points, column)]
            along = words(f"chart.{axis}")
            layout = {"xaxis": {"title": {"text": along}, "rangemode": "tozero"},
                      "yaxis": {"title": {"text": plain(name)}}, "height": 420}  # fmt: skip
            view: dict[str, Any] = {
                "label": words("view.along", what=name, along=along),
                "layout": layout,
            }
            if column == 0:
                view["data"] = data
            else:  # the same lines along another axis: only that is stored
                view.update(like=len(views) - 1, x=[trace["x"] for trace in data])
            views.append(view)
        rows += [
            [arm.name, name, str(p[-1].step), number(p[-1].seconds), number(p[-1].mean),
             f"{number(p[-1].low)} … {number(p[-1].high)}"]
            for arm, p in lines if p
        ]  # fmt: skip
    if not views:
        return None
    columns = ("method", "what", "steps", "seconds", "at_end", "interval")
    return chart("curves", words, views, columns, rows, [{"method": row[0]} for row in rows])


def _errors(cell: Cell, words: Words) -> Chart | None:
    views, rows = [], []
    for name in ("top1_error", "top5_error"):
        lines = [(arm, tests_of(arm, name)) for arm in cell.arms]
        if not all(values for _, values in lines):
            continue
        what = words(f"chart.{name}")
        data = [t for i, (arm, values) in enumerate(lines)
                for t in dots_of(arm, cell, i, values, words("chart.seed"))]  # fmt: skip
        views.append({"label": what, "data": data, "layout": by_arm(cell.arms, what)})
        rows += [[arm.name, what, *spread(values, number)] for arm, values in lines]
    if not views:
        return None
    title = words("charts.errors" if len(views) > 1 else "charts.error")
    columns = ("method", "what", "mean", "interval")
    behind = [{"method": row[0]} for row in rows]
    return chart("errors", words, views, columns, rows, behind, title=title)


def _target(cell: Cell, words: Words) -> Chart | None:
    target = target_of(cell)
    if target is None:
        return None
    higher, lines, rows = cell.metric.higher_is_better, [], []
    for arm in cell.arms:
        runs = [run for run in arm.final if run is not None]
        found = [reached(run, target, higher=higher) for run in runs]
        times = [time for time in found if time is not None]
        lines.append((arm, times))
        steps, seconds = ([time[k] for time in times] for k in (0, 1))
        medians = [number(statistics.median(each)) if each else NONE for each in (steps, seconds)]
        rows.append([arm.name, f"{len(times)} / {len(runs)}", *medians])
    views = []
    for k, axis in enumerate(("steps", "seconds")):
        data = []
        for i, (arm, times) in enumerate(lines):
            data += dots_of(arm, cell, i, [short(time[k]) for time in times], "", mean=False)
        layout = by_arm(cell.arms, words(f"chart.{axis}_to_target"))
        layout["yaxis"]["rangemode"] = "tozero"
        views.append({"label": words(f"chart.{axis}"), "data": data, "layout": layout})
    columns = ("method", "reached", "median_steps", "median_seconds")
    behind = [{"method": row[0]} for row in rows]
    base, value = cell.arms[0].name, cell.metric.value(target)
    return chart("target", words, views, columns, rows, behind, base=base, target=value)


def _tuning(cell: Cell, words: Words) -> Chart | None:
    if not cell.tuning:
        return None
    chosen, base = cell.result["learning_rates"]["chosen"], cell.arms[0].name
    data, rows = [], []
    for method, by_lr in cell.tuning.items():
        name = base if method == "base" else method
        losses = {lr: [run.outcome["validation"]["loss"] for run in runs]
                  for lr, runs in by_lr.items() if runs}  # fmt: skip
        means = {lr: short(statistics.fmean(values)) for lr, values in losses.items()}
        picked = [lr == chosen.get(method) for lr in means]
        colour, symbol, dash = style(arm_of(cell, name), cell)
        data.append(
            {"type": "scatter", "mode": "lines+markers", "name": plain(name),
             "x": list(means), "y": list(means.values()), "line": {"color": colour, "dash": dash},
             "marker": {"color": colour, "size": [15 if p else 7 for p in picked],
                        "symbol": ["star" if p else symbol for p in picked]},
             "hovertemplate": "%{x:.4g}: %{y:.4g}<extra>" + plain(name) + "</extra>"}
        )  # fmt: skip
        rows += [[name, f"{lr:.4g}", number(mean), ", ".join(map(number, losses[lr])),
                  words("chart.chosen") if lr == chosen.get(method) else ""]
                 for lr, mean in means.items()]  # fmt: skip
    rates = sorted(cell.result["learning_rates"]["tried"])
    layout = {"xaxis": {"type": "log", "title": {"text": words("chart.lr")}, "tickvals": rates,
                        "ticktext": [f"{lr:.2g}" for lr in rates]},
              "yaxis": {"title": {"text": words("chart.tuning_loss")}}, "height": 400}  # fmt: skip
    views = [{"label": "", "data": data, "layout": layout}]
    columns = ("method", "lr", "mean", "by_seed", "chosen")
    behind = [{"method": row[0], "phase": "tune"} for row in rows]
    return chart("tuning", words, views, columns, rows, behind)
