"""Gradients taken near an average of the path."""

from __future__ import annotations

from .._checks import whole, within
from ..tensors import functional as F
from .base import FromTheStart, Workspace


class PrimalAveraging(FromTheStart):
    """Each gradient is taken near an average of the path (Schedule-Free, primal averaging).

        z  <- where the base's steps alone would be: z + step
        x  <- x + w (z - x),   w = (eta + 1) / (t + eta)      after t steps
        theta_plus = (1 - beta) z + beta x                    where the next gradient is taken

    x is the average of z that `averaging.PolynomialDecay(eta)` would make: it lags t / (eta + 2)
    steps behind. The parameters stay near it, and `eval_weights()` shows it; it needs no decaying
    learning rate and no known end. eta = 0 weighs all points equally, as Schedule-Free does. On a
    straight path G = 1 - beta / (eta + 2).

    With a window of n steps w is never below 1 / n: the average soon lags a constant n - 1 steps
    behind, and G = 1. It then works beside the base's own learning-rate schedule. Its path is that
    of a momentum 1 - 1 / n on the base's whole steps, of which beta is the share
    (quasi-hyperbolic): only what is evaluated is an average.

    The average takes the place of a momentum: give the base none (AdamW with betas=(0.0, 0.999)).

    Args:
        beta: how near to the average, in [0, 1]; 0 is the base alone.
        eta: how fast the average forgets, at least 0.
        window: n, at least 1; None for an average that grows with the run.

    Memory: two elements per parameter; one of them, z - x, is saved between cycles (a cycle is one
    step). Where a jump is not written, z and x move with the parameters.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(PrimalAveraging(beta=0.9, eta=2).gain, 4)
        0.775

    Source: Defazio et al., The Road Less Scheduled (2024), arXiv 2405.15682, whose power r is eta,
    exactly for 0 and 1 (for others its weights are i^r, ours only about i^eta); Defazio et al.,
    Smoothing DiLoCo with Primal Averaging (2025), arXiv 2512.17131.
    """

    knobs = ("beta", "eta", "window")
    every, buffers, persistent, replaces_momentum = 1, 2, (1,), True

    def __init__(self, beta: float = 0.9, eta: float = 2.0, window: int | None = None) -> None:
        self.beta = within("beta", beta, 0.0, 1.0)
        self.eta = within("eta", eta, 0.0, 1e6)
        self.window = None if window is None else whole("window", window, 1)
        self.evaluated = (1, self.beta - 1.0)  # x = theta_plus - (1 - beta) (z - x)

    @property
    def extra_steps(self) -> float:
        # the lag of x grows by 1 / (eta + 2) a step; within a window it stays what it is
        return -self.beta / (self.eta + 2.0) if self.window is None else 0.0

    def weight(self, t: int) -> float:
        """w after t steps."""
        w = F.polynomial_weight(self.eta, t)
        return w if self.window is None else max(w, 1.0 / self.window)

    def finish_(self, work: Workspace) -> float:
        w = self.weight(work.age)
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            d, u = segment.flats  # d = minus the base's step, u = z - x
            u.sub_(d)
            d.add_(u, alpha=w)  # u before - u after
            u.mul_(1.0 - w)
        return self.beta
