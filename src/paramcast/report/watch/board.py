"""What is known of a pilot or study before its verdict: runs by comparison and arm, counts, events.

No value of the test split goes further than here: who looks at it seed by seed finds differences
that are not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ...study.judging.sentences import divergence
from ...study.judging.table import BASE, CONTROL, LR_MATCHED, PREDICTOR
from ...study.judging.verdict import Metric
from ...study.own.naming import UNTOLD
from ...study.store.folder import remembers
from ...study.words import Words
from ..html.comparison import Arm, Cell, labels_of
from ..html.load import Failure, Run
from .following import Follower, Look, newest

AXES = (
    "task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay", "beta2",
)  # fmt: skip
"""The settings that distinguish the comparisons of a study."""
SEARCHABLE = AXES[AXES.index("momentum") :]
"""Those that a pilot may search beside the learning rate: they make no comparison of their own."""
PHASES = {"tune": "tuning", "final": "final"}
LATEST = 20
"""Runs from whose ends the time of one is told."""
TOLD = 200
"""Latest runs of which events are told."""
NOTHING = "none"
"""The action of an anomaly rule that only watches."""


class Event(NamedTuple):
    """Something that one should see: when, of what kind, and what."""

    at: str
    kind: str
    text: str


class Board:
    """The runs and failures of a pilot or study, read a little further at each look.

    Args:
        folder: its folder, or one with several such folders: then the one that changed last.
        url: of a PostgreSQL store; None for the one that the folder names, else its file.
        language: of the names of settings.

    Attributes:
        runs, failures: so far, by when they ended.
        cells: the comparisons by their settings, in the order in which they began; their results
            hold what charts of validation values need, and nothing else.
    """

    def __init__(self, folder: Path, url: str | None = None, language: str = "en") -> None:
        self.folder, self._url, self.words = folder, url, Words(language)
        self._kind = ""
        self._forget()

    def _forget(self) -> None:
        self._follower: Follower | None = None
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        self.cells: dict[tuple[Any, ...], Cell] = {}

    def is_there(self) -> bool:
        """Whether there is a store to read."""
        return self._url is not None or remembers(newest(self.folder))

    @property
    def latest(self) -> Cell:
        """The comparison that had a run last."""
        return self.cells[self._settings(self.runs[-1].spec)]

    def name_of(self, spec: dict[str, Any]) -> str:
        """The arm of a run, which may be the first of its arm."""
        cell = self.cells.get(self._settings(spec))
        arms = [arm for arm in cell.arms if arm.method == spec["method"]] if cell else []
        # at its own rate, if that has ended before
        arms.sort(key=lambda arm: arm.row["lr"] != spec["lr"])
        return arms[0].name if arms else method_name(spec["method"], spec["base"])

    def _settings(self, spec: dict[str, Any]) -> tuple[Any, ...]:
        """What distinguishes the comparison that a run belongs to; a pilot is one comparison."""
        alone = self._kind == "pilot"
        return tuple(None if alone and axis in SEARCHABLE else spec.get(axis) for axis in AXES)

    def look(self) -> Look:
        """Read what is new.

        Raises:
            StudyError: there is nothing to read yet, or it cannot be read.
        """
        try:
            if self._follower is None:
                self._follower = Follower(
                    self.folder if self._url else newest(self.folder), self._url
                )
            found = self._follower.look()
            self.runs += map(_without_test, found.ended)
            self.failures += found.failed
            # until a run ends cells are the same objects, so that what is made of them is kept
            if found.ended:
                self._kind = found.kind
                self._sort()
        except Exception:
            self._forget()  # start again: it may be another one that comes
            raise
        return found

    def _sort(self) -> None:
        """Sort the runs into comparisons, labelled by the settings in which these differ."""
        found: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            found.setdefault(self._settings(run.spec), []).append(run)
        # labels name only what differs; the task where nothing does
        named = [dict(zip(AXES, settings, strict=True)) for settings in found]
        labels = labels_of(named, self.words, ["task"])
        self.cells = {
            settings: _cell(i, labels[i], runs) for i, (settings, runs) in enumerate(found.items())
        }

    def phases(self, planned: dict[str, Any]) -> list[tuple[str, int, int | None]]:
        """Name, runs done and planned of each phase; planned is None where it is not known."""
        counts = Counter(run.spec["phase"] for run in self.runs)
        return [
            (name, counts[phase], planned.get(name) and max(counts[phase], planned[name]))
            for phase, name in PHASES.items()
            if counts[phase] or planned.get(name)
        ]

    def diverged(self) -> int:
        return sum(run.outcome["status"] == "diverged" for run in self.runs)

    def seconds_per_run(self) -> float | None:
        """From when the latest runs ended; None before there are a few."""
        # workers end runs side by side, so this is the time between ends and not that of a run
        ends = [datetime.fromisoformat(run.finished_at) for run in self.runs[-LATEST:]]
        if len(ends) < 4:
            return None
        return (max(ends) - min(ends)).total_seconds() / (len(ends) - 1)

    def events(self) -> list[Event]:
        """What went wrong or was acted on of late, the latest first."""
        found = [
            Event(failure.failed_at, failure.status, f"{run_name(failure.spec)}: {failure.reason}")
            for failure in self.failures[-TOLD:]
        ]
        for run in self.runs[-TOLD:]:
            at, name = run.finished_at, run_name(run.spec)
            if run.outcome["status"] == "diverged":
                found.append(Event(at, "diverged", f"{name}: {reason(run)}"))
            found += [
                Event(at, "anomaly", f"{name}: {text}")
                for action, text in anomalies(run.curve)
                if action != NOTHING
            ]
        return sorted(found, reverse=True)


def _without_test(run: Run) -> Run:
    return run._replace(outcome={k: v for k, v in run.outcome.items() if k not in ("test", "gap")})


# --- which runs belong to which arm, before a result says so --------------------------------------


def _cell(index: int, label: str, runs: list[Run]) -> Cell:
    # tuning runs by method and rate; final ones by arm, at full length and at 0.8 T
    tuning: dict[str, dict[float, list[Run]]] = {}
    final: dict[tuple[str, float], tuple[list[Run], list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.spec["lr"]):
        method, lr = run.spec["method"], run.spec["lr"]
        if run.spec["phase"] == "tune":
            tuning.setdefault(method, {}).setdefault(lr, []).append(run)
        else:
            final.setdefault((method, lr), ([], []))[run.spec["share"] != 1.0].append(run)
    # a base at a rate that nothing else has is a predictor's control
    tried = sorted({lr for by_lr in tuning.values() for lr in by_lr})
    own = {*tried, *(lr for method, lr in final if method != "base")}
    matched = {key for key in final if own and key[0] == "base" and key[1] not in own}
    # names as the verdict will have them; two rates of one method are told apart
    names = {key: method_name(key[0], base_of(runs)) for key in final}
    names |= {key: f"{names[key]}-{LR_MATCHED}" for key in matched}
    arms = {}
    for (method, lr), (whole, early) in final.items():
        name = names[method, lr]
        if [*names.values()].count(name) > 1:
            name = f"{name}, lr {lr:.4g}"
        arms[name] = _arm(name, method, lr, whole, early, matched=(method, lr) in matched)
    for method, by_lr in tuning.items():  # its line has the colour that its curve will have
        name = method_name(method, base_of(runs))
        arms.setdefault(name, _arm(name, method, min(by_lr), [], []))
    # a result as far as the charts of validation values read one
    beside = _beside(tuning)
    result: Any = {
        "metric": Metric(runs[0].outcome.get("metric_name", "metric"), True, 0.0),
        "verdicts": {}, "question": "", "description": {},
        "learning_rates": {
            "tried": tried,
            "settings": [beside[lr] for lr in tried] if any(beside.values()) else [],
            "chosen": {method: lr for method, lr in final if (method, lr) not in matched},
        },
    }  # fmt: skip
    return Cell(index, label, result, sorted(arms.values(), key=_place), tuning)


def _arm(
    name: str, method: str, lr: float, final: list[Run], early: list[Run], *, matched: bool = False
) -> Arm:
    role = CONTROL if matched or ":" in method else BASE if method == "base" else PREDICTOR
    family = LR_MATCHED if matched else method
    row: Any = {"method": name, "role": role, "family": family, "control_of": "", "lr": lr,
                "run": method}  # fmt: skip
    return Arm(row, [*final], [*early])


def _place(arm: Arm) -> tuple[bool, bool, int, str, float]:
    """The base first, its controls, predictors, their controls."""
    method = arm.method
    return method != "base", arm.role == CONTROL, len(method), method, arm.row["lr"] or 0.0


def _beside(tuning: dict[str, dict[float, list[Run]]]) -> dict[float, dict[str, Any]]:
    """By learning rate, what was searched beside it."""
    specs = {lr: own[0].spec for by_lr in tuning.values() for lr, own in by_lr.items()}
    varied = [a for a in SEARCHABLE if len({spec.get(a) for spec in specs.values()}) > 1]
    return {
        lr: {a: spec[a] for a in varied} | dict(spec.get("settings") or ())
        for lr, spec in specs.items()
    }


# --- in words -------------------------------------------------------------------------------------


def base_of(runs: Iterable[Run]) -> str:
    """The base's name; of a user's training that of its optimizer, if a run has told it."""
    base = ""
    for run in runs:
        base = str(run.spec["base"])
        told = str(run.outcome.get("optimizer", ""))
        if base != "own" or told not in UNTOLD:
            return told if base == "own" else base
    return base


def method_name(method: str, base: str) -> str:
    """A run's method in words: the base by its own name."""
    if method == "base":
        return "base" if base == "own" else base
    return method.replace(":", " of ", 1)


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


def anomalies(curve: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The anomaly rules that fired in a run: the action, and what happened, in words."""
    found: dict[tuple[str, str], list[int]] = {}
    for point in curve:
        for each in (point.get("predictions") or {}).get("anomalies", ()):
            seen = found.setdefault((each["rule"], each["action"]), [each["step"], 0])
            seen[1] += each["count"]
    for (rule, action), (step, count) in found.items():
        times = f" first, {count} times" if count > 1 else ""
        yield action, f"{rule}: {action}, at step {step}{times}"
