"""Predictions as events: what is known of them, their scores, and when monitors are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

from ..events import NOT_FINITE_SKIPPED, Decision, ForecastEvent
from ..tensors import functional as F
from ..tensors.segments import Readback, dot, norm, total
from .members import Members
from .settings import Settings

if TYPE_CHECKING:
    from ..anomalies import Fired

NOT_FINITE = "the prediction is not finite"


class Prediction(NamedTuple):
    """One prediction, whose norms may still be on their way from their devices."""

    step: int
    cycle: int
    decision: Decision
    scale: float
    norms: Sequence[SupportsFloat]
    horizon: float | None
    agreement: float | None
    size: SupportsFloat | None  # of the parameters
    accepted: float
    milliseconds: float

    def event(self) -> ForecastEvent:
        jump = abs(self.scale * self.decision.scale) * total(self.norms)
        finite = math.isfinite(jump)
        size = None if self.size is None else float(self.size)
        return ForecastEvent(
            self.step,
            self.cycle,
            self.decision.apply and finite,
            self.decision.reason if finite else NOT_FINITE,
            jump,
            self.horizon,
            self.agreement,
            relative_jump=jump / size if size else None,
            accepted=self.accepted,
            milliseconds=self.milliseconds,
            fired=self.decision.fired if finite else NOT_FINITE_SKIPPED,
        )

    @property
    def arrived(self) -> bool:
        return not any(isinstance(value, Readback) for value in self.norms)


class Telling:
    """When a prediction is reported: at once, after the next step, or a cycle later.

    Attributes:
        pending: the event that waits for the next step, or the next loss.
        scoring: whether that step scores it.
        last: the last prediction, reported or not.
    """

    def __init__(self, settings: Settings, members: Members) -> None:
        self.settings, self.members = settings, members
        self.pending: ForecastEvent | None = None
        self.scoring = False
        self.last: Prediction | None = None
        self._told: ForecastEvent | None = None  # the last prediction as it was reported
        self._untold: Prediction | None = None  # on an accelerator, reported one cycle later

    def announce(self, prediction: Prediction) -> None:
        """Report the last prediction, just decided and perhaps written, once it is complete."""
        settings, members = self.settings, self.members
        self._told = None
        members.joined = set()
        self.scoring = settings.scores(prediction.cycle)
        if self.scoring:
            # the jump, and where the next step starts, whether it was written or not
            jump, start = settings.layout.score, settings.layout.score + 1
            for segment in members.segments:
                segment.flats[jump].copy_(segment.flats[0]).mul_(prediction.scale)
                segment.fold_(F.Fold(F.COPY), start)
        # when to tell: after the next step or loss, or as soon as the numbers have arrived
        earlier, self._untold = self._untold, None
        if self.scoring or settings.awaits_loss:
            self.pending = prediction.event()
        elif settings.monitors:
            self._untold = prediction
        if earlier is not None:  # a cycle old: its numbers are here
            self._tell(earlier.event())
        if self._untold is not None and prediction.arrived:
            self.flush()

    def passed(self, prediction: Prediction) -> None:
        """Report that a cycle had nothing to predict."""
        self.flush()
        self.last = prediction
        self._tell(prediction.event())

    def after_step(self) -> None:
        """The step after a prediction is done: score the prediction, and report it."""
        event, self.pending = self.pending, None
        if event is None:
            return
        if self.scoring:
            event = self._scored(event)
        self.members.joined = set()
        self._tell(event)

    def _scored(self, event: ForecastEvent) -> ForecastEvent:
        """Compare the jump, which is worth e steps, with the step d that followed.

        The error is |jump - e d| / |e d|; None where a length is 0 or not finite, as the cosine is.
        """
        settings, segments = self.settings, self.members.segments
        a, b = settings.layout.score, settings.layout.score + 1
        # now one buffer holds the jump, the next minus the step, which only <jump, d> notices
        for segment in segments:
            segment.fold_(F.Fold(F.SUBTRACT), b)
            for p, view in zip(segment.parameters, segment.buffers[b], strict=True):
                if id(p) in self.members.joined:  # its start was not kept, so its step is unknown
                    view.zero_()
        jump, step, along = total(norm(segments, a)), total(norm(segments, b)), -dot(segments, a, b)
        if math.isfinite(jump) and math.isfinite(step):
            e = settings.predictor.extra_steps_at(event.horizon)
            worth = e * step
            # |jump - e d|^2 = |jump|^2 - 2 e <jump, d> + e^2 |d|^2; rounding may bring it below 0
            gap = math.sqrt(max(0.0, jump**2 - 2 * e * along + worth**2))
            event = event._replace(
                error=gap / abs(worth) if worth else None,
                cosine=along / (jump * step) if jump * step else None,
            )
        for anomaly in settings.anomalies:  # those that judge scores
            for fired in anomaly.score(event):
                event = event.noting(fired.rule, fired.action, fired.why)
        return event

    def note(self, fired: Fired) -> None:
        """Note that an anomaly rule fired on the last prediction."""
        if self.pending is not None:
            self.pending = self.pending.noting(fired.rule, fired.action, fired.why)
        elif self._told is not None:  # `flush` reported it early
            self._told = self._told.noting(fired.rule, fired.action, fired.why)

    def withdrawn(self, accepted: float) -> None:
        """The last prediction was taken back."""
        event, self.pending = self.pending, None
        if event is not None:
            self._tell(event._replace(applied=False, accepted=accepted))
        elif self._told is not None:
            self._told = self._told._replace(applied=False, accepted=accepted)

    def flush(self) -> None:
        """Report to the monitors what they have not seen yet."""
        untold, self._untold = self._untold, None
        pending, self.pending = self.pending, None
        if untold is not None:
            self._tell(untold.event())
        if pending is not None:
            self._tell(pending)

    def _tell(self, event: ForecastEvent) -> None:
        self._told = event
        for monitor in self.settings.monitors:
            monitor(event)

    def event(self) -> ForecastEvent | None:
        """The last prediction."""
        if self.pending is not None or self.last is None:
            return self.pending or self._told
        if self._told is not None and self._told.cycle == self.last.cycle:
            return self._told
        return self.last.event()

    def waiting(self) -> ForecastEvent | None:
        """The event that the monitors have not seen yet."""
        return self.pending if self._untold is None else self._untold.event()

    def forget_last(self) -> None:
        """Forget the last prediction, as if none had been made yet."""
        self.last = self._told = self._untold = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "members": self.members,
            "pending": self.waiting(),
            "scoring": self.scoring,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"], state["members"])  # type: ignore[misc]
        self.pending, self.scoring = state["pending"], state["scoring"]
