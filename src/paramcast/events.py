"""What is known before a prediction and what it leaves behind: small frozen records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Actions = tuple[tuple[str, str], ...]
"""Anomaly rules by name, each with what it did; the values that they saw are in `Anomaly.fired`."""
NOT_FINITE_SKIPPED: Actions = (("non-finite", "skip"),)


class ForecastEvent(NamedTuple):
    """One prediction, at the end of one cycle.

    Attributes:
        step: completed optimizer steps when the prediction was made.
        cycle: which cycle it closed, counted from 1.
        applied: whether the prediction was written into the parameters.
        reason: why it was or was not.
        jump_norm: Euclidean norm of (prediction - last point) over all predicted parameters.
        horizon: the predictor's horizon in this cycle, in steps; None where it has none.
        agreement: cosine of the cycle's two half displacements; None unless asked for.
        error: |jump - e d| / |e d|, with d the displacement of the next step and e the steps that
            the jump is worth; None unless scored.
        cosine: of the jump and the next displacement; None unless scored.
        relative_jump: jump_norm / |theta|, with |theta| measured every 16th cycle; None without
            monitors and anomaly rules.
        accepted: share of the predictions so far that were written.
        milliseconds: the time to decide and write; on an accelerator, to launch that work.
        fired: the anomaly rules that fired, each with what it did, such as (("jump", "skip"),).
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
    relative_jump: float | None = None
    accepted: float = 0.0
    milliseconds: float = 0.0
    fired: Actions = ()

    def noting(self, rule: str, action: str, why: str) -> ForecastEvent:
        """This event, with what an anomaly rule did about it."""
        fired = (*self.fired, (rule, action))
        return self._replace(fired=fired, reason=f"{self.reason}; {why}")


class Decision(NamedTuple):
    """Whether a prediction is written, why, how much of the jump, and which rules fired."""

    apply: bool
    reason: str
    scale: float = 1.0
    fired: Actions = ()


@dataclass(frozen=True)
class Proposal:
    """A prediction before it is written, as gates see it; norms are computed when asked for.

    Attributes:
        step, cycle: completed steps, and the number of the cycle.
        progress: step / total_steps; None if the wrapper was not given the total.
        jump_norm, parameter_norm: functions that return Euclidean norms over all predicted
            parameters.
        recent_norm: like parameter_norm, but up to 16 cycles old and so nearly free.
        agreement: a function that returns the cosine of the cycle's two half displacements.
    """

    step: int
    cycle: int
    progress: float | None
    jump_norm: Callable[[], float]
    parameter_norm: Callable[[], float]
    recent_norm: Callable[[], float]
    agreement: Callable[[], float]
