"""When a comparison is looked at: after how many seeds, and with which intervals.

A comparison that looks several times finds spurious differences more often than one that looks
once. Its intervals are therefore wider, so that over all looks equal methods differ in at most 5 %
of comparisons, at any spread (docs/calibration.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .stats import FEWEST

ALPHAS = {1: (0.05,), 2: (0.01, 0.04), 3: (0.01, 0.02, 0.03)}
"""1 - confidence of each look, by the number of looks that are planned."""
EXTENDED = 0.01
"""1 - confidence of each look that was not planned."""
EXTENSIONS = 2
"""How many may be added; each doubles the seeds."""


class Look(NamedTuple):
    """A number of seeds, and the confidence of its intervals if one method is judged."""

    seeds: int
    confidence: float


def planned(seeds: int) -> list[Look]:
    """The looks of a comparison with at most `seeds` seeds: a quarter, half, and all of them.

    A look with fewer than FEWEST seeds decides nothing and is left out: 24 seeds are looked at
    after 6, 12 and 24; 12 after 6 and 12; 8 once.
    """
    numbers = [n for n in (seeds // 4, seeds // 2) if n >= FEWEST] + [seeds]
    return [Look(n, 1 - alpha) for n, alpha in zip(numbers, ALPHAS[len(numbers)], strict=True)]


def extended(looks: Sequence[Look], seeds: int) -> list[Look] | None:
    """The looks of a comparison whose seeds are doubled once or twice; None for other numbers."""
    found = list(looks)
    for _ in range(EXTENSIONS):
        if found[-1].seeds >= seeds:
            break
        found.append(Look(2 * found[-1].seeds, 1 - EXTENDED))
    return found if found[-1].seeds == seeds else None


def shared(look: Look, judged: int) -> float:
    """The confidence at a look if `judged` methods are judged together (Bonferroni)."""
    return 1 - (1 - look.confidence) / max(1, judged)
