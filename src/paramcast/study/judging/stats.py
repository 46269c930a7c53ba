"""The statistics of comparisons, paired and unpaired: pure functions, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

EQUAL, BETTER, WORSE, UNCLEAR = "equal", "better", "worse", "unclear"
FULL_CONFIDENCE = 0.95
"""Of the interval where one method is judged once; p < 0.05 then says that it leaves 0 out."""
FEWEST = 6
"""With fewer pairs than this a relation is always unclear."""


@dataclass(frozen=True)
class Comparison:
    """Differences a - b, paired unless `compare_unpaired` made them; plus = a is better.

    Attributes:
        n: pairs; unpaired, the values of the smaller group.
        mean, sd: of the differences; unpaired, sd is that of one value's difference from another's.
        low, high: the interval, mean -+ t(n - 1) sd sqrt(1/n + overlap), at least half_example wide
            each way.
        p: of the two-sided t test with the standard error of that interval, so that the interval
            holds 0 exactly if p is at least 1 - confidence.
        margin: differences within it do not matter.
        relation: the first that fits of equal (interval within -+margin), unclear (mean within one
            test example), better, worse, unclear; always unclear with fewer than FEWEST pairs.
        confidence: of the interval.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    margin: float
    relation: str
    confidence: float


def compare(
    differences: Sequence[float],
    margin: float,
    *,
    confidence: float = 0.95,
    half_example: float = 0.0,
    overlap: float = 0.0,
) -> Comparison:
    """Compare two methods by their paired differences (plus = the first is better).

    Args:
        differences: one per seed, at least 2.
        margin: m > 0.
        confidence: of the two-sided interval.
        half_example: the smallest half-width, half a test example for an accuracy. A difference of
            at most one test example is never better or worse.
        overlap: test examples per training example where each pair has a random split of its own.
            The splits share examples, so that their differences are correlated (Nadeau and Bengio,
            "Inference for the Generalization Error", Machine Learning 52, 2003).
    """
    d = np.asarray(differences, dtype=float)
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    # overlap 0 gives the usual standard error sd / sqrt(n)
    error = sd * math.sqrt(1 / n + overlap)
    return _comparison(n, n - 1, mean, sd, error, margin, confidence, half_example)


def compare_unpaired(
    a: Sequence[float],
    b: Sequence[float],
    margin: float,
    *,
    confidence: float = 0.95,
    half_example: float = 0.0,
) -> Comparison:
    """Compare two groups of values that no seed pairs (plus = a is larger), after Welch.

    With the variances u and v of the groups and their sizes m and n, the standard error is
    sqrt(u/m + v/n) and t has (u/m + v/n)^2 / ((u/m)^2 / (m - 1) + (v/n)^2 / (n - 1)) degrees of
    freedom (Welch, "The generalization of Student's problem", Biometrika 34, 1947).

    Args:
        a, b: at least 2 values each.
        margin, confidence, half_example: as of `compare`.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    u, v = float(x.var(ddof=1)), float(y.var(ddof=1))
    # squared standard errors of the two means
    s, t = u / len(x), v / len(y)
    freedom = float(len(x) + len(y) - 2)  # of two constant groups, which have no spread to weigh
    if s + t:
        freedom = (s + t) ** 2 / (s**2 / (len(x) - 1) + t**2 / (len(y) - 1))
    mean, sd, n = float(x.mean() - y.mean()), math.sqrt(u + v), min(len(x), len(y))
    error = math.sqrt(s + t)
    return _comparison(n, freedom, mean, sd, error, margin, confidence, half_example)


def _comparison(
    n: int,
    freedom: float,
    mean: float,
    sd: float,
    error: float,
    margin: float,
    confidence: float,
    half_example: float,
) -> Comparison:
    """The interval of a mean with a standard error, and the relation that follows."""
    quantile = float(special.stdtrit(freedom, (1 + confidence) / 2))
    # never narrower than half an example each way
    half = max(quantile * error, half_example)
    low, high = mean - half, mean + half
    # the order matters: an interval within the margin is equal even if it leaves 0 out
    if n < FEWEST:
        relation = UNCLEAR
    elif -margin <= low and high <= margin:
        relation = EQUAL
    elif abs(mean) <= 2 * half_example * (1 + 1e-9):  # one test example, up to rounding
        relation = UNCLEAR
    else:
        relation = BETTER if low > 0 else WORSE if high < 0 else UNCLEAR
    # the standard error, widened to half an example as the interval is; without one p is 0 or 1
    widened = half / quantile
    p = float(2 * special.stdtr(freedom, -abs(mean) / widened) if widened else mean == 0.0)
    return Comparison(n, mean, sd, low, high, p, margin, relation, confidence)


def shown_p(c: Comparison) -> str:
    """The p of a comparison as printed beside its interval.

    With two methods the intervals are at 97.5 % (Bonferroni). p is multiplied by the same factor,
    so that it is below 0.05 exactly if the interval leaves 0 out.
    """
    level = 1 - FULL_CONFIDENCE
    adjusted = min(1.0, c.p * level / (1 - c.confidence))
    return f"{adjusted:.2g}"


def t_quantile(n: int, confidence: float = 0.95) -> float:
    """The quantile of Student's t with n - 1 degrees of freedom, 80 times faster than `t.ppf`."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2))


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of the values and its t interval: mean, low, high; no width for a single value."""
    v = np.asarray(values, dtype=float)
    mean = float(v.mean())
    if len(v) < 2:
        return mean, mean, mean
    half = t_quantile(len(v), confidence) * float(v.std(ddof=1)) / math.sqrt(len(v))
    return mean, mean - half, mean + half


def could_show(seeds: int) -> float:
    """The spread (sd, in margins) up to which so many seeds show a difference of a margin.

    It is `seeds_needed`, solved for the spread.
    """
    return math.sqrt(max(0, seeds - 3) / 10.5)


def seeds_needed(sd: float, margin: float, overlap: float = 0.0) -> int:
    """The seeds with which a difference of the margin shows; 0 if no number is enough.

    ceil(10.5 (sd / margin)^2) + 3 for independent seeds: 10.5 = (1.96 + 1.28)^2 gives a power of
    90 %. With overlapping splits the variance sd^2 (1/n + overlap) stays above sd^2 overlap.
    """
    wanted = 10.5 * (sd / margin) ** 2
    if wanted * overlap >= 1.0:
        return 0
    # 1/n + overlap = 1/wanted, solved for n; 3 more for t instead of the normal quantiles
    return math.ceil(wanted / (1.0 - wanted * overlap)) + 3
