"""How much a learning rate matters, and what one that is not tuned again costs, on stored runs.

    python research/sensitivity.py results/bar/digits.csv results/bar/fashion-5000.csv

The same runs as `selection.py`: every arm at 13 rates, each sqrt(2) times the one before, with the
same 8 seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from selection import RULES, TUNING, Arm, arms_of, row, splits

FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
RULE = RULES["parabola of 5, metric"]
"""By which the base is tuned."""
ENOUGH = 0.002  # 0.2 points: a rate that costs less need not be searched for


def lost(arm: Arm) -> tuple[float, list[float | None], float]:
    """The best rate, what its multiples cost, and how many times the lowest good rate the highest
    one is."""
    means = arm.test.mean(1)
    best = int(np.argmax(means))
    places = [best + round(2 * np.log2(factor)) for factor in FACTORS]
    costs = [means[best] - means[p] if 0 <= p < len(means) else None for p in places]
    low = high = best  # the good rates next to the best one
    while low > 0 and means[best] - means[low - 1] <= ENOUGH:
        low -= 1
    while high + 1 < len(means) and means[best] - means[high + 1] <= ENOUGH:
        high += 1
    return arm.rates[best], costs, arm.rates[high] / arm.rates[low]


def transferred(method: Arm, base: Arm, factor: float) -> tuple[float, float]:
    """A method at a multiple of the rate that its base was tuned to on two seeds.

    Returns:
        What that costs against the method's own best rate, and what it gains over the base at
        the rate that was tuned, both on the other seeds.
    """
    cost, gain = [], []
    for tuning, others in splits(len(base.seeds), TUNING):
        chosen = RULE(base, tuning)
        place = min(max(chosen + round(2 * np.log2(factor)), 0), len(method.rates) - 1)
        means = method.test[:, others].mean(1)
        cost.append(means.max() - means[place])
        gain.append(means[place] - base.test[chosen][others].mean())
    return float(np.mean(cost)), float(np.mean(gain))


def report(file: Path) -> None:
    arms = arms_of(file)
    click.echo(
        f"\n**{file.stem}**, 8 seeds; points of accuracy lost at multiples of the best rate\n"
    )
    row("arm", "best rate", *(f"{f:g}" for f in FACTORS), "good rates span")
    row(*["---"] * (3 + len(FACTORS)))
    for name, arm in arms.items():
        best, costs, span = lost(arm)
        shown = ["" if c is None else f"{100 * c:.2f}" for c in costs]
        row(name, f"{best:.3g}", *shown, f"{span:.3g} times")
    click.echo(
        "\nNot tuned again: at multiples of the rate that the base with its schedule was tuned to\n"
    )
    row("method", *(f"{f:g}: cost (gain over the base)" for f in FACTORS[2:]))
    row(*["---"] * (1 + len(FACTORS[2:])))
    for name, arm in arms.items():
        base = next((arms[b] for b in arms if name.startswith(f"{b} ")), None)
        if base is None:
            continue
        pairs = [transferred(arm, base, factor) for factor in FACTORS[2:]]
        row(name, *(f"{100 * cost:.2f} ({100 * gain:+.2f})" for cost, gain in pairs))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        report(Path(argument))
