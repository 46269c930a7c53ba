"""Learning rates: one list for all, and when a method may leave the base's."""

from __future__ import annotations

import math

import pytest

from paramcast.study.tune import at_edge, best_for_base, best_for_method, learning_rates


@pytest.mark.parametrize("trials", [1, 2, 4, 8, 16, 64])
def test_points_are_log_uniform(trials: int) -> None:
    # A scrambled Sobol sequence puts exactly one point into each of 2^m equal parts.
    rates = learning_rates(0.003, 0.3, trials)
    shares = [math.log(lr / 0.003) / math.log(0.3 / 0.003) for lr in rates]
    assert [math.floor(u * trials) for u in shares] == list(range(trials))
    assert list(rates) == sorted(rates)


def test_points_lie_within_the_range_and_do_not_change() -> None:
    for low, high in ((1e-6, 1e-5), (0.003, 0.3), (0.1, 10.0)):
        rates = learning_rates(low, high, 8)
        assert low <= min(rates)
        assert max(rates) <= high
        assert rates == learning_rates(low, high, 8)


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
    assert [at_edge(lr, rates) for lr in rates] == [True, False, False, True]
