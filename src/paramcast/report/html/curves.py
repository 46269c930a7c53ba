"""Charts of learning curves, and of the time to the base's result."""

from __future__ import annotations

import statistics
from typing import Any

from ...study.words import Words
from .comparison import Cell
from .load import Run
from .plotting import (
    NONE,
    Chart,
    by_arm,
    chart,
    dots_of,
    line_of,
    metric_name,
    number,
    plain,
    scaled,
    short,
)


def curves(cell: Cell, words: Words) -> Chart | None:
    """Mean curves on validation and training, along steps and along seconds."""
    quantities = [
        ("validation_metric", metric_name(cell, words), cell.scale),
        ("validation_loss", words("chart.validation_loss"), 1.0),
        ("train_loss", words("chart.train_loss"), 1.0),
    ]
    # what was not measured has no view
    views: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    # two views for each quantity that was measured: along steps, and along seconds
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
            else:  # the same lines along another axis: store only the new x values
                view.update(like=len(views) - 1, x=[trace["x"] for trace in data])
            views.append(view)
        # the table has the last point of each curve
        rows += [
            [arm.name, name, str(p[-1].step), number(p[-1].seconds), number(p[-1].mean),
             f"{number(p[-1].low)} … {number(p[-1].high)}"]
            for arm, p in lines if p
        ]  # fmt: skip
    if not views:
        return None
    columns = ("method", "what", "steps", "seconds", "at_end", "interval")
    behind = [{"method": row[0]} for row in rows]
    text = f"curves{cell.made}"
    return chart("curves", words, views, columns, rows, behind, text=text)


def target(cell: Cell, words: Words) -> Chart | None:
    """The time at which each run first reached the value at which the base's median run ends."""
    target = target_of(cell)
    if target is None:
        return None
    # for each arm the runs that reached it, and the medians of these
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
    # a dot for each run that reached it, by steps and by seconds
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


def target_of(cell: Cell) -> float | None:
    """The target: the base's median validation value at the end; None if it has none."""
    values = [
        run.outcome["validation"].get("metric") for run in cell.arms[0].final if run is not None
    ]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def reached(run: Run, target: float, *, higher: bool) -> tuple[int, float] | None:
    """The step and seconds at which a run's validation metric first reached the target."""
    for point in run.curve:
        value = point.get("validation_metric")
        if value is not None and (value >= target if higher else value <= target):
            return int(point["step"]), float(point["seconds"])
    return None
