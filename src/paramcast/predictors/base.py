"""What every predictor is: a cycle's length, some buffers, and a jump at its end."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..segments import Segment

FARTHEST = 1e6
"""The longest horizon, in steps; far beyond any use."""
LONGEST = 100_000
"""The most points that a predictor reads; far beyond any use, and each has a weight."""
MOST = 2**53
"""The largest whole number that a float can hold exactly."""


class Workspace(NamedTuple):
    """What a predictor works on at one point of a cycle.

    Attributes:
        segments: parameters and buffers.
        horizon: of this cycle; None where the predictor has none.
        cycle: its number, from 1.
        state: the base optimizer's state, by parameter.
        written: how much of the jump before this one was written: 1 all, 0 nothing.
        age: the cycle's number since the last restart, from 1.
    """

    segments: Sequence[Segment]
    horizon: float | None
    cycle: int
    state: Mapping[Tensor, Mapping[str, Any]]
    written: float = 1.0
    age: int = 1


class Predictor(ABC):
    """A rule that turns the points of a cycle into a jump.

    A cycle is `every` optimizer steps with the points theta_0 (before the first), ..., theta_k.
    The wrapper calls `observe_` at each point and `finish_` after the last; the prediction is

        theta_plus = theta_k + jump,   jump = finish_(...) * buffer 0

    Attributes:
        every: k, the optimizer steps in a cycle.
        horizon: steps from the predictor's start point, None where the rule has no horizon.
        buffers: elements of memory per parameter.
        persistent: which buffers live on from cycle to cycle (and are saved between cycles).
        evaluated: (b, f) where the weights to evaluate with are theta_plus + f * buffer b; None
            where they are theta_plus itself.
        extra_steps: e, the steps that one jump adds on a straight path of unit steps.
        gain: velocity gain G = (k + e) / k, the long-run speed on a straight path.
        noise_gain: variance of the prediction when the points are independent noise of variance 1;
            None where the weights depend on the data or reach back over all cycles.
    """

    knobs: ClassVar[tuple[str, ...]] = ()
    every: int
    horizon: float | None = None
    buffers: int = 1
    persistent: tuple[int, ...] = ()
    evaluated: tuple[int, float] | None = None
    feeds_back = False  # whether its memory holds its own jumps
    adjusts_base = False  # whether `written_` changes the base's state

    @property
    @abstractmethod
    def extra_steps(self) -> float: ...

    @property
    def gain(self) -> float:
        return (self.every + self.extra_steps) / self.every

    def extra_steps_at(self, horizon: float | None) -> float:
        """The same for a cycle with another horizon."""
        return self.extra_steps

    @property
    def noise_gain(self) -> float | None:
        return None

    def first_point(self, horizon: float | None) -> int | None:
        """The point at which the buffers are first needed; None if nothing is ever predicted."""
        return 0

    def precision(self, horizon: float | None) -> torch.dtype | None:
        """The narrowest dtype that the buffers may have; None for the parameters' own."""
        return torch.float32

    def observe_(self, point: int, work: Workspace) -> None:
        """Take in one point of the cycle."""

    @abstractmethod
    def finish_(self, work: Workspace) -> float:
        """Leave the jump in buffer 0, up to the factor that is returned."""

    def written_(self, work: Workspace) -> None:
        """The prediction was written: adjust the base's state where the rule says so."""

    @property
    def identity(self) -> str:
        """The rule as a checkpoint names it: all that its buffers depend on, so no horizon."""
        knobs = [(name, getattr(self, name)) for name in self.knobs if name != "horizon"]
        inside = ", ".join(
            f"{name}={value.identity if isinstance(value, Predictor) else repr(value)}"
            for name, value in knobs
        )
        return f"{type(self).__name__}({inside})"

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.knobs)
        return f"{type(self).__name__}({inside})"


def as_constructed(part: object) -> str:
    """A part as one writes it: its class, and the arguments that it keeps under their own names."""
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
    """A number of an interval; `ends` says which ends belong to it."""
    value = finite(name, value)
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    if not (above and below):
        raise ArgumentError(f"{name} must be in {ends[0]}{low:g}, {high:g}{ends[1]}, got {value!r}")
    return value


def scalar(name: str, value: Any) -> float:
    """One number, or a tensor of one element, whatever its size; NaN and infinity too."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
        raise ArgumentError(f"{name} must be one number, got {_short(came)}; reduce it first")
    return float(value)


def whole(name: str, value: int, least: int, reader: str = "") -> int:
    """A whole number of at least `least`; `reader` says who reads so many points."""
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
