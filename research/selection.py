"""What each rule of choosing a learning rate would have chosen on stored runs, and what that cost.

    python research/selection.py results/bar/digits.csv results/bar/fashion-5000.csv

Every arm has runs at 13 rates, each sqrt(2) times the one before, with the same seeds, and each run
has values on validation and on test. A rule sees validation on two seeds at every second rate; the
rate that it names is rounded to one of the 13, whose mean on test over the other seeds counts.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

import kept
from paramcast.study.judging.tune import search, search_base, vertex

Array = npt.NDArray[np.float64]
Runs = dict[tuple[float, int], dict[str, str]]
"""Rows by rate and seed."""
TUNING = 2
"""Tuning seeds: those of a base."""
FEWEST_RATES, FEWEST_SEEDS = 13, 8


class Arm:
    """An arm's values, (rates, seeds): on validation and test, larger is better on each metric."""

    def __init__(self, name: str, rates: list[float], runs: Runs) -> None:
        self.name, self.rates = name, rates
        self.seeds = sorted({seed for _, seed in runs})
        sign = -1.0 if next(iter(runs.values()))["metric_name"] in ("rmse", "mse") else 1.0

        def table(column: str, sign: float) -> Array:
            return np.array([[sign * float(runs[r, s][column]) for s in self.seeds] for r in rates])

        self.loss = table("validation_loss", 1.0)
        self.metric = table("validation_metric", sign)
        self.test = table("test_metric", sign)


def arms_of(file: Path) -> dict[str, Arm]:
    """The arms of a file that have enough rates and seeds."""
    found: dict[str, Runs] = defaultdict(dict)
    for row in kept.read(file):
        if row["phase"] == "final" and row["share"] == "1.0":
            name = " ".join(
                filter(None, (row["base"], row["beta2"], row["schedule"], row["method"]))
            )
            found[f"{name} {row['epochs']}"][float(row["lr"]), int(row["seed"])] = row
    arms = {}
    for name, runs in found.items():
        by_rate = defaultdict(set)
        for rate, seed in runs:
            by_rate[rate].add(seed)
        grid = [0.001 * 2 ** (i / 2) for i in range(FEWEST_RATES)]
        rates = [r for r in sorted(by_rate) if len(by_rate[r]) >= FEWEST_SEEDS]
        rates = [r for r in rates if min(abs(r / g - 1) for g in grid) < 1e-4]
        if len(rates) == FEWEST_RATES:
            seeds = set.intersection(*(by_rate[r] for r in rates))
            kept_runs = {(r, s): runs[r, s] for r in rates for s in sorted(seeds)[:FEWEST_SEEDS]}
            short = name.rsplit(" ", 1)[0].replace(" base", "")
            arms[short] = Arm(short, rates, kept_runs)
    return arms


def lowest(values: Array) -> int:
    """The best of the points: the index of the lowest value."""
    return 2 * int(np.argmin(values))


def parabola(values: Array, reach: int) -> int:
    """The vertex of the parabola through the lowest point and its neighbours, by least squares."""
    return round(2 * vertex([*map(float, values)], reach))


Rule = Callable[[Arm, list[int]], int]
RULES: dict[str, Rule] = {
    "best point, loss": lambda a, s: lowest(a.loss[::2, s].mean(1)),
    "best point, metric": lambda a, s: lowest(-a.metric[::2, s].mean(1)),
    "parabola of 3, loss": lambda a, s: parabola(np.log(a.loss[::2, s]).mean(1), 1),
    "parabola of 5, loss": lambda a, s: parabola(np.log(a.loss[::2, s]).mean(1), 2),
    "parabola of 3, metric": lambda a, s: parabola(-a.metric[::2, s].mean(1), 1),
    "parabola of 5, metric": lambda a, s: parabola(-a.metric[::2, s].mean(1), 2),
}


def cost(arm: Arm, rule: Rule) -> tuple[float, float]:
    """What a rule loses to the best rate on test, and how many factors of 2 it lies above it."""
    lost, above = [], []
    for tuning, others in splits(len(arm.seeds), TUNING):
        means = arm.test[:, others].mean(1)
        chosen = rule(arm, tuning)
        lost.append(means.max() - means[chosen])
        above.append((chosen - int(np.argmax(means))) / 2)
    return float(np.mean(lost)), float(np.mean(above))


def null(arm: Arm, rule: Rule) -> tuple[float, float]:
    """Two equal arms tuned on other seeds: their mean distance, and how often they "differ"."""
    distance, differs = [], []
    for tuning, others in splits(len(arm.seeds), 2 * TUNING):
        for one in map(list, itertools.combinations(tuning, TUNING)):
            other = [s for s in tuning if s not in one]
            d = arm.test[rule(arm, one)][others] - arm.test[rule(arm, other)][others]
            distance.append(abs(d.mean()))
            spread = d.std(ddof=1) / len(d) ** 0.5
            differs.append(abs(d.mean()) > 3.18 * spread and abs(d.mean()) > 0)
    return float(np.mean(distance)), float(np.mean(differs))


def splits(count: int, chosen: int) -> Iterator[tuple[list[int], list[int]]]:
    for some in itertools.combinations(range(count), chosen):
        yield list(some), [s for s in range(count) if s not in some]


def protocol(method: Arm, base: Arm, *, alike: Rule | None = None) -> tuple[float, float, float]:
    """A method over its base: its mean cost and the base's, and their difference on test.

    The base is tuned on two seeds, the method on three, by today's rule (it leaves the base's rate
    only for one that is better on every seed), or both alike by the rule given.
    """
    lost, its, gain = [], [], []
    for tuning, others in splits(len(base.seeds), TUNING + 1):
        if alike is None:
            first, second = _by_search(method, base, tuning)
        else:
            first, second = alike(base, tuning[:TUNING]), alike(method, tuning)
        ours, theirs = method.test[:, others].mean(1), base.test[:, others].mean(1)
        lost.append(ours.max() - ours[second])
        its.append(theirs.max() - theirs[first])
        gain.append(ours[second] - theirs[first])
    return float(np.mean(lost)), float(np.mean(its)), float(np.mean(gain))


def _by_search(method: Arm, base: Arm, tuning: list[int]) -> tuple[int, int]:
    """What paramcast's own search chooses for a base and for a method over it."""
    points = range(0, len(base.rates), 2)
    first = search_base({p: [*base.loss[p, tuning]] for p in points}, TUNING)[1] or 0
    second = search({p: [*method.loss[p, tuning]] for p in points}, first, len(tuning))[1] or 0
    return first, second


def row(*cells: object) -> None:
    shown = (f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells)
    click.echo("| " + " | ".join(shown) + " |")


def report(file: Path) -> None:
    arms = arms_of(file)
    click.echo(f"\n**{file.stem}**, {len(arms)} arms, {FEWEST_SEEDS} seeds; points of accuracy\n")
    row("arm", *(f"{name}: cost (factors of 2 above)" for name in RULES))
    row(*["---"] * (1 + len(RULES)))
    costs = {(a, r): cost(arm, rule) for a, arm in arms.items() for r, rule in RULES.items()}
    for a in arms:
        row(a, *(f"{100 * costs[a, r][0]:.2f} ({costs[a, r][1]:+.1f})" for r in RULES))
    row("mean", *(100 * float(np.mean([costs[a, r][0] for a in arms])) for r in RULES))
    nulls = {
        r: np.mean([null(arm, rule) for arm in arms.values()], axis=0) for r, rule in RULES.items()
    }
    row("two equal arms: distance", *(100 * float(nulls[r][0]) for r in RULES))
    row("two equal arms: 'differ', %", *(100 * float(nulls[r][1]) for r in RULES))
    base = arms["adamw warmup"]
    click.echo()
    row("method over adamw warmup", "rule", "method's cost", "base's cost", "method minus base")
    row(*["---"] * 5)
    ways: dict[str, Rule | None] = {"today's": None, **{r: RULES[r] for r in RULES}}
    for a, arm in arms.items():
        if a.startswith("adamw warmup ") and len(a.split()) == 3:
            for name, rule in ways.items():
                row(a.split()[-1], name, *(100 * x for x in protocol(arm, base, alike=rule)))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        report(Path(argument))
