"""Key figures of one method beside its base: what a team counts, each with its 95 % interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import StudyError
from ...study.verdict import EARLY, Metric
from . import money
from .effects import Effect, added_share, early_gain, gain, mean_difference, ratio
from .inputs import Inputs
from .rows import Row

SEEDS = "95 %, Student's t over paired seeds"
RANGE = "low to high of the inputs"
HOURS_OF_USE = "monitoring_hours_per_month"


def kpis(row: Row, base: Row, alternative: Row, metric: Metric, inputs: Inputs) -> list[Row]:
    """The key figures, in the order in which they are shown.

    Args:
        row, base, alternative: the method, its base, the best free alternative.
        metric: how values compare.
        inputs: for predictions, prices and hours.

    Returns:
        Per figure its key, label, unit, value, low, high, n, what the interval covers, and the
        reason where there is no value.
    """
    return [
        *_quality(row, base, alternative, metric),
        *_errors(row, base, metric, inputs),
        *_early(row, base, metric),
        *_running(row, base, alternative, inputs),
        *_work(inputs),
    ]


def _quality(row: Row, base: Row, alternative: Row, metric: Metric) -> list[Row]:
    factor, unit = (100, "points") if metric.percent else (1, metric.name)
    found = [_figure("gain", f"gain over {base['method']}", unit, gain(row, base, metric), factor)]
    if alternative is not base:
        label = f"gain over {alternative['method']}, the best free alternative"
        effect = gain(row, alternative, metric)
        found.append(_figure("gain_over_alternative", label, unit, effect, factor))
    return [*found, _error_reduction(row, base, metric)]


def _error_reduction(row: Row, base: Row, metric: Metric) -> Row:
    """1 - error of the method / error of the base, both means; for a loss-like metric likewise."""
    key, label = "error_reduction", "relative error reduction"
    if metric.higher_is_better and not metric.counts_errors:
        return _none(key, label, "%", f"{metric.name} is no error that could be reduced")
    left = ratio(_error(row, metric), _error(base, metric))
    if left is None:
        return _none(key, label, "%", f"{base['method']} makes no error")
    return _figure(key, label, "%", left, -100, start=100)


def _error(row: Row, metric: Metric) -> np.ndarray:
    values = np.asarray(row["values"], dtype=float)
    return 1 - values if metric.counts_errors else values


def _errors(row: Row, base: Row, metric: Metric, inputs: Inputs) -> list[Row]:
    if not metric.counts_errors:
        return []
    predictions = inputs.estimates["predictions_per_month"].value
    d = mean_difference(_error(row, metric), _error(base, metric))
    found = [
        _level("errors_base", f"errors of {base['method']}", _error(base, metric), predictions),
        _level("errors_method", f"errors of {row['method']}", _error(row, metric), predictions),
        _figure("errors_difference", "errors, difference", "a month", d, predictions),
    ]
    if inputs.positive_class is None:
        return found
    for kind, key in (("false positives", "predicted"), ("false negatives", "actual")):
        found.append(_mistakes(row, base, key, kind, inputs.positive_class, predictions))
    return found


def _mistakes(row: Row, base: Row, key: str, kind: str, label: int, predictions: float) -> Row:
    """The difference in one kind of mistake at a class, as a number a month."""
    name, text = kind.replace(" ", "_"), f"{kind} of class {label}, difference"
    counts = [r["runs"]["class_counts"] for r in (row, base)]
    if any(c is None for each in counts for c in each):
        reason = (
            "no counts per class are stored (a stream, more than 100 classes, or runs of an older "
            "paramcast: run the pilot in a new folder)"
        )
        return _none(name, text, "a month", reason)
    classes = len(counts[0][0]["actual"])
    if label >= classes:
        raise StudyError(f"positive_class is {label}, the task has the classes 0 to {classes - 1}")
    a, b = (
        [(c[key][label] - c["hits"][label]) / sum(c["actual"]) for c in each] for each in counts
    )
    return _figure(name, text, "a month", mean_difference(a, b), predictions)


def _early(row: Row, base: Row, metric: Metric) -> list[Row]:
    if not row["early_values"] or not base["early_values"]:
        return []
    factor, unit = (100, "points") if metric.percent else (1, metric.name)
    b, m = base["method"], row["method"]
    pairs = (
        ("early_to_base", f"{m} at {EARLY} T minus {b} at T", row, False),
        ("early_to_early", f"{m} at {EARLY} T minus {b} at {EARLY} T", row, True),
        ("base_early", f"{b} at {EARLY} T minus {b} at T", base, False),
    )
    return [
        _figure(key, label, unit, early_gain(which, base, metric, both=both), factor)
        for key, label, which, both in pairs
    ]


def _running(row: Row, base: Row, alternative: Row, inputs: Inputs) -> list[Row]:
    """Cost, energy and memory of one training; the pilot's ratios at the production's hours."""
    x, currency = inputs.at_value(), inputs.currency
    hours, kilowatts = x["training_hours"], x["watts"] / 1000
    price = float(money.hour_price(x))
    found = []
    slower = ratio(row["runs"]["seconds"], base["runs"]["seconds"])
    if slower is None:
        found.append(_none("time_added", "added training time", "%", "no time was measured"))
    else:
        more = Effect(slower.mean - 1, slower.low - 1, slower.high - 1, slower.n)
        found += [
            _figure("time_added", "added training time", "%", more, 100),
            _figure("cost_per_training", "added cost of a training", currency, more, hours * price),
            _figure("energy", "added energy of a training", "kWh", more, hours * kilowatts),
        ]
    if slower is not None and alternative is not base:
        label = (
            f"added training time over {alternative['method']}, as a share of {base['method']}'s"
        )
        share = added_share(row, alternative, base)
        found.append(_figure("time_added_over_alternative", label, "%", share, 100))
    memory = mean_difference(row["runs"]["peak_memory"], base["runs"]["peak_memory"])
    return [*found, _figure("memory", "added peak memory in the pilot", "MiB", memory, 2**-20)]


def _work(inputs: Inputs) -> list[Row]:
    work, rate = inputs.estimates[HOURS_OF_USE], inputs.estimates["hourly_rate"]
    ends = {name: getattr(work, name) * getattr(rate, name) for name in ("value", "low", "high")}
    return [
        {**_row("work_hours", "added operating work", "h/month", RANGE), **work.model_dump()},
        {**_row("work_cost", "added operating work", f"{inputs.currency}/month", RANGE), **ends},
    ]


def _level(key: str, label: str, rates: np.ndarray, predictions: float) -> Row:
    return _figure(key, label, "a month", mean_difference(rates, np.zeros(len(rates))), predictions)


def _figure(
    key: str, label: str, unit: str, effect: Effect, factor: float, start: float = 0.0
) -> Row:
    """start + factor x effect."""
    e = effect.times(factor)
    numbers = {"value": start + e.mean, "low": start + e.low, "high": start + e.high, "n": e.n}
    return {**_row(key, label, unit, SEEDS), **numbers}


def _none(key: str, label: str, unit: str, reason: str) -> Row:
    return {**_row(key, label, unit, SEEDS), "reason": reason}


def _row(key: str, label: str, unit: str, interval: str) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "low", "high", "n"))
    return {"key": key, "label": label, "unit": unit, **empty, "interval": interval, "reason": ""}
