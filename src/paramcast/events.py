"""What is known before a prediction and what it leaves behind: small frozen records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        agreement: cosine of the cycle's two half displacements; None where nobody asked.
        error: |jump - e d| / |e d|, with d the displacement of the next step and e the steps that
            the jump is worth; None unless scored.
        cosine: of the jump and the next displacement; None unless scored.
    """

    step: int
    cycle: int
    applied: bool
    reason: str
    jump_norm: float
    horizon: float | None
    agreement: float | None = None
    error: float | None = None
    cosine: float | None = None


class Decision(NamedTuple):
    """Whether a prediction is written, why, and how much of the jump."""

    apply: bool
    reason: str
    scale: float = 1.0


@dataclass(frozen=True)
class Proposal:
    """A prediction before it is written, as gates see it; norms are computed when asked for.

    Attributes:
        step, cycle: completed steps, and the number of the cycle.
        progress: step / total_steps; None where the wrapper was not told the total.
        jump_norm, parameter_norm: functions that return Euclidean norms over all predicted
            parameters.
        agreement: a function that returns the cosine of the cycle's two half displacements.
    """

    step: int
    cycle: int
    progress: float | None
    jump_norm: Callable[[], float]
    parameter_norm: Callable[[], float]
    agreement: Callable[[], float]
