"""Key figures of one method beside its base, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import StudyError
from ...study.judging.verdict import Metric
from . import money
from .effects import Effect, added_share, common, gain, mean_difference, ratio
from .inputs import Inputs
from .rows import Row


def kpis(row: Row, base: Row, alternative: Row, metric: Metric, inputs: Inputs) -> list[Row]:
    """The key figures, in the order in which they are shown.

    Args:
        row, base, alternative: the method, its base, and the best free alternative.
        metric: how values compare.
        inputs: for predictions, prices and hours.

    Returns:
        For each figure its key, unit, value, low, high, n, and the reason if it has no value. Low
        and high are the 95 % interval over the paired seeds or, if n is None, the inputs' range.
    """
    return [
        *_quality(row, base, alternative, metric),
        *_errors(row, base, metric, inputs),
        *_early(row, base, metric),
        *_running(row, base, alternative, inputs, paired=metric.paired),
        *_work(inputs),
    ]


def _quality(row: Row, base: Row, alternative: Row, metric: Metric) -> list[Row]:
    # over the base and, if another arm is the best free alternative, over that too
    found = [_gained("gain", row["values"], base["values"], metric)]
    if alternative is not base:
        found.append(_gained("gain_over_alternative", row["values"], alternative["values"], metric))
    return [*found, _error_reduction(row, base, metric)]


def _gained(key: str, a: Sequence[float], b: Sequence[float], metric: Metric) -> Row:
    factor, unit = (100, "points") if metric.percent else (1, metric.name)
    return _figure(key, unit, gain(a, b, metric), factor)


def _error_reduction(row: Row, base: Row, metric: Metric) -> Row:
    """1 - mean error of the method / mean error of the base; a loss counts as an error."""
    key = "error_reduction"
    # such a metric, like AUROC, has no error rate
    if metric.higher_is_better and not metric.counts_errors:
        return _none(key, "%", "no_error")
    left = ratio(_error(row, metric), _error(base, metric), paired=metric.paired)
    if left is None:
        return _none(key, "%", "no_mistake")
    return _figure(key, "%", left, -100, start=100)  # 100 (1 - ratio)


def _error(row: Row, metric: Metric) -> np.ndarray:
    values = np.asarray(row["values"], dtype=float)
    return 1 - values if metric.counts_errors else values


def _errors(row: Row, base: Row, metric: Metric, inputs: Inputs) -> list[Row]:
    if not metric.counts_errors:
        return []
    predictions = inputs.estimates["predictions_per_month"].value
    mine, its = common(_error(row, metric), _error(base, metric), paired=metric.paired)
    # errors a month of the base and of the method (minus 0), and their difference
    pairs = {"errors_base": (its, 0 * its), "errors_method": (mine, 0 * its),
             "errors_difference": (mine, its)}  # fmt: skip
    found = [
        _figure(k, "a month", mean_difference(*p, paired=metric.paired), predictions)
        for k, p in pairs.items()
    ]
    if inputs.positive_class is None:
        return found
    for key, counted in (("false_positives", "predicted"), ("false_negatives", "actual")):
        found.append(_mistakes(row, base, key, counted, inputs.positive_class, predictions))
    return found


def _mistakes(row: Row, base: Row, key: str, counted: str, label: int, predictions: float) -> Row:
    """The difference in one kind of mistake on a class, as a number a month."""
    counts = [r["runs"]["class_counts"] for r in (row, base)]
    if any(c is None for each in counts for c in each):
        return _none(key, "a month", "no_counts")
    classes = len(counts[0][0]["actual"])
    if label >= classes:
        raise StudyError(f"positive_class is {label}, the task has the classes 0 to {classes - 1}")
    # predicted but not of the class: false positives; of it but not predicted: false negatives
    a, b = (
        [(c[counted][label] - c["hits"][label]) / sum(c["actual"]) for c in each] for each in counts
    )
    return _figure(key, "a month", mean_difference(a, b), predictions)


def _early(row: Row, base: Row, metric: Metric) -> list[Row]:
    early, base_early = row["early_values"], base["early_values"]
    # the base runs with 0.8 T only where that can change the verdict
    pairs = {"early_to_base": (early, base["values"]), "early_to_early": (early, base_early),
             "base_early": (base_early, base["values"])}  # fmt: skip
    return [_gained(key, *pair, metric) for key, pair in pairs.items() if all(pair)]


def _running(row: Row, base: Row, alternative: Row, inputs: Inputs, *, paired: bool) -> list[Row]:
    """Cost, energy and memory of one training: the pilot's ratios times production's hours."""
    x = inputs.at_value()
    hours, kilowatts = x["training_hours"], x["watts"] / 1000
    found = []
    # seconds as a ratio to the base's, priced at the hours and prices of production
    slower = ratio(row["runs"]["seconds"], base["runs"]["seconds"], paired=paired)
    if slower is None:
        found.append(_none("time_added", "%", "no_time"))
    else:
        more = Effect(slower.mean - 1, slower.low - 1, slower.high - 1, slower.n)
        price = hours * money.hour_price(x)
        found += [
            _figure("time_added", "%", more, 100),
            _figure("cost_per_training", inputs.currency, more, price),
            _figure("energy", "kWh", more, hours * kilowatts),
        ]
        if alternative is not base:
            share = added_share(row, alternative, base, paired=paired)
            found.append(_figure("time_added_over_alternative", "%", share, 100))
    if not row["runs"]["peak_memory"] or not base["runs"]["peak_memory"]:
        return found
    memory = mean_difference(row["runs"]["peak_memory"], base["runs"]["peak_memory"])
    return [*found, _figure("memory", "MiB", memory, 2**-20)]


def _work(inputs: Inputs) -> list[Row]:
    work, rate = inputs.estimates["monitoring_hours_per_month"], inputs.estimates["hourly_rate"]
    # both inputs low, both high
    ends = {name: getattr(work, name) * getattr(rate, name) for name in ("value", "low", "high")}
    return [
        {**_none("work_hours", "h/month"), **work.model_dump()},
        {**_none("work_cost", f"{inputs.currency}/month"), **ends},
    ]


def _figure(key: str, unit: str, effect: Effect, factor: float, start: float = 0.0) -> Row:
    """start + factor x effect."""
    e = effect.times(factor)
    numbers = {"value": start + e.mean, "low": start + e.low, "high": start + e.high, "n": e.n}
    return {**_none(key, unit), **numbers}


def _none(key: str, unit: str, reason: str = "") -> Row:
    """A figure without a value."""
    return {
        "key": key,
        "unit": unit,
        **dict.fromkeys(("value", "low", "high", "n")),
        "reason": reason,
    }
