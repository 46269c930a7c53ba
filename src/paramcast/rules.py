"""What a Forecast was told to do, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from .anomalies import Anomaly
from .events import ForecastEvent
from .gates import Gate
from .predictors import Predictor
from .predictors.base import FARTHEST, within


class Rules(NamedTuple):
    """What a Forecast was told to do; it never changes."""

    predictor: Predictor
    schedule: Callable[[float], float] | None
    total_steps: int | None
    gate: Gate | None
    monitors: tuple[Callable[[ForecastEvent], None], ...]
    shadow: bool

    @property
    def scored(self) -> bool:
        """Whether each prediction is compared with the step that follows it."""
        watchers = [*self.monitors, *self.anomalies]
        return self.shadow or any(getattr(w, "scored", False) for w in watchers)

    @property
    def halves(self) -> bool:
        """Whether the cosine of the cycle's two halves is needed."""
        return self.gate is not None and self.gate.agreement

    @property
    def checks(self) -> bool:
        """Whether predictions may be taken back, so that a copy is kept."""
        withdraws = any(anomaly.withdraws for anomaly in self.anomalies)
        return withdraws or (self.gate is not None and bool(self.gate.losses()))

    @property
    def anomalies(self) -> list[Anomaly]:
        """The anomaly rules in the gate."""
        return [] if self.gate is None else self.gate.anomalies()

    def progress(self, step: int) -> float | None:
        """Share of the run that is over."""
        return None if self.total_steps is None else min(1.0, step / self.total_steps)

    def horizon(self, step: int) -> float | None:
        """The horizon of a cycle that starts after this step."""
        if self.schedule is None:
            return self.predictor.horizon
        value = self.schedule(self.progress(step) or 0.0)
        return within(f"the horizon that {self.schedule!r} returned", value, -FARTHEST, FARTHEST)

    def buffers(self) -> int:
        """Elements of memory per parameter."""
        return self.predictor.buffers + 2 * self.halves + self.checks + 2 * self.scored

    def precision(self) -> torch.dtype | None:
        """The narrowest dtype of the buffers; a schedule may need any."""
        if self.schedule is not None:
            return torch.float32
        return self.predictor.precision(self.predictor.horizon)

    def half_points(self) -> tuple[int, int]:
        """Where the first half starts and ends; theta_0, a predicted point, is left out."""
        k = self.predictor.every
        start = 1 if k >= 3 else 0
        return start, (start + k) // 2
