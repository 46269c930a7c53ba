"""The statistics of comparisons, paired and unpaired: pure functions, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

EQUAL, BETTER, WORSE, UNCLEAR = "equal", "better", "worse", "unclear"
FULL_CONFIDENCE = 0.95
"""Of the interval where one method is judged once; p < 0.05 then says that it leaves 0 out."""
FEWEST = 6
"""With fewer pairs than this a relation is always unclear."""
MOST_FLIPPED = 50
"""With more pairs than this the cross-check takes the normal limit of its distribution."""


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
        p_sign_flip: of the sign-flip test, exact up to n = 16 and sampled from n = 17; unpaired,
            of the permutation test; a cross-check that decides nothing; NaN if not asked for.
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
    p_sign_flip: float
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
    cross_check: bool = True,
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
        cross_check: also make the sign-flip test, which can take seconds for many seeds.
    """
    d = np.asarray(differences, dtype=float)
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    cross = _sign_flip(tuple(d)) if cross_check else math.nan
    # overlap 0 gives the usual standard error sd / sqrt(n)
    error = sd * math.sqrt(1 / n + overlap)
    return _comparison(n, n - 1, mean, sd, error, cross, margin, confidence, half_example)


def compare_unpaired(
    a: Sequence[float],
    b: Sequence[float],
    margin: float,
    *,
    confidence: float = 0.95,
    half_example: float = 0.0,
    cross_check: bool = True,
) -> Comparison:
    """Compare two groups of values that no seed pairs (plus = a is larger), after Welch.

    With the variances u and v of the groups and their sizes m and n, the standard error is
    sqrt(u/m + v/n) and t has (u/m + v/n)^2 / ((u/m)^2 / (m - 1) + (v/n)^2 / (n - 1)) degrees of
    freedom (Welch, "The generalization of Student's problem", Biometrika 34, 1947).

    Args:
        a, b: at least 2 values each.
        margin, confidence, half_example, cross_check: as of `compare`.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    u, v = float(x.var(ddof=1)), float(y.var(ddof=1))
    # squared standard errors of the two means
    s, t = u / len(x), v / len(y)
    freedom = float(len(x) + len(y) - 2)  # of two constant groups, which have no spread to weigh
    if s + t:
        freedom = (s + t) ** 2 / (s**2 / (len(x) - 1) + t**2 / (len(y) - 1))
    mean, sd, n = float(x.mean() - y.mean()), math.sqrt(u + v), min(len(x), len(y))
    cross = _permuted(x, y) if cross_check else math.nan
    error = math.sqrt(s + t)
    return _comparison(n, freedom, mean, sd, error, cross, margin, confidence, half_example)


def _comparison(
    n: int,
    freedom: float,
    mean: float,
    sd: float,
    error: float,
    cross: float,
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
    # half / quantile is the standard error, widened to half an example as the interval is
    p = _p_value(mean, half / quantile, freedom)
    return Comparison(n, mean, sd, low, high, p, cross, margin, relation, confidence)


def _p_value(mean: float, error: float, freedom: float) -> float:
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2 * special.stdtr(freedom, -abs(mean) / error))


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


@lru_cache(maxsize=1024)
def _sign_flip(differences: tuple[float, ...]) -> float:
    """A verdict and its table ask for the same differences, and the test takes a while."""
    d = np.array(differences)
    if not d.any():
        return 1.0
    if len(d) > MOST_FLIPPED:
        return _beyond(abs(float(d.sum())) / math.sqrt(float(d @ d)))
    return _permutation_test((d,), "samples", lambda x, axis: np.mean(x, axis=axis))


def _permuted(x: np.ndarray, y: np.ndarray) -> float:
    both = np.concatenate([x, y])
    if both.min() == both.max():
        return 1.0
    if len(both) > MOST_FLIPPED:
        error = float(both.std()) * math.sqrt(1 / len(x) + 1 / len(y))
        return _beyond(abs(float(x.mean() - y.mean())) / error)
    return _permutation_test(
        (x, y), "independent", lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis)
    )


def _permutation_test(
    groups: tuple[np.ndarray, ...], kind: str, statistic: Callable[..., Any]
) -> float:
    from scipy import stats  # here, because it takes half of the time that a report needs to start

    test = stats.permutation_test(
        groups,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=2**16,  # of up to 16 pairs these are all
        batch=2**22 // sum(map(len, groups)),
        rng=0,
    )
    return float(test.pvalue)


def _beyond(z: float) -> float:
    """The probability that a standard normal is farther from 0 than z."""
    return float(special.erfc(z / math.sqrt(2)))


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
