"""What a prediction leaves behind: one small frozen record."""

from __future__ import annotations

from typing import NamedTuple


class ForecastEvent(NamedTuple):
    """One prediction, at the end of one cycle.

    Attributes:
        step: completed optimizer steps when the prediction was made.
        cycle: which cycle it closed, counted from 1.
        applied: whether the prediction was written into the parameters.
        reason: why it was or was not.
        jump_norm: Euclidean norm of (prediction - last point) over all predicted parameters.
        horizon: the predictor's horizon in this cycle, in steps; None where it has none.
    """

    step: int
    cycle: int
    applied: bool
    reason: str
    jump_norm: float
    horizon: float | None
