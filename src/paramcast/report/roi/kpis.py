"""Key figures of one method beside its base, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import StudyError
from ...study.judging.verdict import Metric
from . import money
from .effects import Effect, common, gain, mean_difference, ratio, too_short
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
    points, unit = (100, "points") if metric.percent else (1, metric.name)

    def gained(key: str, a: Sequence[float], b: Sequence[float]) -> Row:
        return _figure(key, unit, gain(a, b, metric).times(points))

    # quality: over the base, and over what is free
    found = [gained("gain", row["values"], base["values"])]
    if alternative is not base:
        found.append(gained("gain_over_alternative", row["values"], alternative["values"]))
    found.append(_error_reduction(row, base, metric))
    if metric.counts_errors:
        found += _errors(row, base, metric, inputs)
    # with 0.8 T, against the base with T: what "faster" compares
    if row["early_values"]:
        found.append(gained("early_to_base", row["early_values"], base["values"]))
    # the cost of running it
    work = inputs.estimates["monitoring_hours_per_month"]
    return [
        *found,
        *_running(row, base, inputs, paired=metric.paired),
        {**_none("work_hours", "h/month"), **work._asdict()},
    ]


def _error_reduction(row: Row, base: Row, metric: Metric) -> Row:
    """1 - mean error of the method / mean error of the base; a loss counts as an error."""
    key = "error_reduction"
    # a metric like AUROC has no error rate
    if metric.higher_is_better and not metric.counts_errors:
        return _none(key, "%", "no_error")
    left = ratio(_error(row, metric), _error(base, metric), paired=metric.paired)
    if left is None:
        return _none(key, "%", "no_mistake")
    return _figure(key, "%", left.times(-100, 100))


def _error(row: Row, metric: Metric) -> np.ndarray:
    values = np.asarray(row["values"], dtype=float)
    return 1 - values if metric.counts_errors else values


def _errors(row: Row, base: Row, metric: Metric, inputs: Inputs) -> list[Row]:
    """Wrong predictions a month, and the mistakes at one class."""
    predictions, label = inputs.estimates["predictions_per_month"].value, inputs.positive_class
    mine, its = common(_error(row, metric), _error(base, metric), paired=metric.paired)
    # of the base and of the method (minus 0), and their difference
    pairs = {"errors_base": (its, 0 * its), "errors_method": (mine, 0 * its),
             "errors_difference": (mine, its)}  # fmt: skip
    found = [
        _figure(key, "a month", mean_difference(*pair, paired=metric.paired).times(predictions))
        for key, pair in pairs.items()
    ]
    if label is None:
        return found
    counts = [r["runs"]["class_counts"] for r in (row, base)]
    # predicted but not of the class; of it but not predicted
    for key, counted in (("false_positives", "predicted"), ("false_negatives", "actual")):
        if any(c is None for each in counts for c in each):
            found.append(_none(key, "a month", "no_counts"))
            continue
        if label >= (classes := len(counts[0][0]["actual"])):
            raise StudyError(
                f"positive_class is {label}, the task has the classes 0 to {classes - 1}"
            )
        a, b = (
            [(c[counted][label] - c["hits"][label]) / sum(c["actual"]) for c in each]
            for each in counts
        )
        found.append(_figure(key, "a month", mean_difference(a, b).times(predictions)))
    return found


def _running(row: Row, base: Row, inputs: Inputs, *, paired: bool) -> list[Row]:
    """Cost, energy and memory of one training: the pilot's ratios times production's hours."""
    x = inputs.at_value()
    hours, kilowatts = x["training_hours"], x["watts"] / 1000
    found = [_none("time_added", "%", "no_time")]
    slower = ratio(row["runs"]["seconds"], base["runs"]["seconds"], paired=paired)
    if slower is not None:
        # R - 1, as a share of the base's time, priced by the hour
        more, short = slower.times(1.0, -1.0), too_short(base)
        found = [_figure("time_added", "%", more.times(100))]
        for key, unit, price in (
            ("cost_per_training", inputs.currency, money.hour_price(x)),
            ("energy", "kWh", kilowatts),
        ):
            own = more.times(hours * price)
            found.append(_none(key, unit, "too_short") if short else _figure(key, unit, own))
    memory = [r["runs"]["peak_memory"] for r in (row, base)]
    if all(memory):
        found.append(_figure("memory", "MiB", mean_difference(*memory).times(2**-20)))
    return found


def _figure(key: str, unit: str, effect: Effect) -> Row:
    mean, low, high, n = effect
    return {**_none(key, unit), "value": mean, "low": low, "high": high, "n": n}


def _none(key: str, unit: str, reason: str = "") -> Row:
    """A figure without a value."""
    empty = dict.fromkeys(("value", "low", "high", "n"))
    return {"key": key, "unit": unit, **empty, "reason": reason}
