"""What every predictor is: a cycle's length, some buffers, and a jump at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..tensors import functional as F
from ..tensors.segments import Segment


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
        persistent: which buffers persist from cycle to cycle (and are saved between cycles).
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
    replaces_momentum = False  # whether the base is compared without a momentum of its own
    adjusts_base = False  # whether `written_` changes the base's state, and is called at all

    @property
    @abstractmethod
    def extra_steps(self) -> float: ...

    @property
    def gain(self) -> float:
        return (self.every + self.extra_steps) / self.every

    def extra_steps_at(self, horizon: float | None) -> float:
        """`extra_steps` for a cycle with another horizon."""
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
        """Leave the jump in buffer 0, up to the returned factor."""

    def written_(self, work: Workspace) -> None:
        """The prediction was written: adjust the base's state (called if `adjusts_base`)."""

    @property
    def identity(self) -> str:
        """The rule as a checkpoint names it: all that its buffers depend on, hence no horizon.

        A knob that is None changes nothing, and is left out: checkpoints outlive new knobs.
        """
        knobs = [(name, getattr(self, name)) for name in self.knobs if name != "horizon"]
        knobs = [(name, value) for name, value in knobs if value is not None]
        inside = ", ".join(
            f"{name}={value.identity if isinstance(value, Predictor) else repr(value)}"
            for name, value in knobs
        )
        return f"{type(self).__name__}({inside})"

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.knobs)
        return f"{type(self).__name__}({inside})"


class FromTheStart(Predictor):
    """Keeps theta_0 in buffer 0."""

    def observe_(self, point: int, work: Workspace) -> None:
        if point == 0:
            for segment in work.segments:
                segment.fold_(F.Fold(F.COPY), 0)
