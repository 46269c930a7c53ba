"""Comparisons of pairs against SciPy, exact fractions and forty digits, and by pencil.

statsmodels would be no third opinion: its t intervals are SciPy's distribution.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import stdev
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats

from paramcast.study.judging import stats as ours
from paramcast.study.judging.stats import (
    BETTER,
    EQUAL,
    FEWEST,
    UNCLEAR,
    WORSE,
    compare,
    compare_unpaired,
    interval,
    seeds_needed,
    shown_p,
)


def pairs(count: int, most: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random paired samples: any size, level, spread and scale."""
    rng = np.random.default_rng(7)
    cases = []
    for _ in range(count):
        n, scale = int(rng.integers(2, most + 1)), 10 ** rng.uniform(-4, 3)
        a, b = scale * rng.normal(rng.normal(size=(2, 1)), 1.0, (2, n))
        cases.append((a, b))
    return cases


@pytest.fixture
def without_cross_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_sign_flip", lambda d: 1.0)  # slow, and has tests of its own


def differences(n: int, count: int = 250) -> np.ndarray:
    """Samples of n in rows: of any level, spread and scale, heavy-tailed, tied, with an outlier."""
    rng = np.random.default_rng(n)
    level = rng.normal(size=(count, 1))
    normal = rng.normal(level, 1.0, (3, count, n))
    outlier = -80 * np.eye(n)[rng.integers(0, n, count)]
    kinds = [normal[0], level + rng.standard_cauchy((count, n)), np.round(4 * normal[1]) / 4]
    kinds.append(0.01 * normal[2] + outlier)
    scaled = np.concatenate([10 ** rng.uniform(-4, 3, (count, 1)) * kind for kind in kinds])
    return scaled[np.ptp(scaled, axis=1) > 0]


SIZES = [*range(2, 13), 16, 24, 48]


@pytest.mark.parametrize("confidence", [0.95, 0.98, 0.975])
@pytest.mark.usefixtures("without_cross_check")
def test_interval_and_p_are_scipys(confidence: float) -> None:
    """About 14,000 samples per confidence."""
    for n in SIZES:
        d = differences(n)
        test = stats.ttest_1samp(d, 0.0, axis=1)
        interval_ = test.confidence_interval(confidence)
        found = [compare(row, 1.0, confidence=confidence) for row in d]
        scale = np.abs(d).max(axis=1)
        for name, expected in (("low", interval_.low), ("high", interval_.high)):
            ends = np.array([getattr(c, name) for c in found])
            assert (np.abs(ends - expected) <= 1e-9 * scale * (1 + np.abs(expected / scale))).all()
        np.testing.assert_allclose([c.p for c in found], test.pvalue, rtol=1e-6, atol=1e-300)
        assert {(c.n, c.margin, c.confidence) for c in found} == {(n, 1.0, confidence)}


@pytest.mark.usefixtures("without_cross_check")
def test_mean_and_sd_are_those_of_exact_fractions() -> None:
    for n in SIZES:
        for row in differences(n, 10):
            c = compare(row, 1.0)
            exact = [Fraction(x) for x in row.tolist()]
            scale = float(max(map(abs, exact)))
            assert c.mean == pytest.approx(float(sum(exact) / n), rel=1e-12, abs=1e-14 * scale)
            assert c.sd == pytest.approx(stdev(exact), rel=1e-9)


def t_cdf(t: Any, df: int) -> Any:
    """Student's distribution at t > 0 by the incomplete beta function, in 40 digits."""
    with mpmath.workdps(40):
        t = mpmath.mpf(t)
        tail = mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, df / (df + t * t), regularized=True) / 2
        return 1 - tail


@pytest.mark.parametrize("n", [*range(2, 13), 24, 48, 96])
@pytest.mark.usefixtures("without_cross_check")
def test_quantile_and_p_are_those_of_forty_digits(n: int) -> None:
    for confidence in (0.9, 0.95, 0.975, 0.98, 1 - 0.05 / 3):
        c = compare([1.0] * (n - 1) + [2.0], 1.0, confidence=confidence)
        quantile = (c.high - c.mean) * math.sqrt(n) / c.sd
        # SciPy before 1.16, the newest for Python 3.10, seeks the quantile to about 2e-11 of itself
        assert float(t_cdf(quantile, n - 1)) == pytest.approx((1 + confidence) / 2, abs=1e-11)
        t = c.mean * math.sqrt(n) / c.sd
        assert c.p == pytest.approx(float(2 * (1 - t_cdf(t, n - 1))), rel=1e-9)


@pytest.mark.usefixtures("without_cross_check")
def test_relations_are_those_of_one_sided_tests() -> None:
    """Equal: two one-sided t tests at half of 1 - confidence, one at each end of the margin."""
    for n in range(6, 13):
        d = differences(n)
        margin = d.std(axis=1) * np.random.default_rng(n).uniform(0.2, 3, len(d)) + 1e-9
        p = {
            name: stats.ttest_1samp(d + shift[:, None], 0.0, axis=1, alternative=side).pvalue
            for name, shift, side in (
                ("above low end", margin, "greater"), ("below high end", -margin, "less"),
                ("better", 0 * margin, "greater"), ("worse", 0 * margin, "less"),
            )
        }  # fmt: skip
        equal = (p["above low end"] < 0.025) & (p["below high end"] < 0.025)
        expected = np.select(
            [equal, p["better"] < 0.025, p["worse"] < 0.025], [EQUAL, BETTER, WORSE], UNCLEAR
        )
        found = [compare(row, m).relation for row, m in zip(d, margin, strict=True)]
        assert found == expected.tolist()


# --- coverage -----------------------------------------------------------------------------------

SAMPLES = 1500
ERROR = 3.3 * math.sqrt(0.05 * 0.95 / SAMPLES)


def covered(d: np.ndarray, half_example: float = 0.0) -> float:
    """The share of the samples, in rows, whose interval holds the truth, 0."""
    found = [compare(row, 1.0, half_example=half_example) for row in d]
    return float(np.mean([c.low <= 0.0 <= c.high for c in found]))


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.usefixtures("without_cross_check")
def test_intervals_cover_at_their_rate(n: int) -> None:
    rng = np.random.default_rng(n)
    assert covered(rng.normal(0, 3, (SAMPLES, n))) == pytest.approx(0.95, abs=ERROR)
    won, lost = rng.binomial(1100, 5 / 1100, (2, SAMPLES, n))  # accuracies are often tied
    assert covered((won - lost) / 1100, 0.5 / 1100) == pytest.approx(0.95, abs=ERROR + 0.012)
    won, lost = rng.binomial(50, 0.1 / 50, (2, SAMPLES, n))  # and mostly equal
    assert covered((won - lost) / 50, 0.5 / 50) >= 0.99
    assert covered(np.zeros((5, n))) == 1.0


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.usefixtures("without_cross_check")
def test_one_diverged_run_shows_nothing(n: int) -> None:
    """With one difference x among zeros, mean = x / n and sd / sqrt(n) = x / n: t is 1."""
    alone = compare([-80.0] + [0.0] * (n - 1), 1.0)
    assert alone.mean * math.sqrt(n) / alone.sd == pytest.approx(-1.0)
    assert alone.relation == UNCLEAR
    rng = np.random.default_rng(n)
    d = rng.normal(0, 0.5, (300, n)) - 80 * np.eye(n)[rng.integers(0, n, 300)]
    assert {compare(row, 1.0).relation for row in d} == {UNCLEAR}
    assert covered(d) == 1.0


def test_sign_flip_p_counts_the_patterns() -> None:
    for a, b in pairs(100, most=9):
        d = a - b
        patterns = np.array(list(itertools.product((-1, 1), repeat=len(d)))) @ d
        as_far = np.abs(patterns) >= abs(d.sum()) * (1 - 1e-9)
        assert compare(d, 1.0).p_sign_flip == pytest.approx(as_far.mean())


def test_sampled_sign_flip_p_is_near_the_exact_one() -> None:
    d = np.random.default_rng(3).normal(0.4, 1.0, 18)
    patterns = np.array(list(itertools.product((-1, 1), repeat=18)), dtype=np.int8) @ d
    exact = np.mean(np.abs(patterns) >= abs(d.sum()) * (1 - 1e-9))
    assert compare(d, 1.0).p_sign_flip == pytest.approx(exact, abs=0.01)
    assert compare(d, 1.0).p_sign_flip == compare(d, 1.0).p_sign_flip


SPREAD = [3.0, -3.0] * 4


@pytest.mark.parametrize(
    ("differences", "relation"),
    [
        ([0.5] * 8, EQUAL),  # above 0 as well: equal comes first
        ([-0.5] * 8, EQUAL),
        ([1.0] * 8, EQUAL),  # the margin itself is inside
        ([0.0] * 8, EQUAL),
        ([1.1] * 8, BETTER),
        ([-1.1] * 8, WORSE),
        (SPREAD, UNCLEAR),
        ([5.0 + x for x in SPREAD], BETTER),  # half-width 2.7
        ([-5.0 + x for x in SPREAD], WORSE),
        ([2.6 + x for x in SPREAD], UNCLEAR),
    ],
)
def test_relation_is_the_first_that_fits(differences: list[float], relation: str) -> None:
    assert compare(differences, 1.0).relation == relation


@pytest.mark.parametrize("value", [0.0, 9.0, -9.0])
def test_fewer_than_six_pairs_are_always_unclear(value: float) -> None:
    assert FEWEST == 6
    for n in range(2, 6):
        assert compare([value] * n, 1.0).relation == UNCLEAR
    assert compare([value] * 6, 1.0).relation != UNCLEAR


def test_half_a_test_example_is_the_smallest_half_width() -> None:
    c = compare([0.0] * 8, 0.2, half_example=0.25)
    assert (c.low, c.high, c.relation) == (-0.25, 0.25, UNCLEAR)
    assert compare([0.0] * 8, 0.25, half_example=0.25).relation == EQUAL
    wide = [2.0, -2.0] * 4
    assert compare(wide, 1.0, half_example=0.25) == compare(wide, 1.0)


@pytest.mark.parametrize("value", [0.25, -0.25])
def test_an_interval_that_touches_zero_is_unclear(value: float) -> None:
    assert compare([value] * 8, 0.1, half_example=0.25).relation == UNCLEAR


@pytest.mark.parametrize("confidence", [0.95, 0.975, 0.98])
@pytest.mark.parametrize(("half_example", "overlap"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4)])
@pytest.mark.usefixtures("without_cross_check")
def test_p_says_what_the_interval_says(
    confidence: float, half_example: float, overlap: float
) -> None:
    """Also where the interval is widened, and where it is shared by several methods."""
    decided = set()
    for row in differences(8, 60):
        row = row / row.std() * 0.3
        c = compare(row, 0.1, confidence=confidence, half_example=half_example, overlap=overlap)
        clear = c.low > 0 or c.high < 0
        assert (c.p < 1 - confidence) == clear
        assert (float(shown_p(c)) < 0.05) == clear or "0.05" in shown_p(c)
        decided.add(clear)
    assert decided == {True, False}


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_one_test_example_never_decides(rows: int) -> None:
    """Right on one more row on every seed: without a spread, and without a verdict."""
    one = 1 / rows
    better = [((k + 1) / rows - k / rows) for k in range(min(rows, 6))] * 6
    for d in (better, [-x for x in better]):
        c = compare(d, 0.001, half_example=one / 2)
        assert (c.low > 0 or c.high < 0, c.relation) == (True, UNCLEAR)
    assert compare([1.5 * one] * 8, 0.001, half_example=one / 2).relation == BETTER
    assert compare([0.0] * 8, one, half_example=one / 2).relation == EQUAL


def test_overlapping_splits_widen_the_interval_as_nadeau_and_bengio_do() -> None:
    # sd = 2, n = 9, test a third as large as training: se = 2 sqrt(1/9 + 1/3) = 4/3
    d = np.array([-2.0, 2.0] * 4 + [0.0])
    c = compare(d + 1.0, 0.1, overlap=1 / 3)
    assert (c.mean, c.sd) == pytest.approx((1.0, 2.0))
    assert (c.high - c.low) / 2 == pytest.approx(stats.t.ppf(0.975, 8) * 4 / 3)
    assert c.p == pytest.approx(2 * stats.t.sf(1 / (4 / 3), 8))
    # 10.5 (1 / 8)^2 = 0.1641; 0.1641 / (1 - 0.1641 / 3) = 0.17 -> 1 + 3; and at sd = 2 m never
    assert seeds_needed(1.0, 8.0, 1 / 3) == 4
    assert seeds_needed(1.0, 1.0, 1 / 3) == 0
    assert seeds_needed(1.0, 1.0) == 14


def test_the_corrected_interval_covers_where_splits_share_their_examples() -> None:
    """The mean error of a constant predictor over random splits: the plain interval covers less."""
    rng = np.random.default_rng(0)
    plain = corrected = 0
    for _ in range(400):
        y = rng.normal(size=50)
        d = []
        for _ in range(10):
            order = rng.permutation(50)
            train, test = y[order[:40]], y[order[40:]]
            d.append(np.mean((test - train.mean()) ** 2))
        truth = 1 + 1 / 40
        for overlap in (0.0, 10 / 40):
            c = compare(d, 1.0, overlap=overlap, cross_check=False)
            hit = c.low <= truth <= c.high
            plain, corrected = plain + hit * (overlap == 0), corrected + hit * (overlap > 0)
    assert plain / 400 < 0.8
    assert corrected / 400 > 0.88


@pytest.mark.parametrize("n", [2, 6, 12, 24])
def test_no_difference_at_all(n: int) -> None:
    c = compare([0.0] * n, 0.5)
    assert (c.mean, c.sd, c.low, c.high, c.p, c.p_sign_flip) == (0, 0, 0, 0, 1, 1)


def test_the_same_difference_on_every_seed() -> None:
    c = compare([0.25] * 8, 0.1)
    assert (c.mean, c.sd, c.low, c.high, c.p) == (0.25, 0, 0.25, 0.25, 0)
    assert c.p_sign_flip == pytest.approx(2 / 2**8)
    assert c.relation == BETTER


@pytest.mark.parametrize(
    ("sd", "margin", "seeds"),
    [
        (0.0, 1.0, 3),
        (0.5, 1.0, 6),  # 10.5 / 4 = 2.625
        (1.0, 1.0, 14),
        (0.005, 0.005, 14),
        (2.0, 1.0, 45),
        (1.0, 0.5, 45),
        (10.0, 1.0, 1053),
    ],
)
def test_seeds_needed_by_pencil(sd: float, margin: float, seeds: int) -> None:
    assert seeds_needed(sd, margin) == seeds


def test_interval_of_values_is_scipys() -> None:
    for values, _ in pairs(100):
        mean, low, high = interval(values)
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert mean == pytest.approx(values.mean())
        np.testing.assert_allclose([low, high], expected, rtol=1e-8)
    assert interval([2.0]) == (2.0, 2.0, 2.0)


def test_seeds_needed_where_splits_overlap_by_pencil() -> None:
    # wanted = 10.5; 10.5 / (1 - 10.5 * 0.05) = 22.1, so 23 + 3; from 10.5 * overlap = 1 on none do
    assert seeds_needed(1.0, 1.0, 0.05) == 26
    assert seeds_needed(1.0, 1.0, 0.15) == 0
    assert seeds_needed(2.0, 1.0, 1 / 42) == 0


def test_the_confidence_of_an_interval_of_values_is_taken() -> None:
    values = [0.1, 0.4, 0.2, 0.5]
    low, high = stats.t.interval(0.99, 3, np.mean(values), stats.sem(values))
    assert interval(values, 0.99)[1:] == pytest.approx((low, high))


def test_an_adjusted_p_is_at_most_one_and_a_cross_check_is_made_on_request_only() -> None:
    c = compare([1.0, -1.0, 0.5, -0.4, 1.0, -0.9], 0.5, confidence=0.975, cross_check=False)
    assert c.p > 0.5
    assert shown_p(c) == "1"
    assert math.isnan(c.p_sign_flip)


# --- two groups that no seed pairs ----------------------------------------------------------------


def test_two_groups_are_compared_as_scipys_welch_test() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        m, n = rng.integers(2, 15, 2)
        scale = 10 ** rng.uniform(-4, 3)
        a, b = scale * rng.normal(0.5, 1.0, m), scale * rng.normal(0.0, rng.uniform(0.1, 5), n)
        c = compare_unpaired(a, b, 0.1 * scale, cross_check=False)
        test = stats.ttest_ind(a, b, equal_var=False)
        expected = test.confidence_interval(0.95)
        np.testing.assert_allclose([c.low, c.high], expected, rtol=1e-7)
        assert c.p == pytest.approx(test.pvalue, rel=1e-6)
        assert (c.n, c.mean) == (min(m, n), pytest.approx(a.mean() - b.mean()))


def test_welch_by_pencil() -> None:
    """Means 3 and 1, variances 2.5 and 2.5, so the error is sqrt(2.5/5 + 2.5/5) = 1, with 8 df."""
    c = compare_unpaired([1, 2, 3, 4, 5], [-1, 0, 1, 2, 3], 0.5)
    assert (c.mean, c.n, c.sd) == (2.0, 5, pytest.approx(math.sqrt(5)))
    assert c.high - c.mean == pytest.approx(stats.t.ppf(0.975, 8))
    assert c.relation == UNCLEAR  # fewer than 6


@pytest.mark.parametrize(
    ("shift", "spread", "relation"),
    [(0.0, 0.01, EQUAL), (2.0, 0.5, BETTER), (-2.0, 0.5, WORSE), (0.5, 3.0, UNCLEAR)],
)
def test_groups_have_the_relations_of_pairs(shift: float, spread: float, relation: str) -> None:
    wave = spread * np.array([1, -1, 2, -2, 1, -1, 0])
    c = compare_unpaired(shift + wave, wave[:6], 0.1)
    assert (c.relation, c.n) == (relation, 6)


def test_groups_without_any_spread_and_half_an_example() -> None:
    same = compare_unpaired([0.5] * 7, [0.5] * 6, 0.1, half_example=0.01)
    assert (same.low, same.high, same.p, same.relation) == (-0.01, 0.01, 1.0, EQUAL)
    assert same.p_sign_flip == 1.0
    apart = compare_unpaired([0.9] * 7, [0.5] * 6, 0.1)
    assert (apart.low, apart.p, apart.relation) == (pytest.approx(0.4), pytest.approx(0.0), BETTER)
    one = compare_unpaired([0.51] * 7, [0.5] * 6, 0.001, half_example=0.005)
    assert one.relation == UNCLEAR  # no more than one example


def test_the_permutation_test_counts_the_groupings() -> None:
    """All 4 of the first group are the largest of 7: 1 of C(7, 4) = 35, two-sided 2 of 35."""
    c = compare_unpaired([5.0, 6.0, 7.0, 9.0], [1.0, 2.0, 3.0], 0.1)
    assert c.p_sign_flip == pytest.approx(2 / 35)


@pytest.mark.parametrize("n", [60, 4000])
def test_cross_checks_of_many_values_are_near_p(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(1.5 / math.sqrt(n), 1.0, n), rng.normal(0.0, 1.0, n)
    for c in (compare(a - b, 0.1), compare_unpaired(a, b, 0.1)):
        assert c.p_sign_flip == pytest.approx(c.p, abs=0.01)
