"""The statistics of paired comparisons: pure functions, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

EQUAL, BETTER, WORSE, UNCLEAR = "equal", "better", "worse", "unclear"
FEWEST = 6
"""With fewer pairs than this a relation is always unclear."""


@dataclass(frozen=True)
class Comparison:
    """Paired differences a - b, plus = a is better.

    Attributes:
        n: pairs.
        mean, sd: of the differences.
        low, high: the interval, mean -+ t(n - 1) sd / sqrt(n), at least half_example wide each way.
        p: of the two-sided paired t test.
        p_sign_flip: of the exact (from n = 17 on sampled) sign-flip test; a cross-check, decides
            nothing; NaN where it was not asked for.
        margin: differences within it do not matter.
        relation: equal (interval inside -+margin), better, worse, or unclear; the first that fits.
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
    cross_check: bool = True,
) -> Comparison:
    """Compare two methods by their paired differences (plus = the first is better).

    Args:
        differences: one per seed, at least 2.
        margin: m > 0.
        confidence: of the two-sided interval.
        half_example: the smallest half-width, half a test example for an accuracy.
        cross_check: whether to make the sign-flip test, which takes up to seconds for many seeds.
    """
    d = np.asarray(differences, dtype=float)
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    half = max(t_quantile(n, confidence) * sd / math.sqrt(n), half_example)
    low, high = mean - half, mean + half
    return Comparison(
        n, mean, sd, low, high, _p_value(mean, sd, n), _sign_flip(d) if cross_check else math.nan,
        margin, _relation(n, low, high, margin), confidence,
    )  # fmt: skip


def _relation(n: int, low: float, high: float, margin: float) -> str:
    if n < FEWEST:
        return UNCLEAR
    if -margin <= low and high <= margin:
        return EQUAL
    if low > 0:
        return BETTER
    return WORSE if high < 0 else UNCLEAR


def _p_value(mean: float, sd: float, n: int) -> float:
    if sd == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2 * special.stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


def t_quantile(n: int, confidence: float = 0.95) -> float:
    """Of Student's t with n - 1 degrees of freedom; `stats.t.ppf` is the same, 80 times slower."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2))


def _sign_flip(d: np.ndarray) -> float:
    if not d.any():
        return 1.0
    from scipy import stats  # half of the time that a report takes to start

    test = stats.permutation_test(
        (d,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**16,
        rng=0,
    )
    return float(test.pvalue)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of the values and its t interval: mean, low, high."""
    v = np.asarray(values, dtype=float)
    mean = float(v.mean())
    if len(v) < 2:
        return mean, mean, mean
    half = t_quantile(len(v), confidence) * float(v.std(ddof=1)) / math.sqrt(len(v))
    return mean, mean - half, mean + half


def seeds_needed(sd: float, margin: float) -> int:
    """Seeds with which a difference of the margin shows: ceil(10.5 (sd / margin)^2) + 3."""
    return math.ceil(10.5 * (sd / margin) ** 2) + 3
