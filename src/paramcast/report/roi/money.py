"""From effect to money: the `FORMULAS`, as functions of numbers.

The monthly net N is the same every month, so its sums are N x annuity and N x horizon_months. The
benefit is one of two, which are never added: a better model after the same steps (quality), or the
same model after fewer steps (speed). Both are counted over the best free alternative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Values = Mapping[str, float]
"""Inputs by key, and the pilot's measurements: `effect` and `added`."""

FORMULAS = {
    "I0": "integration_hours x hourly_rate + pilot hours x hour",
    "hour": "price_per_compute_hour + watts/1000 x price_per_kwh",
    "delay": "trainings_per_month x hour + critical_trainings_per_month / 24 x value_per_day",
    "benefit (quality)": "gain x value: points x value_per_point, or gain x predictions_per_month "
    "x cost_per_error",
    "benefit (speed)": "training_hours x saved share x delay",
    "saved share": "1 - steps of 0.8 T / steps of T x seconds of the method / seconds of the base, "
    "both with 0.8 T; over an alternative with 0.8 T: the difference of both",
    "added (quality)": "training_hours x added share (at least 0) x delay + memory",
    "added (speed)": "memory (the predictor's own seconds are in the saved share)",
    "memory": "trainings_per_month x training_hours x added_gib x price_per_gib_hour",
    "N": "transfer x benefit - monitoring_hours_per_month x hourly_rate - added "
    "- failure_chance_per_month x failure_cost",
    "NPV": "-I0 + sum over t = 1..horizon_months of N / (1 + discount_rate)^(t/12)",
    "ROI": "(horizon_months x N - I0) / I0",
    "pay-back": "I0 / N months, never if N <= 0",
}


@dataclass(frozen=True)
class Terms:
    """The terms of the monthly net and what follows from it, in the inputs' currency.

    Attributes:
        roi: a share; None if nothing is invested.
        payback: in months.
    """

    investment: float
    benefit: float
    transferred: float
    monitoring: float
    added: float
    failures: float
    net: float
    npv: float
    roi: float | None
    payback: float | Literal["never"]

    @property
    def running(self) -> float:
        """The monthly cost of using the method."""
        return self.monitoring + self.added + self.failures


def hour_price(x: Values) -> float:
    """The price of one compute hour, power included."""
    return x["price_per_compute_hour"] + x["watts"] / 1000 * x["price_per_kwh"]


def delay_price(x: Values) -> float:
    """The monthly cost if every training takes one hour longer."""
    # within their ranges the critical trainings may exceed all trainings
    critical = min(x["critical_trainings_per_month"], x["trainings_per_month"])
    return x["trainings_per_month"] * hour_price(x) + critical / 24 * x["value_per_day"]


def memory_price(x: Values) -> float:
    """The monthly cost of the method's memory."""
    hours = x["trainings_per_month"] * x["training_hours"]
    return hours * x["added_gib"] * x["price_per_gib_hour"]


def unit_value(x: Values, *, percent: bool) -> float:
    """The monthly value of a gain of 1 in the metric (100 points of an accuracy)."""
    if "cost_per_error" in x:
        return x["predictions_per_month"] * x["cost_per_error"]
    return x["value_per_point"] * (100 if percent else 1)


def annuity(x: Values) -> float:
    """sum over t = 1..H of (1 + r)^(-t/12).

    With m = (1 + r)^(1/12) - 1 this is (1 - (1 + m)^-H) / m, and H at rate 0.
    """
    yearly, months = math.log1p(x["discount_rate"]), x["horizon_months"]
    monthly = math.expm1(yearly / 12)
    return -math.expm1(-yearly * months / 12) / monthly if monthly else months


def quality(x: Values, pilot_hours: float, *, percent: bool) -> Terms:
    """The terms of "same steps, better model".

    Args:
        x: inputs; `effect` is the gain of the metric over the best free alternative, plus =
            better; `added` is the seconds beyond that alternative's, as a share of the base's.
        pilot_hours: compute hours of the pilot.
        percent: the metric is an accuracy.
    """
    # a measured saving is noise here, or the alternative's own work
    added = x["training_hours"] * max(x["added"], 0.0) * delay_price(x) + memory_price(x)
    return _terms(x, x["effect"] * unit_value(x, percent=percent), added, pilot_hours)


def speed(x: Values, pilot_hours: float) -> Terms:
    """The terms of "fewer steps, same model".

    Args:
        x: inputs; `effect` is the training time of the best free alternative minus that of the
            predictor with the shorter schedule, as a share of the base's.
        pilot_hours: compute hours of the pilot.
    """
    saved = x["training_hours"] * x["effect"] * delay_price(x)
    return _terms(x, saved, memory_price(x), pilot_hours)


def _terms(x: Values, benefit: float, added: float, pilot_hours: float) -> Terms:
    # once: people and the pilot
    investment = x["integration_hours"] * x["hourly_rate"] + pilot_hours * hour_price(x)
    transferred = x["transfer"] * benefit
    monitoring = x["monitoring_hours_per_month"] * x["hourly_rate"]
    failures = x["failure_chance_per_month"] * x["failure_cost"]
    # N, the same every month
    net = transferred - monitoring - added - failures
    npv = -investment + net * annuity(x)
    roi = (net * x["horizon_months"] - investment) / investment if investment else None
    payback: float | Literal["never"] = investment / net if net > 0 else "never"
    return Terms(
        investment, benefit, transferred, monitoring, added, failures, net, npv, roi, payback
    )


def end(
    npv: Callable[[Values], float],
    x: Values,
    ranges: Mapping[str, tuple[float, float]],
    pick: Callable[..., float],
) -> Values:
    """The values with the lowest (`pick` is min) or highest (max) NPV, each at an end of its range.

    The NPV is monotone in each value while the others are fixed, so that its extremes lie at ends.
    Which end is the worse may depend on the others (for a longer horizon, on the sign of N), so the
    values move to their ends one by one until none moves.
    """
    # from the middle, because a low end of 0 would hide the values that it is multiplied with
    at = {**x, **{key: sum(pair) / 2 for key, pair in ranges.items()}}
    before: Values = {}
    while before != at:
        before = dict(at)
        for key, pair in ranges.items():
            tried = {value: npv({**at, key: value}) for value in pair}
            at[key] = pick(tried, key=tried.__getitem__)
    return at


def zero(line: Callable[[float], float]) -> float | None:
    """The zero of a straight line, as the NPV is one in the effect; None if it is level."""
    start = line(0.0)
    slope = line(1.0) - start
    return -start / slope if slope else None
