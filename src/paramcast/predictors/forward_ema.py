"""Gradients taken ahead, along an average of the displacements."""

from __future__ import annotations

from .._checks import within
from ..tensors import functional as F
from .base import FromTheStart, Workspace


class ForwardEMA(FromTheStart):
    """Each gradient is taken ahead, along an average of the displacements (EMA-Nesterov).

        theta_plus = x + strength * m          where the next gradient is taken
        x          <- where the base's step from there ends
        m          <- decay * m + (1 - decay) * (x - x before)

    On a straight path G = 1 / (1 - strength). The source uses it only in a middle window of
    training: combine it with gates.After and gates.Before.

    Args:
        decay: of the average, in [0, 1).
        strength: share of the average that is added, in [0, 1).

    Memory: two elements per parameter, both saved between cycles (a cycle is one step).

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(ForwardEMA(decay=0.9, strength=0.5).gain, 4)
        2.0

    Source: EMA-Nesterov (2026), arXiv 2605.25395.
    """

    knobs = ("decay", "strength")
    every, buffers, persistent, feeds_back = 1, 2, (1,), True

    def __init__(self, decay: float = 0.9, strength: float = 0.5) -> None:
        self.decay = within("decay", decay, 0.0, 1.0, ends="[)")
        self.strength = within("strength", strength, 0.0, 1.0, ends="[)")

    @property
    def extra_steps(self) -> float:
        return self.strength / (1.0 - self.strength)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            d, m = segment.flats  # d = minus the base's step
            # x - x before = step + strength * m, to the extent that this jump was written
            ahead = self.strength * work.written
            m.mul_(self.decay + (1.0 - self.decay) * ahead).add_(d, alpha=self.decay - 1.0)
            d.copy_(m)
        return self.strength
