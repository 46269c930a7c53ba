"""What a Forecast was told to do, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class Settings:
    """What a Forecast was told to do; it never changes."""

    predictor: Predictor
    schedule: Callable[[float], float] | None
    total_steps: int | None
    gate: Gate | None
    monitors: tuple[Callable[[ForecastEvent], None], ...]
    shadow: bool
    average: Average | None = None

    def changeable(self) -> dict[str, Any]:
        """What a resumed run may change, as plain values."""
        schedule = self.schedule
        plain = schedule is None or isinstance(schedule, Constant)
        return {
            "horizon": str(self.scheduled(0)) if plain else named(schedule),
            "gate": None if self.gate is None else repr(self.gate),
            "shadow": self.shadow,
            "total_steps": self.total_steps,
        }

    # --- what is watched ------------------------------------------------------------------------

    @cached_property
    def anomalies(self) -> list[Anomaly]:
        """The anomaly rules in the gate."""
        return [] if self.gate is None else self.gate.anomalies()

    @cached_property
    def watched(self) -> bool:
        """Whether anything needs the parameters' norm."""
        return bool(self.monitors or self.anomalies)

    @cached_property
    def loss_checks(self) -> list[LossCheck]:
        """The loss checks in the gate."""
        return [] if self.gate is None else self.gate.losses()

    @cached_property
    def withdraws(self) -> bool:
        """Whether a prediction may be taken back after the next loss."""
        return any(anomaly.withdraws for anomaly in self.anomalies)

    @cached_property
    def awaits_loss(self) -> bool:
        """Whether an event is complete only after the next loss."""
        return any(anomaly.watches_loss for anomaly in self.anomalies)

    def scores(self, cycle: int) -> bool:
        """Whether this cycle's prediction is compared with the step that follows it."""
        return any(cycle % every == 0 for every in self._scored)

    @cached_property
    def _scored(self) -> list[int]:
        always = self.shadow or any(anomaly.scored for anomaly in self.anomalies)
        asking: list[Any] = [m for m in self.monitors if getattr(m, "scored", False)]
        return [1] if always else [int(getattr(m, "every", 1)) for m in asking]

    # --- what is kept ---------------------------------------------------------------------------

    @cached_property
    def halves(self) -> bool:
        """Whether the cosine of the cycle's two halves is needed."""
        return self.gate is not None and self.gate.agreement

    @cached_property
    def layout(self) -> Layout:
        """Which buffers belong to which part."""
        watchers = [*self.monitors, *self.anomalies]
        scored = self.shadow or any(getattr(w, "scored", False) for w in watchers)
        halves = self.predictor.buffers
        copy = halves + 2 * self.halves
        score = copy + (self.withdraws or bool(self.loss_checks))
        return Layout(halves, halves, copy, score, score + 2 * scored)

    @cached_property
    def keeps_copy(self) -> bool:
        """Whether predictions may be taken back."""
        return self.layout.score > self.layout.copy

    def precision(self) -> torch.dtype | None:
        """The narrowest dtype of the buffers; a schedule may need any."""
        if self.schedule is not None:
            return torch.float32
        return self.predictor.precision(self.predictor.horizon)

    # --- when and how far -----------------------------------------------------------------------

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


def checked(
    predictor: Predictor | None,
    horizon: float | Horizon | None,
    total_steps: int | None,
    gate: Gate | None,
    average: Average | None,
    monitors: Sequence[Callable[[ForecastEvent], None]],
    shadow: bool,
) -> Settings:
    """What the user asked for, or an error that says what does not fit."""
    # what is predicted
    predictor = NOTHING if predictor is None else predictor
    if not isinstance(predictor, Predictor):
        raise ArgumentError(
            f"predictor must be one of paramcast.predictors, such as Midline(), got {predictor!r}"
        )
    # how far
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
    wants_total = [
        name
        for name, wants in (
            ("horizon", callable(horizon)),
            ("gate", gate is not None and gate.progress),
            ("average", average is not None and average.progress),
        )
        if wants
    ]
    if wants_total and total_steps is None:
        raise ArgumentError(
            f"the {' and the '.join(wants_total)} must know the length of the run: "
            "give total_steps=..., the number of optimizer steps"
        )
    # gates that do not work with this predictor
    if gate is not None and gate.agreement and predictor.every < 2:
        raise ArgumentError(
            f"Agreement compares two halves of a cycle, but {predictor!r} has cycles of one step"
        )
    if gate is not None and predictor.adjusts_base and any(a.withdraws for a in gate.anomalies()):
        raise ArgumentError(
            f"the loss rule cannot withdraw the jumps of {predictor!r}, which change the base's "
            'momentum too; use momentum="keep" or another action, such as actions={"loss": "pause"}'
        )
    if not isinstance(shadow, bool):
        raise ArgumentError(f"shadow must be True or False, got {shadow!r}")
    # the monitors
    if callable(monitors) or not isinstance(monitors, Sequence):
        raise ArgumentError(f"monitors must be a list of functions, got {monitors!r}")
    for monitor in monitors:
        if not callable(monitor) or isinstance(monitor, type):
            raise ArgumentError(f"a monitor must be a function of an event, got {monitor!r}")
    watchers: tuple[Callable[[ForecastEvent], None], ...] = (*monitors, *debug_monitors())
    return Settings(predictor, schedule, total_steps, gate, watchers, shadow, average)
