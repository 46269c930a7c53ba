"""The limit of a geometric sequence, tensor by tensor."""

from __future__ import annotations

import torch

from .._checks import finite, whole
from ..errors import ArgumentError
from ..tensors import functional as F
from ..tensors.segments import tensor_dots
from .base import Predictor, Workspace


class Aitken(Predictor):
    """Per tensor, the limit of a geometric sequence through the last three points.

        d_1, d_2   = the last two displacements of a tensor
        rho        = <d_1, d_2> / <d_1, d_1>
        theta_plus = theta_k + h d_2,    h = rho / (1 - rho) clipped to [-cap, cap]

    Exact after three points where a tensor moves along one decaying mode. Above rho = 1 the
    sequence diverges and the horizon is `cap`.

    Args:
        cap: largest horizon in steps, above 0.
        every: optimizer steps per cycle, at least 3.

    Memory: two elements per parameter.

    Raises:
        ArgumentError: cap <= 0, every < 3.

    Example:
        >>> Aitken(cap=5.0).gain  # a straight path has rho = 1
        2.6666666666666665

    Source: Aitken, On Bernoulli's numerical solution of algebraic equations (1926).
    """

    knobs = ("cap", "every")
    buffers = 2

    def __init__(self, cap: float = 5.0, *, every: int = 3) -> None:
        self.cap = finite("cap", cap)
        if self.cap <= 0:
            raise ArgumentError(f"cap must be above 0, got {cap!r}")
        self.every = whole("every", every, 3, "Aitken")

    @property
    def extra_steps(self) -> float:
        return self.cap

    def first_point(self, horizon: float | None) -> int:
        return self.every - 2

    def observe_(self, point: int, work: Workspace) -> None:
        # buffer 1 becomes theta_{k-2} - theta_{k-1} = -d_1, buffer 0 theta_{k-1} - theta_k = -d_2
        back = self.every - point
        for segment in work.segments:
            if back == 2:
                segment.fold_(F.Fold(F.COPY), 1)
            elif back == 1:
                segment.fold_(F.Fold(F.SUBTRACT), 1)
                segment.fold_(F.Fold(F.COPY), 0)
            elif back == 0:
                segment.fold_(F.Fold(F.SUBTRACT), 0)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            d2, d1 = segment.buffers  # both negated
            # rho per tensor; one that did not move has rho = 0, and its jump is 0
            square = tensor_dots(segment, d1, d1)
            rho = tensor_dots(segment, d1, d2) / torch.where(square > 0, square, 1.0)
            h = torch.where(rho < 1.0, rho / (1.0 - rho), self.cap).clamp(-self.cap, self.cap)
            for new, own in zip(d2, h, strict=True):
                new.mul_(own)
        # buffer 0 holds -h d_2
        return -1.0
