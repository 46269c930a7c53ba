"""What a run of a user's training reported, and the outcome made from it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ...errors import TaskError
from ...trials import MOST_POINTS, Event
from ..judging.verdict import PERCENT
from ..reading import is_text, shown
from ..spec import RunSpec, hash_of
from ..store.live import Telling
from ..training.batches import DIVERGED_FROM, no_nan
from .declared import TUNE_BY, Declared

SHORT = "val_loss"
"""What many call the result that tunes unless the user names another."""
LOG = "output.log"
"""What a run prints, in its folder."""
MOST_RESULTS = 1000
"""The most numbers that one run may return."""
MOST_NAME = 200  # characters of a result's name
EVERY = 0.2
"""Seconds between two points that a watcher is shown."""
MOST_TEXT = 2000  # characters of a misuse's message


class Failure(Exception):  # noqa: N818 - the user's, not ours
    """A run that failed, in words."""


class Misuse(TaskError):  # noqa: N818 - as Failure
    """The training does not do its part; every other run of it would end the same way."""


class Record:
    """Collects the events of a run, as `Trial` reports them, and shows its curve to a watcher.

    Args:
        spec, declared: the run and what is declared about its training.
        live: the folder for `paramcast watch`; None shows nothing.
    """

    def __init__(self, spec: RunSpec, declared: Declared, live: str | None) -> None:
        self.spec, self.declared, self._live = spec, declared, live
        self.used: set[str] = set()
        self.results: dict[str, Any] | None = None
        self.divergence: dict[str, Any] | None = None
        self.misuse: str | None = None
        self.optimizer = ""
        self.steps: int | None = None
        self.stepped: list[int | None] = []
        self.points: list[dict[str, Any]] = []
        self._told, self._shown = Telling(live, spec, 0), 0.0

    def take(self, event: Event) -> None:
        """Take in one event; a malformed one is ignored."""
        # a command writes its events into a file, in which anything may stand
        for kind, value in event.items():
            if kind == "used":
                self.used.add(str(value))
            elif kind == "steps" and isinstance(value, int) and 0 < value < 2**53:
                self.steps = value
                self._told = Telling(self._live, self.spec, value)
            elif kind == "optimizer":
                self.optimizer = str(value)[:MOST_NAME]
            elif kind == "point" and isinstance(value, dict):
                self._point(value)
            elif kind == "diverged" and isinstance(value, dict):
                step = value.get("step")
                self.divergence = {"how": "step", "step": step if isinstance(step, int) else 0}
            elif kind == "stepped":
                self.stepped.append(value if isinstance(value, int) else None)
            elif kind == "done" and isinstance(value, dict):
                self.results = value
            elif kind == "misuse":
                self.misuse = str(value)[:MOST_TEXT]

    def _point(self, value: dict[str, Any]) -> None:
        """A point of the curve, under the names that tasks use too."""
        d, numbers = self.declared, (int, float)
        value = {
            name: number
            for name, number in value.items()
            if isinstance(name, str) and len(name) <= MOST_NAME and isinstance(number, numbers)
        }
        if not isinstance(value.get("step"), int) or "seconds" not in value:
            return
        # what tunes minimises, so a score has no curve of losses
        known = {d.metric: "validation_metric", f"validation_{d.metric}": "validation_metric"}
        if not d.tune_higher:
            known |= dict.fromkeys((d.tune_by, self._tunes(value)), "validation_loss")
        point = {known.get(name, name): number for name, number in value.items()}
        point = no_nan({"lr": self.spec.lr, **point})
        self.points.append(point)
        if (now := time.monotonic()) - self._shown > EVERY:
            self._shown = now
            self._told(point)

    def _tunes(self, values: Mapping[str, Any]) -> str:
        """The name of the result that tunes: of validation_loss also val_loss."""
        d = self.declared
        short = d.tune_by == TUNE_BY and TUNE_BY not in values and d.metric != SHORT
        return SHORT if short and SHORT in values else d.tune_by

    def curve(self) -> list[dict[str, Any]]:
        """The points, thinned out evenly if there are very many; the last one stays."""
        points = self.points
        while len(points) > MOST_POINTS:
            points = points[-1::-2][::-1]
        return points

    def outcome(
        self, results: Any, seconds: float, peak_memory: int, *, wraps: bool
    ) -> dict[str, Any]:
        """The outcome of a run that ended, in the form of `training.loop.run`.

        Args:
            results: what it returned; None if it stopped because it diverged.
            seconds, peak_memory: what it took.
            wraps: whether `Trial.wrap` makes its methods.

        Raises:
            Misuse: the training does not do its part.
        """
        d = self.declared
        self._check_used(wraps=wraps)
        values = {} if results is None else _numbers(results)
        tune_by = self._tunes(values)
        judged, tuned = values.pop(d.metric, None), values.get(tune_by)
        if d.tune_by == d.metric:
            tuned = judged
        if results is not None:
            self._check_results(judged, tuned, list(_numbers(results)))
        divergence = self.divergence or self._by_values({d.metric: judged, d.tune_by: tuned})
        # tuning minimises, so what is better when higher changes its sign
        loss = None if tuned is None else -tuned if d.tune_higher else tuned
        made = [each for each in self.stepped if each is not None]
        outcome: dict[str, Any] = {
            "status": "done" if divergence is None else "diverged",
            "divergence": divergence,
            "steps": max(made, default=self.steps),
            "seconds": seconds,
            "peak_memory": peak_memory,
            "curve": self.curve(),
            "metric_name": d.judged,
            "measures": {name: v for name, v in values.items() if name != tune_by},
            "validation": {"loss": loss},
            "test": {"metric": judged, "loss": values.get("test_loss")},
            "train_loss": None,
            "gap": None,
            "used": {name: name in self.used for name in ("wrap", "share", "seed", "lr")},
            "optimizer": self.optimizer,
            "acted": any(made),
            "trace": hash_of([{**point, "seconds": None} for point in self.points]),
        }
        if divergence is not None:  # no values: what they would have been is unknown
            outcome.update(validation={"loss": None}, test={"metric": None, "loss": None})
        cleaned: dict[str, Any] = no_nan(outcome)
        return cleaned

    def _check_used(self, *, wraps: bool) -> None:
        if self.misuse is not None:
            raise Misuse(self.misuse)
        if self.spec.settings and "settings" not in self.used:
            name = self.spec.settings[0][0]
            raise Misuse(
                f"the training never asked for {name}, which --search tries; use "
                f"trial.settings[{name!r}], or {{{name}}} in the command"
            )
        if not wraps:
            return
        # without these three, methods, and rates, would be compared with themselves
        if "wrap" not in self.used:
            raise Misuse(
                "the training never called trial.wrap, so no method can act on it; add "
                "`optimizer = trial.wrap(optimizer)` where the optimizer is made (in a script, "
                "`trial = paramcast.trial()` comes first)"
            )
        if 0 in self.stepped:
            raise Misuse(
                "the training called trial.wrap and then stepped another optimizer; keep what it "
                "returns: `optimizer = trial.wrap(optimizer)`"
            )
        if "lr" not in self.used:
            raise Misuse(
                "the training never asked for its learning rate; use trial.lr, or {lr} in the "
                "command"
            )

    def _check_results(self, judged: Any, tuned: Any, names: list[str]) -> None:
        d = self.declared
        had = f"it returned {shown(names)}"
        if judged is None:
            raise Misuse(f"the training returned no {d.metric}, which is judged ({had})")
        if self.spec.phase == "tune" and tuned is None:
            raise Misuse(
                f"the training returned no {d.tune_by}, by which learning rates are chosen "
                f"({had}); return it, name another with --tune-by, or tune nothing with --lr"
            )
        # margins count points of such a metric
        if d.judged in PERCENT and math.isfinite(judged) and not 0.0 <= judged <= 1.0:
            raise Misuse(
                f"{d.metric} must be from 0 to 1, got {judged:g}; divide it by 100, or give it "
                "another name"
            )

    def _by_values(self, values: dict[str, float | None]) -> dict[str, Any] | None:
        """The divergence that results or the training loss show; None if they show none."""
        step = self.steps or (self.points[-1]["step"] if self.points else 0)
        if any(value is not None and not math.isfinite(value) for value in values.values()):
            return {"how": "step", "step": step}
        # a loss far above where it began is lost, although it is finite
        losses = [p["train_loss"] for p in self.points if p.get("train_loss") is not None]
        if len(losses) > 1 and losses[-1] > DIVERGED_FROM * losses[0] > 0.0:
            return {
                "how": "loss", "step": step, "loss": losses[-1], "start": losses[0],
                "factor": DIVERGED_FROM,
            }  # fmt: skip
        return None


def _numbers(results: Any) -> dict[str, float]:
    """The results by name, as numbers.

    Raises:
        Misuse: they are something else.
    """
    if not isinstance(results, dict) or not results:
        came = "nothing" if results is None or results == {} else shown(results, 60)
        raise Misuse(
            f"the training returned {came}; return its results by name, such as "
            '{"validation_loss": 0.31, "accuracy": 0.92}'
        )
    if len(results) > MOST_RESULTS:
        raise Misuse(f"the training returned {len(results)} results; {MOST_RESULTS} is the most")
    for name, value in results.items():
        if not isinstance(name, str) or not is_text(name) or len(name) > MOST_NAME:
            raise Misuse(f"the training returned a result named {shown(name)}; use short names")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Misuse(f"the result {name} must be one number, got {shown(value, 60)}")
    try:
        return {name: float(value) for name, value in results.items()}
    except OverflowError:
        raise Misuse("a result is too large for a number") from None
