"""A finished study as maps: a method minus the base, by learning rate and one other setting."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from paramcast.study.judging.stats import interval
from paramcast.study.judging.table import LR_MATCHED
from paramcast.study.judging.verdict import Metric
from paramcast.study.stored import ArmResult, Judged


class Map(NamedTuple):
    """One map: mean, low and high of the differences by (row, learning rate)."""

    task: str
    axis: str
    rows: list[str]
    lrs: list[float]
    to_base: dict[tuple[str, float], tuple[float, float, float]]
    to_matched: dict[tuple[str, float], tuple[float, float, float]]


def maps(cells: list[Judged]) -> list[Map]:
    """A map per task and axis, and one per task of its methods."""
    found = []
    for task in dict.fromkeys(cell["settings"]["task"] for cell in cells):
        own = [cell for cell in cells if cell["settings"]["task"] == task]
        axes = [name for name in own[0]["settings"] if name not in ("task", "lr")]
        # each axis in turn varies, while the others keep their most frequent value
        usual = {a: Counter(cell["settings"][a] for cell in own).most_common(1)[0][0] for a in axes}
        for axis in axes:
            others = {name: value for name, value in usual.items() if name != axis}
            chosen = [c for c in own if all(c["settings"][n] == v for n, v in others.items())]
            if len({cell["settings"][axis] for cell in chosen}) > 2:
                # None is the task's own value, which is then among the others
                chosen = [cell for cell in chosen if cell["settings"][axis] is not None]
            found.append(_map(task, axis, [(short(c["settings"][axis]), c, "plp") for c in chosen]))
        plain = [c for c in own if all(c["settings"][n] == v for n, v in usual.items())]
        methods = [(name, cell, name) for cell in plain for name in cell["verdicts"]]
        found.append(_map(task, "method", methods))
    return found


def _map(task: str, axis: str, entries: list[tuple[str, Judged, str]]) -> Map:
    to_base, to_matched = {}, {}
    rows: dict[str, None] = {}
    lrs: set[float] = set()
    for row, cell, method in entries:
        lr = cell["settings"]["lr"]
        # a map has a column per rate, so tuned cells have no place in it
        if lr is None or method not in cell["verdicts"]:
            continue
        rows[row] = None
        lrs.add(lr)
        to_base[row, lr] = interval(differences(cell, method))
        matched = matched_of(cell, method)
        if matched is not None:
            to_matched[row, lr] = interval(differences(cell, method, matched))
    return Map(task, axis, sorted(rows, key=_natural), sorted(lrs), to_base, to_matched)


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def rows_of(cell: Judged) -> dict[str, ArmResult]:
    """A cell's table by method, the base first."""
    return {row["method"]: row for row in cell["table"]}


def differences(cell: Judged, method: str, other: str | None = None) -> list[float]:
    """A method minus another (the base if None) by seed, plus = the first is better.

    In points for a metric in per cent, else in the metric's unit.
    """
    rows, scale = rows_of(cell), points(cell["metric"])
    base = cell["table"][0] if other is None else rows[other]
    return [scale * (a - b) for a, b in zip(rows[method]["values"], base["values"], strict=True)]


def mean_of(row: ArmResult, measure: str) -> float | None:
    """The mean of a measure over an arm's runs; None if they do not have it."""
    return row["measures"][measure]["mean"] if measure in row["measures"] else None


def points(metric: Metric) -> float:
    """The factor that turns a value into points, or into the metric's unit, plus = better."""
    sign = 1.0 if metric.higher_is_better else -1.0
    return sign * (100.0 if metric.percent else 1.0)


def matched_of(cell: Judged, method: str) -> str | None:
    """The name of a method's lr-matched control; None if it has none."""
    own = (r for r in cell["table"] if (r["family"], r["control_of"]) == (LR_MATCHED, method))
    return next((r["method"] for r in own), None)


def short(value: Any) -> str:
    """A setting as a table shows it."""
    if value is None:
        return "own"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
