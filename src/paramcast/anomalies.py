"""Rules for anomalies: what is noticed, and what is then done.

    rule            notices                                               default   action
    non-finite      a prediction with NaN or infinity (always on)         -         skip
    jump            |jump| > threshold * |theta|                          0.002     skip
    disagreement    the jump and the next step point against each other   off       pause
                    (cosine < 0) in `threshold` scored predictions in a row
    loss            the first loss after a prediction exceeds the mean    off       withdraw
                    of the losses before it by `threshold` times their spread
    drift           the prediction error's exponentially weighted z-score off       warn
                    exceeds the threshold

    action          does
    warn            logs a warning to the logger "paramcast", as every other action but skip does
    skip            does not write this prediction
    withdraw        undoes the last prediction, bitwise
    pause           writes no prediction for `pause` cycles; predictions scored meanwhile may
                    extend it
    off             writes no more predictions

The default threshold of `jump` keeps PLP harmless near the edge of stability, where it otherwise
hurts: see docs/methods/anomaly.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._checks import finite, whole
from .errors import ArgumentError
from .events import Decision, ForecastEvent, Proposal
from .gates import Gate

ACTIONS = {
    "jump": ("warn", "skip", "pause", "off"),
    "disagreement": ("warn", "pause", "off"),
    "loss": ("warn", "withdraw", "pause", "off"),
    "drift": ("warn", "pause", "off"),
}
DEFAULT_ACTION = {"jump": "skip", "disagreement": "pause", "loss": "withdraw", "drift": "warn"}
# Decay of the exponentially weighted means of losses and prediction errors.
MEMORY = 0.9
# Values that a mean must have seen before it judges the next one.
WARM_UP = 8

# Fired rules to remember: in a long run, one may fire in every cycle.
KEPT = 1000
# Of the predictions of a run: if no more are written, the run is told to have hardly any.
FEW = 0.05
# Long jumps in a row that are worth a warning.
OFTEN = 100

_log = logging.getLogger("paramcast")


class Fired(NamedTuple):
    """A rule that fired: after which step, on which value, and what was done."""

    step: int
    rule: str
    value: float
    threshold: float
    action: str

    @property
    def why(self) -> str:
        """The reason in words."""
        above = ">=" if self.rule == "disagreement" else ">"
        return f"{self.rule} {self.value:.3g} {above} {self.threshold:g}: {self.action}"


class Anomaly(Gate):
    """A gate that watches for anomalies and acts; combine it with other gates with `&`.

    Args:
        jump: longest jump as a share of the parameters' norm; None switches the rule off.
        disagreement: how many scored predictions in a row must point against the next step.
        loss: how many spreads the first loss after a prediction may lie above the mean before it;
            needs `optimizer.observe(loss)` before each `step()`.
        drift: largest z-score of the prediction error.
        actions: a different action for a rule, such as {"jump": "off"}.
        pause: how many cycles "pause" lasts.

    Attributes:
        fired: the rules that fired, oldest first, the last 1,000 of them.

    Memory: two elements per parameter for disagreement or drift (scoring), one for withdrawing.

    Raises:
        ArgumentError: a threshold that is not above 0, an unknown rule or action.

    Example:
        >>> Anomaly().thresholds
        {'jump': 0.002}
    """

    def __init__(
        self,
        *,
        jump: float | None = 0.002,
        disagreement: int | None = None,
        loss: float | None = None,
        drift: float | None = None,
        actions: Mapping[str, str] | None = None,
        pause: int = 20,
    ) -> None:
        given = {"jump": jump, "disagreement": disagreement, "loss": loss, "drift": drift}
        self.thresholds = {name: finite(name, v) for name, v in given.items() if v is not None}
        for name, value in self.thresholds.items():
            if value <= 0:
                raise ArgumentError(
                    f"{name} must be above 0, or None to switch it off, got {value:g}"
                )
        if disagreement is not None:
            whole("disagreement", disagreement, 1)
        if actions is not None and not isinstance(actions, Mapping):
            raise ArgumentError(
                f'actions must be a mapping such as {{"jump": "off"}}, got {actions!r}'
            )
        self.actions = {**DEFAULT_ACTION, **(actions or {})}
        for name, action in self.actions.items():
            if name not in ACTIONS or action not in ACTIONS[name]:
                known = ", ".join(ACTIONS.get(name, ())) or f"rules {', '.join(ACTIONS)}"
                raise ArgumentError(f"no action {action!r} for rule {name!r}; choose from {known}")
        # a rule without a threshold is off
        for name in actions or ():
            if name not in self.thresholds:
                raise ArgumentError(
                    f"the rule {name!r} has an action but no threshold, so it is off; "
                    f"give {name}=..."
                )
        self.pause = whole("pause", pause, 1)
        # what a cycle must measure or keep for the rules that are on
        self.scored = bool({"disagreement", "drift"} & self.thresholds.keys())
        self.withdraws = "loss" in self.thresholds and self.actions["loss"] == "withdraw"
        self.watches_loss = "loss" in self.thresholds
        self.skips = "jump" in self.thresholds and self.actions["jump"] == "skip"
        self.fired: list[Fired] = []
        self.reset()

    def reset(self) -> None:
        """Forget what was seen; `fired` stays."""
        self.paused_until = 0  # the last cycle that waits; -1: for good
        self.refused = 0  # long jumps in a row, for a warning only
        self.against = 0  # disagreements in a row
        self.losses_seen = _Mean()
        self.errors_seen = _Mean()
        self.unobserved = 2  # predictions written since the last observed loss; 2: never observed

    @property
    def off(self) -> bool:
        """Whether a rule has switched predictions off."""
        return self.paused_until < 0

    def decide(self, proposal: Proposal) -> Decision:
        if self.watches_loss and self.unobserved > 1:
            raise ArgumentError(
                "the loss rule watches a loss that is not reported: call optimizer.observe(loss) "
                "before each optimizer.step(), or construct Anomaly(loss=None)"
            )
        if self.off:
            return Decision(False, "switched off")
        if proposal.cycle <= self.paused_until:
            return Decision(False, f"paused until cycle {self.paused_until}")
        # the rule "jump", against a norm that is at most 16 cycles old
        limit = self.thresholds.get("jump")
        if limit is None:
            return Decision(True, "no anomaly")
        size, norm = proposal.jump_norm(), proposal.recent_norm()
        if size <= limit * norm:
            self.refused = 0
            return Decision(True, "no anomaly")
        # said once in a row: a rate that is too high would fill the log
        self.refused += 1
        if self.refused == OFTEN:
            _log.warning(
                "step %d: %d jumps in a row were longer than %g of the parameters: lower the "
                "learning rate, give a larger jump=..., or train without predictions",
                *(proposal.step, OFTEN, limit),
            )
        relative = size / norm if norm else math.inf
        fired = self._fire(proposal.step, proposal.cycle, "jump", relative)
        return Decision(fired.action == "warn", fired.why, fired=((fired.rule, fired.action),))

    def written(self) -> None:
        """A prediction was written."""
        self.unobserved += 1

    def observe(self, step: int, cycle: int, loss: float, *, first: bool) -> Fired | None:
        """Take in a loss, perhaps the first at predicted parameters; return the rule that fired."""
        self.unobserved = 0
        if not self.watches_loss or self.off:
            return None
        z = self.losses_seen.z(loss)
        if first and z > self.thresholds["loss"]:
            return self._fire(step, cycle, "loss", z)
        self.losses_seen.add(loss)  # a loss that fired stays out of the mean
        return None

    def score(self, event: ForecastEvent) -> list[Fired]:
        """Take in a scored prediction; return the rules that fired."""
        fired: list[Fired] = []
        if self.off:
            return fired
        if "disagreement" in self.thresholds and event.cosine is not None:
            self.against = self.against + 1 if event.cosine < 0 else 0
            if self.against >= self.thresholds["disagreement"]:
                fired.append(self._fire(event.step, event.cycle, "disagreement", self.against))
                self.against = 0
        if "drift" in self.thresholds and event.error is not None:
            z = self.errors_seen.z(event.error)
            if z > self.thresholds["drift"] and not self.off:
                fired.append(self._fire(event.step, event.cycle, "drift", z))
            self.errors_seen.add(event.error)
        return fired

    def _fire(self, step: int, cycle: int, rule: str, value: float) -> Fired:
        fired = Fired(step, rule, float(value), self.thresholds[rule], self.actions[rule])
        self.fired.append(fired)
        del self.fired[:-KEPT]
        if fired.action == "pause":  # a later one extends it
            self.paused_until = max(self.paused_until, cycle + self.pause)
        elif fired.action == "off":
            self.paused_until = -1
        if fired.action != "skip":  # skipping a jump is routine; its event says so
            _log.warning("step %d: %s", step, fired.why)
        return fired

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as plain values."""
        return {
            "paused_until": self.paused_until,
            "against": self.against,
            "unobserved": self.unobserved,
            "losses": self.losses_seen.state(),
            "errors": self.errors_seen.state(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.paused_until, self.against = int(saved["paused_until"]), int(saved["against"])
        self.unobserved = int(saved["unobserved"])
        self.losses_seen = _Mean(*saved["losses"])
        self.errors_seen = _Mean(*saved["errors"])

    def __repr__(self) -> str:
        knobs: dict[str, Any] = {"jump": None, **self.thresholds}
        own = {rule: self.actions[rule] for rule in self.thresholds}
        changed = {rule: act for rule, act in own.items() if act != DEFAULT_ACTION[rule]}
        knobs |= {"actions": changed} if changed else {}
        inside = ", ".join(f"{name}={value!r}" for name, value in knobs.items())
        return f"Anomaly({inside}, pause={self.pause})"


class _Mean:
    """Exponentially weighted mean and variance."""

    def __init__(self, count: int = 0, mean: float = 0.0, variance: float = 0.0) -> None:
        self.count, self.mean, self.variance = count, mean, variance

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            return
        weight = max(1.0 - MEMORY, 1.0 / (self.count + 1))  # the plain mean of the first ten
        gap = value - self.mean
        self.mean += weight * gap
        self.variance = (1.0 - weight) * (self.variance + weight * gap * gap)
        self.count += 1

    def z(self, value: float) -> float:
        """How many standard deviations above the mean; 0 while the mean is young."""
        if self.count < WARM_UP:
            return 0.0
        if not math.isfinite(value):
            return math.inf
        spread = math.sqrt(self.variance)
        return (value - self.mean) / spread if spread > 0 else 0.0

    def state(self) -> list[float]:
        return [self.count, self.mean, self.variance]
