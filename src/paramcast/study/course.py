"""The course of a comparison: which runs come next, and the verdicts as far as they are known.

It depends on the outcomes alone, so a continued comparison takes the same course.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

from .judging.looks import Look, shared
from .judging.margin import margin_of
from .judging.table import BASE, CONTROL, JUDGED, REFERENCE, Verdicts, judge, mean_or_none
from .judging.tune import VERTEX, search, search_base, search_vertex
from .judging.verdict import EARLY, PERCENT, Arm, Metric, settled
from .own.checks import check_acts, check_seeds, same, with_values
from .own.training import OWN
from .plan import Plan, Row
from .price import affordable
from .spec import NEVER, RunSpec

Outcomes = Mapping[str, dict[str, Any]]
TUNING, FINAL = "tuning", "final"
"""Phases of a comparison."""


class Wanted(NamedTuple):
    """The runs that come next, and their phase."""

    phase: str
    specs: list[RunSpec]


class Course:
    """A comparison in progress.

    Args:
        plan: what is compared.
        looks: when verdicts are read.
        workers: how many runs go on at once; they share the seconds of a budget.
        search_size: numbers of learning rates and tuning seeds, if a budget has set them already.

    Attributes:
        chosen: the learning rates by method, as far as they are known.
        verdicts: as far as they are known.
        taken: the looks taken so far.
        stopped: whether the budget ended it.
        fixed: whether the training takes the same number of steps whatever it is asked for.
        seeds: how many were asked for, by the name of an arm and its share of the steps.
    """

    def __init__(
        self,
        plan: Plan,
        looks: Sequence[Look],
        workers: int = 1,
        search_size: tuple[int, int] | None = None,
    ) -> None:
        self.plan, self.looks = plan, looks
        self.verdicts: Verdicts = {}
        self.taken: list[Look] = []
        self.stopped = self.fixed = False
        o = plan.options
        self.search_size = search_size or (None if o.limited else (o.trials, o.trial_seeds))
        self._workers = workers
        self._begun = -1  # the index of the last look that was begun
        self.seeds: dict[tuple[str, float], int] = {}
        self._specs: dict[str, RunSpec] = {}  # all runs that were asked for, by key
        # a control is tuned only if a verdict needs it
        always = (*JUDGED, REFERENCE, *([] if o.lazy else [CONTROL]))
        self._to_tune = [m.label for m in o.methods if m.kind.role in always]
        self.chosen: dict[str, float] = {}
        if o.lr is not None:
            self.chosen = dict.fromkeys(plan.with_own_rate, o.lr)
        elif o.tuned_base is not None:
            self.chosen = {"base": o.tuned_base}

    def next(self, outcomes: Outcomes) -> Wanted | None:
        """The next runs, all that can go on at once; None if everything is judged.

        Args:
            outcomes: by key, of all runs that were asked for before.

        Raises:
            StudyError: the budget is below the smallest comparison.
        """
        while True:
            # a budget decides how much is tuned, by the time that the first run takes
            phase, specs = TUNING, self._first(outcomes) or self._search(outcomes)
            # then the final runs of a look
            if not specs and not self._begin(outcomes):
                return None
            if not specs:
                phase, wanted = FINAL, self._runs(self.seeds)
                specs = [spec for spec in wanted if spec.key not in outcomes]
            if specs:
                self._specs |= {spec.key: spec for spec in specs}
                return Wanted(phase, specs)
            self._look(outcomes)

    # --- tuning -------------------------------------------------------------------------------

    def _first(self, outcomes: Outcomes) -> list[RunSpec]:
        """The run whose time says what a budget of seconds allows; none once that is known."""
        o = self.plan.options
        if self.search_size is not None:
            return []
        if o.budget is not None:
            rates = self.plan.rates()
            lr = rates[len(rates) // 2] if o.lr is None else o.lr
            spec = self.plan.spec("base", lr, "tune", 0, 1.0)
            if spec.key not in outcomes:
                return [spec]
        self.search_size = affordable(o, self._allowed(outcomes))
        return []

    def _search(self, outcomes: Outcomes) -> list[RunSpec]:
        """The next tuning runs; none once all learning rates are chosen."""
        by_vertex = self.plan.options.tune_rule == VERTEX
        specs = self._search_one("base", outcomes, search_vertex if by_vertex else search_base)
        if "base" in self.chosen:
            self._check_seeds("tune", outcomes)
        elif not by_vertex:  # a method leaves the base's rate, which must be known first
            return specs
        # every method on the same points, all at once
        for method in self._to_tune:
            rule = search_vertex if by_vertex else partial(search, base=self.chosen["base"])
            specs += self._search_one(method, outcomes, rule)
        return specs

    def _search_one(
        self, method: str, outcomes: Outcomes, rule: Callable[..., Any]
    ) -> list[RunSpec]:
        """The next runs of one search by a rule of `judging.tune`; none once its rate is chosen."""
        if method in self.chosen:
            return []
        losses = self.losses(method, outcomes, judged=rule is search_vertex)
        wanted, best = rule(losses, seeds=self.tuning_seeds)
        if best is not None:
            self.chosen[method] = best
        return [self.plan.spec(method, lr, "tune", seed, 1.0) for lr, seed in wanted]

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of the search."""
        return self.plan.rates(self.search_size[0] if self.search_size else None)

    @property
    def tuning_seeds(self) -> int:
        """The tuning seeds on which a method must be better to leave the base's rate."""
        return self.search_size[1] if self.search_size else self.plan.options.trial_seeds

    def losses(
        self, method: str, outcomes: Outcomes, *, judged: bool = False
    ) -> dict[float, list[float]]:
        """A method's validation losses by learning rate, one for each tuning seed so far.

        With `judged` it is the metric that is judged, turned so that smaller is better.
        """
        sign = -1.0 if self.plan.subject.higher_is_better else 1.0
        found: dict[float, list[float]] = {}
        for lr in self.rates:
            found[lr] = []
            for seed in range(self.tuning_seeds):
                outcome = outcomes.get(self.plan.spec(method, lr, "tune", seed, 1.0).key)
                if outcome is None:
                    break
                lost = outcome["status"] == "diverged"  # its loss is a constant prediction's
                own = outcome["validation"]
                value = sign * own["metric"] if judged else own["loss"]
                found[lr].append(math.inf if lost else value)
        return found

    def tuning_keys(self, outcomes: Outcomes) -> dict[str, list[list[str]]]:
        """By method and learning rate, the keys of the tuning runs by seed."""
        if not self.plan.options.tuned:
            return {}
        return {
            method: [
                [self.plan.spec(method, lr, "tune", seed, 1.0).key for seed in range(len(losses))]
                for lr, losses in self.losses(method, outcomes).items()
            ]
            for method in self.chosen
        }

    # --- looks --------------------------------------------------------------------------------

    def _begin(self, outcomes: Outcomes) -> bool:
        """Begin the next look if one is due and can be paid for."""
        number = len(self.taken)
        if number == self._begun:
            return True
        # another look needs a verdict that is still open
        done = [settled(v) for own in self.verdicts.values() for v in own.values()]
        if number == len(self.looks) or self.stopped or (number and all(done)):
            return False
        seeds = self.looks[number].seeds
        # the first look is always taken; later ones only if the budget pays for them
        asked = {(row.name, share): seeds for row, share in self._due()}
        if number and not self._pays(asked, outcomes):
            self.stopped = True
            return False
        self.seeds |= asked
        self._begun = number
        return True

    def _due(self) -> Iterator[tuple[Row, float]]:
        """The arms of the next look: all, or at first those that every verdict needs."""
        o = self.plan.options
        for row in self.rows:
            own = self.verdicts.get(row.name, {})
            if not o.lazy:
                yield row, 1.0
                if o.speed != NEVER:
                    yield row, EARLY
            elif row.role in (BASE, REFERENCE) or (row.role in JUDGED and not own):
                yield row, 1.0
            # a method with a settled answer runs no further for that question
            elif row.role in JUDGED:
                for question, share in (("quality", 1.0), ("speed", EARLY)):
                    if question in own and not settled(own[question]):
                        yield row, share

    def _runs(self, seeds: Mapping[tuple[str, float], int]) -> list[RunSpec]:
        rows = {row.name: row for row in self.rows}
        # with T before 0.8 T, so that no worker is left with a long run at the end
        found = [
            self.plan.spec(rows[name].method, rows[name].lr, "final", seed, share)
            for (name, share), n in sorted(seeds.items(), key=lambda each: -each[0][1])
            for seed in range(n)
        ]
        # two methods may ask for the same control, which is trained once
        return list(dict.fromkeys(found))

    def _look(self, outcomes: Outcomes) -> None:
        """Judge as far as the runs go; ask for what is missing, or close the look."""
        o, look = self.plan.options, self.looks[self._begun]
        if o.source.kind in OWN:
            self._check(outcomes)
        arms = self.arms(outcomes)
        metric, level = metric_of(self.plan, arms[0]), shared(look, self.plan.judged)
        # a training that never asks how many steps to take has no runs with fewer
        self.fixed = o.source.kind in OWN and not self._takes_share(outcomes)
        speed = NEVER if self.fixed else o.speed
        asked: dict[str, Any] = {"seeds": look.seeds, "speed": speed, "before": self.verdicts}
        verdicts, lacking = judge(arms, metric, level, **asked)
        # for the table, an arm that runs with 0.8 T steps also runs with T
        wanted = {(e.arm.name, s): look.seeds for e in lacking for s in (1.0, e.share)}
        untuned = [e.arm.name for e in lacking if math.isnan(e.arm.lr)]
        if lacking and self._pays(wanted, outcomes):
            self._to_tune += untuned
            # an untuned control has no runs until its learning rate is known
            self.seeds |= {k: n for k, n in wanted.items() if k[0] not in untuned}
            return
        if lacking:  # the budget is used up
            self.stopped = True
            verdicts, _ = judge(arms, metric, level, closed=True, **asked)
        self.verdicts = verdicts
        self.taken.append(look)

    def _check(self, outcomes: Outcomes) -> None:
        """Refuse a user's training that ignores its seed or its optimizer.

        Raises:
            StudyError: it does.
        """
        self._check_seeds("final", outcomes)
        rows = [row for row in self.rows if self.keys(row, 1.0)]
        runs = [[outcomes[key] for key in self.keys(row, 1.0)] for row in rows]
        wraps = len(self.plan.options.source.commands) < 2  # else each method is a command
        for row, own in zip(rows, runs, strict=True):
            if wraps and row.method != "base" and row.lr == rows[0].lr:
                check_acts(row.name, own, runs[0][: len(own)])

    def _takes_share(self, outcomes: Outcomes) -> bool:
        """Whether a user's training takes fewer steps when told to."""
        base = [outcomes[key] for key in self.keys(self.rows[0], 1.0)]
        if not all(run.get("used", {}).get("share", True) for run in base):
            return False
        pairs = (
            ([outcomes[key] for key in self.keys(row, share)] for share in (1.0, EARLY))
            for row in self.rows
        )
        return not any(same(full, early) for full, early in pairs if early)

    def _check_seeds(self, phase: str, outcomes: Outcomes) -> None:
        if self.plan.options.source.kind in OWN:
            own = (spec for key, spec in self._specs.items() if key in outcomes)
            check_seeds([spec for spec in own if spec.phase == phase], outcomes)

    @property
    def trainings(self) -> int:
        """How many runs were asked for."""
        return len(self._specs)

    @property
    def rows(self) -> list[Row]:
        return self.plan.rows(self.chosen)

    def arms(self, outcomes: Outcomes) -> list[Arm]:
        """The arms, with the runs that they have so far."""
        if self.plan.options.source.kind in OWN:
            ran = {
                key: outcomes[key]
                for row in self.rows
                for share in (1.0, EARLY)
                for key in self.keys(row, share)
            }
            outcomes = with_values(ran, higher_is_better=self.plan.subject.higher_is_better)
        return [self._arm(row, outcomes) for row in self.rows]

    def _arm(self, row: Row, outcomes: Outcomes) -> Arm:
        full, early = ([outcomes[key] for key in self.keys(row, share)] for share in (1.0, EARLY))
        return Arm(
            row.name,
            row.role,
            row.lr,
            tuple(run["test"]["metric"] for run in full),
            tuple(run["test"]["metric"] for run in early),
            tuple(run["status"] == "diverged" for run in full),
            tuple(run["status"] == "diverged" for run in early),
            row.control_of,
            row.advice,
        )

    def keys(self, row: Row, share: float) -> list[str]:
        """The keys of an arm's runs that were asked for, by seed."""
        seeds = range(self.seeds.get((row.name, share), 0))
        return [self.plan.spec(row.method, row.lr, "final", seed, share).key for seed in seeds]

    # --- the budget ---------------------------------------------------------------------------

    def _pays(self, asked: Mapping[tuple[str, float], int], outcomes: Outcomes) -> bool:
        """Whether the budget allows the runs that would be asked for."""
        if not self.plan.options.limited:
            return True
        rows = {row.name: row for row in self.rows}
        tuned = {k: n for k, n in asked.items() if not math.isnan(rows[k[0]].lr)}
        new = {spec.key for spec in self._runs(tuned)} - self._specs.keys()
        # a control that is yet to be tuned
        new_seeds = sum(n for k, n in asked.items() if k not in tuned)
        return len(self._specs) + len(new) + new_seeds <= self._allowed(outcomes)

    def _allowed(self, outcomes: Outcomes) -> int:
        """The number of trainings that the budget allows in all."""
        o = self.plan.options
        allowed = math.inf if o.max_runs is None else o.max_runs
        if o.budget is not None:
            seconds = fmean(outcomes[key]["seconds"] for key in self._specs)
            allowed = min(allowed, o.budget * self._workers / max(seconds, 1e-9))
        return int(min(allowed, 2**31))


def metric_of(plan: Plan, base: Arm) -> Metric:
    """How values of the subject's metric compare, where the base has these."""
    subject, o = plan.subject, plan.options
    name, level = subject.metric_name, median(base.values)
    percent = name in PERCENT
    margin = margin_of(name, level, o.margin, relative=o.relative_margin, percent=percent)
    # what half a test example is worth; of a mean, a share of the base's error
    error = 1.0 if percent else abs(1.0 - level) if name == "r2" else abs(level)
    half = 0.5 * subject.example_share / plan.pooled * error
    constant = mean_or_none(plan.constants)
    return Metric(name, subject.higher_is_better, margin, half, constant, plan.overlap)
