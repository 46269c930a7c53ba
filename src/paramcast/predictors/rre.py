"""Reduced rank extrapolation."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import finite, whole
from ..errors import ArgumentError
from ..tensors import functional as F
from ..tensors.segments import gram
from .base import Predictor, Workspace


class RRE(Predictor):
    """Reduced rank extrapolation: the combination of points whose displacements cancel best.

        u_i        = theta_{i+1} - theta_i,   i = 0 .. n-1,   n = window = every
        c          = argmin |sum_i c_i u_i|^2 + ridge |U|^2 |c|^2   with   sum_i c_i = 1
                   = (U'U + ridge tr(U'U) I)^-1 1, normalised
        theta_plus = sum_i c_i theta_{i+1}

    On a noiseless linear iteration with fewer than n modes it lands at the fixed point. In pure
    noise the c_i become equal and it averages. On a straight path the u_i are equal and so are the
    c_i; the jump is -(n - 1)/2 steps, so expect it to slow such phases down.

    Args:
        window: n, displacements used, at least 2; also the cycle's length.
        ridge: relative regularisation, above 0.
        cap: largest length of the jump, as a multiple of the cycle's whole displacement.

    Memory: n elements per parameter.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> RRE(window=5).gain
        0.6

    Source: Sidi, Vector Extrapolation Methods with Applications (2017); the ridge as in Scieur,
    d'Aspremont, Bach, Regularized Nonlinear Acceleration (2016), arXiv 1606.04133.
    """

    knobs = ("window", "ridge", "cap")

    def __init__(self, window: int = 5, ridge: float = 1e-8, cap: float = 10.0) -> None:
        self.every = self.buffers = self.window = whole("window", window, 2, "RRE")
        self.ridge, self.cap = finite("ridge", ridge), finite("cap", cap)
        if self.ridge <= 0 or self.cap <= 0:
            raise ArgumentError(f"ridge and cap must be above 0, got {ridge!r} and {cap!r}")

    @property
    def extra_steps(self) -> float:
        # with equal u_i the jump is -(n - 1)/2 of them, and the cap allows cap n of them
        return -min((self.window - 1) / 2, self.cap * self.window)

    def observe_(self, point: int, work: Workspace) -> None:
        # Slot i holds theta_i, then u_i = theta_{i+1} - theta_i.
        for segment in work.segments:
            if point > 0:
                segment.fold_(F.Fold(F.SUBTRACT), point - 1)
                segment.flats[point - 1].neg_()
            if point < self.window:
                segment.fold_(F.Fold(F.COPY), point)

    def finish_(self, work: Workspace) -> float:
        amounts, shrink = self.amounts(gram(work.segments, self.window))
        for segment in work.segments:
            # the sum grows in the oldest slot, so the jump takes no memory of its own
            jump, *others = segment.flats
            jump.mul_(float(amounts[0]))
            for i, displacement in enumerate(others, start=1):
                jump.add_(displacement, alpha=float(amounts[i]))
        return shrink

    def amounts(self, products: Tensor) -> tuple[Tensor, float]:
        """How much of each displacement the jump holds.

            jump = shrink * sum_i amounts_i u_i

        Args:
            products: U'U, the inner products of the n displacements, oldest first, in float64.

        Returns:
            The amounts, and what the cap leaves of them: NaN if a product is not finite, 0 where
            nothing moved.
        """
        # the trace is the sum of all |u_i|^2: 0 if nothing moved, not finite if anything is not
        n, trace = self.window, products.trace()
        if not bool(torch.isfinite(trace)) or float(trace) == 0.0:
            zeros = torch.zeros(n, dtype=torch.float64, device="cpu")
            return zeros, 0.0 if float(trace) == 0.0 else float("nan")
        ridged = products + self.ridge * trace * torch.eye(n, dtype=torch.float64, device="cpu")
        ones = torch.ones(n, 1, dtype=torch.float64, device="cpu")
        c = torch.linalg.lstsq(ridged, ones, driver="gelsd").solution[:, 0]  # singular or not
        c = c / c.sum()
        # theta_{i+1} = theta_n - sum_{l>i} u_l, so the jump is -sum_l u_l (c_0 + ... + c_{l-1}).
        amounts = -(c.cumsum(0) - c)
        # |jump|^2 = a'(U'U)a, and sum_i u_i is the whole displacement: no pass over parameters
        length = float((amounts @ products @ amounts).clamp_min(0).sqrt())
        limit = self.cap * float(products.sum().clamp_min(0).sqrt())
        return amounts, min(1.0, limit / length) if length > 0 else 1.0
