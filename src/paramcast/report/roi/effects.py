"""Effects with their 95 % intervals, paired or of groups: differences, and ratios of means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...study.judging.stats import BETTER, EQUAL, Comparison, compare, compare_unpaired
from ...study.judging.verdict import Metric, difference
from .rows import Row

CONFIDENCE = 0.95
Numbers = Sequence[float] | np.ndarray
SECONDS, EARLY_SECONDS = "seconds", "early_seconds"
"""Of a row's runs, with T and with 0.8 T steps."""
SHORTEST = 1.0
"""Seconds of a training below which its time says nothing about one of hours."""


class Effect(NamedTuple):
    """A mean over paired seeds and its 95 % interval, mean -+ t(n - 1) x standard error.

    Of groups that no seed pairs n is the smaller one's size, and the error is Welch's.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def shown(self) -> float:
        """The mean, or 0 if the interval holds 0."""
        return self.mean if self.low > 0 or self.high < 0 else 0.0

    def times(self, factor: float, start: float = 0.0) -> Effect:
        """start + factor x the effect."""
        low, high = sorted((start + factor * self.low, start + factor * self.high))
        return Effect(start + factor * self.mean, low, high, self.n)


def gain(a: Sequence[float], b: Sequence[float], metric: Metric) -> Effect:
    """The gain of a over b at the end, seed by seed; plus = a is better."""
    found = _difference(a, b, metric, CONFIDENCE)
    return Effect(found.mean, found.low, found.high, found.n)


def mean_difference(a: Numbers, b: Numbers, *, paired: bool = True) -> Effect:
    """The mean of a - b; of groups that no seed pairs all values count."""
    x, y = common(a, b, paired=paired)
    known: dict[str, Any] = {"confidence": CONFIDENCE, "cross_check": False}
    # no margin is asked for here
    found = compare(x - y, 1.0, **known) if paired else compare_unpaired([*x], [*y], 1.0, **known)
    return Effect(found.mean, found.low, found.high, found.n)


def ratio(a: Numbers, b: Numbers, *, paired: bool = True) -> Effect | None:
    """The ratio of means R = mean(a) / mean(b); None if mean(b) is 0 or there is no value.

    Its standard error is that of the residuals (a - R b) / mean(b) (the linearised ratio
    estimator), so that the spread of both counts, and their pairing.
    """
    x, y = common(a, b, paired=paired)
    if not len(x) or not len(y) or y.mean() == 0:
        return None
    r = float(x.mean() / y.mean())
    # the residuals have mean 0, and the interval that R has around itself
    return mean_difference(x / y.mean(), r * y / y.mean(), paired=paired).times(1.0, r)


def _difference(a: Numbers, b: Numbers, metric: Metric, confidence: float) -> Comparison:
    x, y = common(a, b, paired=metric.paired)
    return difference([*x], [*y], metric, confidence, cross_check=False)


def common(*numbers: Numbers, paired: bool = True) -> list[np.ndarray]:
    """The numbers at the seeds that all have: an arm that was settled early has fewer."""
    n = min(map(len, numbers)) if paired else None  # groups are taken whole
    return [np.asarray(own[:n], dtype=float) for own in numbers]


def best_quality(rows: Sequence[Row], metric: Metric) -> Row:
    """The free alternative with the best mean at T over the seeds of all; on a tie the first."""
    sign = 1 if metric.higher_is_better else -1
    values = common(*(row["values"] for row in rows), paired=metric.paired)
    means = [sign * float(own.mean()) for own in values]
    return rows[means.index(max(means))]


def cheapest_speed(rows: Sequence[Row], metric: Metric, confidence: float) -> tuple[Row, bool]:
    """The cheapest free way to the base's result: the base at T, or a row that needs only 0.8 T.

    Returns:
        The row, and whether it is used with 0.8 T.
    """
    base = rows[0]
    # 0.8 T is enough for a row that is then equal to or better than the base at T
    shorter = [
        row
        for row in rows
        if row["early_values"]
        and _difference(row["early_values"], base["values"], metric, confidence).relation
        in (EQUAL, BETTER)
    ]
    if not shorter:
        return base, False
    return min(shorter, key=lambda row: float(np.mean(row["runs"][EARLY_SECONDS]))), True


def too_short(base: Row) -> bool:
    """Whether the base's trainings are too short to say what a method adds to long ones.

    What it adds to a step of microseconds is not what it adds to one of a real model.
    """
    return 0 < float(np.mean(base["runs"][SECONDS] or [0.0])) < SHORTEST


def added_share(row: Row, alternative: Row, base: Row, *, paired: bool = True) -> Effect:
    """Training seconds beyond an alternative's, as a share of the base's; 0 if not measured."""
    a, b, c = (r["runs"][SECONDS] for r in (row, alternative, base))
    if not a or not b or not c or row is alternative:
        return Effect(0.0, 0.0, 0.0, len(c))
    if not paired:  # the base's mean counts as exact
        return (
            mean_difference(a, b, paired=False).times(1 / float(np.mean(c)))
            if any(c)
            else _share([], [])
        )
    a, b, c = common(a, b, c)
    return _share(a - b, c)


def saved_share(
    row: Row, alternative: Row, shortened: bool, base: Row, step_share: float
) -> Effect:
    """Training time that a schedule of 0.8 T saves over an alternative, as a share of the base's.

    Args:
        row: the method, with 0.8 T.
        alternative: the arm that it is compared with.
        shortened: the alternative also has 0.8 T; else it is the base with T.
        base: its time at T is the unit.
        step_share: the steps of 0.8 T as a share of those of T.
    """
    # Only runs of one length, which ran at about the same time, are compared in seconds, and the
    # result is scaled by their steps: the base's seconds at T and at 0.8 T would compare the
    # machine's load early and late in the pilot.
    length = EARLY_SECONDS if base["early_values"] else SECONDS
    own, its, unit = common(*(r["runs"][length] for r in (row, alternative, base)))
    if shortened:
        return _share(its - own, unit).times(step_share)
    return _share(own, unit).times(-step_share, 1.0)  # saved = 1 - used


def _share(numerator: Numbers, denominator: Numbers) -> Effect:
    found = ratio(numerator, denominator)
    return Effect(0.0, 0.0, 0.0, len(denominator)) if found is None else found
