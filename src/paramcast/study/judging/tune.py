"""Choose learning rates: which points are tried on which seeds, and when to leave the base's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeVar

Point = TypeVar("Point")
"""What is tried: a learning rate, or one with other settings."""
HALVING, VERTEX = "halving", "vertex"
"""Rules of search: the protocol's, and `search_vertex`."""
BASE_SEEDS = 2
"""Tuning seeds on which the base is searched; more would change no choice that matters."""


def learning_rates(low: float, high: float, trials: int) -> tuple[float, ...]:
    """A geometric grid from low to high, both included; a single point lies in the middle."""
    if trials == 1:
        return (math.sqrt(low * high),)
    inner = (low * (high / low) ** (i / (trials - 1)) for i in range(1, trials - 1))
    return (low, *inner, high)


def rates_around(lr: float, trials: int) -> tuple[float, ...]:
    """Rates around one that the user has tuned: lr 2^i, |i| < trials / 2."""
    reach = max(0, (trials + 1) // 2 - 1)
    return tuple(lr * 2.0**i for i in range(-reach, reach + 1))


def search_base(
    losses: Mapping[Point, Sequence[float]], seeds: int
) -> tuple[list[tuple[Point, int]], Point | None]:
    """Search for the base's point by halving: all points on one seed, the better half on another.

    Args:
        losses: final validation losses by point, one per tuning seed so far.
        seeds: tuning seeds that may be used.

    Returns:
        What to run next, as points with their seeds; once that is empty, the point with the lowest
        mean loss.
    """
    kept = list(losses)
    for seed in range(min(seeds, BASE_SEEDS)):
        if wanted := [(point, seed) for point in kept if len(losses[point]) <= seed]:
            return wanted, None
        means = {point: fmean(losses[point][: seed + 1]) for point in kept}
        kept = sorted(kept, key=means.__getitem__)[: max(1, (len(kept) + 1) // 2)]
    return [], kept[0]


def search(
    losses: Mapping[Point, Sequence[float]], base: Point, seeds: int
) -> tuple[list[tuple[Point, int]], Point | None]:
    """Search for a method's point, which is the base's unless another is better on every seed.

    Without that rule two equal methods differ "significantly" in up to a third of the pilots. The
    points that are still better than the base's are halved from seed to seed, and only the best one
    sees the last; a search ends as soon as none is left.

    Args:
        losses: final validation losses by point, one per tuning seed so far.
        base: the base's point, one of them.
        seeds: tuning seeds on which a point must be better.

    Returns:
        As `search_base`.
    """
    if wanted := [(point, 0) for point in losses if not losses[point]]:
        return wanted, None
    # points that beat the base's on every seed so far
    alive = [point for point in losses if losses[point][0] < losses[base][0]]
    kept = len(losses)
    for seed in range(1, seeds):
        kept = 1 if seed == seeds - 1 else (kept + 1) // 2
        means = {point: fmean(losses[point][:seed]) for point in alive}
        alive = sorted(alive, key=means.__getitem__)[:kept]
        if not alive:
            return [], base
        compared = [base, *alive]
        if wanted := [(point, seed) for point in compared if len(losses[point]) <= seed]:
            return wanted, None
        alive = [point for point in alive if losses[point][seed] < losses[base][seed]]
    return [], min(alive, key=lambda point: fmean(losses[point][:seeds]), default=base)


def search_vertex(
    values: Mapping[float, Sequence[float]], seeds: int
) -> tuple[list[tuple[float, int]], float | None]:
    """Search by a parabola: every rate on every seed, then the vertex through log-rate.

    It is the same for a base and for a method, and may name a rate between two of those tried.

    Args:
        values: on validation by rate, one per tuning seed so far, smaller is better; infinite where
            a run diverged.
        seeds: tuning seeds.

    Returns:
        As `search_base`.
    """
    wanted = [(lr, s) for lr, own in values.items() for s in range(len(own), seeds)]
    if wanted:
        return wanted, None
    rates = sorted(values)
    place = vertex([fmean(values[lr]) for lr in rates])
    low, share = int(place), place - int(place)
    if share == 0.0:
        return [], rates[low]
    return [], rates[low] ** (1.0 - share) * rates[low + 1] ** share


def vertex(values: Sequence[float], reach: int = 2) -> float:
    """Where the least-squares parabola through the lowest value and its neighbours is lowest.

    Up to `reach` neighbours on either side that are finite take part, and the answer lies among
    them: an index, or between two. It is the lowest value's where the parabola opens downward.

    >>> round(vertex([4.41, 1.21, 0.01, 0.81, 3.61]), 6)  # (x - 2.1)^2
    2.1
    """
    import numpy as np  # here, because the command line needs no numpy to start

    best = min(range(len(values)), key=lambda i: values[i])
    low = high = best
    while low > max(0, best - reach) and math.isfinite(values[low - 1]):
        low -= 1
    while high < min(len(values) - 1, best + reach) and math.isfinite(values[high + 1]):
        high += 1
    if high - low < 2:
        return float(best)
    a, b, _ = np.polyfit(range(low, high + 1), values[low : high + 1], 2)
    # a plateau has no vertex; what rounding leaves of its curvature is none
    if a <= 1e-12 * max(abs(values[best]), 1e-300):
        return float(best)
    return float(np.clip(-b / (2.0 * a), low, high))


def largest_search(points: int, seeds: int, *, base: bool) -> int:
    """The most runs that a search takes."""
    total, kept = points, points
    for seed in range(1, min(seeds, BASE_SEEDS) if base else seeds):
        kept = 1 if seed == seeds - 1 and not base else (kept + 1) // 2
        total += kept if base else min(points, kept + 1)
    return total


def edge(lr: float, rates: Sequence[float]) -> str:
    """The end of the range at which a chosen rate lies: "lowest", "highest" or "" for neither."""
    if len(rates) == 1:  # there was no search
        return ""
    return "lowest" if lr == min(rates) else "highest" if lr == max(rates) else ""
