"""Predictors with fixed weights: an affine combination of the points of a cycle.

    theta_plus = w_0 theta_0 + w_1 theta_1 + ... + w_k theta_k,      sum of w = 1

Their past folds into one buffer whatever the window (`paramcast.tensors.functional`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from .._checks import FARTHEST, within
from ..errors import ArgumentError
from ..tensors import functional as F
from .base import Predictor, Workspace


class Affine(Predictor):
    """Any fixed affine combination of the points of a cycle.

        theta_plus = sum_j w_j theta_j,   sum_j w_j = 1

    Args:
        weights: (w_0, ..., w_k), oldest point first, the point before the first step included.

    Attributes:
        weights: the weights as a tuple of floats, at the predictor's own horizon.
        noise_gain: sum of w_j squared.

    Memory: one element per parameter, whatever `every` is.

    Raises:
        ArgumentError: fewer than 2 weights, a weight that is not finite, a sum other than 1.

    Example:
        >>> plp = Affine((0.0, -0.5, 0.5, 1.0))
        >>> plp.every, round(plp.gain, 4)
        (3, 1.1667)
    """

    knobs: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(self, weights: Sequence[float]) -> None:
        weights = tuple(float(w) for w in weights)
        if len(weights) < 2:
            raise ArgumentError(
                "weights must name at least 2 points (before and after one step), "
                f"got {len(weights)}"
            )
        if not all(map(math.isfinite, weights)):
            raise ArgumentError(f"weights must be finite, got {weights}")
        if abs(math.fsum(weights) - 1.0) > 1e-9:
            raise ArgumentError(
                f"weights must sum to 1, got {weights} with the sum {math.fsum(weights)!r}: "
                "otherwise the prediction would scale the parameters"
            )
        # planned once for the predictor's own horizon; a schedule's horizons are planned when read
        self.weights, self._plan = weights, F.plan(weights)
        self.every = len(weights) - 1

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        """The weights of a cycle with this horizon."""
        return self.weights

    def plan(self, horizon: float | None) -> F.Plan:
        """How the points of a cycle with this horizon fold into the buffer."""
        return self._plan if horizon == self.horizon else F.plan(self.weights_at(horizon))

    @property
    def extra_steps(self) -> float:
        return F.straight_path_extra(self.weights)

    def extra_steps_at(self, horizon: float | None) -> float:
        return F.straight_path_extra(self.weights_at(horizon))

    @property
    def noise_gain(self) -> float:
        return math.fsum(w * w for w in self.weights)

    def first_point(self, horizon: float | None) -> int | None:
        return self.plan(horizon).first

    def precision(self, horizon: float | None) -> torch.dtype | None:
        return self.plan(horizon).precision

    def observe_(self, point: int, work: Workspace) -> None:
        fold = self.plan(work.horizon).folds[point]
        for segment in work.segments:
            segment.fold_(fold, 0)

    def finish_(self, work: Workspace) -> float:
        return self.plan(work.horizon).scale


class Line(Affine):
    """An affine predictor whose weights are linear in a horizon: a + horizon * b."""

    horizon: float

    def __init__(
        self, horizon: float, start: Sequence[float], slope: Sequence[float], every: int
    ) -> None:
        self.horizon = within("horizon", horizon, -FARTHEST, FARTHEST)
        # a longer cycle reads its last points only
        padding = (0.0,) * (every + 1 - len(start))
        self._start, self._slope = (*padding, *start), (*padding, *slope)
        super().__init__(self.weights_at(self.horizon))

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        h = self.horizon if horizon is None else horizon
        return tuple(a + h * b for a, b in zip(self._start, self._slope, strict=True))
