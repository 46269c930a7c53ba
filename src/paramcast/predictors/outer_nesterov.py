"""Nesterov momentum on the displacement of whole cycles."""

from __future__ import annotations

from .._checks import finite, whole, within
from ..errors import ArgumentError
from ..tensors import functional as F
from .base import FromTheStart, Workspace


class OuterNesterov(FromTheStart):
    """Nesterov momentum on the displacement of whole cycles (SNOO, DiLoCo with one worker).

        d          = theta_0 - theta_k                       the outer gradient
        b          <- momentum * b + d
        theta_plus = theta_0 - lr * (d + momentum * b)

    lr = 1 and momentum = 0 is the base optimizer. On a straight path G = lr / (1 - momentum).

    Args:
        every: k, optimizer steps per cycle, at least 1.
        momentum: in [0, 1).
        lr: the outer learning rate, above 0.

    Memory: two elements per parameter; b is saved between cycles.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(OuterNesterov(every=10, momentum=0.5, lr=0.7).gain, 4)
        1.4

    Source: Kallusky et al., SNOO (2025), arXiv 2510.15830; Douillard et al., DiLoCo (2023).
    """

    knobs = ("every", "momentum", "lr")
    buffers, persistent = 2, (1,)

    def __init__(self, every: int = 20, momentum: float = 0.5, lr: float = 0.7) -> None:
        self.every = whole("every", every, 1, "OuterNesterov")
        self.momentum = within("momentum", momentum, 0.0, 1.0, ends="[)")
        self.lr = finite("lr", lr)
        if self.lr <= 0:
            raise ArgumentError(f"lr must be above 0, got {lr!r}")

    @property
    def extra_steps(self) -> float:
        # equal cycles of D: b settles at D / (1 - momentum), and lr (D + momentum b) is lr of that
        return self.every * (self.lr / (1.0 - self.momentum) - 1.0)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            # d = theta_0 - theta_k, minus the cycle's displacement; b sums these
            d, b = segment.flats
            b.mul_(self.momentum).add_(d)
            # theta_plus - theta_k = d - lr d - lr momentum b
            d.mul_(1.0 - self.lr).add_(b, alpha=-self.lr * self.momentum)
        return 1.0
