"""The user's costs and values: a TOML file over documented defaults, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import StudyError
from ...study.reading import MOST_TOML, from_toml, read_text, shown


class Quantity(NamedTuple):
    """The unit of an input, and the limits beyond which the user must have meant another unit."""

    unit: str
    most: float
    expected: str
    least: float = 0.0


QUANTITIES = {
    "training_hours": Quantity("h", 8784, "hours of one training, not seconds"),
    "trainings_per_month": Quantity("a month", 1e6, "trainings per month"),
    "critical_trainings_per_month": Quantity("a month", 1e6, "trainings per month"),
    "price_per_compute_hour": Quantity("{currency}/h", 10_000, "the price of one hour"),
    "watts": Quantity("W", 1e6, "watts, not kilowatts", least=1.0),
    "price_per_kwh": Quantity("{currency}/kWh", 10, "the price of one kWh, such as 0.25"),
    "added_gib": Quantity("GiB", 10_000, "GiB, not MiB or bytes"),
    "price_per_gib_hour": Quantity("{currency}/GiB/h", 100, "the price of one GiB for one hour"),
    "value_per_day": Quantity("{currency}/day", 1e9, "the value of one day"),
    "value_per_point": Quantity("{currency}/point/month", 1e9, "the value of one point a month"),
    "predictions_per_month": Quantity("a month", 1e12, "predictions per month"),
    "cost_per_error": Quantity("{currency}/error", 1e9, "the cost of one wrong prediction"),
    "integration_hours": Quantity("h", 100_000, "hours of work, once"),
    "hourly_rate": Quantity("{currency}/h", 10_000, "the price of one hour of work"),
    "monitoring_hours_per_month": Quantity("h/month", 744, "hours a month, which has 744"),
    "failure_chance_per_month": Quantity("share", 1, "a share from 0 to 1: 0.02 for 2 %"),
    "failure_cost": Quantity("{currency}", 1e9, "the cost of one failed training"),
    "transfer": Quantity("share", 1, "a share from 0 to 1: 0.5 for half of the effect"),
    "horizon_months": Quantity("months", 600, "whole months"),
    "discount_rate": Quantity("share/year", 1, "a share per year: 0.08 for 8 %"),
}
# the input that must be a whole number from 1, and the keys that are not quantities
WHOLE_FROM_1 = "horizon_months"
OTHERS = ("currency", "positive_class")


class Estimate(NamedTuple):
    """A best guess and the range that holds it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Inputs:
    """Checked inputs.

    Attributes:
        currency: printed beside amounts.
        positive_class: the class whose false positives and negatives are counted; None for none.
        estimates: by key, with either value_per_point or cost_per_error.
        given: the keys that the user's file sets to something other than the default.
    """

    currency: str
    positive_class: int | None
    estimates: Mapping[str, Estimate]
    given: frozenset[str] = frozenset()

    def at_value(self) -> dict[str, float]:
        """Every input at its best guess."""
        return {key: estimate.value for key, estimate in self.estimates.items()}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The low and high of every input that is not exact."""
        return {k: (e.low, e.high) for k, e in self.estimates.items() if e.low < e.high}

    def unit(self, key: str) -> str:
        """The unit of an input."""
        return QUANTITIES[key].unit.format(currency=self.currency)


def template() -> str:
    """The commented file of all inputs at their defaults."""
    return files("paramcast.report.roi").joinpath("roi.toml").read_text("utf-8")


def defaults() -> Inputs:
    """Every input as the template states it."""
    values = from_toml(template())
    estimates = {k: _estimate(k, values[k]) for k in QUANTITIES if k in values}
    return Inputs(values["currency"], None, estimates)


def open_inputs(path: Path) -> Inputs:
    """Read a file of inputs.

    Raises:
        StudyError: it cannot be read, or `read_inputs` refuses it.
    """
    try:
        text = read_text(path, MOST_TOML)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(
            f"--inputs {path} cannot be read ({reason}); "
            "write one with `paramcast roi --template > roi.toml`"
        ) from None
    return read_inputs(text, path.name)


def read_inputs(text: str, where: str) -> Inputs:
    """Read inputs from TOML, over the defaults.

    Args:
        text: TOML; each key a number, or a table of value, low and high.
        where: its file, for messages.

    Raises:
        StudyError: not TOML, an unknown key, two ways to value an error, or a value that is
            missing, negative, not a number, outside its own range, or so large that its unit must
            be wrong.
    """
    try:
        found = from_toml(text)
    except ValueError as error:
        raise StudyError(f"{where} is not valid TOML: {error}") from None
    try:
        return _over_defaults(found)
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None


def _over_defaults(found: dict[str, Any]) -> Inputs:
    known = defaults()
    for key, value in found.items():
        if key not in QUANTITIES and key not in OTHERS:
            allowed = ", ".join((*OTHERS, *QUANTITIES))
            raise StudyError(
                f"unknown key {key} (its value is {shown(value)}); allowed are {allowed}"
            )
    # what the file gives replaces the default
    given = {key: _estimate(key, found[key]) for key in QUANTITIES if key in found}
    estimates = {**known.estimates, **given}
    # accuracy has one value: by the point, or by the error with the number of predictions
    if "cost_per_error" in given:
        if "value_per_point" in given:
            raise StudyError(
                "value_per_point and cost_per_error both say what accuracy is worth; "
                "leave out one of them"
            )
        if "predictions_per_month" not in given:
            raise StudyError(
                "predictions_per_month is missing: cost_per_error is the cost of one of their "
                "errors; give both"
            )
        del estimates["value_per_point"]
    # critical trainings are some of all trainings
    critical, every = (
        estimates[key].value for key in ("critical_trainings_per_month", "trainings_per_month")
    )
    if critical > every:
        raise StudyError(
            f"critical_trainings_per_month is {critical:g}, more than the {every:g} of "
            "trainings_per_month that it is a part of; lower it"
        )
    currency, positive = found.get("currency", known.currency), found.get("positive_class")
    if not isinstance(currency, str) or not 1 <= len(currency) <= 8 or not currency.isprintable():
        raise StudyError(f'currency must be a short text such as "EUR", got {shown(currency)}')
    if positive is not None and (type(positive) is not int or positive < 0):
        raise StudyError(f"positive_class must be a whole number from 0, got {shown(positive)}")
    changed = frozenset(k for k in given if given[k] != known.estimates.get(k))
    return Inputs(currency, positive, estimates, changed)


def _estimate(key: str, given: Any) -> Estimate:
    """Read one input; a bare number is exact, and a missing low or high is the value itself."""
    table = given if isinstance(given, dict) else {"value": given}
    for part in table.keys() - set(Estimate._fields):
        raise StudyError(
            f"unknown key {key}.{part} (its value is {shown(table[part])}); "
            "allowed are value, low, high"
        )
    if "value" not in table:
        raise StudyError(f"{key}.value is missing; give a best guess beside low and high")
    numbers = {
        part: _number(key, f"{key}.{part}" if table is given else key, value)
        for part, value in table.items()
    }
    value, low, high = (numbers.get(part, numbers["value"]) for part in Estimate._fields)
    if low > high:
        raise StudyError(f"{key}: low {low:g} is above high {high:g}; swap them")
    if not low <= value <= high:
        raise StudyError(
            f"{key}: value {value:g} lies outside low {low:g} to high {high:g}; widen the range or "
            "correct the value"
        )
    return Estimate(value, low, high)


def _number(key: str, name: str, given: Any) -> float:
    """Check a number, and that its unit is the one that is asked for."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise StudyError(f"{name} must be a valid number, got {shown(given)}")
    try:
        number = float(given)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise StudyError(f"{name} must be a finite number, got {shown(given)}")
    if number < 0:
        raise StudyError(f"{name} must not be negative, got {number:g}")
    quantity = QUANTITIES[key]
    if number > quantity.most or 0 < number < quantity.least:
        raise StudyError(
            f"{name} = {number:g} looks like another unit; give {quantity.expected} "
            f"(at most {quantity.most:g})"
        )
    if key == WHOLE_FROM_1 and (number < 1 or number != int(number)):
        raise StudyError(f"{name} must be a whole number from 1, got {number:g}")
    return number
