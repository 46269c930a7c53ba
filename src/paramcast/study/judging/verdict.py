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

from .stats import BETTER, EQUAL, FEWEST, UNCLEAR, WORSE, Comparison, compare, seeds_needed

ADOPT, INSTEAD, SAME = "adopt", "use the control instead", "no difference"
HARMFUL, INCONCLUSIVE = "harmful", "inconclusive"
FASTER, NOT_FASTER = "faster", "not faster"
UNSTABLE_FROM = 3
PERCENT = ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision")
"""Metrics between 0 and 1 that are shown in per cent, and their differences in points."""
EARLY = 0.8
"""The share of the steps at which speed is judged, with a complete schedule."""


@dataclass(frozen=True)
class Metric:
    """How values of the primary metric compare and read.

    Attributes:
        margin: differences within it do not matter.
        half_example: what half a test example is worth, 0 where that is not known.
        constant: the constant predictor's value on the test split; None where it has none.
        overlap: test examples per training example where each seed has a split of its own, else 0.
    """

    name: str
    higher_is_better: bool
    margin: float
    half_example: float = 0.0
    constant: float | None = None
    overlap: float = 0.0

    @property
    def percent(self) -> bool:
        return self.name in PERCENT

    @property
    def counts_errors(self) -> bool:
        """Whether 1 - value is the share of wrong predictions."""
        return self.name == "accuracy"

    def value(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def amount(self, value: float) -> str:
        """A difference without its sign."""
        return f"{100 * abs(value):.2f} points" if self.percent else f"{abs(value):.3g}"

    def signed(self, value: float) -> str:
        """A difference, plus = better."""
        sign = "+" if value >= 0 else "-"
        return f"{sign}{100 * abs(value):.2f}" if self.percent else f"{sign}{abs(value):.3g}"


@dataclass(frozen=True)
class Arm:
    """One method in the comparison, its values by seed (the same seeds, in the same order).

    Attributes:
        name: as in the table.
        role: "base", "predictor", "control" or "reference".
        lr: its learning rate.
        values, early: the primary metric at the end, with a schedule of T and of 0.8 T steps.
        diverged, early_diverged: which of those runs diverged.
        of: the predictor that a control belongs to; "" for every predictor.
        advice: what to do if this control explains the gain.
    """

    name: str
    role: str
    lr: float
    values: tuple[float, ...]
    early: tuple[float, ...]
    diverged: tuple[bool, ...]
    early_diverged: tuple[bool, ...]
    of: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer to one question about one predictor.

    Attributes:
        kind: one of the constants of this module.
        sentence: the answer with its reason, in plain words.
        next: what to do.
        comparisons: by "a - b", what it rests on.
        unclear: the comparison that needs more seeds, if that is why it is inconclusive.
        needed: seeds that it needs, 0 where more seeds are not the answer.
    """

    kind: str
    sentence: str
    next: str
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    unclear: str = ""
    needed: int = 0


def difference(
    a: Sequence[float],
    b: Sequence[float],
    metric: Metric,
    confidence: float,
    *,
    cross_check: bool = True,
) -> Comparison:
    """Compare two arms' values seed by seed; plus = a is better, whatever the direction."""
    sign = 1.0 if metric.higher_is_better else -1.0
    return compare(
        [sign * (x - y) for x, y in zip(a, b, strict=True)],
        metric.margin,
        confidence=confidence,
        half_example=metric.half_example,
        overlap=metric.overlap,
        cross_check=cross_check,
    )


def describe(c: Comparison, metric: Metric) -> str:
    """A comparison in numbers: difference, interval, n."""
    unit = " points" if metric.percent else f" {metric.name}"
    return (
        f"{metric.signed(c.mean)}{unit} (plus = better; {100 * c.confidence:.3g}% interval "
        f"{metric.signed(c.low)} to {metric.signed(c.high)}, n = {c.n})"
    )


def judge_quality(
    base: Arm, predictor: Arm, controls: Sequence[Arm], metric: Metric, confidence: float
) -> Verdict:
    """Does the predictor end better than the base, and by more than its controls explain?"""
    unjudged = _learned_nothing(base, metric, confidence) or _divergence(base, predictor, controls)
    if unjudged is not None:
        return unjudged
    to_base = difference(predictor.values, base.values, metric, confidence)
    against = {c.name: difference(predictor.values, c.values, metric, confidence) for c in controls}
    control_to_base = {
        c.name: difference(c.values, base.values, metric, confidence) for c in controls
    }
    shown = {f"{predictor.name} - {base.name}": to_base}
    shown |= {f"{predictor.name} - {name}": c for name, c in against.items()}
    shown |= {f"{name} - {base.name}": c for name, c in control_to_base.items()}
    numbers = describe(to_base, metric)
    margin = metric.amount(metric.margin)

    if to_base.relation == EQUAL:
        return Verdict(
            SAME,
            f"No difference: {predictor.name} and {base.name} end within {margin} of each other: "
            f"{numbers}.",
            f"Keep {base.name}: on this task {predictor.name} changes nothing that matters.",
            shown,
        )
    if to_base.relation == WORSE:
        return Verdict(
            HARMFUL,
            f"Harmful: {predictor.name} ends worse than {base.name}: {numbers}.",
            f"Keep {base.name}.",
            shown,
        )
    if to_base.relation == UNCLEAR:
        few = f" (fewer than {FEWEST} seeds show nothing)" if to_base.n < FEWEST else ""
        clear = to_base.n >= FEWEST and (to_base.low > 0 or to_base.high < 0)
        why = f"neither clear of 0 nor within {margin}"
        why = "no more than one test example" if clear else why
        return _more_seeds(
            f"Inconclusive{few}: {predictor.name} against {base.name} is {numbers}, {why}.",
            shown,
            f"{predictor.name} - {base.name}",
            metric,
        )
    if all(c.relation == BETTER for c in against.values()):
        return Verdict(
            ADOPT,
            f"Adopt {predictor.name}: it ends better than {base.name}, {numbers}, and better than "
            f"every control ({', '.join(against)}).",
            f"Wrap the optimizer, keep the learning rate {predictor.lr:.4g}, and watch the first "
            "trainings.",
            shown,
        )
    explains = [
        c
        for c in controls
        if control_to_base[c.name].relation == BETTER and against[c.name].relation != BETTER
    ]
    if explains:
        best = max(explains, key=lambda c: control_to_base[c.name].mean)
        return Verdict(
            INSTEAD,
            f"Use the control instead: {predictor.name} beats {base.name}, {numbers}, but so does "
            f"{best.name}, {describe(control_to_base[best.name], metric)}, and {predictor.name} "
            f"does not beat it: {describe(against[best.name], metric)}.",
            best.advice[:1].upper() + best.advice[1:] + ".",
            shown,
        )
    weakest = min(
        (name for name, c in against.items() if c.relation != BETTER),
        key=lambda name: against[name].mean,
    )
    pair = f"{predictor.name} - {weakest}", f"{weakest} - {base.name}"
    unclear = [name for name in (*pair, *shown) if shown[name].relation == UNCLEAR]
    return _more_seeds(
        f"Inconclusive: {predictor.name} is better than {base.name}, {numbers}, but not shown to "
        f"be more than a larger step or noise: against {weakest} "
        f"{describe(against[weakest], metric)}.",
        shown,
        unclear[0] if unclear else "",
        metric,
    )


def judge_speed(
    base: Arm, predictor: Arm, controls: Sequence[Arm], metric: Metric, confidence: float
) -> Verdict:
    """Does the predictor with 0.8 T steps do what the base needs T steps for?

    Faster: with 0.8 T steps the predictor is equal to or better than the base with T, the base is
    worse, and the predictor is better than that base. Without the last, an equal method would be
    called faster in up to a fifth of the pilots, where losing 0.8 margins tips each either way. A
    control that is faster by the same rule is named instead, unless the predictor beats it there.
    """
    nothing = _learned_nothing(base, metric, confidence)
    if nothing is not None:
        return nothing
    if any(predictor.early_diverged) or any(base.diverged) or any(base.early_diverged):
        count = sum(predictor.early_diverged) + sum(base.diverged) + sum(base.early_diverged)
        return Verdict(
            INCONCLUSIVE,
            f"Inconclusive: {count} of the {3 * len(base.values)} runs compared diverged.",
            "Lower the learning rate.",
        )
    short = difference(predictor.early, base.values, metric, confidence)
    base_short = difference(base.early, base.values, metric, confidence)
    both_short = difference(predictor.early, base.early, metric, confidence)
    together = f"{predictor.name} - {base.name}, both at {EARLY} T"
    shown = {
        f"{predictor.name} at {EARLY} T - {base.name} at T": short,
        f"{base.name} at {EARLY} T - {base.name} at T": base_short,
        together: both_short,
    }
    numbers = describe(short, metric)
    lead = f"{predictor.name} with {EARLY} T steps against {base.name} with T"
    if short.relation == UNCLEAR:
        return _more_seeds(f"Inconclusive: {lead} is {numbers}.", shown, next(iter(shown)), metric)
    if short.relation == WORSE:
        return Verdict(
            NOT_FASTER,
            f"Not faster: {lead} ends worse: {numbers}.",
            "Do not shorten the training.",
            shown,
        )
    if base_short.relation == WORSE and both_short.relation != BETTER:
        return _more_seeds(
            f"Not faster as far as is shown: {lead} is {short.relation}, but with {EARLY} T steps "
            f"each {predictor.name} is not shown to end better than {base.name}: "
            f"{describe(both_short, metric)}.",
            shown,
            together if both_short.relation == UNCLEAR else "",
            metric,
            kind=NOT_FASTER,
        )
    if base_short.relation == WORSE:
        instead = _as_fast(base, predictor, controls, metric, confidence)
        if instead is not None:
            control, control_short, against = instead
            return Verdict(
                INSTEAD,
                f"Use the control instead: {lead} is {short.relation}: {numbers}, but so is "
                f"{control.name}, {describe(control_short, metric)}, and {predictor.name} does not "
                f"beat it, both with {EARLY} T steps: {describe(against, metric)}.",
                f"{control.advice[:1].upper()}{control.advice[1:]}. Save {1 - EARLY:.0%} of the "
                f"steps: {control.name} with a schedule of {EARLY} T.",
                shown | {f"{predictor.name} - {control.name}, both at {EARLY} T": against},
            )
        return Verdict(
            FASTER,
            f"Faster: {lead} is {short.relation}: {numbers}, while {base.name} itself loses with "
            f"{EARLY} T steps: {describe(base_short, metric)}.",
            f"Save {1 - EARLY:.0%} of the steps: {predictor.name} with a schedule of {EARLY} T.",
            shown,
        )
    if base_short.relation == UNCLEAR:
        return _more_seeds(
            f"Not faster as far as is shown: {lead} is {short.relation}, but whether {base.name} "
            f"itself needs all T steps is unclear: {describe(base_short, metric)}.",
            shown,
            list(shown)[1],
            metric,
            kind=NOT_FASTER,
        )
    return Verdict(
        NOT_FASTER,
        f"Not faster: {lead} is {short.relation}, but {base.name} needs fewer steps too: with "
        f"{EARLY} T steps it is {base_short.relation}, {describe(base_short, metric)}.",
        f"Shorten the training of {base.name} instead.",
        shown,
    )


def _as_fast(
    base: Arm, predictor: Arm, controls: Sequence[Arm], metric: Metric, confidence: float
) -> tuple[Arm, Comparison, Comparison] | None:
    """The best control that is faster too and is not beaten: it, it against the base with T steps,
    and the predictor against it with 0.8 T steps each."""
    found = []
    for c in controls:
        short = difference(c.early, base.values, metric, confidence, cross_check=False)
        both_short = difference(c.early, base.early, metric, confidence, cross_check=False)
        if short.relation not in (EQUAL, BETTER) or both_short.relation != BETTER:
            continue
        against = difference(predictor.early, c.early, metric, confidence)
        if against.relation != BETTER:
            found.append((c, short, against))
    return max(found, key=lambda one: one[1].mean, default=None)


def _learned_nothing(base: Arm, metric: Metric, confidence: float) -> Verdict | None:
    """Whether the base is not shown to be better than a constant prediction.

    The interval over seeds decides; with too few seeds for one, the mean.
    """
    if metric.constant is None or any(base.diverged):
        return None
    constant = [metric.constant] * len(base.values)
    c = difference(base.values, constant, metric, confidence, cross_check=False)
    if (c.low if c.n >= FEWEST else c.mean - metric.half_example) > 0:
        return None
    mean = metric.value(fmean(base.values))
    return Verdict(
        INCONCLUSIVE,
        f"Inconclusive: {base.name} ({mean}) is no better than a constant "
        f"({metric.value(metric.constant)}): nothing can be judged.",
        f"First let {base.name} learn: more --epochs, another --lr-range, other features, "
        "or another --metric.",
    )


def _divergence(base: Arm, predictor: Arm, controls: Sequence[Arm]) -> Verdict | None:
    n = len(base.values)
    if not any(base.diverged) and sum(predictor.diverged) >= UNSTABLE_FROM:
        return Verdict(
            HARMFUL,
            f"Harmful (unstable): {predictor.name} diverged on {sum(predictor.diverged)} of {n} "
            f"seeds at learning rate {predictor.lr:.4g}, {base.name} on none.",
            f"Keep {base.name}, or lower the learning rate.",
        )
    arms = [base, predictor, *controls]
    diverged = {arm.name: sum(arm.diverged) for arm in arms if any(arm.diverged)}
    if not diverged:
        return None
    who = ", ".join(f"{name} {count}" for name, count in diverged.items())
    return Verdict(
        INCONCLUSIVE,
        f"Inconclusive: {sum(diverged.values())} of {n * len(arms)} runs diverged ({who}).",
        "Lower the learning rate.",
    )


def _more_seeds(
    sentence: str,
    shown: dict[str, Comparison],
    unclear: str,
    metric: Metric,
    *,
    kind: str = INCONCLUSIVE,
) -> Verdict:
    if not unclear:
        return Verdict(
            kind,
            sentence,
            "More seeds will not settle it, the differences lie within the margin: a narrower "
            "--margin, or treat it as no difference.",
            shown,
        )
    c = shown[unclear]
    if c.n >= FEWEST and c.high - c.mean <= metric.half_example > metric.margin:
        return Verdict(
            kind,
            sentence,
            "More seeds will not settle it, half a test example is worth more than the margin: "
            "add test examples, or widen --margin.",
            shown,
        )
    if c.n >= FEWEST and (c.low > 0 or c.high < 0):
        return Verdict(
            kind,
            sentence,
            "More seeds will not settle it, one test example never decides: more test examples.",
            shown,
        )
    apart = max(metric.margin, metric.half_example)  # nothing smaller can be told
    enough = seeds_needed(c.sd, apart, metric.overlap)
    if not enough:
        return Verdict(
            kind,
            sentence,
            "More splits will not settle it, because they share examples: more data, or a wider "
            "--margin.",
            shown,
        )
    needed = max(FEWEST, enough)
    spread = metric.amount(c.sd)
    seeds = f"about {needed} seeds" if needed > c.n else f"more than these {c.n} seeds"
    return Verdict(
        kind,
        sentence,
        f"The differences spread by {spread} (sd); to tell {metric.amount(apart)} apart "
        f"takes {seeds}.",
        shown,
        unclear,
        needed,
    )
