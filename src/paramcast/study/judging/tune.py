"""Choosing a learning rate: one list of points for every method, and when to leave the base's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

Losses = Mapping[float, Sequence[float]]
"""Final validation losses by learning rate, one per tuning seed."""


def learning_rates(low: float, high: float, trials: int) -> tuple[float, ...]:
    """A geometric grid from low to high, both included; of a single point the middle."""
    if trials == 1:
        return (math.sqrt(low * high),)
    inner = (low * (high / low) ** (i / (trials - 1)) for i in range(1, trials - 1))
    return (low, *inner, high)


def best_for_base(losses: Losses) -> float:
    """The learning rate with the lowest mean loss."""
    return min(losses, key=lambda lr: fmean(losses[lr]))


def best_for_method(losses: Losses, base_lr: float) -> float:
    """The method's learning rate: the base's, unless another is better on every tuning seed.

    Among those that are, the one with the lowest mean loss. Without this rule two equal methods
    differ "significantly" in up to a third of the pilots.
    """
    at_base = losses[base_lr]
    better = [lr for lr in losses if all(a < b for a, b in zip(losses[lr], at_base, strict=True))]
    return min(better, key=lambda lr: fmean(losses[lr]), default=base_lr)


def edge(lr: float, rates: Sequence[float]) -> str:
    """The end of the range that a chosen rate is at, "lowest" or "highest"; "" for neither.

    A single rate was not searched for.
    """
    if len(rates) == 1:
        return ""
    return "lowest" if lr == min(rates) else "highest" if lr == max(rates) else ""
