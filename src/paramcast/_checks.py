"""Validators: every argument's error says what it got and what is needed."""

from __future__ import annotations

import inspect
import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from .errors import ArgumentError

# The longest horizon, in steps; far beyond any use.
FARTHEST = 1e6
# The most points that a predictor reads; far beyond any use, and each has a weight.
LONGEST = 100_000
# The largest whole number that a float can hold exactly.
MOST = 2**53


def as_constructed(part: object) -> str:
    """A part as its constructor call: the class, and the arguments kept under their own names."""
    names = inspect.signature(type(part)).parameters
    knobs = {name: getattr(part, name, None) for name in names}
    inside = ", ".join(f"{k}={v!r}" for k, v in knobs.items() if v is not None)
    return f"{type(part).__name__}({inside})"


def named(function: object) -> str:
    """A function by its name, another object by its repr; never by its address."""
    text = repr(function)
    if " at 0x" not in text:
        return text
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}"  # type: ignore[attr-defined]


def finite(name: str, value: float) -> float:
    """A finite number, or an error that names it."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not isinstance(value, Real) or not math.isfinite(number):
        raise ArgumentError(f"{name} must be a finite number, got {_short(value)}")
    return number


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int with thousands of digits
        text = "a number with thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def within(name: str, value: float, low: float, high: float, *, ends: str = "[]") -> float:
    """A number in an interval; `ends` says which ends are included."""
    value = finite(name, value)
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    if not (above and below):
        raise ArgumentError(f"{name} must be in {ends[0]}{low:g}, {high:g}{ends[1]}, got {value!r}")
    return value


def scalar(name: str, value: Any) -> float:
    """A number or one-element tensor as a float, of any magnitude; NaN and infinity too."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
        raise ArgumentError(f"{name} must be one number, got {_short(came)}; reduce it first")
    return float(value)


def whole(name: str, value: int, least: int, reader: str = "") -> int:
    """A whole number of at least `least`; `reader` says what reads that many points."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentError(f"{name} must be a whole number, got {_short(value)}")
    if value < least:
        plural = "s" if least > 1 else ""
        why = f" ({reader} reads {least} point{plural})" if reader else ""
        raise ArgumentError(f"{name} must be >= {least}{why}, got {_short(value)}")
    most = LONGEST if reader else MOST
    if value > most:
        raise ArgumentError(f"{name} must be at most {most}, got {_short(value)}")
    return int(value)
