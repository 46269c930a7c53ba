"""Learning rates: one list for all, and when a method may leave the base's."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.study.judging.tune import (
    edge,
    largest_search,
    learning_rates,
    rates_around,
    search,
    search_base,
    search_vertex,
    vertex,
)


@pytest.mark.parametrize("trials", [2, 4, 8, 16, 64])
@pytest.mark.parametrize("ends", [(1e-6, 1e-5), (0.003, 0.3), (0.1, 10.0)])
def test_points_reach_both_ends_in_equal_steps(trials: int, ends: tuple[float, float]) -> None:
    rates = learning_rates(*ends, trials)
    assert (rates[0], rates[-1], len(rates)) == (*ends, trials)
    steps = [b / a for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([(ends[1] / ends[0]) ** (1 / (trials - 1))] * (trials - 1))
    assert learning_rates(0.01, 1.0, 1) == pytest.approx((0.1,))  # a single point is the middle


Losses = dict[float, list[float]]


def searched(
    truth: Losses, seeds: int, base: float | None = None
) -> tuple[float, list[list[tuple[float, int]]]]:
    """The point that a search chooses, and the runs that it asked for, round by round."""
    known: Losses = {lr: [] for lr in truth}
    rounds = []
    while True:
        wanted, best = search_base(known, seeds) if base is None else search(known, base, seeds)
        if not wanted:
            assert best is not None
            return best, rounds
        assert best is None
        rounds.append(wanted)
        for lr, seed in wanted:
            assert len(known[lr]) == seed  # seeds in order, none twice
            known[lr].append(truth[lr][seed])


def test_the_base_halves_its_points_and_takes_the_lowest_mean() -> None:
    truth = {0.1: [1.0, 5.0], 0.2: [2.0, 2.5], 0.3: [3.0, 0.0], 0.4: [4.0, 0.0]}
    best, rounds = searched(truth, 3)
    assert rounds == [[(lr, 0) for lr in truth], [(0.1, 1), (0.2, 1)]]  # 0.3 is not seen again
    assert best == 0.2
    assert searched(truth, 1) == (0.1, [[(lr, 0) for lr in truth]])
    assert searched({0.1: [1.0, 1.0]}, 2) == (0.1, [[(0.1, 0)], [(0.1, 1)]])
    # one that diverges everywhere takes the lowest rate
    assert searched({0.1: [math.inf] * 2, 0.2: [math.inf] * 2}, 2)[0] == 0.1


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9]}, 0.2),
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.1, 0.1, 1.1]}, 0.1),  # a far lower mean, one seed worse
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.1, 0.1, 1.0]}, 0.1),  # a tie is not better
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9], 0.3: [0.1, 0.8, 0.8]}, 0.3),
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9], 0.3: [0.0, 1.0, 0.0]}, 0.2),
        ({0.1: [1.0, 1.0, 1.0], 0.2: [2.0, 0.0, 0.0]}, 0.1),  # out on the first seed
        ({0.1: [1.0, 1.0, 1.0]}, 0.1),
    ],
)
def test_a_method_leaves_the_bases_point_only_if_better_on_every_seed(
    losses: Losses, chosen: float
) -> None:
    assert searched(losses, 3, 0.1)[0] == chosen


def test_a_method_halves_those_that_are_better_beside_the_bases_point() -> None:
    truth = {
        0.1: [5.0, 5.0, 5.0], 0.2: [4.0, 4.0, 4.0], 0.3: [3.0, 3.0, 3.0], 0.4: [2.0, 9.0, 0.0],
        0.5: [1.0, 4.0, 9.0], 0.6: [6.0, 0.0, 0.0],
    }  # fmt: skip
    best, rounds = searched(truth, 3, 0.1)
    assert rounds == [
        [(lr, 0) for lr in truth],
        [(0.1, 1), (0.5, 1), (0.4, 1), (0.3, 1)],  # the best half; 0.6 is worse than the base's
        [(0.1, 2), (0.5, 2)],  # the best of those that were better twice
    ]
    assert best == 0.1  # and that one is worse on the last


def test_a_search_ends_when_nothing_is_better() -> None:
    truth = {0.1: [1.0], 0.2: [2.0], 0.3: [3.0]}
    assert searched(truth, 3, 0.1) == (0.1, [[(lr, 0) for lr in truth]])
    assert searched({0.1: [1.0], 0.2: [0.5]}, 1, 0.1)[0] == 0.2  # one seed is all that was asked


@given(
    st.integers(1, 9), st.integers(1, 4), st.booleans(),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_search_takes_more_than_the_most_it_may(
    points: int, seeds: int, base: bool, random: Any
) -> None:
    truth = {float(lr): [random.random() for _ in range(seeds)] for lr in range(1, points + 1)}
    _, rounds = searched(truth, seeds, None if base else 1.0)
    assert sum(map(len, rounds)) <= largest_search(points, seeds, base=base)


def test_the_most_that_a_search_takes_by_pencil() -> None:
    assert largest_search(8, 3, base=True) == 8 + 4
    assert largest_search(8, 3, base=False) == 8 + (4 + 1) + (1 + 1)
    assert largest_search(4, 2, base=False) == 4 + (1 + 1)
    assert largest_search(1, 3, base=False) == 1 + 1 + 1


def test_rates_around_one_that_is_tuned() -> None:
    assert rates_around(0.1, 8) == pytest.approx((0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8))
    assert rates_around(0.1, 4) == pytest.approx((0.05, 0.1, 0.2))
    assert rates_around(0.1, 1) == (0.1,)
    assert 0.1 in rates_around(0.1, 8)  # exactly: the base's point is one of them


def test_the_edge_is_the_lowest_or_highest_tried() -> None:
    rates = learning_rates(0.01, 0.1, 4)
    assert [edge(lr, rates) for lr in rates] == ["lowest", "", "", "highest"]
    assert edge(0.03, [0.03]) == ""


# --- the vertex of a parabola ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([(x - 2.3) ** 2 for x in range(6)], 2.3),
        ([(x + 4.0) ** 2 for x in range(6)], 0.0),  # beyond the end
        ([(x - 9.0) ** 2 for x in range(6)], 5.0),
        ([3.0, 1.0, 2.0], 4 / 3 - 1 / 6),  # the parabola through three points
        ([1.0, 1.0, 1.0, 1.0], 0.0),  # a plateau
        ([2.0, 1.0], 1.0),
        ([math.inf, 1.0, 0.0, math.inf], 2.0),  # too few finite ones
        ([math.inf, 4.0, 1.0, 0.0, 1.0, 4.0, math.inf], 3.0),
        ([0.0, 5.0, 6.0], 0.0),  # opens downward
    ],
)
def test_a_vertex_by_pencil(values: list[float], place: float) -> None:
    assert vertex(values) == pytest.approx(place)


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    scale=st.sampled_from([0.25, 4.0]),
)
def test_a_vertex_lies_beside_the_best_and_does_not_depend_on_the_unit(
    values: list[float], scale: float
) -> None:
    place = vertex(values)
    assert abs(place - values.index(min(values))) <= 2
    assert 0 <= place <= len(values) - 1
    assert vertex([scale * v for v in values]) == place


def test_a_search_by_vertex_asks_for_all_and_may_name_a_rate_between_two() -> None:
    rates = learning_rates(0.01, 0.08, 4)  # 0.01, 0.02, 0.04, 0.08
    wanted, best = search_vertex({lr: [] for lr in rates}, 2)
    assert (len(wanted), best) == (8, None)
    found = {lr: [(i - 1.5) ** 2 + d for d in (0.1, -0.1)] for i, lr in enumerate(rates)}
    wanted, best = search_vertex(found, 2)
    assert not wanted
    assert best == pytest.approx(math.sqrt(0.02 * 0.04))
    one_less = {**found, 0.01: [1.0]}
    assert search_vertex(one_less, 2) == ([(0.01, 1)], None)
