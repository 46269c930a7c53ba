"""What a pilot says where the truth is known: its rates over many pilots, and what they cost.

    python benchmarks/calibration.py simulated 10000
    python benchmarks/calibration.py resampled 10000    # real digits runs, results/paired-null.csv
    python benchmarks/calibration.py trained            # 60 pilots, results/null-pilots.csv
    python benchmarks/calibration.py pilots 60 FOLDER   # 60 pilots on digits, trained now
    python benchmarks/calibration.py coverage 10000     # of the t intervals, n = 3 to 8

Every pilot is the product's own course (`study.course.Course`): the search of the learning rates,
the looks, the arms that run, the verdicts. Only the trainings are drawn. Effects count margins
m = 0.5 points of accuracy. It prints a Markdown table and ends with code 1 if a promised rate is
not kept.

The tables of real runs come from studies in which every arm is the base from initial weights moved
by 0.1 %, so that arms of one seed differ by nothing that matters:

    paramcast study run benchmarks/paired-null.toml --out bank
    paramcast study export bank bank.parquet --runs
    python benchmarks/calibration.py table bank.parquet results/paired-null.csv
"""

from __future__ import annotations

import csv
import functools
import math
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy
from scipy.stats import binomtest

import paramcast
from paramcast.study.course import Course
from paramcast.study.judging import stats
from paramcast.study.judging import verdict as V
from paramcast.study.judging.looks import extended, planned
from paramcast.study.judging.tune import learning_rates
from paramcast.study.plan import Options, Plan
from paramcast.study.spec import NEVER, OPEN, RunSpec
from paramcast.study.tasks.source import Source
from paramcast.study.tasks.task import Sizes, Usual
from paramcast.study.training.methods import parse_methods

RESULTS = Path(__file__).parents[1] / "results"
TESTS, MARGIN = 1100, 0.005
LR_RANGE = (0.003, 0.3)
ARMS = ("base", "predictor", "larger step", "random jump")
CONSTANT = 0.1
"""What a constant prediction scores."""
QUALITY = (
    V.ADOPT, V.INSTEAD, V.SLIGHTLY_BETTER, V.SAME, V.SLIGHTLY_WORSE, V.HARMFUL, V.INCONCLUSIVE,
)  # fmt: skip
HIT = (V.ADOPT, V.HARMFUL)
"""What must not be said of the base against itself."""
OLD_PLAN = 192
"""Trainings of the default pilot before arms were lazy: 72 to tune, 120 final."""


class World(Protocol):
    """Where pilots get their runs from; all four arms are the base."""

    rng: np.random.Generator

    def tried(self, trials: int) -> Sequence[float]:
        """The learning rates of a search."""

    def begin(self) -> None:
        """A new pilot: draw its seeds and its noise."""

    def loss(self, arm: int, lr: float, seed: int) -> float:
        """The validation loss of a tuning run."""

    def value(self, arm: int, lr: float, seed: int, *, early: bool) -> float:
        """The accuracy of a final run; NaN if it diverged."""


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

    def tried(self, trials: int) -> Sequence[float]:
        return learning_rates(*LR_RANGE, trials)

    def begin(self) -> None:
        self._common = self.rng.normal(0, 2, 96)  # by seed: all arms move with it
        self._own = self.rng.normal(0, self.spread / math.sqrt(2), (2, 4, 96))
        self._tuning = self.rng.normal(0, self.tuning / math.sqrt(2), (4, 16, 4))

    def loss(self, arm: int, lr: float, seed: int) -> float:
        """An accuracy's mirror, in margins."""
        return self._below_best(lr) + float(self._tuning[arm, self._index(lr), seed])

    def value(self, arm: int, lr: float, seed: int, *, early: bool) -> float:
        noise = self._common[seed] + self._own[int(early), arm, seed]
        return float(0.9 + MARGIN * (noise - self._below_best(lr)))

    def _place(self, lr: float) -> float:
        return math.log(lr / LR_RANGE[0]) / math.log(LR_RANGE[1] / LR_RANGE[0])

    def _index(self, lr: float) -> int:
        return round(15 * self._place(lr)) % 16

    def _below_best(self, lr: float) -> float:
        return self.curvature * (2 * (self._place(lr) - 0.5)) ** 2


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
        self.losses, self.values, self.diverged = (
            np.full([len(values) for values, _ in axes], np.nan) for _ in range(3)
        )
        self.losses[place] = columns["validation_loss"]
        self.values[place] = columns["correct"] / TESTS
        self.diverged[place] = columns["diverged"]
        if np.isnan(self.values).any():
            raise SystemExit(f"{path} lacks runs: every rate needs the same seeds and draws")
        self.rng = np.random.default_rng(seed)

    def tried(self, trials: int) -> Sequence[float]:
        return self.rates[:: len(self.rates) // trials]

    def begin(self) -> None:
        self._seeds = self.rng.permutation(self.count)
        order = np.tile(np.arange(self.draws), (2, self.count, 1))
        self._draws = self.rng.permuted(order, axis=2)  # for tuning and final runs, by seed

    def loss(self, arm: int, lr: float, seed: int) -> float:
        own = self._seeds[-1 - seed]  # tuning seeds are not among the final ones
        return float(self.losses[self._rate(lr), own, self._draws[0, own, arm]])

    def value(self, arm: int, lr: float, seed: int, *, early: bool) -> float:
        own = self._seeds[seed]
        place = self._rate(lr), own, self._draws[1, own, arm]
        return math.nan if self.diverged[place] else float(self.values[place])

    def _rate(self, lr: float) -> int:
        return int(np.argmin(np.abs(np.array(self.rates) - lr)))  # written with all digits


@dataclass(frozen=True)
class Case:
    """A truth, and the pilots that look at it.

    Attributes:
        name: what is true.
        effect: what is added to predictor, larger step and random jump, in margins.
        seeds: at most.
        tuned: how many learning rates and tuning seeds; None where the rate is given.
        rule: whether a method leaves the base's rate only if better on every tuning seed.
        diverging: for each arm, the share of seeds on which it diverges.
        unlearned: arms that end at the constant prediction.
        controls: whether there are any; an average of the weights has none.
        extended: whether an inconclusive pilot is extended to twice the seeds.
        lost: margins that every arm loses with 0.8 T steps; None if speed is not asked.
        ahead: margins by which the predictor is above that.
        at_most, at_least: kinds of verdict and the per cent that they must keep to.
        speed: whether these are of the verdict on speed.
    """

    name: str
    effect: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seeds: int = 24
    tuned: tuple[int, int] | None = None
    rule: bool = True
    diverging: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    unlearned: tuple[str, ...] = ()
    controls: bool = True
    extended: bool = False
    lost: float | None = 1.0
    ahead: float = 0.0
    at_most: tuple[tuple[tuple[str, ...], float], ...] = ()
    at_least: tuple[tuple[tuple[str, ...], float], ...] = ()
    speed: bool = False


NULL: dict[str, Any] = {"at_most": ((HIT, 5.0),)}
BETTER = Case("+1.5 m over base and controls", (1.5, 0, 0), at_least=(((V.ADOPT,), 90.0),))
INSTEAD_OF = {"at_least": (((V.INSTEAD,), 90.0),), "at_most": (((V.ADOPT,), 5.0),)}
LARGER = Case("only a larger step, +2 m", (2, 2, 0), **INSTEAD_OF)
NOISE = Case("only noise, +2 m", (2, 0, 2), **INSTEAD_OF)
HARM = Case("harm, -2 m", (-2, 0, 0), at_least=(((V.HARMFUL,), 99.0),))
UNSTABLE = Case(
    "predictor diverges on 60 % of seeds",
    diverging=(0, 0.6, 0, 0),
    at_least=(((V.HARMFUL,), 90.0),),
)
WEAK = replace(BETTER, name="+1.5 m, the controls have not learned yet", unlearned=ARMS[2:])
CASES = (
    Case("base against base", **NULL), BETTER, LARGER, NOISE, HARM, UNSTABLE,
    Case("half a margin better than everything", (0.5, 0, 0), at_most=((HIT, 5.0),)),
    replace(BETTER, name="+1.5 m, a control diverges on 60 % of seeds", diverging=(0, 0, 0.6, 0)),
    WEAK,
    Case("the base has not learned yet", unlearned=("base",), at_most=((HIT, 0.1),)),
    Case("base diverges on 60 % of seeds", diverging=(0.6, 0, 0, 0), at_most=((HIT, 0.1),)),
    Case("base against base, no controls", controls=False, **NULL),
    Case("base against base, extended to 48", extended=True, **NULL),
    Case("base against base, --quick at a given rate", seeds=8, **NULL),
    Case("base against base, tuned 8 x 3", tuned=(8, 3), **NULL),
    Case("base against base, tuned 4 x 2", tuned=(4, 2), seeds=8, **NULL),
    Case("the same without the tuning rule, 8 x 3", tuned=(8, 3), rule=False),
)  # fmt: skip


def tuned(case: Case) -> Case:
    """The case with everything tuned, as the pilot does by default."""
    return replace(case, name=f"{case.name}, tuned 8 x 3", tuned=(8, 3))


class Drawn:
    """A subject whose trainings are drawn."""

    name, metric_name, higher_is_better = "drawn", "accuracy", True
    usual, sizes = Usual("sgd", LR_RANGE, 1, 1, "constant"), Sizes(test=TESTS)
    description: dict[str, Any] = {}  # noqa: RUF012 - nothing is read
    example_share, constant_value = 1.0 / TESTS, CONSTANT

    def fingerprint(self) -> str:
        return ""

    def steps(self, epochs: int, batch_size: int, share: float = 1.0) -> int:
        return 1

    def work(self, epochs: int, share: float) -> float:
        return 1.0


class Pilot(NamedTuple):
    """What a pilot said, and its trainings."""

    quality: str
    speed: str
    seeds: int
    trainings: int


@functools.cache
def plan_of(case: Case, lr: float) -> Plan:
    trials, trial_seeds = case.tuned or (1, 1)
    options = Options(
        source=Source("builtin", "drawn"),
        methods=parse_methods("plp" if case.controls else "ema"), base="sgd",
        lr_range=LR_RANGE, epochs=1, batch_size=1, schedule="constant",
        lr=None if case.tuned else lr, trials=trials, trial_seeds=trial_seeds,
        seeds=2 * case.seeds if case.extended else case.seeds,
        speed=NEVER if case.lost is None else OPEN,
    )  # fmt: skip
    return Plan(options, Drawn(), Path("drawn"))


class Drawing(Course):
    """A course on a world's learning rates; without the rule each method takes its own best one."""

    def __init__(self, plan: Plan, looks: list[Any], tried: Sequence[float], *, rule: bool) -> None:
        super().__init__(plan, looks)
        self._tried, self._rule = tuple(tried), rule

    @property
    def rates(self) -> tuple[float, ...]:
        return self._tried

    def _search(self, outcomes: Any) -> list[RunSpec]:
        if self._rule:
            return super()._search(outcomes)
        specs: list[RunSpec] = []
        for method in self.plan.with_own_rate:
            losses = self.losses(method, outcomes)
            missing = [
                (rate, seed)
                for rate, known in losses.items()
                for seed in range(len(known), self.tuning_seeds)
            ]
            specs += [self.plan.spec(method, lr, "tune", seed, 1.0) for lr, seed in missing]
            if not missing:
                self.chosen[method] = min(losses, key=lambda rate: float(np.mean(losses[rate])))
        return specs


def pilot(world: World, case: Case, lr: float = 0.1) -> Pilot:
    """One pilot; `lr` is the rate of a case that is not tuned."""
    plan = plan_of(case, lr)
    looks = planned(case.seeds)
    if case.extended:
        looks = extended(looks, 2 * case.seeds) or looks
    tried = world.tried(case.tuned[0]) if case.tuned else (lr,)
    course = Drawing(plan, looks, tried, rule=case.rule or not case.tuned)
    world.begin()
    broken = world.rng.random((4, 96)) < np.array(case.diverging)[:, None]
    gain = 7 / 6  # of PLP: the rate of the larger step is the predictor's times this
    outcomes: dict[str, Any] = {}
    while (wanted := course.next(outcomes)) is not None:
        for spec in wanted.specs:
            outcomes[spec.key] = _outcome(world, case, spec, broken, gain, course)
    (own,) = course.verdicts.values()
    speed = own["speed"].kind if "speed" in own else ""
    return Pilot(own["quality"].kind, speed, course.taken[-1].seeds, course.trainings)


def _outcome(
    world: World, case: Case, spec: RunSpec, broken: np.ndarray, gain: float, course: Course
) -> dict[str, Any]:
    lr, arm = spec.lr, {"base": 0, "plp": 1, "ema": 1, "random-jump:plp": 3}[spec.method]
    if spec.phase == "tune":
        return {
            "status": "done",
            "seconds": 1.0,
            "validation": {"loss": world.loss(arm, lr, spec.seed)},
        }
    if arm == 0 and lr != course.chosen["base"]:
        arm, lr = 2, lr / gain
    early = spec.share < 1.0
    value = world.value(arm, lr, spec.seed, early=early)
    if ARMS[arm] in case.unlearned:
        value = CONSTANT + 0.001 * world.rng.normal()
    if arm:
        value += MARGIN * case.effect[arm - 1]
    if early:
        value -= MARGIN * ((case.lost or 0.0) - (case.ahead if arm == 1 else 0.0))
    lost = bool(broken[arm, spec.seed]) or math.isnan(value)
    test = {"metric": CONSTANT if lost else value}
    return {"status": "diverged" if lost else "done", "seconds": 1.0, "test": test}


class Rates:
    """How often each verdict fell."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.counts = Counter(kinds)
        self.pilots = self.counts.total()
        self.seeds = self.trainings = math.nan

    @classmethod
    def of(cls, pilots: Sequence[Pilot], *, speed: bool = False) -> Rates:
        """The rates of pilots' verdicts, with the means of what they took."""
        found = cls(pilot.speed if speed else pilot.quality for pilot in pilots)
        found.seeds = float(np.mean([pilot.seeds for pilot in pilots]))
        found.trainings = float(np.mean([pilot.trainings for pilot in pilots]))
        return found

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
            > 320 * math.sqrt(p / 100 * (1 - p / 100) / self.pilots)
        ]


def rates(world: World, case: Case, pilots: int, lr: float = 0.1) -> Rates:
    """The verdicts of many pilots."""
    return Rates.of([pilot(world, case, lr) for _ in range(pilots)], speed=case.speed)


SPEEDS = (
    *(
        Case(f"0.8 T loses {lost:g} m, predictor too", lost=lost, speed=True,
             at_most=(((V.FASTER,), 5.0),))
        for lost in (0.5, 0.75, 1.0, 2.0)
    ),
    Case("0.8 T loses 2 m, predictor nothing", lost=2.0, ahead=2.0, speed=True,
         at_least=(((V.FASTER,), 80.0),)),
)  # fmt: skip


# --- tables -------------------------------------------------------------------------------------


class Table:
    """Prints rows as they come, and keeps the promises that were broken."""

    def __init__(self, kinds: Sequence[str], hit: Sequence[str]) -> None:
        self.kinds, self.hit, self.broken = kinds, hit, list[str]()
        self.trainings: list[float] = []
        heads = ["what is true", *(kind or "not asked" for kind in kinds)]
        heads += [f"{' or '.join(hit)} (95 %)", "promised", "seeds", "trainings"]
        print(f"\n| {' | '.join(heads)} |")
        print("|---" * len(heads) + "|")

    def row(self, case: Case, found: Rates, name: str = "") -> None:
        low, high = found.interval(*self.hit)
        promised = [f"{' or '.join(kinds)} <= {p:g}" for kinds, p in case.at_most]
        promised += [f"{' or '.join(kinds)} >= {p:g}" for kinds, p in case.at_least]
        cells = [name or case.name, *(f"{found.per_cent(kind):.1f}" for kind in self.kinds)]
        cells += [f"{found.per_cent(*self.hit):.1f} ({low:.1f} to {high:.1f})", ", ".join(promised)]
        cells += [f"{found.seeds:.1f}", f"{found.trainings:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        self.broken += found.broken(case)
        self.trainings.append(found.trainings)

    def total(self) -> None:
        mean = float(np.mean(self.trainings))
        print(
            f"\nMean trainings over these cases: {mean:.0f}, {mean / OLD_PLAN:.2f} of {OLD_PLAN}."
        )


SPREADS = (0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
ROWS: tuple[tuple[str, Case, Simulated], ...] = (
    *(
        (f"base against base, spread {spread:g} m", CASES[0], Simulated(spread))
        for spread in SPREADS
    ),
    *((case.name, case, Simulated()) for case in CASES[1:] if not case.tuned),
    *(
        (f"{case.name}, spread {spread:g} m", replace(case, at_least=()), Simulated(spread))
        for case in (BETTER, LARGER)
        for spread in (0.5, 1.5)
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
    *(
        (f"{tuned(case).name}; loses 5 m at the ends", tuned(case), Simulated(1.0, 5.0))
        for case in (BETTER, LARGER, NOISE, HARM)
    ),
)
"""What is simulated. Tuning runs that are seven times as noisy as final ones are harsh."""


def simulated(pilots: int) -> list[str]:
    """The rates where every arm has normal noise of its own."""
    table = Table(QUALITY, HIT)
    for name, case, world in ROWS:
        table.row(case, rates(world, case, pilots), name)
    table.total()
    again = Table((V.FASTER, V.NOT_FASTER, V.INSTEAD, V.INCONCLUSIVE, ""), (V.FASTER,))
    for case in SPEEDS:
        for spread in (0.35, 0.7, 1.0):
            found = rates(Simulated(spread), case, pilots)
            wide = case if spread < 1.0 else replace(case, at_least=())
            again.row(wide, found, f"{case.name}, spread {spread:g} m")
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
        table.row(case, rates(bank, case, pilots))
    for lr in bank.rates:
        at = replace(CASES[0], name=f"base against base, --lr {lr:.4g}")
        table.row(at, rates(bank, at, pilots, lr))
    table.total()
    return table.broken


class Trained(Bank):
    """Stored runs, each used once: 24 seeds a pilot, then the next 24."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pilot = -1

    def begin(self) -> None:
        self.pilot += 1
        own = np.arange(SEEDS_TRAINED * self.pilot, SEEDS_TRAINED * (self.pilot + 1))
        self._seeds = own % self.count
        self._draws = np.tile(np.arange(self.draws), (2, self.count, 1))


SEEDS_TRAINED = 8
TRAINED = replace(CASES[0], name="base against base, digits", seeds=SEEDS_TRAINED, lost=None)


def trained(bank: Trained) -> Rates:
    """The verdicts of pilots at one rate of a bank, each run used once."""
    pilots = bank.count // SEEDS_TRAINED
    return rates(bank, TRAINED, pilots, bank.rates[0])


def hits(found: Rates) -> int:
    """How many pilots found a difference."""
    return sum(found.counts[kind] for kind in HIT)


def trained_table() -> list[str]:
    bank = Trained(RESULTS / "null-pilots.csv")
    found = trained(bank)
    name = f"{found.pilots} trained pilots of base against base, --lr {bank.rates[0]:g}"
    Table(QUALITY, HIT).row(TRAINED, found, name)
    return [f"{hits(found)} pilots found a difference"] if hits(found) > 7 else []


TASK = '''
import torch
from sklearn.datasets import load_digits

from paramcast.study.tasks.task import Task


def split(k):
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(k))
    x, y = torch.tensor(digits.data / 16).float()[order], torch.tensor(digits.target)[order]
    return (x[:300], y[:300]), (x[300:697], y[300:697]), (x[697:], y[697:])


def model():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def task():
    train, validation, test = split({k})
    return Task("digits-{k}", model, train, validation, test, epochs=5, batch_size=10)


def same(optimizer):
    """The base itself, from initial weights moved by 0.1 %."""
    noise = torch.Generator().manual_seed({k})
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.mul_(1 + 0.001 * torch.randn(p.shape, generator=noise))
    return optimizer
'''


def pilots(count: int, folder: Path) -> list[str]:
    """Train whole pilots of the base against itself: searches, looks, lazy arms; a split each."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for k in range(count):
        file = folder / f"null_{k}.py"
        file.write_text(TASK.replace("{k}", str(k)))
        result = paramcast.pilot(f"{file}:task", methods=f"{file}:same", out=folder / f"pilot-{k}")
        (own,) = result.verdicts.values()
        (judged,) = result.stored["cells"]
        speed = own["speed"].kind if "speed" in own else ""
        found.append(Pilot(own["quality"].kind, speed, judged["seeds"], judged["trainings"]))
    table, rates = Table(QUALITY, HIT), Rates.of(found)
    table.row(TRAINED, rates, f"{count} pilots of base against base, everything tuned")
    return [f"{hits(rates)} pilots found a difference"] if hits(rates) > 7 else []


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
        return bank.values[rate, seeds, one] - bank.values[rate, seeds, two]

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
        case ["pilots", count, folder]:
            broken = pilots(int(count), Path(folder))
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
