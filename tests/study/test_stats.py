"""Comparisons of pairs against SciPy, and by pencil where SciPy has no opinion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from paramcast.study.stats import (
    BETTER,
    EQUAL,
    FEWEST,
    UNCLEAR,
    WORSE,
    compare,
    interval,
    seeds_needed,
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


@pytest.mark.parametrize("confidence", [0.95, 0.98, 0.975])
def test_interval_and_p_are_scipys_paired_t_test(confidence: float) -> None:
    for a, b in pairs(150):
        c = compare(a - b, 1.0, confidence=confidence)
        paired = stats.ttest_rel(a, b)
        expected = paired.confidence_interval(confidence)
        np.testing.assert_allclose([c.low, c.high], expected, rtol=1e-8, atol=1e-12)
        assert c.p == pytest.approx(paired.pvalue, rel=1e-7)
        assert c.mean == pytest.approx(np.mean(a - b))
        assert c.sd == pytest.approx(np.std(a - b, ddof=1))
        assert (c.n, c.margin, c.confidence) == (len(a), 1.0, confidence)


def test_one_sample_and_paired_test_agree() -> None:
    for a, b in pairs(150):
        c = compare(a - b, 1.0)
        alone = stats.ttest_1samp(a - b, 0.0)
        np.testing.assert_allclose([c.low, c.high], alone.confidence_interval(0.95), rtol=1e-8)
        assert c.p == pytest.approx(alone.pvalue, rel=1e-7)


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


def test_relation_follows_from_the_interval_alone() -> None:
    for a, b in pairs(200):
        c = compare(a - b, float(np.std(a - b)) + 1e-9)
        inside = -c.margin <= c.low and c.high <= c.margin
        first = [(inside, EQUAL), (c.low > 0, BETTER), (c.high < 0, WORSE), (True, UNCLEAR)]
        expected = next(name for fits, name in first if fits)
        assert c.relation == (UNCLEAR if c.n < 6 else expected)


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


def test_p_decides_nothing() -> None:
    c = compare([0.1] * 8, 0.15, half_example=0.2)
    assert c.p < 1e-6
    assert c.relation == UNCLEAR


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
