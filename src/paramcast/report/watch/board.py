"""What is known of a pilot or study just now: its runs by comparison and arm, counts, events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from ...study.judging.sentences import divergence
from ...study.judging.table import LR_MATCHED
from ...study.own.naming import UNTOLD
from ...study.words import Words
from ..html.load import Failure, Run

AXES = (
    "task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay", "beta2",
)  # fmt: skip
"""The settings that distinguish the comparisons of a study."""
SEARCHABLE = AXES[AXES.index("momentum") :]
"""Those that a pilot may search beside the learning rate."""
HIDDEN = ("test", "gap")
"""What of an outcome is for the verdict only."""
PHASES = {"tune": "tuning", "final": "final"}
EVENTS, RECENT = 200, 20
NOTHING = "none"
"""The action of an anomaly rule that only watches."""


class Event(NamedTuple):
    """Something that one should see: when, of what kind, and what."""

    at: str
    kind: str
    text: str


class Key(NamedTuple):
    """What the runs of an arm have in common."""

    cell: tuple[Any, ...]
    phase: str
    share: float
    method: str
    lr: float


Arms = dict[Key, list[Run]]
"""The runs of one comparison, by arm."""


class Board:
    """Runs and failures as they come, and what they add up to.

    Attributes:
        alone: whether all runs belong to one comparison, a pilot's.
    """

    def __init__(self) -> None:
        self.alone = False
        self.cells: dict[tuple[Any, ...], Arms] = {}  # in the order in which they were found
        self.last: dict[tuple[Any, ...], str] = {}  # when a comparison had a run last
        self.done = {"tune": 0, "final": 0}
        self.diverged = 0
        self.failures: list[Failure] = []
        self.lines: dict[Key, dict[str, Any]] = {}  # what the view has made of an arm
        self._events: list[Event] = []
        self._latest: list[str] = []

    def ended(self, run: Run) -> None:
        """A run has finished; no value of the test split goes further than here."""
        run = run._replace(outcome={k: v for k, v in run.outcome.items() if k not in HIDDEN})
        key = key_of(run.spec, alone=self.alone)
        self.cells.setdefault(key.cell, {}).setdefault(key, []).append(run)
        self.last[key.cell] = max(self.last.get(key.cell, ""), run.finished_at)
        self.done[key.phase] += 1
        self._latest = sorted([*self._latest, run.finished_at])[-RECENT:]
        if run.outcome["status"] == "diverged":
            self.diverged += 1
            self._note(run.finished_at, "diverged", run.spec, reason(run))
        for action, text in anomalies(run.curve):
            if action != NOTHING:
                self._note(run.finished_at, "anomaly", run.spec, text)

    def attempt_failed(self, failure: Failure) -> None:
        """An attempt at a run has failed."""
        self.failures.append(failure)
        self._note(failure.failed_at, failure.status, failure.spec, failure.reason)

    def _note(self, at: str, kind: str, spec: dict[str, Any], text: str) -> None:
        datetime.fromisoformat(at)  # said here if it is none, not where it is shown
        self._events.append(Event(at, kind, f"{run_name(spec)}: {text}"))
        if len(self._events) > 2 * EVENTS:
            self._events = self.events()

    def runs(self) -> list[Run]:
        """All of them, in the order in which they ended."""
        found = (run for arms in self.cells.values() for runs in arms.values() for run in runs)
        return sorted(found, key=lambda run: (run.finished_at, run.key))

    def events(self) -> list[Event]:
        """The latest ones, in order."""
        return sorted(self._events)[-EVENTS:]

    def seconds_per_run(self) -> float | None:
        """From when the latest runs ended; None before there are a few."""
        if len(self._latest) < 4:
            return None
        first, last = (datetime.fromisoformat(self._latest[i]) for i in (0, -1))
        return (last - first).total_seconds() / (len(self._latest) - 1)


def key_of(spec: dict[str, Any], *, alone: bool = False) -> Key:
    """Which arm a run belongs to; what a pilot searches makes no comparison of its own."""
    cell = tuple(None if alone and a in SEARCHABLE else spec.get(a) for a in AXES)
    return Key(cell, spec["phase"], spec["share"], spec["method"], spec["lr"])


def settings_at_rates(arms: Arms) -> dict[float, dict[str, Any]]:
    """By learning rate, what was searched beside it; {} where rates alone are."""
    specs = {key.lr: runs[0].spec for key, runs in arms.items() if key.phase == "tune" and runs}
    varied = [a for a in SEARCHABLE if len({spec.get(a) for spec in specs.values()}) > 1]
    found = {
        lr: {a: spec[a] for a in varied} | dict(spec.get("settings") or ())
        for lr, spec in specs.items()
    }
    return found if any(found.values()) else {}


def labels(
    cells: Iterable[tuple[Any, ...]], named: Callable[[str], str], comma: str = ", "
) -> list[str]:
    """Comparisons by the settings in which they differ."""
    cells = list(cells)
    differ = [i for i in range(len(AXES)) if len({cell[i] for cell in cells}) > 1] or [0]
    return [
        comma.join(f"{named(AXES[i])} {cell[i]}" for i in differ if cell[i] is not None)
        for cell in cells
    ]


def metric_name(arms: Arms) -> str:
    """The metric of a comparison; "metric" before there is a run."""
    outcomes = (run.outcome for runs in arms.values() for run in runs)
    return str(next(outcomes, {}).get("metric_name", "metric"))


def method_name(method: str, base: str) -> str:
    """A run's method in words: the base by its own name."""
    if method == "base":
        return "base" if base == "own" else base
    return method.replace(":", " of ", 1)


def is_matched(key: Key, arms: Iterable[Key]) -> bool:
    """Whether it is a predictor's control: the base at a rate that nothing else has."""
    if key.method != "base" or key.phase != "final":
        return False
    own = {other.lr for other in arms if other.phase == "tune" or other.method != "base"}
    return bool(own) and key.lr not in own


def arm_name(key: Key, arms: Arms) -> str:
    """An arm's name among those of its comparison; the base's of a user's training, as it told."""
    base = key.cell[AXES.index("base")]
    if base == "own":
        told = (run.outcome.get("optimizer", "") for runs in arms.values() for run in runs[:1])
        base = next((name for name in told if name not in UNTOLD), base)
    name = method_name(key.method, base)
    return f"{name}-{LR_MATCHED}" if is_matched(key, arms) else name


def run_name(spec: dict[str, Any]) -> str:
    """A run in words."""
    method = method_name(spec["method"], spec["base"])
    return f"{method}, {phase_name(spec)}, lr {spec['lr']:.4g}, seed {spec['seed']}"


def phase_name(spec: dict[str, Any]) -> str:
    """A run's phase, and its length where that is not the whole."""
    return PHASES[spec["phase"]] + at_share(spec["share"])


def at_share(share: float) -> str:
    """The length of a run as a share of the steps; empty for the whole."""
    return "" if share == 1.0 else f" at {100 * share:g}% steps"


def reason(run: Run) -> str:
    """Why a run diverged, in words; empty where it did not."""
    return divergence(run.outcome, Words("en"))


def predictions(point: dict[str, Any]) -> dict[str, Any]:
    """What a point of a curve tells of the predictions made before it."""
    return {"step": point.get("step"), **(point.get("predictions") or {})}


def alarms(curve: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The anomalies of a run that are unusual.

    Not one that nobody acted on but that it was long: the first predictions of most trainings are.
    """
    for point in curve:
        for each in predictions(point).get("anomalies", ()):
            if each["action"] != NOTHING or each["rule"] != "jump":
                yield each


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
