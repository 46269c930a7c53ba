"""What is known of a pilot or study just now, folded from its runs: means per arm, events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from ...study.judging.sentences import divergence
from ...study.words import Words
from ..html.load import Failure, Run
from .follow import Look

AXES = ("task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay")
"""The settings by which a study's runs are told apart into comparisons."""
CURVES = {"metric": "validation_metric", "loss": "validation_loss"}
PREDICTIONS = ("cosine", "error", "accepted")
EVENTS, RECENT = 200, 20
NOTHING = "none"
"""The action of an anomaly rule that only watches."""


class Event(NamedTuple):
    """Something that one should see: when, of what kind, and what."""

    at: str
    kind: str
    text: str


class Mean:
    """The mean of many curves, point by point, added one at a time."""

    def __init__(self) -> None:
        self._sums: list[dict[str, list[float]]] = []

    def add(self, points: Iterable[dict[str, Any]], names: Iterable[str]) -> None:
        """Add a curve; a value that is missing or None is left out."""
        for i, point in enumerate(points):
            if i == len(self._sums):
                self._sums.append({name: [0.0, 0.0] for name in ("step", *names)})
            for name, pair in self._sums[i].items():
                value = point.get(name)
                if isinstance(value, (int, float)) and math.isfinite(value):
                    pair[0] += value
                    pair[1] += 1.0

    def of(self, name: str) -> list[float | None]:
        """By point: the mean, None where no curve has a value."""
        pairs = [sums[name] for sums in self._sums]
        return [total / n if n else None for total, n in pairs]


class Arm:
    """The runs of one method at one learning rate."""

    def __init__(self) -> None:
        self.done = self.diverged = self.anomalous = 0
        self.last = ""
        self.losses: list[float] = []
        self.curve, self.predictions = Mean(), Mean()

    def add(self, run: Run) -> None:
        self.done += 1
        self.diverged += run.outcome["status"] == "diverged"
        self.last = max(self.last, run.finished_at)
        loss = run.outcome["validation"].get("loss")
        if loss is not None:
            self.losses.append(loss)
        self.curve.add(run.curve, CURVES.values())
        self.predictions.add(map(predictions, run.curve), PREDICTIONS)
        self.anomalous += any(True for _ in anomalies(run.curve))

    @property
    def loss(self) -> float | None:
        """Mean validation loss at the end; of a diverged run the constant predictor's."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else None


class Key(NamedTuple):
    """What the runs of an arm have in common."""

    cell: tuple[Any, ...]
    phase: str
    share: float
    method: str
    lr: float


class Board:
    """Everything that the terminal shows, folded from runs and failures as they come."""

    def __init__(self) -> None:
        self.arms: dict[Key, Arm] = {}
        self.metric: dict[tuple[Any, ...], str] = {}
        self.done = {"tune": 0, "final": 0}
        self.diverged = self.failed = 0
        self._events: list[Event] = []
        self._latest: list[str] = []

    def ended(self, run: Run) -> None:
        """A run has finished."""
        key = key_of(run.spec)
        self.arms.setdefault(key, Arm()).add(run)
        self.done[key.phase] += 1
        self.metric[key.cell] = str(run.outcome.get("metric_name", "metric"))
        self._latest = sorted([*self._latest, run.finished_at])[-RECENT:]
        if run.outcome["status"] == "diverged":
            self.diverged += 1
            self._note(run.finished_at, "diverged", run.spec, divergence(run.outcome, Words("en")))
        for action, text in anomalies(run.curve):
            if action != NOTHING:
                self._note(run.finished_at, "anomaly", run.spec, text)

    def attempt_failed(self, failure: Failure) -> None:
        """An attempt at a run has failed."""
        self.failed += 1
        self._note(failure.failed_at, failure.status, failure.spec, failure.reason)

    def _note(self, at: str, kind: str, spec: dict[str, Any], text: str) -> None:
        datetime.fromisoformat(at)  # said here if it is none, not where it is shown
        self._events.append(Event(at, kind, f"{run_name(spec)}: {text}"))
        if len(self._events) > 2 * EVENTS:
            self._events = self.events()

    def events(self) -> list[Event]:
        """The latest ones, in order."""
        return sorted(self._events)[-EVENTS:]

    def cells(self) -> dict[tuple[Any, ...], str]:
        """The comparisons in the order in which they were found, and when each had a run last."""
        last: dict[tuple[Any, ...], str] = {}
        for key, arm in self.arms.items():
            last[key.cell] = max(last.get(key.cell, ""), arm.last)
        return last

    def seconds_per_run(self) -> float | None:
        """From when the latest runs ended; None before there are a few."""
        if len(self._latest) < 4:
            return None
        first, last = (datetime.fromisoformat(self._latest[i]) for i in (0, -1))
        return (last - first).total_seconds() / (len(self._latest) - 1)


def key_of(spec: dict[str, Any]) -> Key:
    """Which arm a run belongs to."""
    cell = tuple(spec.get(axis) for axis in AXES)
    return Key(cell, spec["phase"], spec["share"], spec["method"], spec["lr"])


def method_name(spec: dict[str, Any]) -> str:
    """A run's method in words: the base by its own name."""
    method = str(spec["method"])
    if method == "base":
        return "base" if spec["base"] == "own" else str(spec["base"])
    return method.replace(":", " of ", 1)


def run_name(spec: dict[str, Any]) -> str:
    """A run in words."""
    share = "" if spec["share"] == 1.0 else f" at {spec['share']:g} T"
    phase = "tuning" if spec["phase"] == "tune" else "final"
    return f"{method_name(spec)}, {phase}{share}, lr {spec['lr']:.4g}, seed {spec['seed']}"


def predictions(point: dict[str, Any]) -> dict[str, Any]:
    """What a point of a curve tells of the predictions made before it."""
    return {"step": point.get("step"), **(point.get("predictions") or {})}


def anomalies(curve: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The anomaly rules that fired in a run: the action, and what happened, in words."""
    found: dict[tuple[str, str], list[int]] = {}
    for point in curve:
        for each in predictions(point).get("anomalies", ()):
            seen = found.setdefault((each["rule"], each["action"]), [each["step"], 0])
            seen[1] += each["count"]
    for (rule, action), (step, count) in found.items():
        times = f" first, {count} times" if count > 1 else ""
        yield action, f"{rule}: {action}, at step {step}{times}"


def phases(board: Board, look: Look) -> list[dict[str, Any]]:
    """Name, runs done and planned of each phase; planned is None where it is not known."""
    found = []
    for name, phase in (("tuning", "tune"), ("final", "final")):
        done, planned = board.done[phase], look.planned.get(name)
        if done or planned:
            total = None if planned is None else max(done, planned)
            found.append({"name": name, "done": done, "total": total})
    return found
