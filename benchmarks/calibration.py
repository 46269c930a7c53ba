"""What the verdict says where the truth is known: its rates over many pilots.

    python benchmarks/calibration.py simulated 10000
    python benchmarks/calibration.py resampled 10000    # real digits runs, results/paired-null.csv
    python benchmarks/calibration.py trained            # 60 pilots, results/null-pilots.csv
    python benchmarks/calibration.py coverage 10000     # of the t intervals, n = 3 to 8

Every pilot is judged by the product's own functions: the choice of the learning rates (`tune`), the
comparisons (`stats`) and the verdict (`verdict`). Effects count margins m = 0.5 points of accuracy.
It prints a Markdown table and ends with code 1 if a promised rate is not kept.

The tables of real runs come from studies in which every arm is the base from initial weights moved
by 0.1 %, so that arms of one seed differ by nothing that matters:

    paramcast study run benchmarks/paired-null.toml --out bank
    paramcast study export bank bank.parquet --runs
    python benchmarks/calibration.py table bank.parquet results/paired-null.csv
"""

from __future__ import annotations

import csv
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy
from scipy.stats import binomtest

import paramcast
from paramcast.study.judging import stats
from paramcast.study.judging import verdict as V
from paramcast.study.judging.tune import best_for_base, best_for_method, learning_rates
from paramcast.study.judging.verdict import Arm, Metric

RESULTS = Path(__file__).parents[1] / "results"
TESTS, MARGIN = 1100, 0.005
METRIC = Metric("accuracy", True, MARGIN, 0.5 / TESTS)
LR_RANGE = (0.003, 0.3)
ROLES = ("base", "predictor", "larger step", "random jump")
QUALITY = (V.ADOPT, V.INSTEAD, V.SAME, V.HARMFUL, V.INCONCLUSIVE)
HIT = (V.ADOPT, V.HARMFUL)
"""What must not be said of the base against itself."""


class Runs(NamedTuple):
    """The final runs of the four arms: their values and whether they diverged, (4, n) each."""

    values: np.ndarray
    diverged: np.ndarray


class World(Protocol):
    """Where pilots get their runs from; all four arms are the base."""

    rng: np.random.Generator
    count: int
    """Of the seeds that there are."""

    def tried(self, trials: int) -> Sequence[float]:
        """The learning rates of a search."""

    def losses(self, lrs: Sequence[float], seeds: np.ndarray) -> np.ndarray:
        """Validation losses of two arms, (2, rates, seeds)."""

    def final(self, lrs: Sequence[float], seeds: np.ndarray) -> Runs:
        """The final runs of the four arms, each at its own learning rate."""


class Simulated:
    """Normal noise on a parabola over the logarithm of the learning rate.

    Args:
        spread: sd of the paired differences of two arms at one rate, in margins.
        curvature: margins lost by going from the best rate to an end of the range.
        tuning: sd of the differences of two tuning runs, in margins.
    """

    def __init__(self, spread: float = 1.0, curvature: float = 0.0, tuning: float = 1.0) -> None:
        self.spread, self.curvature, self.tuning = spread, curvature, tuning
        self.rng = np.random.default_rng(0)
        self.count = 40  # seeds; they are all alike

    def tried(self, trials: int) -> Sequence[float]:
        return learning_rates(*LR_RANGE, trials)

    def losses(self, lrs: Sequence[float], seeds: np.ndarray) -> np.ndarray:
        """A loss is an accuracy's mirror here: the seed moves all arms, noise each run."""
        level = np.array([self._below_best(lr) for lr in lrs])[None, :, None]
        common = self.rng.normal(0, 2, (1, 1, len(seeds)))
        own = self.rng.normal(0, self.tuning / np.sqrt(2), (2, len(lrs), len(seeds)))
        return level + common + own

    def final(self, lrs: Sequence[float], seeds: np.ndarray) -> Runs:
        level = -np.array([[self._below_best(lr)] for lr in lrs])
        common = self.rng.normal(0, 2, (1, len(seeds)))
        own = self.rng.normal(0, self.spread / np.sqrt(2), (len(lrs), len(seeds)))
        values = 0.9 + MARGIN * (level + common + own)
        return Runs(values, np.zeros(values.shape, dtype=bool))

    def _below_best(self, lr: float) -> float:
        place = np.log(lr / LR_RANGE[0]) / np.log(LR_RANGE[1] / LR_RANGE[0])
        return float(self.curvature * (2 * (place - 0.5)) ** 2)


class Bank:
    """Stored runs of the base, drawn anew: which seeds, and which arm gets which of a seed's runs.

    Any order of a seed's runs is as likely as any other, so that no arm is better in truth.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        axes = [np.unique(columns[name], return_inverse=True) for name in ("lr", "seed", "draw")]
        self.rates = [float(lr) for lr in axes[0][0]]
        self.count, self.draws = len(axes[1][0]), len(axes[2][0])
        place = tuple(inverse for _, inverse in axes)
        self.loss, self.value, self.diverged = (
            np.full([len(values) for values, _ in axes], np.nan) for _ in range(3)
        )
        self.loss[place] = columns["validation_loss"]
        self.value[place] = columns["correct"] / TESTS
        self.diverged[place] = columns["diverged"]
        if np.isnan(self.value).any():
            raise SystemExit(f"{path} lacks runs: every rate needs the same seeds and draws")
        self.rng = np.random.default_rng(seed)

    def tried(self, trials: int) -> Sequence[float]:
        return self.rates[:: len(self.rates) // trials]

    def losses(self, lrs: Sequence[float], seeds: np.ndarray) -> np.ndarray:
        rates, draws = [self._rate(lr) for lr in lrs], self._draws(len(seeds))[:2]
        return np.stack([self.loss[rates][:, seeds, draw] for draw in draws])

    def final(self, lrs: Sequence[float], seeds: np.ndarray) -> Runs:
        draws = self._draws(len(seeds))
        arms = [(self._rate(lr), seeds, draw) for lr, draw in zip(lrs, draws, strict=True)]
        return Runs(
            np.stack([self.value[arm] for arm in arms]),
            np.stack([self.diverged[arm] > 0 for arm in arms]),
        )

    def _rate(self, lr: float) -> int:
        return int(np.argmin(np.abs(np.array(self.rates) - lr)))  # written with all digits

    def _draws(self, seeds: int) -> np.ndarray:
        """A random order of the draws for every seed, (4, seeds)."""
        return self.rng.permuted(np.tile(np.arange(self.draws), (seeds, 1)), axis=1).T[:4]


@dataclass(frozen=True)
class Case:
    """A truth, and the pilots that look at it.

    Attributes:
        name: what is true.
        effect: what is added to predictor, larger step and random jump, in margins.
        n: final seeds.
        tuned: how many learning rates and tuning seeds; None where the rate is given.
        rule: whether a method leaves the base's rate only if better on every tuning seed.
        diverging: for each arm, the share of seeds on which it diverges.
        controls: whether there are any.
        extended: whether an inconclusive pilot is extended to 2 n and then 4 n seeds.
        at_most, at_least: kinds of verdict and the per cent that they must keep to.
    """

    name: str
    effect: tuple[float, float, float] = (0.0, 0.0, 0.0)
    n: int = 8
    tuned: tuple[int, int] | None = None
    rule: bool = True
    diverging: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    controls: bool = True
    extended: bool = False
    at_most: tuple[tuple[tuple[str, ...], float], ...] = ()
    at_least: tuple[tuple[tuple[str, ...], float], ...] = ()


NULL: dict[str, Any] = {"at_most": ((HIT, 5.0),)}
BETTER = Case("+1.5 m over base and controls", (1.5, 0, 0), at_least=(((V.ADOPT,), 80.0),))
INSTEAD_OF = {"at_least": (((V.INSTEAD,), 90.0),), "at_most": (((V.ADOPT,), 5.0),)}
LARGER = Case("only a larger step, +2 m", (2, 2, 0), **INSTEAD_OF)
NOISE = Case("only noise, +2 m", (2, 0, 2), **INSTEAD_OF)
HARM = Case("harm, -2 m", (-2, 0, 0), at_least=(((V.HARMFUL,), 99.0),))
UNSTABLE = Case(
    "predictor diverges on 60 % of seeds",
    diverging=(0, 0.6, 0, 0),
    at_least=(((V.HARMFUL,), 90.0),),
)
CASES = (
    Case("base against base", **NULL), BETTER, LARGER, NOISE, HARM, UNSTABLE,
    Case("a control diverges on 60 % of seeds", diverging=(0, 0, 0.6, 0), at_most=((HIT, 0.1),)),
    Case("base diverges on 60 % of seeds", diverging=(0.6, 0, 0, 0), at_most=((HIT, 0.1),)),
    Case("base against base, no controls", controls=False, **NULL),
    Case("base against base, extended", extended=True, **NULL),
    Case("base against base, tuned 8 x 3", tuned=(8, 3), n=12, **NULL),
    Case("base against base, tuned 4 x 2", tuned=(4, 2), **NULL),
    Case("the same without the tuning rule, 8 x 3", tuned=(8, 3), n=12, rule=False),
)  # fmt: skip


def tuned(case: Case) -> Case:
    """The case with everything tuned, as the pilot does by default."""
    return replace(case, name=f"{case.name}, tuned 8 x 3", n=12, tuned=(8, 3))


def verdict(world: World, case: Case, lr: float = 0.1) -> str:
    """What one pilot says; `lr` is the rate of a case that is not tuned."""
    trials, tuning_seeds = case.tuned or (1, 0)
    looks = (case.n, 2 * case.n, 4 * case.n) if case.extended else (case.n,)
    seeds = world.rng.permutation(world.count)[: tuning_seeds + looks[-1]]
    base_lr = own_lr = lr
    if case.tuned:
        rates = world.tried(trials)
        found = world.losses(rates, seeds[:tuning_seeds])
        base, own = (dict(zip(rates, arm.tolist(), strict=True)) for arm in found)
        base_lr = best_for_base(base)
        own_lr = best_for_method(own, base_lr) if case.rule else best_for_base(own)
    lrs = (base_lr, own_lr, own_lr, own_lr)
    values, diverged = world.final(lrs, seeds[tuning_seeds:])
    values = values + METRIC.margin * np.array([0.0, *case.effect])[:, None]
    broken = world.rng.random(values.shape) < np.array(case.diverging)[:, None]
    values, diverged = np.where(broken, 0.1, values), diverged | broken
    for n in looks:
        kind = judge(lrs, values[:, :n], diverged[:, :n], case, 0.95 if n == case.n else 0.98)
        if kind != V.INCONCLUSIVE:
            break
    return kind


def judge(
    lrs: Sequence[float], values: np.ndarray, diverged: np.ndarray, case: Case, confidence: float
) -> str:
    base, predictor, *controls = (
        Arm(name, name, lr, tuple(v), tuple(v), tuple(d), tuple(d), advice="do")
        for name, lr, v, d in zip(ROLES, lrs, values.tolist(), diverged.tolist(), strict=True)
    )
    return V.judge_quality(base, predictor, controls * case.controls, METRIC, confidence).kind


class Rates:
    """How often each verdict fell."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.counts = Counter(kinds)
        self.pilots = self.counts.total()

    def per_cent(self, *kinds: str) -> float:
        return 100 * sum(self.counts[kind] for kind in kinds) / self.pilots

    def interval(self, *kinds: str) -> tuple[float, float]:
        """The exact 95 % interval of the share of pilots that say one of these, per cent."""
        found = sum(self.counts[kind] for kind in kinds)
        interval = binomtest(found, self.pilots).proportion_ci(0.95)
        return 100 * interval.low, 100 * interval.high

    def broken(self, case: Case) -> list[str]:
        """The promises that these rates are further from than 3.2 standard errors."""
        bounds = [(kinds, p, 1) for kinds, p in case.at_most]
        bounds += [(kinds, p, -1) for kinds, p in case.at_least]
        return [
            f"{case.name}: {' or '.join(kinds)} {self.per_cent(*kinds):.2f} %, "
            f"promised at {'most' if sign > 0 else 'least'} {p} %"
            for kinds, p, sign in bounds
            if sign * (self.per_cent(*kinds) - p)
            > 320 * sqrt(p / 100 * (1 - p / 100) / self.pilots)
        ]


def rates(world: World, case: Case, pilots: int, lr: float = 0.1) -> Rates:
    """The verdicts of many pilots."""
    return Rates(verdict(world, case, lr) for _ in range(pilots))


@dataclass(frozen=True)
class Speed:
    """A truth about the same arms with 0.8 T steps.

    Attributes:
        name: what is true.
        lost: margins that the base loses.
        ahead: margins by which the predictor ends above the base, both with 0.8 T.
        spread: sd of the paired differences, in margins.
        at_most, at_least: kinds of verdict and the per cent that they must keep to.
    """

    name: str
    lost: float
    ahead: float
    spread: float
    at_most: tuple[tuple[tuple[str, ...], float], ...] = ()
    at_least: tuple[tuple[tuple[str, ...], float], ...] = ()


SPEEDS = (
    *(
        Speed(f"0.8 T loses {lost:g} m, predictor too", lost, 0, spread, (((V.FASTER,), 5.0),))
        for spread in (0.35, 0.7, 1.0)
        for lost in (0.5, 0.75, 1.0, 2.0)
    ),
    Speed("0.8 T loses 2 m, predictor nothing", 2, 2, 0.7, (), (((V.FASTER,), 80.0),)),
)


def speed(world: World, case: Speed, n: int = 8, lr: float = 0.1) -> str:
    """The verdict on speed of one pilot."""
    values = world.final((lr,) * 4, world.rng.permutation(world.count)[:n]).values
    short = values[2:] - METRIC.margin * np.array([[case.lost], [case.lost - case.ahead]])
    never = (False,) * n
    base, predictor = (
        Arm(name, name, lr, tuple(at), tuple(early), never, never)
        for name, at, early in zip(ROLES, values[:2].tolist(), short.tolist(), strict=False)
    )
    return V.judge_speed(base, predictor, [], METRIC, 0.95).kind


# --- tables -------------------------------------------------------------------------------------


class Table:
    """Prints rows as they come, and keeps the promises that were broken."""

    def __init__(self, kinds: Sequence[str], hit: Sequence[str]) -> None:
        self.kinds, self.hit, self.broken = kinds, hit, list[str]()
        print(
            f"\n| what is true | n | {' | '.join(kinds)} | {' or '.join(hit)} (95 %) | promised |"
        )
        print("|---|---|" + "---|" * (len(kinds) + 2))

    def row(self, case: Case | Speed, n: int, found: Rates, name: str = "") -> None:
        low, high = found.interval(*self.hit)
        promised = [f"{' or '.join(kinds)} <= {p:g}" for kinds, p in case.at_most]
        promised += [f"{' or '.join(kinds)} >= {p:g}" for kinds, p in case.at_least]
        cells = [name or case.name, str(n), *(f"{found.per_cent(kind):.1f}" for kind in self.kinds)]
        cells += [f"{found.per_cent(*self.hit):.1f} ({low:.1f} to {high:.1f})", ", ".join(promised)]
        print(f"| {' | '.join(cells)} |", flush=True)
        self.broken += found.broken(case)


ROWS: tuple[tuple[str, Case, Simulated], ...] = (
    *((case.name, case, Simulated()) for case in CASES if not case.tuned),
    *(
        (f"base against base, spread {spread:g} m", replace(CASES[0], n=n), Simulated(spread))
        for n, spread in ((12, 0.7), (8, 0.35), (8, 2.0), (8, 5.0))
    ),
    *(
        (f"{case.name}; loses {curvature:g} m at the ends", case, Simulated(1.0, curvature))
        for case in CASES
        if case.tuned
        for curvature in (0.0, 5.0, 50.0)
    ),
    *(
        (f"{case.name}; loses 10 m, tuning 5 m", replace(case, at_most=()), Simulated(0.7, 10, 5))
        for case in CASES
        if case.tuned
    ),
)
"""What is simulated. The last rows are harsh: tuning runs seven times as noisy as final ones."""


def simulated(pilots: int) -> list[str]:
    """The rates where every arm has normal noise of its own."""
    table = Table(QUALITY, HIT)
    for name, case, world in ROWS:
        table.row(case, case.n, rates(world, case, pilots), name)
    again = Table((V.FASTER, V.NOT_FASTER, V.INCONCLUSIVE), (V.FASTER,))
    for quick in SPEEDS:
        world = Simulated(quick.spread)
        found = Rates(speed(world, quick) for _ in range(pilots))
        again.row(quick, 8, found, f"{quick.name}, spread {quick.spread:g} m")
    return table.broken + again.broken


RESAMPLED = (
    *(case for case in CASES if case.tuned and case.rule),
    *map(tuned, (BETTER, LARGER, NOISE, HARM, UNSTABLE)),
)


def resampled(pilots: int) -> list[str]:
    """The rates where the runs are real ones, drawn anew."""
    bank = Bank(RESULTS / "paired-null.csv")
    table = Table(QUALITY, HIT)
    for case in (*RESAMPLED, CASES[-1]):
        table.row(case, case.n, rates(bank, case, pilots))
    for lr in bank.rates:
        at = replace(CASES[0], name=f"base against base, --lr {lr:.4g}")
        table.row(at, at.n, rates(bank, at, pilots, lr))
    return table.broken


def trained(bank: Bank) -> Rates:
    """The verdicts of pilots at one rate of a bank, each run used once: 8 seeds, then 8 more."""
    case, (lr,) = CASES[0], bank.rates
    values, diverged = bank.value[0].T, bank.diverged[0].T > 0
    groups = [slice(i, i + case.n) for i in range(0, bank.count, case.n)]
    return Rates(
        judge([lr] * 4, values[:, seeds], diverged[:, seeds], case, 0.95) for seeds in groups
    )


def hits(found: Rates) -> int:
    """How many pilots found a difference."""
    return sum(found.counts[kind] for kind in HIT)


def trained_table() -> list[str]:
    bank = Bank(RESULTS / "null-pilots.csv")
    found = trained(bank)
    name = f"{found.pilots} trained pilots of base against base, --lr {bank.rates[0]:g}"
    Table(QUALITY, HIT).row(CASES[0], 8, found, name)
    return [f"{hits(found)} pilots found a difference"] if hits(found) > 7 else []


# --- intervals ----------------------------------------------------------------------------------

Population = Callable[[np.random.Generator, int], np.ndarray]
"""Draws n differences in points; their mean in truth is 0."""


def ties(examples: int, changed: float) -> Population:
    """Differences of two accuracies: each of the examples is won or lost with a small chance."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        won, lost = rng.binomial(examples, changed / examples, (2, n))
        return (won - lost) / examples

    return draw


def one_diverged(rng: np.random.Generator, n: int) -> np.ndarray:
    """Exactly one of the 2 n runs diverged."""
    differences = rng.normal(0, MARGIN, n)
    differences[rng.integers(n)] += 0.8 * rng.choice((-1, 1))
    return differences


def real(bank: Bank, rate: int) -> Population:
    """Two draws each of n seeds of the stored runs."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        seeds = rng.permutation(bank.count)[:n]
        one, two = rng.permuted(np.tile(np.arange(bank.draws), (n, 1)), axis=1).T[:2]
        return bank.value[rate, seeds, one] - bank.value[rate, seeds, two]

    return draw


POPULATIONS: dict[str, tuple[Population, float]] = {
    "normal": (lambda rng, n: rng.normal(0, MARGIN, n), 0.0),
    "uniform": (lambda rng, n: rng.uniform(-MARGIN, MARGIN, n), 0.0),
    "skewed (exponential)": (lambda rng, n: MARGIN * (rng.exponential(size=n) - 1), 0.0),
    "ties, 1,100 test examples, 5 change": (ties(1100, 5), 0.5 / 1100),
    "ties, 50 test examples, 1 changes": (ties(50, 1), 0.5 / 50),
    "ties, 50 test examples, 0.1 change": (ties(50, 0.1), 0.5 / 50),
    "all equal": (lambda rng, n: np.zeros(n), 0.5 / 1100),
    "one diverged run": (one_diverged, 0.5 / 1100),
}
"""With the smallest half-width that the pilot would use."""


def covered(population: Population, half_example: float, n: int, samples: int) -> float:
    """Per cent of the intervals that hold the truth, 0."""
    rng, found = np.random.default_rng(n), 0
    for _ in range(samples):
        c = stats.compare(population(rng, n), MARGIN, half_example=half_example)
        found += c.low <= 0.0 <= c.high
    return 100 * found / samples


def coverage(samples: int) -> list[str]:
    """How many of the 95 % intervals hold the truth."""
    sizes = range(3, 9)
    populations = dict(POPULATIONS)
    bank = Bank(RESULTS / "paired-null.csv")
    for i, lr in enumerate(bank.rates):
        populations[f"real digits runs, rate {lr:.4g}"] = real(bank, i), 0.5 / TESTS
    print(f"\n| differences | {' | '.join(f'n = {n}' for n in sizes)} |")
    print("|---|" + "---|" * len(sizes))
    for name, (population, half_example) in populations.items():
        shares = [covered(population, half_example, n, samples) for n in sizes]
        print(f"| {name} | {' | '.join(f'{share:.1f}' for share in shares)} |", flush=True)
    return []


def write_table(source: Path, target: Path) -> list[str]:
    """From a study's exported runs to the columns that a pilot needs."""
    import pandas as pd

    runs = pd.read_parquet(source)
    runs = runs[runs["method"].str.startswith("perturbed")]
    lines = ["lr,seed,draw,validation_loss,correct,diverged"]
    for run in runs.sort_values(["lr", "seed", "method"]).itertuples():
        draw = run.method.split("draw=")[1].rstrip(")")
        lines.append(
            f"{run.lr!r},{run.seed},{draw},{run.validation_loss:.5g},"
            f"{round(run.test_metric * TESTS)},{int(run.status == 'diverged')}"
        )
    target.write_text("\n".join(lines) + "\n")
    return []


def main(words: Sequence[str]) -> int:
    begun = time.perf_counter()
    stats._sign_flip = lambda d: 1.0  # most of the time, and decides nothing
    match words:
        case ["simulated", count]:
            broken = simulated(int(count))
        case ["resampled", count]:
            broken = resampled(int(count))
        case ["trained"]:
            broken = trained_table()
        case ["coverage", count]:
            broken = coverage(int(count))
        case ["table", source, target]:
            broken = write_table(Path(source), Path(target))
        case _:
            raise SystemExit(__doc__)
    print(
        f"\n{time.perf_counter() - begun:.0f} s, paramcast {paramcast.__version__}, "
        f"SciPy {scipy.__version__}, Python {platform.python_version()}"
    )
    print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
