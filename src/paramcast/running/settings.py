"""What a Forecast was told to do, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .._checks import FARTHEST, named, whole, within
from ..anomalies import Anomaly
from ..averaging import Average
from ..errors import ArgumentError
from ..events import ForecastEvent
from ..gates import Gate, LossCheck
from ..monitors.ranks import debug_monitors
from ..predictors import Affine, Predictor
from ..schedules import Constant, Horizon

# The predictor that leaves every point where it is.
NOTHING = Affine((0.0, 1.0))
# The parts of a layout: the predictor's own come first.
PARTS = ("buffers", "halves", "copy", "score")


class Layout(NamedTuple):
    """Which buffers belong to which part: the first of each, and how many there are in all.

    The predictor's own come first. Parts that are not needed take no room.
    """

    own: int
    halves: int  # two: minus the displacements of the cycle's halves, for gates
    copy: int  # one: the parameters before the jump, if it may be taken back
    score: int  # two: the jump and where it starts, for scoring
    total: int

    def parts(self) -> dict[str, range]:
        """The buffers of each part that has some, by the part's name in a checkpoint."""
        places = (
            range(self.own),
            range(self.halves, self.copy),
            range(self.copy, self.score),
            range(self.score, self.total),
        )
        return {name: place for name, place in zip(PARTS, places, strict=True) if place}


class Settings:
    """What a Forecast was told to do, checked, and what follows from it; it never changes.

    Attributes:
        anomalies, loss_checks: the rules and the checks in the gate.
        watched: whether anything needs the parameters' norm.
        withdraws: whether a prediction may be taken back after the next loss.
        awaits_loss: whether an event is complete only after the next loss.
        halves: whether the cosine of the cycle's two halves is needed.
        layout: which buffers belong to which part.
    """

    def __init__(
        self,
        predictor: Predictor | None,
        horizon: float | Horizon | None,
        total_steps: int | None,
        gate: Gate | None,
        average: Average | None,
        monitors: Sequence[Callable[[ForecastEvent], None]],
        shadow: bool,
    ) -> None:
        # what is predicted, and how far
        predictor = NOTHING if predictor is None else predictor
        if not isinstance(predictor, Predictor):
            instead = (
                "; an average is given as average=..." if isinstance(predictor, Average) else ""
            )
            raise ArgumentError(
                "predictor must be one of paramcast.predictors, such as Midline(), "
                f"got {predictor!r}{instead}"
            )
        if total_steps is not None:
            total_steps = whole("total_steps", total_steps, 1)
        schedule: Horizon | None = None
        if horizon is not None:
            if predictor.horizon is None:
                raise ArgumentError(f"{type(predictor).__name__} has no horizon, got {horizon!r}")
            if not callable(horizon):
                within("horizon", horizon, -FARTHEST, FARTHEST)
            schedule = horizon if callable(horizon) else Constant(horizon)
        # whether, and what is evaluated
        if gate is not None and not isinstance(gate, Gate):
            raise ArgumentError(f"gate must be one of paramcast.gates, got {gate!r}")
        if average is not None and not isinstance(average, Average):
            raise ArgumentError(f"average must be one of paramcast.averaging, got {average!r}")
        # what depends on progress needs the length of the run
        wants = {
            "horizon": callable(horizon),
            "gate": gate is not None and gate.progress,
            "average": average is not None and average.progress,
        }
        if any(wants.values()) and total_steps is None:
            raise ArgumentError(
                f"the {' and the '.join(name for name in wants if wants[name])} must know the "
                "length of the run: give total_steps=..., the number of optimizer steps"
            )
        if not isinstance(shadow, bool):
            raise ArgumentError(f"shadow must be True or False, got {shadow!r}")
        if callable(monitors) or not isinstance(monitors, Sequence):
            raise ArgumentError(f"monitors must be a list of functions, got {monitors!r}")
        for monitor in monitors:
            if not callable(monitor) or isinstance(monitor, type):
                raise ArgumentError(f"a monitor must be a function of an event, got {monitor!r}")
        self.predictor, self.schedule, self.total_steps = predictor, schedule, total_steps
        self.gate, self.average, self.shadow = gate, average, shadow
        self.monitors: tuple[Callable[[ForecastEvent], None], ...]
        self.monitors = (*monitors, *debug_monitors())

        # what the gate and the monitors need
        parts = [] if gate is None else gate.parts()
        self.anomalies = [part for part in parts if isinstance(part, Anomaly)]
        self.loss_checks = [part for part in parts if isinstance(part, LossCheck)]
        self.watched = bool(self.monitors or self.anomalies)
        self.withdraws = any(rules.withdraws for rules in self.anomalies)
        self.awaits_loss = any(rules.watches_loss for rules in self.anomalies)
        self.halves = gate is not None and gate.agreement
        if self.halves and predictor.every < 2:
            raise ArgumentError(
                f"Agreement compares two halves of a cycle, but {predictor!r} has cycles of one "
                "step"
            )
        if self.withdraws and predictor.adjusts_base:
            raise ArgumentError(
                f"the loss rule cannot withdraw the jumps of {predictor!r}, which change the "
                'base\'s momentum too; use momentum="keep" or another action, such as '
                'actions={"loss": "pause"}'
            )
        # after how many cycles each of those who ask for scores does so
        asking: list[Any] = [m for m in self.monitors if getattr(m, "scored", False)]
        always = shadow or any(rules.scored for rules in self.anomalies)
        self._scored = [1] if always else [int(getattr(m, "every", 1)) for m in asking]
        # which buffers are kept, one part after the other
        halves = predictor.buffers
        copy = halves + 2 * self.halves
        score = copy + (self.withdraws or bool(self.loss_checks))
        self.layout = Layout(halves, halves, copy, score, score + 2 * bool(self._scored))

    def changeable(self) -> dict[str, Any]:
        """What a resumed run may change, as plain values."""
        plain = self.schedule is None or isinstance(self.schedule, Constant)
        return {
            "horizon": str(self.scheduled(0)) if plain else named(self.schedule),
            "gate": None if self.gate is None else repr(self.gate),
            "shadow": self.shadow,
            "total_steps": self.total_steps,
        }

    def scores(self, cycle: int) -> bool:
        """Whether this cycle's prediction is compared with the step that follows it."""
        return any(cycle % every == 0 for every in self._scored)

    def precision(self) -> torch.dtype | None:
        """The narrowest dtype of the buffers; a schedule may need any."""
        if self.schedule is not None:
            return torch.float32
        return self.predictor.precision(self.predictor.horizon)

    def progress(self, step: int) -> float | None:
        """Share of the run that is over."""
        return None if self.total_steps is None else min(1.0, step / self.total_steps)

    def scheduled(self, step: int) -> float | None:
        """The horizon of a cycle that starts after this step."""
        if self.schedule is None:
            return self.predictor.horizon
        value = self.schedule(self.progress(step) or 0.0)
        return within(f"the horizon that {self.schedule!r} returned", value, -FARTHEST, FARTHEST)

    def half_points(self) -> tuple[int, int]:
        """Where the first half starts and ends; theta_0, a predicted point, is left out."""
        k = self.predictor.every
        start = 1 if k >= 3 else 0
        return start, (start + k) // 2
