"""A pilot before it runs: its options, the runs they stand for, and the arms these form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import StudyError
from .engines import Job
from .engines.worker import fingerprint
from .judging.looks import Look, planned
from .judging.stats import FULL_CONFIDENCE
from .judging.table import (
    AVERAGE,
    CONTROL,
    JUDGED,
    LR_MATCHED,
    METHOD,
    PREDICTOR,
    RANDOM_JUMP,
)
from .judging.tune import HALVING, learning_rates, rates_around
from .own.training import OWN, Subject
from .price import price
from .reading import RUNS
from .search import Rate, Searched, Settings, settings_at, settings_of, shared
from .spec import DEFAULT, OPEN, Numerics, RunSpec, hash_of, identifying
from .tasks.source import Source
from .training.methods import DERIVED, SIGN_FLIPPED, Method, OwnOptimizer, parse_methods
from .training.own import identity


@dataclass(frozen=True)
class Options:
    """The settings of a comparison; with `lr` the learning rate is not tuned."""

    source: Source
    methods: tuple[Method, ...]
    base: str
    lr_range: tuple[float, float]
    epochs: int
    batch_size: int
    schedule: str
    lr: float | None = None
    search: tuple[Searched, ...] = ()  # what is tuned beside the learning rate
    trials: int = 8
    trial_seeds: int = 3
    tune_rule: str = HALVING
    seeds: int = 24  # at most; `judging.looks` says after how many a verdict is read
    margin: float | None = None
    device: str = "cpu"
    momentum: float | None = None
    weight_decay: float | None = None
    beta2: float | None = None
    speed: str = OPEN  # when to run and judge 0.8 T, as `judging.table.judge` takes it
    random_jump: bool = True  # run that control
    lazy: bool = True  # run only what can change a verdict
    once: bool = False  # look at all seeds, and only then
    tuned_base: float | None = None  # the base's learning rate, tuned by its user
    max_runs: int | None = None  # trainings that may be used
    budget: float | None = None  # seconds that they may take
    numerics: Numerics = DEFAULT
    probes: tuple[str, ...] = ()  # of the final runs
    relative_margin: bool = False  # the margin is in per cent of the base's median
    splits: bool = False  # every seed has a split of its own

    @property
    def tuned(self) -> bool:
        return self.lr is None

    @property
    def looks(self) -> list[Look]:
        """When verdicts are read."""
        return [Look(self.seeds, FULL_CONFIDENCE)] if self.once else planned(self.seeds)

    @property
    def limited(self) -> bool:
        """Whether the number of trainings is limited, which also decides how much is tuned."""
        return self.max_runs is not None or self.budget is not None

    @property
    def margin_text(self) -> float | str | None:
        """The margin as the user gave it."""
        return f"{self.margin!r}%" if self.relative_margin else self.margin


@dataclass(frozen=True)
class Row:
    """An arm before it has run: the runs it consists of.

    Attributes:
        name: as in the table.
        role: of `training.methods`, or "base".
        family: "base", LR_MATCHED, a derived control's kind, or a method's name.
        method: of its runs.
        lr: of its runs.
        control_of: the predictor that a control belongs to; "" for every predictor.
        advice: what to do if this control explains the gain, a key of the catalogue.
    """

    name: str
    role: str
    family: str
    method: str
    lr: float
    control_of: str = ""
    advice: str = ""


OWN_FAMILY = "own-optimizer"
MOST_RUNS = 2_000_000
"""In one pilot or study; each takes a kilobyte of memory."""
QUICK = {"seeds": 8, "trials": 4, "trial_seeds": 2}
ADVICE = {RANDOM_JUMP: "noise", SIGN_FLIPPED: "backward", CONTROL: "use", AVERAGE: "average"}
"""What to do if a control explains a gain (catalogue keys), by its kind if derived, or its role."""


def too_many(runs: int) -> str:
    """The message that refuses that many runs."""
    return (
        f"that would be about {runs} runs, and at most {MOST_RUNS} can be planned; "
        "take fewer seeds, learning rates, methods or cells"
    )


def usual_options(source: Source, subject: Subject) -> Options:
    """The default comparison of a subject."""
    usual = subject.usual
    return Options(
        source=source,
        methods=parse_methods("plp"),
        base=usual.base,
        lr_range=usual.lr_range or (0.0, 0.0),
        epochs=usual.epochs,
        batch_size=usual.batch_size,
        schedule=usual.schedule,
    )


class Plan:
    """Every run of a pilot, as values.

    Args:
        options: what to compare.
        subject: what is trained.
        out: the folder for runs.db and result.json; None chooses one by the specification.
        others: a task in the splits of the seeds after the first, one at a time.
        again: makes the command that goes on to a number of seeds, in a folder.
    """

    def __init__(
        self,
        options: Options,
        subject: Subject,
        out: Path | None,
        others: Iterable[Subject] = (),
        again: Callable[[int, Path], str] = "paramcast pilot --seeds {} --out {}".format,
    ) -> None:
        self.options, self.subject, self._again = options, subject, again
        # by split: the fingerprint in its runs' keys, and the score of a constant prediction
        self.fingerprints, self.constants = [], []
        for one in itertools.chain([subject], others):
            self.fingerprints.append(fingerprint(one))
            self.constants.append(one.constant_value)
        own = [m for m in options.methods if isinstance(m, OwnOptimizer)]
        self.code = {m.label: identity(m.name) for m in own}
        self._specs: dict[tuple[str, float, Settings, str, int, float], RunSpec] = {}
        # what all runs share; `spec` fills in method, learning rate, phase, seed and share
        self.common = RunSpec(
            task=subject.name,
            fingerprint=self.fingerprints[0],
            method="base",
            base=options.base,
            lr=0.0,
            schedule=options.schedule,
            epochs=options.epochs,
            batch_size=options.batch_size,
            share=1.0,
            phase="final",
            seed=0,
            device=options.device,
            versions=f"paramcast {__version__}, torch {torch.__version__}",
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            beta2=options.beta2,
            **options.numerics._asdict(),
            probes=options.probes,
        )
        self.identity = hash_of(self.specification())
        most = price(options).most
        if most > MOST_RUNS:
            raise StudyError(too_many(most))
        label = "".join(c if c.isalnum() or c in "-_" else "-" for c in subject.name)
        # pilots with other seeds may not share a folder, whose looks are planned
        place = hash_of([self.identity, options.seeds])[:8]
        self.out = out or RUNS / f"{label}-{place}"

    def specification(self) -> dict[str, Any]:
        """The settings that identify a pilot: all but the number of final seeds, which may grow."""
        o = self.options
        # a budget decides how much is tuned
        search = ["budget"] if o.limited else [o.trials, o.trial_seeds]
        return {
            "common": identifying(self.common.fields()),
            "methods": [m.label for m in o.methods],
            "lr": o.lr,
            "tuning": [*o.lr_range, *search] if o.tuned else None,
            **({"search": [each.text for each in o.search]} if o.search else {}),
            "margin": o.margin_text,
            **({} if o.tuned_base is None else {"tuned_base": o.tuned_base}),
            **({"splits": True} if o.splits else {}),
            **({} if o.tune_rule == HALVING else {"tune_rule": o.tune_rule}),
            **({"code": self.code} if self.code else {}),
        }

    def rates(self, trials: int | None = None) -> tuple[float, ...]:
        """The learning rates of a search of that many trials, else of those in the options."""
        o = self.options
        trials = trials or o.trials
        if o.tuned_base is not None:
            return rates_around(o.tuned_base, trials)
        return shared(o.search, learning_rates(*o.lr_range, trials))

    def rows(self, chosen: Mapping[str, float]) -> list[Row]:
        """The table's arms: base, then each predictor's controls, references, and predictors.

        Args:
            chosen: the learning rates by method; an arm whose rate is not chosen yet has NaN.
        """
        base, many = self.base_name, len(self.predictors) > 1
        lrs = {**dict.fromkeys(self.with_own_rate, math.nan), **chosen}
        rows = [Row(base, "base", "base", "base", lrs["base"])]
        # each predictor's controls: the base at its rate times its gain, then those made from it
        for method in self.predictors:
            label = method.label
            suffix = f" of {label}" if many else ""
            lr = lrs[label]
            matched = Rate(lr * method.predictor().gain, settings_at(lr))
            # what to do if this control is as good
            advice = "raise_lr" if matched > lrs["base"] else "lower_lr"
            advice = "finer" if self.options.tuned else advice
            name = f"{base}-{LR_MATCHED}{suffix}"
            rows.append(Row(name, CONTROL, LR_MATCHED, "base", matched, label, advice))
            for kind in self._derived:
                name, run = f"{kind}{suffix}", f"{kind}:{label}"
                rows.append(Row(name, CONTROL, kind, run, lr, label, ADVICE[kind]))
        # then what is neither a predictor nor made from one, and the predictors last
        for method in self.options.methods:
            label, role = method.label, method.kind.role
            if role not in (PREDICTOR, DERIVED):
                advice = ADVICE.get(role, "")
                family = method.name
                if role == METHOD:
                    family = OWN_FAMILY if label in self.code else "command"
                rows.append(Row(label, role, family, label, lrs[label], "", advice))
        rows += [Row(m.label, PREDICTOR, m.name, m.label, lrs[m.label]) for m in self.predictors]
        return rows

    def spec(self, method: str, lr: float, phase: str, seed: int, share: float) -> RunSpec:
        """One run. Equal calls return the same object, so that its key is hashed once."""
        # a rate may carry what is searched beside it
        settings = settings_at(lr)
        differing = method, lr, settings, phase, seed, share
        if differing not in self._specs:
            own: dict[str, Any] = {"settings": settings}
            if self.options.source.kind not in OWN:  # a task's base has fields of its own for them
                taken = settings_of(self.options.base)
                own = {name: value for name, value in settings if name in taken}
                own |= {"settings": settings} if method in self.code else {}
            self._specs[differing] = replace(
                self.common,
                **own,
                method=method,
                lr=float(lr),
                phase=phase,
                seed=seed,
                share=share,
                probes=self.common.probes if phase == "final" else (),
                fingerprint=self.fingerprints[self.split(seed)],
                code=self.code.get(method, ""),
            )
        return self._specs[differing]

    def work(self, spec: RunSpec) -> float:
        """A measure of how long a run takes."""
        return self.subject.work(spec.epochs, spec.share)

    def jobs(self, specs: Sequence[RunSpec]) -> list[Job]:
        """The specifications, each with the source of its task."""
        source = self.options.source
        return [Job(spec, replace(source, split=self.split(spec.seed))) for spec in specs]

    def split(self, seed: int) -> int:
        """The number of the split that every arm sees at a seed."""
        return seed % len(self.fingerprints)

    @property
    def overlap(self) -> float:
        """Test examples per training example where each seed has its own split, else 0."""
        sizes = self.subject.sizes
        return sizes.test / sizes.train if self.options.splits else 0.0

    @property
    def pooled(self) -> float:
        """How many test splits the seeds test together, at most the whole data."""
        if not self.options.splits:
            return 1.0
        sizes = self.subject.sizes
        return min(len(self.fingerprints), sum(sizes) / sizes.test)

    @property
    def base_name(self) -> str:
        return "base" if self.options.base == "own" else self.options.base

    @property
    def with_own_rate(self) -> list[str]:
        """What has a learning rate of its own: the base, then all but the derived controls."""
        return ["base", *(m.label for m in self.options.methods if m.kind.role != DERIVED)]

    @property
    def _derived(self) -> list[str]:
        named = any(m.name == SIGN_FLIPPED for m in self.options.methods)
        return [RANDOM_JUMP] * self.options.random_jump + [SIGN_FLIPPED] * named

    @property
    def judged(self) -> int:
        """How many methods get a verdict."""
        return sum(m.kind.role in JUDGED for m in self.options.methods)

    @property
    def predictors(self) -> list[Method]:
        return [m for m in self.options.methods if m.kind.role == PREDICTOR]

    def command(self, seeds: int) -> str:
        """What continues this pilot with that many seeds."""
        return self._again(seeds, self.out)
