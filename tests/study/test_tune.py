"""Learning rates: one list for all, and when a method may leave the base's."""

from __future__ import annotations

import itertools

import pytest

from paramcast.study.judging.tune import best_for_base, best_for_method, edge, learning_rates


@pytest.mark.parametrize("trials", [2, 4, 8, 16, 64])
@pytest.mark.parametrize("ends", [(1e-6, 1e-5), (0.003, 0.3), (0.1, 10.0)])
def test_points_reach_both_ends_in_equal_steps(trials: int, ends: tuple[float, float]) -> None:
    rates = learning_rates(*ends, trials)
    assert (rates[0], rates[-1], len(rates)) == (*ends, trials)
    steps = [b / a for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([(ends[1] / ends[0]) ** (1 / (trials - 1))] * (trials - 1))


def test_a_single_point_is_the_middle() -> None:
    assert learning_rates(0.01, 1.0, 1) == pytest.approx((0.1,))


def test_points_scale_with_the_range() -> None:
    small, large = learning_rates(0.001, 0.1, 8), learning_rates(0.01, 1.0, 8)
    assert [10 * lr for lr in small] == pytest.approx(list(large))


def test_the_base_takes_the_lowest_mean_loss() -> None:
    assert best_for_base({0.1: [1.0, 5.0], 0.2: [2.9, 3.0], 0.3: [3.0, 3.0]}) == 0.2


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9]}, 0.2),
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.1, 0.1, 1.1]}, 0.1),  # a far lower mean, one seed worse
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.1, 0.1, 1.0]}, 0.1),  # a tie is not better
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9], 0.3: [0.1, 0.8, 0.8]}, 0.3),
        ({0.1: [1.0, 1.0, 1.0], 0.2: [0.9, 0.9, 0.9], 0.3: [0.0, 0.0, 1.0]}, 0.2),
        ({0.1: [1.0, 1.0, 1.0]}, 0.1),
    ],
)
def test_a_method_leaves_the_bases_point_only_if_better_on_every_seed(
    losses: dict[float, list[float]], chosen: float
) -> None:
    assert best_for_method(losses, 0.1) == chosen


def test_the_edge_is_the_lowest_or_highest_tried() -> None:
    rates = learning_rates(0.01, 0.1, 4)
    assert [edge(lr, rates) for lr in rates] == ["lowest", "", "", "highest"]
    assert edge(0.03, [0.03]) == ""
