"""Choose learning rates: the points that every method tries, and when it may leave the base's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

Losses = Mapping[float, Sequence[float]]
"""Final validation losses by learning rate, one per tuning seed."""


def learning_rates(low: float, high: float, trials: int) -> tuple[float, ...]:
    """A geometric grid from low to high, both included; a single point lies in the middle."""
    if trials == 1:
        return (math.sqrt(low * high),)
    inner = (low * (high / low) ** (i / (trials - 1)) for i in range(1, trials - 1))
    return (low, *inner, high)


def best_for_base(losses: Losses) -> float:
    """The learning rate with the lowest mean loss."""
    return min(losses, key=lambda lr: fmean(losses[lr]))


def best_for_method(losses: Losses, base_lr: float) -> float:
    """The method's learning rate: the base's, unless another is better on every tuning seed.

    Among several such rates it is the one with the lowest mean loss. Without this rule two equal
    methods differ "significantly" in up to a third of the pilots.
    """
    at_base = losses[base_lr]
    better = [lr for lr in losses if all(a < b for a, b in zip(losses[lr], at_base, strict=True))]
    return min(better, key=lambda lr: fmean(losses[lr]), default=base_lr)


def edge(lr: float, rates: Sequence[float]) -> str:
    """The end of the range at which a chosen rate lies: "lowest", "highest" or "" for neither."""
    if len(rates) == 1:  # there was no search
        return ""
    return "lowest" if lr == min(rates) else "highest" if lr == max(rates) else ""
