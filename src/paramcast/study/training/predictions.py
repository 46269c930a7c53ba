"""The predictions of a run: a few numbers beside each point of its curve."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ...anomalies import Anomaly
from ...events import ForecastEvent
from ...forecast import Forecast

# jumps longer than this share of the weights are counted, as the default anomaly rule would
LONG = Anomaly().thresholds["jump"]
SCORED, LEAST = 50, 4  # predictions scored per run, and at least that many cycles apart


class Predictions:
    """A monitor of a whole run; it changes nothing.

    It scores about SCORED predictions of a run, and at most one in LEAST: scoring costs as much as
    the prediction itself, and its time counts in the run's seconds.
    """

    scored = True

    def __init__(self) -> None:
        self.every = LEAST  # cycles from one scored prediction to the next
        self.memory = 0  # bytes that scoring takes, which do not count as the method's
        self.events: list[ForecastEvent] = []

    def begin(self, parameters: Iterable[Tensor], cycles: int) -> Predictions:
        """Prepare for a run of these parameters and that many cycles; return the monitor."""
        self.every = max(LEAST, cycles // SCORED)
        self.memory = 2 * sum(p.numel() * p.element_size() for p in parameters)
        return self

    def __call__(self, event: ForecastEvent) -> None:
        self.events.append(event)

    def note(self, curve: Sequence[dict[str, Any]]) -> None:
        """Give each point of a curve its "predictions": those made since the point before.

        Predictions after the last point, of a run that broke off, belong to that point.

        count           the number of predictions
        accepted        the share of them that were written
        relative_jump   the mean of |jump| / |theta|
        scored          the number that were compared with the step that followed
        cosine, error   the means over these (see `ForecastEvent`); left out if there are none
        anomalies       rules that fired, or would have with the default `Anomaly` (action "none"):
                        rule, action, step of the first time, count; left out if there are none
        """
        if not self.events or not curve:
            return
        parts: list[list[ForecastEvent]] = [[] for _ in curve]
        ends = [point["step"] for point in curve]
        # an event belongs to the first point at or after its step
        for event in self.events:
            parts[min(bisect_left(ends, event.step), len(ends) - 1)].append(event)
        for point, part in zip(curve, parts, strict=True):
            point["predictions"] = _summary(part)


def counts(optimizer: Optimizer) -> dict[str, int] | None:
    """How many predictions an optimizer made and wrote; None if it makes none."""
    last = optimizer.last_event if isinstance(optimizer, Forecast) else None
    if last is None:
        return None
    return {"made": last.cycle, "written": round(last.accepted * last.cycle)}


def _summary(events: Sequence[ForecastEvent]) -> dict[str, Any]:
    found: dict[str, Any] = {"count": len(events)}
    scored = [event for event in events if event.cosine is not None]
    if events:
        found["accepted"] = _mean(event.applied for event in events)
        found["relative_jump"] = _mean(event.relative_jump for event in events)
    found["scored"] = len(scored)
    if scored:
        found["cosine"] = _mean(event.cosine for event in scored)
        found["error"] = _mean(event.error for event in scored)
    # each rule and action, with the step of the first time
    anomalies: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        fired = event.fired
        if not fired and event.relative_jump is not None and event.relative_jump > LONG:
            fired = (("jump", "none"),)
        for rule, action in fired:
            start = {"rule": rule, "action": action, "step": event.step, "count": 0}
            anomalies.setdefault((rule, action), start)["count"] += 1
    return {**found, "anomalies": list(anomalies.values())} if anomalies else found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [number for number in values if number is not None]
    return float(f"{fmean(known):.5g}") if known else None
