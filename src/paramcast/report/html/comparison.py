"""The stored runs behind each arm of a comparison, and their mean curves."""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...study.judging.stats import Comparison, t_quantile
from ...study.judging.table import LR_MATCHED, PREDICTOR
from ...study.judging.verdict import (
    ADOPT,
    FASTER,
    INCONCLUSIVE,
    INSTEAD,
    SLIGHTLY_BETTER,
    Metric,
    Verdict,
)
from ...study.stored import ArmResult, Judged
from ...study.words import Words
from .load import Run, Stored

WORTH = (ADOPT, FASTER, INSTEAD, SLIGHTLY_BETTER, INCONCLUSIVE)
"""Verdicts that ask for an action or a choice, the most useful first."""
QUANTITIES = ("validation_metric", "validation_loss", "train_loss")
FORECASTS = ("error", "cosine", "relative_jump")
"""Means over the predictions since the previous point of a curve."""


class Point(NamedTuple):
    """A point of a mean curve: its place, and the mean with its 95 % band."""

    step: int
    seconds: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Arm:
    """A line of the table with the runs behind it by seed (None if a run is not stored)."""

    row: ArmResult
    final: list[Run | None]
    early: list[Run | None]

    @property
    def name(self) -> str:
        return self.row["method"]

    @property
    def method(self) -> str:
        """The method of its runs."""
        return self.row["run"]

    @property
    def role(self) -> str:
        return self.row["role"]

    @property
    def matched(self) -> bool:
        """Whether it is a predictor's lr-matched control, the base at lr times the gain."""
        return self.row["family"] == LR_MATCHED

    def difference(self, against: str) -> Comparison | None:
        """Its difference "to_base" or "to_lr_matched", where it has one."""
        return self.row["to_base"] if against == "to_base" else self.row["to_lr_matched"]

    @functools.cached_property
    def curves(self) -> dict[str, list[Point]]:
        """The mean curves of the final runs, by quantity."""
        curves = [run.curve for run in self.final if run is not None]
        return {quantity: mean_curve(curves, quantity) for quantity in QUANTITIES}

    @functools.cached_property
    def forecasts(self) -> dict[str, list[Point]]:
        """The mean curves of its predictions, by quantity; empty if none are stored."""
        curves = [
            [{**point["predictions"], **_where(point)} for point in run.curve]
            for run in self.final
            if run is not None and run.curve and "predictions" in run.curve[0]
        ]
        return {quantity: mean_curve(curves, quantity) for quantity in FORECASTS}


@dataclass(frozen=True, eq=False)
class Cell:
    """One comparison: a pilot has one, a study has many.

    Attributes:
        index, label: its place in a study, and its settings in words.
        result: as stored.
        arms: the base first.
        tuning: by method and learning rate, the tuning runs by seed.
    """

    index: int
    label: str
    result: Judged
    arms: list[Arm]
    tuning: dict[str, dict[float, list[Run]]]

    @property
    def metric(self) -> Metric:
        return self.result["metric"]

    @property
    def made(self) -> str:
        """The ending of texts that depend on who trained: us, the user, or whoever made a table."""
        if self.result["question"] == "table":
            return "_table"
        return "_own" if "own_results" in self.result["description"] else ""

    @property
    def scale(self) -> float:
        """The factor to the unit shown: 100 for a metric in per cent."""
        return 100.0 if self.metric.percent else 1.0

    @property
    def sign(self) -> float:
        return 1.0 if self.metric.higher_is_better else -1.0

    @property
    def judged(self) -> list[str]:
        """The methods with a verdict, the most useful first, predictors before averages."""
        found = [arm for arm in self.arms if arm.name in self.result["verdicts"]]
        return [arm.name for arm in sorted(found, key=self._worth)]

    def _worth(self, arm: Arm) -> tuple[int, bool]:
        kinds = {verdict.kind for verdict in self.result["verdicts"][arm.name].values()}
        # a method counts by the best of its verdicts
        places = [i for i, kind in enumerate(WORTH) if kind in kinds]
        return min(places, default=len(WORTH)), arm.role != PREDICTOR

    def quality(self, method: str) -> Verdict | None:
        """A method's verdict on quality; None if it has none."""
        return self.result["verdicts"].get(method, {}).get("quality")

    def matched_of(self, method: str) -> Arm | None:
        """A predictor's lr-matched control; None if it has none."""
        own = (arm for arm in self.arms if arm.matched and arm.row["control_of"] == method)
        return next(own, None)

    def signed(self, value: float) -> str:
        """A difference with its sign, given in the unit shown."""
        return f"{value:+.2f}" if self.metric.percent else f"{value:+.3g}"

    def differences(self, arm: Arm, *, early: bool = False) -> list[float]:
        """The arm (with 0.8 T steps if early) minus the base by seed, plus = the arm is better."""
        values = arm.row["early_values"] if early else arm.row["values"]
        base = self.arms[0].row["values"]
        factor = self.sign * self.scale
        return [factor * (a - b) for a, b in zip(values, base, strict=False)]


def counts(results: Iterable[Judged]) -> dict[str, Counter[str]]:
    """How often each verdict on quality was given, by judged method."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        for method, answers in result["verdicts"].items():
            found.setdefault(method, Counter())[answers["quality"].kind] += 1
    return found


def bases(cells: Sequence[Cell], words: Words) -> str:
    """The names of what the methods are compared with; those of a study may differ."""
    return words("page.comma").join(dict.fromkeys(cell.arms[0].name for cell in cells))


def cells_of(stored: Stored, words: Words) -> list[Cell]:
    """The comparisons of a folder; in a study, labels name the settings in which they differ."""
    known = {run.key: run for run in stored.runs}
    results = stored.result["cells"]
    labels = [results[0]["task"]]
    if stored.kind == "study":
        labels = labels_of([result["settings"] for result in results], words)
    pairs = enumerate(zip(labels, results, strict=True))
    return [_cell(i, label, result, known) for i, (label, result) in pairs]


def labels_of(
    settings: Sequence[Mapping[str, Any]], words: Words, alike: Sequence[str] = ()
) -> list[str]:
    """The settings in words, as far as they differ; where none does, those `alike`, or all."""
    names = [n for n in settings[0] if len({str(each[n]) for each in settings}) > 1]
    return [
        words("page.comma").join(
            f"{words.either(f'axis.{n}', n)} {_short(each[n])}"
            for n in names or alike or each
            if each[n] is not None
        )
        for each in settings
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(index: int, label: str, result: Judged, known: dict[str, Run]) -> Cell:
    arms = [
        Arm(row, [*map(known.get, row["keys"])], [*map(known.get, row["early_keys"])])
        for row in result["table"]
    ]
    # the keys of tuning runs come in the order of the rates tried
    rates = result["learning_rates"]
    tuning = {
        method: {
            lr: [known[key] for key in keys if key in known]
            for lr, keys in sorted(zip(rates["tried"], by_rate, strict=True))
        }
        for method, by_rate in rates["keys"].items()
    }
    return Cell(index, label, result, arms, tuning)


def band(
    values: Sequence[float], least: float = 0.0, overlap: float = 0.0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The mean and its t interval, as in `stats.compare`; a single value has no width."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, mean, mean
    # t sd sqrt(1/n + overlap), at least `least`
    squares = math.fsum((value - mean) ** 2 for value in values)  # statistics.stdev: 50 x slower
    half = max(t_quantile(n, confidence) * math.sqrt(squares / (n - 1) * (1 / n + overlap)), least)
    return mean, mean - half, mean + half


def mean_curve(curves: Sequence[Sequence[dict[str, Any]]], quantity: str) -> list[Point]:
    """The mean at each epoch over the runs that reached it."""
    points = []
    for epoch in range(max(map(len, curves), default=0)):
        here = [curve[epoch] for curve in curves if epoch < len(curve)]
        known = [point for point in here if point.get(quantity) is not None]
        if known:
            seconds = statistics.median(point["seconds"] for point in known)
            spread = band([point[quantity] for point in known])
            points.append(Point(int(known[0]["step"]), seconds, *spread))
    return points


def _where(point: dict[str, Any]) -> dict[str, Any]:
    return {name: point[name] for name in ("step", "seconds")}
