"""From stored results to a verdict: the rules of the protocol, as pure functions without torch.

The comparison of two arms is `stats.compare` on their paired differences. The verdict on one
predictor is the first of these that fits:

    0  base diverged on no seed, no better than a constant     inconclusive: nothing can be judged
    a  base diverged on no seed, predictor on 3 or more        harmful (unstable)
       any other divergence of the two                         inconclusive: lower the learning rate
    b  equal to the base                                       no difference
    c  worse than the base, by more than the margin            harmful
       worse or better by less                                 slightly worse, slightly better
    d  unclear against the base                                inconclusive
    e  better by more, and better than every control           adopt
    f  better, but a control better than the base is not beaten  use the control instead
    g  otherwise                                               inconclusive

Runs are costly, so a verdict asks only for those it uses: an arm whose runs are missing raises
`Lacking`, which names them. Controls are needed only where the predictor is better by more than the
margin, one after another, until one explains the gain; the arms with 0.8 T steps likewise. A
control that diverges on 3 or more seeds has lost, because nobody would use it; on fewer, these
seeds are left out of its comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import not_
from statistics import fmean
from typing import Any

from ..._directions import SHARES
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

METHOD = "method"
"""The role of what takes the base's place, such as an optimizer of the user's."""
ADOPT, INSTEAD, SAME = "adopt", "use the control instead", "no difference"
HARMFUL, INCONCLUSIVE = "harmful", "inconclusive"
SLIGHTLY_BETTER, SLIGHTLY_WORSE = "slightly better", "slightly worse"
"""Clear of 0, but the mean difference is less than the margin."""
FASTER, NOT_FASTER = "faster", "not faster"
UNSTABLE_FROM = 3
"""Diverged seeds of a predictor that make it unstable if the base has none."""
PERCENT = tuple(SHARES)
"""Metrics between 0 and 1 that are shown in per cent, and their differences in points."""
EARLY = 0.8
"""The share of the steps at which speed is judged, with a complete schedule."""


@dataclass(frozen=True)
class Metric:
    """How values of the primary metric are compared and shown.

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

    def floors(self, c: Comparison) -> bool:
        """Whether half a test example, not the spread, makes an interval as wide as it is."""
        # the ends are sums, so that half the width is exact only up to rounding
        return self.half_example > 0 and c.high - c.mean <= (1 + 1e-9) * self.half_example

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
        role: "base", "predictor", "average", METHOD, "control" or "reference".
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
        facts: numbers that the sentences need besides those of the comparisons.
        cautions: what it leaves open although it is settled, keys of the catalogue.
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
    cautions: tuple[str, ...] = ()
    comparisons: tuple[Pair, ...] = ()
    blocking: int | None = None
    needed: int = 0
    extension: Extension | None = None


class Lacking(Exception):  # noqa: N818 - not an error
    """A verdict needs runs that are missing: an arm's, at a share of the steps."""

    def __init__(self, arm: Arm, share: float) -> None:
        super().__init__(f"{arm.name} at {share:g} T")
        self.arm, self.share = arm, share


class _Case:
    """One question about one predictor: it compares the arms and remembers every comparison."""

    def __init__(
        self,
        base: Arm,
        predictor: Arm,
        controls: Sequence[Arm],
        metric: Metric,
        confidence: float,
        seeds: int | None,
    ) -> None:
        self.base, self.predictor, self.controls = base, predictor, controls
        self.metric, self.confidence = metric, confidence
        self.seeds = len(base.values) if seeds is None else seeds
        self.pairs: list[Pair] = []

    def runs(self, arm: Arm, share: float = 1.0) -> tuple[tuple[float, ...], tuple[bool, ...]]:
        """An arm's values by seed, and which of them diverged.

        Raises:
            Lacking: there are fewer than the seeds of this case.
        """
        early = share != 1.0
        values = arm.early if early else arm.values
        if len(values) < (self.seeds if self.metric.paired else 1):
            raise Lacking(arm, share)
        if not self.metric.paired:  # groups, whose sizes may differ
            return values, arm.early_diverged if early else arm.diverged
        return values[: self.seeds], (arm.early_diverged if early else arm.diverged)[: self.seeds]

    def diverged(self, arm: Arm, share: float = 1.0) -> int:
        return sum(self.runs(arm, share)[1])

    def against(self, control: Arm, share: float) -> tuple[bool, bool]:
        """Whether the predictor beats a control at a share, and whether that explains a gain.

        A control explains a gain if it is itself better than the base and not beaten.
        """
        if self.diverged(control, share) >= UNSTABLE_FROM:
            return True, False
        beaten = self.compare(self.predictor, control, share, share)
        to_base = self.compare(control, self.base, share, share)
        return beaten.relation == BETTER, BETTER == to_base.relation != beaten.relation

    def compare(
        self, a: Arm, b: Arm, a_share: float = 1.0, b_share: float = 1.0, *, kept: bool = True
    ) -> Comparison:
        """Compare two arms, each with T steps or, with the share EARLY, with 0.8 T.

        Args:
            kept: remember the comparison, so that the verdict shows it.
        """
        (left, left_diverged), (right, right_diverged) = (
            self.runs(a, a_share),
            self.runs(b, b_share),
        )
        # seeds at which a control diverged say nothing about it
        lost = [[arm in self.controls and one for one in diverged]
                for arm, diverged in ((a, left_diverged), (b, right_diverged))]  # fmt: skip
        if self.metric.paired:
            lost = [[x or y for x, y in zip(*lost, strict=True)]] * 2
        if all(one.count(False) > 1 for one in lost):
            left, right = (
                tuple(compress(values, map(not_, one)))
                for values, one in zip((left, right), lost, strict=True)
            )
        made = difference(left, right, self.metric, self.confidence, cross_check=kept)
        if kept:
            self.pairs.append(Pair(a.name, b.name, made, a_share, b_share))
        return made

    def made(self, a: Arm, b: Arm) -> Comparison:
        """The comparison of two arms that was made with T steps."""
        return next(p.comparison for p in self.pairs if (p.a, p.b) == (a.name, b.name))

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
        # a gain that nothing cheaper was asked to explain
        cautions = ("no_control",) if kind in (ADOPT, FASTER) and not self.controls else ()
        return Verdict(
            kind, rule, advice, self.base.name, self.predictor.name, control, facts, cautions,
            tuple(self.pairs), place, needed,
        )  # fmt: skip

    def open(self, kind: str, rule: str, blocking: Comparison | None, control: str = "") -> Verdict:
        """A verdict that stays open; the unclear comparison says what would settle it."""
        c, metric = blocking, self.metric
        if c is None:
            return self.verdict(kind, rule, "narrower", control=control)
        if c.n >= FEWEST and (c.low > 0 or c.high < 0):
            return self.verdict(kind, rule, "one_example_next", control=control)
        # half an example fills the margin: only another metric or test split would help
        if c.n >= FEWEST and metric.floors(c) and metric.half_example >= metric.margin:
            return self.verdict(kind, rule, "coarse", control=control)
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
    how: dict[str, Any] = {
        "confidence": confidence,
        "half_example": metric.half_example,
        "cross_check": cross_check,
    }
    if not metric.paired:
        left, right = ([sign * x for x in values] for values in (a, b))
        return compare_unpaired(left, right, metric.margin, **how)
    differences = [sign * (x - y) for x, y in zip(a, b, strict=True)]
    return compare(differences, metric.margin, overlap=metric.overlap, **how)


def judge_quality(
    base: Arm,
    predictor: Arm,
    controls: Sequence[Arm],
    metric: Metric,
    confidence: float,
    seeds: int | None = None,
    closed: bool = False,
) -> Verdict:
    """Does the predictor end better than the base, and by more than its controls explain?

    Args:
        base, predictor, controls: the arms.
        metric, confidence: how values compare.
        seeds: how many to judge; None for those of the base.
        closed: whether no more runs can be had, so that controls may be missing.

    Raises:
        Lacking: the verdict needs runs that are not there.
    """
    case = _Case(base, predictor, controls, metric, confidence, seeds)
    unjudged = _learned_nothing(case) or _divergence(case)
    if unjudged is not None:
        return unjudged

    # rules b, c and d: against the base
    to_base = case.compare(predictor, base)
    matters = abs(to_base.mean) > metric.margin
    if to_base.relation == EQUAL:
        return case.verdict(SAME, "same", "same_next")
    if to_base.relation == WORSE:
        kind, rule = (HARMFUL, "harmful") if matters else (SLIGHTLY_WORSE, "slightly_worse")
        return case.verdict(kind, rule, "keep")
    if to_base.relation == UNCLEAR:
        clear = to_base.low > 0 or to_base.high < 0
        rule = "few" if to_base.n < FEWEST else "one_example" if clear else "unclear"
        return case.open(INCONCLUSIVE, rule, to_base)
    if not matters:
        return case.verdict(SLIGHTLY_BETTER, "slightly_better", "keep_or_narrow")

    # rules e and f: against the controls; missing ones matter only if no other explains the gain
    explains, not_beaten, lacking = [], [], list[Lacking]()
    for control in controls:
        try:
            beaten, explained = case.against(control, 1.0)
        except Lacking as error:
            lacking.append(error)
            continue
        explains += [control] * explained
        not_beaten += [control] * (not beaten)
    if explains:
        # of several, the one that gains most over the base
        best = max(explains, key=lambda c: case.made(c, base).mean)
        return case.verdict(INSTEAD, "instead", best.advice, control=best.name, lr=best.lr)
    if lacking and not closed:
        raise lacking[0]
    if lacking:
        missing = [e.arm.name for e in lacking]
        return case.verdict(INCONCLUSIVE, "unchecked", "check", controls=missing)
    names = [c.name for c in controls]
    if not not_beaten:
        rule = "adopt" if controls else "adopt_alone"
        advice = "adopt_next" if controls and predictor.role != METHOD else "adopt_alone_next"
        return case.verdict(ADOPT, rule, advice, lr=predictor.lr, controls=names)

    # rule g: a control that is not better than the base is not beaten; the closest one is named
    weakest = min(not_beaten, key=lambda c: case.made(predictor, c).mean)
    first = case.made(predictor, weakest), case.made(weakest, base)
    # what more seeds could settle: first the comparisons of that control, then any other
    unclear = [c for c in (*first, *(p.comparison for p in case.pairs)) if c.relation == UNCLEAR]
    return case.open(INCONCLUSIVE, "not_more", unclear[0] if unclear else None, weakest.name)


def judge_speed(
    base: Arm,
    predictor: Arm,
    controls: Sequence[Arm],
    metric: Metric,
    confidence: float,
    seeds: int | None = None,
    closed: bool = False,
) -> Verdict:
    """Does the predictor reach with 0.8 T steps what the base needs T steps for?

    Faster: with 0.8 T steps the predictor is equal to or better than the base with T, the base is
    worse, and the predictor is better than that base. Without the last condition an equal method
    would be called faster in up to a fifth of the pilots: those in which the base loses about 0.8
    margins, so that either comparison may go either way. A control that is faster by the same rule
    is named instead, unless the predictor beats it there.

    Args:
        base, predictor, controls, metric, confidence, seeds, closed: as for `judge_quality`.

    Raises:
        Lacking: the verdict needs runs that are not there.
    """
    case = _Case(base, predictor, controls, metric, confidence, seeds)
    unjudged = _learned_nothing(case) or _speed_diverged(case, (base, 1.0), (predictor, EARLY))
    if unjudged is not None:
        return unjudged
    # the conditions in order; the first that fails or is unclear decides
    short = case.compare(predictor, base, EARLY)
    if short.relation == UNCLEAR:
        return case.open(INCONCLUSIVE, "speed_unclear", short)
    if short.relation == WORSE:
        return case.verdict(NOT_FASTER, "speed_worse", "not_shorten")
    unjudged = _speed_diverged(case, (base, 1.0), (predictor, EARLY), (base, EARLY))
    if unjudged is not None:
        return unjudged
    base_short = case.compare(base, base, EARLY)
    if base_short.relation == UNCLEAR:
        return case.open(NOT_FASTER, "speed_base_unclear", base_short)
    if base_short.relation != WORSE:
        return case.verdict(NOT_FASTER, "speed_base_too", "shorten_base")
    both_short = case.compare(predictor, base, EARLY, EARLY)
    if both_short.relation != BETTER:
        unclear = both_short if both_short.relation == UNCLEAR else None
        return case.open(NOT_FASTER, "speed_both_short", unclear)
    # faster, unless a cheaper control is too
    try:
        control = _as_fast(case)
    except Lacking as error:
        if not closed:
            raise
        return case.verdict(INCONCLUSIVE, "speed_unchecked", "check", controls=[error.arm.name])
    if control is None:
        return case.verdict(FASTER, "faster", "save")
    case.compare(control, base, EARLY)
    case.compare(predictor, control, EARLY, EARLY)
    advice = control.advice, "save_control"
    return case.verdict(INSTEAD, "speed_instead", *advice, control=control.name, lr=control.lr)


def _as_fast(case: _Case) -> Arm | None:
    """The best control that is faster by the same rule and not beaten, both with 0.8 T steps."""
    # by the rule for the predictor; kept=False: these decide nothing by themselves
    found: list[tuple[float, Arm]] = []
    lacking = None
    for c in case.controls:
        try:
            if case.diverged(c, EARLY) >= UNSTABLE_FROM:
                continue
        except Lacking as error:
            lacking = lacking or error
            continue
        short = case.compare(c, case.base, EARLY, kept=False)
        both_short = case.compare(c, case.base, EARLY, EARLY, kept=False)
        if short.relation not in (EQUAL, BETTER) or both_short.relation != BETTER:
            continue
        if case.compare(case.predictor, c, EARLY, EARLY, kept=False).relation != BETTER:
            found.append((short.mean, c))
    if lacking is not None and not found:
        raise lacking
    return max(found, key=lambda each: each[0])[1] if found else None


def _learned_nothing(case: _Case) -> Verdict | None:
    """Rule 0: the verdict if the base is not shown to be better than a constant prediction.

    The interval over seeds decides or, with too few seeds, the mean.
    """
    metric = case.metric
    values, diverged = case.runs(case.base)
    if metric.constant is None or any(diverged):
        return None
    # the constant prediction as one more arm
    constant = [metric.constant] * len(values)
    c = difference(values, constant, metric, case.confidence, cross_check=False)
    if (c.low if c.n >= FEWEST else c.mean - metric.half_example) > 0:
        return None
    return case.verdict(INCONCLUSIVE, "nothing", "nothing_next", mean=fmean(values))


def _divergence(case: _Case) -> Verdict | None:
    """Rule a: the verdict if runs of the base or the predictor diverged."""
    base, predictor = case.base, case.predictor
    by_arm = {arm.name: case.diverged(arm) for arm in (base, predictor)}
    lost = by_arm[predictor.name]
    if not by_arm[base.name] and lost >= UNSTABLE_FROM:
        return case.verdict(
            HARMFUL, "unstable", "keep_or_lower",
            lr=predictor.lr, diverged=lost, runs=case.seeds,
        )  # fmt: skip
    by_arm = {name: n for name, n in by_arm.items() if n}
    if not by_arm:
        return None
    return case.verdict(
        INCONCLUSIVE, "diverged", "lower",
        by_arm=by_arm, diverged=sum(by_arm.values()), runs=2 * case.seeds,
    )  # fmt: skip


def _speed_diverged(case: _Case, *compared: tuple[Arm, float]) -> Verdict | None:
    """The verdict on speed if runs of the arms compared diverged."""
    diverged = sum(case.diverged(arm, share) for arm, share in compared)
    if not diverged:
        return None
    runs = case.seeds * len(compared)
    return case.verdict(INCONCLUSIVE, "speed_diverged", "lower", diverged=diverged, runs=runs)


def settled(verdict: Verdict) -> bool:
    """Whether more seeds would leave a verdict as it is.

    It is open if more seeds would settle an unclear comparison, or if the predictor alone diverged,
    on fewer seeds than make it unstable.
    """
    if verdict.rule == "diverged":
        return verdict.base in verdict.facts["by_arm"]
    return verdict.needed == 0
