"""From stored results to a verdict: the rules of the protocol, as pure functions without torch.

The comparison of two arms is `stats.compare` on their paired differences. The verdict on one
predictor is the first of these that fits:

    0  base diverged on no seed, no better than a constant     inconclusive: nothing can be judged
    a  base diverged on no seed, predictor on 3 or more        harmful (unstable)
       any other divergence among the arms compared            inconclusive: lower the learning rate
    b  equal to the base                                       no difference
    c  worse than the base                                     harmful
    d  unclear against the base                                inconclusive
    e  better than the base and than every control             adopt
    f  better, but a control better than the base is not beaten  use the control instead
    g  otherwise                                               inconclusive
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from .stats import (
    BETTER,
    EQUAL,
    FEWEST,
    UNCLEAR,
    WORSE,
    Comparison,
    compare,
    compare_unpaired,
    seeds_needed,
)

ADOPT, INSTEAD, SAME = "adopt", "use the control instead", "no difference"
HARMFUL, INCONCLUSIVE = "harmful", "inconclusive"
FASTER, NOT_FASTER = "faster", "not faster"
UNSTABLE_FROM = 3
"""Diverged seeds of a predictor that make it unstable if the base has none."""
PERCENT = ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision")
"""Metrics between 0 and 1 that are shown in per cent, and their differences in points."""
EARLY = 0.8
"""The share of the steps at which speed is judged, with a complete schedule."""


@dataclass(frozen=True)
class Metric:
    """How values of the primary metric compare and read.

    Attributes:
        margin: differences within it do not matter.
        half_example: what half a test example is worth; 0 if that is not known.
        constant: the constant predictor's value on the test split; None if it has none.
        overlap: test examples per training example if each seed has a split of its own, else 0.
        shown_in_percent: it lies between 0 and 1 and is shown in per cent, whatever its name.
        paired: whether the values of two arms are compared seed by seed, or as two groups.
    """

    name: str
    higher_is_better: bool
    margin: float
    half_example: float = 0.0
    constant: float | None = None
    overlap: float = 0.0
    shown_in_percent: bool = False
    paired: bool = True

    @property
    def percent(self) -> bool:
        return self.shown_in_percent or self.name in PERCENT

    @property
    def counts_errors(self) -> bool:
        """Whether 1 - value is the error rate, the share of wrong predictions."""
        return self.name == "accuracy"

    def value(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def signed(self, value: float) -> str:
        """A difference with its sign, plus = better."""
        sign = "+" if value >= 0 else "-"
        return f"{sign}{100 * abs(value):.2f}" if self.percent else f"{sign}{abs(value):.3g}"


@dataclass(frozen=True)
class Arm:
    """One method in the comparison, with its values by seed (the same seeds in the same order).

    Attributes:
        name: as in the table.
        role: "base", "predictor", "average", "control" or "reference".
        lr: its learning rate.
        values, early: the primary metric at the end, with a schedule of T and of 0.8 T steps.
        diverged, early_diverged: which of those runs diverged.
        control_of: the predictor that a control belongs to; "" for every predictor.
        advice: what to do if this control explains the gain, a key of the catalogue.
    """

    name: str
    role: str
    lr: float
    values: tuple[float, ...]
    early: tuple[float, ...]
    diverged: tuple[bool, ...]
    early_diverged: tuple[bool, ...]
    control_of: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Pair:
    """A comparison of two arms, a - b, each with its share of the T steps."""

    a: str
    b: str
    comparison: Comparison
    a_share: float = 1.0
    b_share: float = 1.0


@dataclass(frozen=True)
class Extension:
    """More seeds for an open verdict: how many in all, the seconds they take, and the command."""

    seeds: int
    seconds: float
    command: str


@dataclass(frozen=True)
class Verdict:
    """The answer to one question about one predictor, as facts; `sentences` puts it into words.

    Attributes:
        kind: one of the constants of this module.
        rule: the rule that decided, which is the key of its sentence in the catalogue.
        advice: what to do next, keys of the catalogue.
        base, predictor, control: the arms that the rule is about.
        facts: numbers that the sentences need beside those of the comparisons.
        comparisons: the comparisons that it rests on.
        blocking: the index of the comparison that needs more seeds, if that is why it is open.
        needed: the seeds that it needs; 0 if more seeds would not help.
        extension: how to get them, if that is still allowed.
    """

    kind: str
    rule: str
    advice: tuple[str, ...]
    base: str
    predictor: str
    control: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    comparisons: tuple[Pair, ...] = ()
    blocking: int | None = None
    needed: int = 0
    extension: Extension | None = None


class _Case:
    """One question about one predictor: it compares the arms and remembers every comparison."""

    def __init__(
        self,
        base: Arm,
        predictor: Arm,
        controls: Sequence[Arm],
        metric: Metric,
        confidence: float,
    ) -> None:
        self.base, self.predictor, self.controls = base, predictor, controls
        self.metric, self.confidence = metric, confidence
        self.pairs: list[Pair] = []

    def compare(
        self, a: Arm, b: Arm, a_share: float = 1.0, b_share: float = 1.0, *, kept: bool = True
    ) -> Comparison:
        """Compare two arms, each with T steps or, with the share EARLY, with 0.8 T.

        Args:
            kept: remember the comparison, so that the verdict shows it.
        """
        left, right = (
            arm.values if share == 1.0 else arm.early for arm, share in ((a, a_share), (b, b_share))
        )
        made = difference(left, right, self.metric, self.confidence, cross_check=kept)
        if kept:
            self.pairs.append(Pair(a.name, b.name, made, a_share, b_share))
        return made

    def verdict(
        self,
        kind: str,
        rule: str,
        *advice: str,
        control: str = "",
        blocking: Comparison | None = None,
        needed: int = 0,
        **facts: Any,
    ) -> Verdict:
        place = next((i for i, p in enumerate(self.pairs) if p.comparison is blocking), None)
        return Verdict(
            kind, rule, advice, self.base.name, self.predictor.name, control, facts,
            tuple(self.pairs), place, needed,
        )  # fmt: skip

    def open(self, kind: str, rule: str, blocking: Comparison | None, control: str = "") -> Verdict:
        """A verdict that stays open; the unclear comparison says what would settle it."""
        c, metric = blocking, self.metric
        if c is None:
            return self.verdict(kind, rule, "narrower", control=control)
        # an example is worth more than the margin: only another metric or test split would help
        if c.n >= FEWEST and c.high - c.mean <= metric.half_example > metric.margin:
            return self.verdict(kind, rule, "coarse", control=control)
        if c.n >= FEWEST and (c.low > 0 or c.high < 0):
            return self.verdict(kind, rule, "one_example_next", control=control)
        # nothing smaller than half an example can be distinguished
        enough = seeds_needed(c.sd, max(metric.margin, metric.half_example), metric.overlap)
        if not enough:
            return self.verdict(kind, rule, "shared_splits", control=control)
        needed = max(FEWEST, enough)
        advice = "spread" if needed > c.n else "spread_more"
        return self.verdict(kind, rule, advice, control=control, blocking=c, needed=needed)


def difference(
    a: Sequence[float],
    b: Sequence[float],
    metric: Metric,
    confidence: float,
    *,
    cross_check: bool = True,
) -> Comparison:
    """Compare two arms' values, seed by seed if paired; plus = a is better, in any direction."""
    sign = 1.0 if metric.higher_is_better else -1.0
    if not metric.paired:
        return compare_unpaired(
            [sign * x for x in a],
            [sign * x for x in b],
            metric.margin,
            confidence=confidence,
            half_example=metric.half_example,
            cross_check=cross_check,
        )
    return compare(
        [sign * (x - y) for x, y in zip(a, b, strict=True)],
        metric.margin,
        confidence=confidence,
        half_example=metric.half_example,
        overlap=metric.overlap,
        cross_check=cross_check,
    )


def judge_quality(
    base: Arm, predictor: Arm, controls: Sequence[Arm], metric: Metric, confidence: float
) -> Verdict:
    """Does the predictor end better than the base, and by more than its controls explain?"""
    case = _Case(base, predictor, controls, metric, confidence)
    unjudged = _learned_nothing(case) or _divergence(case)
    if unjudged is not None:
        return unjudged
    to_base = case.compare(predictor, base)
    against = {c.name: case.compare(predictor, c) for c in controls}
    control_to_base = {c.name: case.compare(c, base) for c in controls}

    # rules b, c and d: against the base
    if to_base.relation == EQUAL:
        return case.verdict(SAME, "same", "same_next")
    if to_base.relation == WORSE:
        return case.verdict(HARMFUL, "harmful", "keep")
    if to_base.relation == UNCLEAR:
        clear = to_base.low > 0 or to_base.high < 0
        rule = "few" if to_base.n < FEWEST else "one_example" if clear else "unclear"
        return case.open(INCONCLUSIVE, rule, to_base)
    # rules e and f: better than the base, and against the controls
    if all(c.relation == BETTER for c in against.values()):
        rule = "adopt" if controls else "adopt_alone"
        return case.verdict(ADOPT, rule, f"{rule}_next", lr=predictor.lr, controls=list(against))
    explains = [
        c
        for c in controls
        if control_to_base[c.name].relation == BETTER and against[c.name].relation != BETTER
    ]
    if explains:
        # of several, the one that gains most over the base
        best = max(explains, key=lambda c: control_to_base[c.name].mean)
        return case.verdict(INSTEAD, "instead", best.advice, control=best.name, lr=best.lr)
    # rule g: a control that is not better than the base is not beaten; the closest one is named
    not_beaten = {name: c for name, c in against.items() if c.relation != BETTER}
    weakest = min(not_beaten, key=lambda name: not_beaten[name].mean)
    first = against[weakest], control_to_base[weakest]
    # what more seeds could settle: first the comparisons of that control, then any other
    unclear = [c for c in (*first, *(p.comparison for p in case.pairs)) if c.relation == UNCLEAR]
    return case.open(INCONCLUSIVE, "not_more", unclear[0] if unclear else None, weakest)


def judge_speed(
    base: Arm, predictor: Arm, controls: Sequence[Arm], metric: Metric, confidence: float
) -> Verdict:
    """Does the predictor reach with 0.8 T steps what the base needs T steps for?

    Faster: with 0.8 T steps the predictor is equal to or better than the base with T, the base is
    worse, and the predictor is better than that base. Without the last condition an equal method
    would be called faster in up to a fifth of the pilots: those in which the base loses about 0.8
    margins, so that either comparison may go either way. A control that is faster by the same rule
    is named instead, unless the predictor beats it there.
    """
    case = _Case(base, predictor, controls, metric, confidence)
    nothing = _learned_nothing(case)
    if nothing is not None:
        return nothing
    diverged = sum(predictor.early_diverged) + sum(base.diverged) + sum(base.early_diverged)
    if diverged:
        runs = 3 * len(base.values)  # the predictor with 0.8 T, the base with T and with 0.8 T
        return case.verdict(INCONCLUSIVE, "speed_diverged", "lower", diverged=diverged, runs=runs)
    short = case.compare(predictor, base, EARLY)
    base_short = case.compare(base, base, EARLY)
    both_short = case.compare(predictor, base, EARLY, EARLY)
    # the conditions in order; the first that fails or is unclear decides
    if short.relation == UNCLEAR:
        return case.open(INCONCLUSIVE, "speed_unclear", short)
    if short.relation == WORSE:
        return case.verdict(NOT_FASTER, "speed_worse", "not_shorten")
    if base_short.relation == UNCLEAR:
        return case.open(NOT_FASTER, "speed_base_unclear", base_short)
    if base_short.relation != WORSE:
        return case.verdict(NOT_FASTER, "speed_base_too", "shorten_base")
    if both_short.relation != BETTER:
        unclear = both_short if both_short.relation == UNCLEAR else None
        return case.open(NOT_FASTER, "speed_both_short", unclear)
    # faster; unless a control that costs less is too
    control = _as_fast(case)
    if control is None:
        return case.verdict(FASTER, "faster", "save")
    case.compare(control, base, EARLY)
    case.compare(predictor, control, EARLY, EARLY)
    advice = control.advice, "save_control"
    return case.verdict(INSTEAD, "speed_instead", *advice, control=control.name, lr=control.lr)


def _as_fast(case: _Case) -> Arm | None:
    """The best control that is faster by the same rule and not beaten, both with 0.8 T steps."""
    found: list[tuple[float, Arm]] = []
    for c in case.controls:
        short = case.compare(c, case.base, EARLY, kept=False)
        both_short = case.compare(c, case.base, EARLY, EARLY, kept=False)
        if short.relation not in (EQUAL, BETTER) or both_short.relation != BETTER:
            continue
        if case.compare(case.predictor, c, EARLY, EARLY, kept=False).relation != BETTER:
            found.append((short.mean, c))
    return max(found, key=lambda each: each[0])[1] if found else None


def _learned_nothing(case: _Case) -> Verdict | None:
    """Rule 0: the verdict if the base is not shown to be better than a constant prediction.

    The interval over seeds decides or, with too few seeds, the mean.
    """
    base, metric = case.base, case.metric
    if metric.constant is None or any(base.diverged):
        return None
    # the constant prediction as one more arm
    constant = [metric.constant] * len(base.values)
    c = difference(base.values, constant, metric, case.confidence, cross_check=False)
    if (c.low if c.n >= FEWEST else c.mean - metric.half_example) > 0:
        return None
    return case.verdict(INCONCLUSIVE, "nothing", "nothing_next", mean=fmean(base.values))


def _divergence(case: _Case) -> Verdict | None:
    """Rule a: the verdict if runs diverged."""
    base, predictor = case.base, case.predictor
    if not any(base.diverged) and sum(predictor.diverged) >= UNSTABLE_FROM:
        return case.verdict(
            HARMFUL, "unstable", "keep_or_lower", lr=predictor.lr,
            diverged=sum(predictor.diverged), runs=len(base.values),
        )  # fmt: skip
    arms = [base, predictor, *case.controls]
    diverged = {arm.name: sum(arm.diverged) for arm in arms if any(arm.diverged)}
    if not diverged:
        return None
    return case.verdict(
        INCONCLUSIVE, "diverged", "lower", by_arm=diverged,
        diverged=sum(diverged.values()), runs=len(base.values) * len(arms),
    )  # fmt: skip
