"""From effect to money: the formulas of the protocol, on numbers or on arrays of draws.

    I0       = integration hours x rate + cost of the pilot
    N        = transfer x benefit - monitoring hours x rate - trainings x added cost
               - chance of a failed training x its cost
    NPV      = -I0 + sum over months t = 1..H of N / (1 + r)^(t / 12)
    ROI      = (sum of N - I0) / I0
    pay-back = I0 / N months, never if N <= 0

N is the same every month, so the sums are N x annuity(r, H) and N x H. The benefit is one of two,
which are never added:

    quality  = gain of quality x its value a month
    speed    = trainings x (cost of the free training - cost of the predictor's shorter one)

A training's cost is its hours x (price + kW x price of energy), and for one that somebody waits for
hours / 24 x the value of a day too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Mapping[str, Any]
"""Inputs by key: numbers, or arrays with one element per draw."""

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
    """What the monthly net consists of, and what follows from it; numbers or arrays."""

    investment: Any
    benefit: Any
    transferred: Any
    monitoring: Any
    added: Any
    failures: Any
    net: Any
    npv: Any
    roi: Any
    payback: Any


def hour_price(x: Values) -> Any:
    """What one compute hour costs, power included."""
    return x["price_per_compute_hour"] + x["watts"] / 1000 * x["price_per_kwh"]


def delay_price(x: Values) -> Any:
    """What it costs a month if every training takes one hour longer."""
    critical = np.minimum(x["critical_trainings_per_month"], x["trainings_per_month"])
    return x["trainings_per_month"] * hour_price(x) + critical / 24 * x["value_per_day"]


def memory_price(x: Values) -> Any:
    """What the method's memory costs a month."""
    hours = x["trainings_per_month"] * x["training_hours"]
    return hours * x["added_gib"] * x["price_per_gib_hour"]


def unit_value(x: Values, *, percent: bool) -> Any:
    """What a gain of 1 in the metric is worth a month (for an accuracy: 100 points)."""
    if "cost_per_error" in x:
        return x["predictions_per_month"] * x["cost_per_error"]
    return x["value_per_point"] * (100 if percent else 1)


def annuity(rate: Any, months: Any) -> Any:
    """sum over t = 1..months of (1 + rate)^(-t/12).

    With m = (1 + rate)^(1/12) - 1 this is (1 - (1 + m)^-months) / m, and months at rate 0.
    """
    yearly = np.log1p(np.asarray(rate, dtype=float))
    monthly = np.where(yearly == 0, 1.0, np.expm1(yearly / 12))
    found = np.where(yearly == 0, months, -np.expm1(-yearly * months / 12) / monthly)
    return found if found.ndim else float(found)


def quality(x: Values, gain: Any, added_share: Any, pilot_hours: float, *, percent: bool) -> Terms:
    """Same steps, better model.

    Args:
        x: inputs.
        gain: of the metric over the best free alternative, plus = better.
        added_share: seconds over that alternative's, as a share of the base's. A measured saving
            counts as 0: in this case a saving of time is noise or the alternative's own work.
        pilot_hours: compute hours of the pilot.
        percent: the metric is an accuracy.
    """
    share = np.maximum(added_share, 0.0)
    added = x["training_hours"] * share * delay_price(x) + memory_price(x)
    return _terms(x, gain * unit_value(x, percent=percent), added, pilot_hours)


def speed(x: Values, saved_share: Any, pilot_hours: float) -> Terms:
    """Fewer steps, same model.

    Args:
        x: inputs.
        saved_share: training time of the best free alternative minus that of the predictor with
            the shorter schedule, as a share of the base's.
        pilot_hours: compute hours of the pilot.
    """
    return _terms(
        x, x["training_hours"] * saved_share * delay_price(x), memory_price(x), pilot_hours
    )


def _terms(x: Values, benefit: Any, added: Any, pilot_hours: float) -> Terms:
    investment = x["integration_hours"] * x["hourly_rate"] + pilot_hours * hour_price(x)
    transferred = x["transfer"] * benefit
    monitoring = x["monitoring_hours_per_month"] * x["hourly_rate"]
    failures = x["failure_chance_per_month"] * x["failure_cost"]
    net = transferred - monitoring - added - failures
    months = x["horizon_months"]
    npv = -investment + net * annuity(x["discount_rate"], months)
    with np.errstate(divide="ignore", invalid="ignore"):
        roi = np.divide(net * months - investment, investment)
        payback = np.where(np.greater(net, 0), np.divide(investment, net), np.inf)
    return Terms(
        investment, benefit, transferred, monitoring, added, failures, net, npv, roi, payback
    )


def break_even_volume(npv: Callable[[Values], Any], x: Values) -> tuple[str, float] | None:
    """Trainings a month at which the NPV is 0, the critical ones in proportion.

    Args:
        npv: of inputs, linear in the trainings.
        x: inputs.

    Returns:
        ("at least", n) if more trainings help, ("at most", n) if they cost; None if the number of
        trainings changes nothing, or none is low enough.
    """
    every = x["trainings_per_month"]
    share = x["critical_trainings_per_month"] / every if every else 0.0

    def at(trainings: float) -> Any:
        own = {"trainings_per_month": trainings, "critical_trainings_per_month": share * trainings}
        return npv({**x, **own})

    found = zero(at)
    if found is None:
        return None
    if at(1.0) > at(0.0):
        return "at least", max(0.0, found)
    return ("at most", found) if found >= 0 else None


def zero(line: Callable[[float], Any]) -> float | None:
    """Where a straight line is 0; None if it is level.

    The NPV is one in the effect, and in the number of trainings.
    """
    start = float(line(0.0))
    slope = float(line(1.0)) - start
    return -start / slope if slope else None
