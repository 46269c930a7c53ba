"""Every branch of protocol §4.9 and §4.11, by hand-made arms; the rates are in test_calibration.

Arms are offsets from the base in units of the margin, seed by seed. A constant offset of 0 is
equal, +2 better, -2 worse; one that alternates between +3 and -3 is unclear.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramcast.study.judging import verdict as V
from paramcast.study.judging.sentences import advice, amount, sentence
from paramcast.study.judging.stats import UNCLEAR, seeds_needed
from paramcast.study.judging.verdict import Arm, Metric, Verdict, judge_quality, judge_speed
from paramcast.study.words import Words

EN = Words("en")
N = 8
NOISE = np.array([1.0, -1.0] * (N // 2))
LEVEL = 0.9 + 0.01 * np.sin(np.arange(N))  # the base's values, different on every seed
ACCURACY = Metric("accuracy", True, 0.005)
MSE = Metric("mse", False, 0.005)
METRICS = pytest.mark.parametrize("metric", [ACCURACY, MSE], ids=lambda m: m.name)
NEVER = (False,) * N
ADVICE = ("noise", "backward", "average")


def arm(
    name: str, role: str, offset: Any = 0.0, *, metric: Metric = ACCURACY, early: Any = 0.0,
    diverged: int = 0, early_diverged: int = 0, advice: str = "",
) -> Arm:  # fmt: skip
    """Offsets count margins, plus = better whatever the metric's direction."""
    sign = metric.margin * (1 if metric.higher_is_better else -1)
    return Arm(
        name, role, 0.1,
        tuple(LEVEL + sign * np.broadcast_to(offset, N)),
        tuple(LEVEL + sign * np.broadcast_to(early, N)),
        tuple(i < diverged for i in range(N)),
        tuple(i < early_diverged for i in range(N)),
        advice=advice,
    )  # fmt: skip


def said(verdict: Verdict, metric: Metric = ACCURACY) -> str:
    return sentence(verdict, metric, EN)


def then(verdict: Verdict, metric: Metric = ACCURACY) -> str:
    return advice(verdict, metric, EN)


def compared(verdict: Verdict) -> dict[str, Any]:
    """The comparisons by what is compared with what, "@" for those with 0.8 T steps."""
    ends = ((p, (p.a, p.a_share), (p.b, p.b_share)) for p in verdict.comparisons)
    return {
        " - ".join(name + "@" * (share < 1) for name, share in both): p.comparison
        for p, *both in ends
    }


def blocking(verdict: Verdict) -> str:
    """The comparison that needs more seeds; "" for none."""
    return "" if verdict.blocking is None else [*compared(verdict)][verdict.blocking]


def quality(
    predictor: Any, *controls: Any, metric: Metric = ACCURACY, diverged: tuple[int, ...] = ()
) -> Verdict:
    """The verdict on offsets of a predictor and its controls; `diverged` counts base first."""
    counts = (*diverged, *[0] * (2 + len(controls) - len(diverged)))
    return judge_quality(
        arm("sgd", "base", metric=metric, diverged=counts[0]),
        arm("plp", "predictor", predictor, metric=metric, diverged=counts[1]),
        [
            arm(
                f"control{i}",
                "control",
                c,
                metric=metric,
                diverged=k,
                advice=("noise", "backward", "average")[i],
            )
            for i, (c, k) in enumerate(zip(controls, counts[2:], strict=True))
        ],
        metric,
        0.95,
    )


@pytest.mark.parametrize(
    ("role", "says"), [("predictor", "Wrap sgd in muon"), ("method", "Use muon instead of sgd")]
)
def test_what_takes_the_place_of_the_base_wraps_nothing(role: str, says: str) -> None:
    control = arm("control", "control", 0.0)
    made = judge_quality(arm("sgd", "base"), arm("muon", role, 5.0), [control], ACCURACY, 0.95)
    assert made.kind == V.ADOPT
    assert then(made).startswith(says)


# --- §4.9 ---------------------------------------------------------------------------------------


@METRICS
@pytest.mark.parametrize(
    ("predictor", "controls", "kind"),
    [
        # b: equal to the base, whatever the controls do
        (0, (0, 0), V.SAME),
        (0.9, (0, 0), V.SAME),
        (0, (4, -4), V.SAME),
        (0.5, (3 * NOISE, 0), V.SAME),
        # c: worse
        (-2, (0, 0), V.HARMFUL),
        (-2, (-4, -4), V.HARMFUL),
        (-4 + 3 * NOISE, (0, 0), V.HARMFUL),
        # d: unclear
        (3 * NOISE, (0, 0), V.INCONCLUSIVE),
        (3 * NOISE, (-9, -9), V.INCONCLUSIVE),
        (2 + 3 * NOISE, (0, 0), V.INCONCLUSIVE),
        # e: better than the base and than every control
        (2, (0, 0), V.ADOPT),
        (5, (2, -2), V.ADOPT),
        (5 + 3 * NOISE, (0, 0), V.ADOPT),
        (2, (), V.ADOPT),
        # f: a control that is itself better is not beaten
        (2, (2, 0), V.INSTEAD),
        (2, (0, 2), V.INSTEAD),
        (2, (4, 0), V.INSTEAD),
        (2, (1.5, 0), V.INSTEAD),
        (4, (4 + 3 * NOISE, 0), V.INSTEAD),  # better than the base, unclear against the predictor
        # g: better than the base, but a control that is not is not beaten
        (3, (1 + 4 * NOISE, 0), V.INCONCLUSIVE),
        (1.6, (0.9, 0), V.INCONCLUSIVE),  # the control is equal to both
    ],
)
def test_first_rule_that_fits(
    predictor: Any, controls: tuple[Any, ...], kind: str, metric: Metric
) -> None:
    assert quality(predictor, *controls, metric=metric).kind == kind


@pytest.mark.parametrize(
    ("diverged", "kind", "reason"),
    [
        ((0, 3, 0, 0), V.HARMFUL, r"plp is unstable: it diverged on 3 of 8 seeds"),
        ((0, 8, 0, 0), V.HARMFUL, r"unstable"),
        ((0, 3, 0, 5), V.HARMFUL, r"unstable"),
        ((0, 2, 0, 0), V.INCONCLUSIVE, r"2 of 16 runs diverged"),
        ((1, 0, 0, 0), V.INCONCLUSIVE, r"1 of 16 runs diverged"),
        ((1, 8, 0, 0), V.INCONCLUSIVE, r"9 of 16 runs diverged"),
        ((1, 0, 4, 0), V.INCONCLUSIVE, r"1 of 16 runs diverged"),
    ],
)
@pytest.mark.parametrize("predictor", [0, 4, -4])
def test_divergence_comes_first(
    diverged: tuple[int, ...], kind: str, reason: str, predictor: float
) -> None:
    verdict = quality(predictor, 0, 0, diverged=diverged)
    assert verdict.kind == kind
    assert re.search(reason, said(verdict))
    assert re.search(r"[Ll]ower the learning rate", then(verdict))


@pytest.mark.parametrize(
    ("diverged", "kind"),
    [
        ((0, 0, 3, 0), V.ADOPT),  # nobody would use that control: it has lost
        ((0, 0, 8, 8), V.ADOPT),
        ((0, 0, 2, 0), V.INSTEAD),  # on the other six seeds it is as good as the predictor
    ],
)
def test_a_control_that_diverges_loses_but_does_not_block(
    diverged: tuple[int, ...], kind: str
) -> None:
    assert quality(2, 2, -1, diverged=diverged).kind == kind


def test_seeds_at_which_a_control_diverged_are_left_out_of_its_comparisons() -> None:
    made = compared(quality(2, 2, diverged=(0, 0, 2)))
    assert {name: c.n for name, c in made.items()} == {
        "plp - sgd": 8, "plp - control0": 6, "control0 - sgd": 6,
    }  # fmt: skip


@METRICS
@pytest.mark.parametrize(
    ("predictor", "kind"),
    [
        (0.8 + 0.8 * NOISE, V.SLIGHTLY_BETTER),  # 0.8 -+ 0.72 margins
        (-0.8 + 0.8 * NOISE, V.SLIGHTLY_WORSE),
        (1.2 + 0.8 * NOISE, V.ADOPT),
        (-1.2 + 0.8 * NOISE, V.HARMFUL),
    ],
)
def test_a_difference_smaller_than_the_margin_is_slight(
    predictor: Any, kind: str, metric: Metric
) -> None:
    verdict = quality(predictor, metric=metric)
    assert verdict.kind == kind
    assert [*compared(verdict)] == ["plp - sgd"]


# --- what a verdict needs -------------------------------------------------------------------------


def without(a: Arm) -> Arm:
    """The arm before it has run."""
    return replace(a, values=(), early=(), diverged=(), early_diverged=())


@pytest.mark.parametrize(
    ("predictor", "lacks"),
    [(0, ""), (-2, ""), (3 * NOISE, ""), (0.8 + 0.8 * NOISE, ""), (2, "one")],
)
def test_controls_are_needed_only_where_the_predictor_is_better(predictor: Any, lacks: str) -> None:
    base, plp = arm("sgd", "base"), arm("plp", "predictor", predictor)
    controls = [without(arm(name, "control")) for name in ("one", "two")]
    if not lacks:
        judge_quality(base, plp, controls, ACCURACY, 0.95)
        return
    with pytest.raises(V.Lacking) as lacking:
        judge_quality(base, plp, controls, ACCURACY, 0.95)
    assert (lacking.value.arm.name, lacking.value.share) == (lacks, 1.0)


def test_a_control_that_explains_the_gain_makes_the_others_needless() -> None:
    base, plp = arm("sgd", "base"), arm("plp", "predictor", 2)
    enough = arm("two", "control", 2, advice="noise")
    verdict = judge_quality(base, plp, [without(arm("one", "control")), enough], ACCURACY, 0.95)
    assert (verdict.kind, verdict.control) == (V.INSTEAD, "two")
    beaten = arm("two", "control", 0)
    with pytest.raises(V.Lacking, match="one at 1 T"):
        judge_quality(base, plp, [without(arm("one", "control")), beaten], ACCURACY, 0.95)


def test_a_gain_whose_controls_cannot_run_stays_unexplained() -> None:
    base, plp = arm("sgd", "base"), arm("plp", "predictor", 2)
    controls = [without(arm("one", "control")), arm("two", "control", 0)]
    verdict = judge_quality(base, plp, controls, ACCURACY, 0.95, closed=True)
    assert (verdict.kind, verdict.rule) == (V.INCONCLUSIVE, "unchecked")
    assert verdict.facts == {"controls": ["one"]}


@pytest.mark.parametrize(
    ("early", "base_early", "lacks"),
    [
        (None, None, ("plp", 0.8)),
        (-2, None, None),  # with 0.8 T it ends worse than the base with T: nothing more to know
        (3 * NOISE, None, None),
        (0, None, ("sgd", 0.8)),
        (0, -2, ("larger", 0.8)),
        (0, 0, None),
    ],
)
def test_runs_with_fewer_steps_are_needed_one_arm_after_another(
    early: Any, base_early: Any, lacks: tuple[str, float] | None
) -> None:
    base = arm("sgd", "base", early=0 if base_early is None else base_early)
    plp = arm("plp", "predictor", early=0 if early is None else early)
    base = base if base_early is not None else replace(base, early=(), early_diverged=())
    plp = plp if early is not None else replace(plp, early=(), early_diverged=())
    controls = [without(arm("larger", "control"))]
    if lacks is None:
        judge_speed(base, plp, controls, ACCURACY, 0.95)
        return
    with pytest.raises(V.Lacking) as lacking:
        judge_speed(base, plp, controls, ACCURACY, 0.95)
    assert (lacking.value.arm.name, lacking.value.share) == lacks


def test_a_look_judges_its_seeds_and_no_more() -> None:
    late = np.where(np.arange(N) < 6, 2.0, -50.0)
    base, plp = arm("sgd", "base"), arm("plp", "predictor", late)
    assert judge_quality(base, plp, [], ACCURACY, 0.95, 6).kind == V.ADOPT
    assert judge_quality(base, plp, [], ACCURACY, 0.95).kind != V.ADOPT


@pytest.mark.parametrize(
    ("verdict", "is_settled"),
    [
        (lambda: quality(0), True),
        (lambda: quality(3 * NOISE), False),
        (lambda: quality(0, diverged=(0, 2)), False),  # a third one would make it unstable
        (lambda: quality(0, diverged=(1, 2)), True),
        (lambda: quality(0, diverged=(0, 3)), True),
        (lambda: quality(2, 1.9), True),
        (lambda: quality(3, 1 + 4 * NOISE), False),
    ],
)
def test_what_more_seeds_would_leave_as_it_is(verdict: Any, is_settled: bool) -> None:
    assert V.settled(verdict()) == is_settled


@METRICS
@pytest.mark.parametrize("above", [0.0, -3.0, 3 * NOISE, 0.5 + 2 * NOISE], ids=range(4))
@pytest.mark.parametrize("predictor", [0, 9, -9])
def test_a_base_that_learned_nothing_is_never_judged(
    metric: Metric, above: Any, predictor: float
) -> None:
    """The base ends `above` margins over the constant predictor: at, below, and not clear of it."""
    constant = 0.9
    sign = metric.margin * (1 if metric.higher_is_better else -1)
    values = tuple(constant + sign * np.broadcast_to(above, N))
    known = replace(metric, constant=constant)
    base = replace(arm("sgd", "base", metric=metric), values=values, early=values)
    plp = arm("plp", "predictor", predictor, early=predictor, metric=metric, diverged=3)
    for verdict in (
        judge_quality(base, plp, [], known, 0.95), judge_speed(base, plp, [], known, 0.95)
    ):  # fmt: skip
        shown = metric.value(float(np.mean(values)))
        assert verdict.kind == V.INCONCLUSIVE
        assert said(verdict, known) == (
            f"sgd ({shown}) is no better than a constant prediction "
            f"({metric.value(constant)}). Until it learns, nothing can be judged."
        )
        assert "--epochs" in then(verdict, known)
        assert "ower the learning rate" not in then(verdict, known)
        assert (verdict.needed, verdict.comparisons) == (0, ())


def test_a_base_above_the_constant_is_judged_and_a_diverged_one_is_said_to_have_diverged() -> None:
    known = replace(ACCURACY, constant=0.5)
    base, plp = arm("sgd", "base"), arm("plp", "predictor", 2)
    assert judge_quality(base, plp, [], known, 0.95).kind == V.ADOPT
    lost = replace(base, values=(0.5,) * N, diverged=(True,) * N)
    assert "8 of 16 runs diverged" in said(judge_quality(lost, plp, [], known, 0.95))


@pytest.mark.parametrize("predictor", [0, 4, -4])
def test_fewer_than_six_seeds_are_inconclusive(predictor: float) -> None:
    def five(a: Arm) -> Arm:
        cut = {name: getattr(a, name)[:5] for name in ("values", "early", "diverged")}
        return replace(a, **cut, early_diverged=a.early_diverged[:5])

    base, one = arm("sgd", "base"), arm("plp", "predictor", predictor, early=predictor)
    answers = (
        judge_quality(five(base), five(one), [five(arm("c", "control"))], ACCURACY, 0.95),
        judge_speed(five(base), five(one), [], ACCURACY, 0.95),
    )
    for verdict in answers:
        assert verdict.kind == V.INCONCLUSIVE
        assert verdict.needed >= 6


def test_the_advice_is_that_of_the_best_control_which_explains_the_gain() -> None:
    # control0 is beaten; control2 is the best of the rest
    verdict = quality(4, 2, 4, 5)
    assert (verdict.kind, verdict.control) == (V.INSTEAD, "control2")
    assert then(verdict) == "Average the weights for evaluation (control2) instead."
    assert "control2" in said(verdict)


def test_a_verdict_names_its_numbers() -> None:
    told = said(quality(-2))
    assert "-1.00 points" in told
    assert "95% interval -1.00 to -1.00, n = 8" in told
    lower_is_better = said(quality(-2, metric=MSE), MSE)
    assert "-0.01 mse (95% interval -0.01 to -0.01, n = 8; plus = better)" in lower_is_better


def test_every_comparison_is_kept() -> None:
    assert set(compared(quality(4, 0, 0))) == {
        "plp - sgd",
        "plp - control0", "plp - control1",
        "control0 - sgd", "control1 - sgd",
    }  # fmt: skip


@METRICS
def test_inconclusive_names_spread_and_seeds(metric: Metric) -> None:
    # differences of 2 +- 2.9 margins on 8 seeds: sd = 2.9 sqrt(8/7) = 3.100 margins, and
    # 10.5 * 3.100^2 = 100.9, so 101 + 3
    verdict = quality(2 + 2.9 * NOISE, 0, 0, metric=metric)
    assert blocking(verdict) == "plp - sgd"
    assert verdict.needed == 104
    spread = "1.55 points" if metric.percent else "0.0155"
    assert f"spread by {spread} (standard deviation)" in then(verdict, metric)
    assert "104 seeds" in then(verdict, metric)


def test_not_more_than_its_control_asks_for_seeds_of_the_unclear_comparison() -> None:
    verdict = quality(3, 1 + 4 * NOISE, 0)
    sd = 4 * math.sqrt(8 / 7)
    assert blocking(verdict) == "plp - control0"
    assert verdict.needed == math.ceil(10.5 * sd**2) + 3
    assert "a cheaper explanation" in said(verdict)


def test_seeds_are_counted_on_a_comparison_that_is_unclear() -> None:
    # plp and the control hardly differ; what is not known is whether the control beats the base.
    # The half-width of 1.75 margins of noise on 8 seeds is 1.564 margins.
    verdict = quality(1.58 + 1.75 * NOISE, 1.54 + 1.75 * NOISE)
    relations = {name: c.relation for name, c in compared(verdict).items()}
    assert relations == {"plp - sgd": "better", "plp - control0": "equal",
                         "control0 - sgd": UNCLEAR}  # fmt: skip
    assert verdict.kind == V.INCONCLUSIVE
    assert relations[blocking(verdict)] == UNCLEAR


def random_arms(rng: np.random.Generator) -> list[Arm]:
    offsets = rng.normal(0, 1.5, (4, 1)) + rng.normal(0, 1, (4, N))
    early = offsets - 1 + rng.normal(0, 1, (4, N))
    roles = ("base", "predictor", "control", "control")
    return [
        arm(f"{role}{i}", role, o, early=e)
        for i, (role, o, e) in enumerate(zip(roles, offsets, early, strict=True))
    ]


def both_kinds(arms: list[Arm], metric: Metric) -> tuple[str, str]:
    base, predictor, *controls = arms
    return (
        judge_quality(base, predictor, controls, metric, 0.95).kind,
        judge_speed(base, predictor, [], metric, 0.95).kind,
    )


def test_order_of_seeds_level_scale_and_direction_change_no_verdict() -> None:
    rng = np.random.default_rng(1)

    def changed(a: Arm, rule: Any) -> Arm:
        values, early = (tuple(rule(np.array(v))) for v in (a.values, a.early))
        return replace(a, values=values, early=early)

    seen = set()
    for _ in range(40):
        arms = random_arms(rng)
        kinds = both_kinds(arms, ACCURACY)
        seen.update(kinds)
        order = rng.permutation(N)
        shuffled = [changed(a, lambda v, order=order: v[order]) for a in arms]
        assert both_kinds(shuffled, ACCURACY) == kinds
        raised = [changed(a, lambda v: v + np.arange(N)) for a in arms]
        assert both_kinds(raised, ACCURACY) == kinds
        negated = [changed(a, lambda v: -1000 * v) for a in arms]
        assert both_kinds(negated, Metric("loss", False, 1000 * ACCURACY.margin)) == kinds
    assert {V.SAME, V.HARMFUL, V.ADOPT, V.INSTEAD, V.INCONCLUSIVE, V.FASTER} <= seen


# --- §4.11 --------------------------------------------------------------------------------------


def speed(
    early: Any, base_early: Any, metric: Metric = ACCURACY, diverged: tuple[int, ...] = (0, 0, 0),
    controls: Sequence[Any] = (),
) -> Verdict:  # fmt: skip
    """The verdict on offsets at 0.8 T; diverged: base, base at 0.8 T, predictor at 0.8 T."""
    return judge_speed(
        arm("sgd", "base", early=base_early, metric=metric,
            diverged=diverged[0], early_diverged=diverged[1]),
        arm("plp", "predictor", early=early, metric=metric, early_diverged=diverged[2]),
        [arm(f"control{i}", "control", early=offset, metric=metric, advice=ADVICE[i])
         for i, offset in enumerate(controls)],
        metric,
        0.95,
    )  # fmt: skip


@METRICS
@pytest.mark.parametrize(
    ("early", "base_early", "kind"),
    [
        (0, -2, V.FASTER),
        (2, -2, V.FASTER),
        (0.5, -4 + 3 * NOISE, V.FASTER),
        (-2, -2, V.NOT_FASTER),
        (-2, 0, V.NOT_FASTER),
        (0, 0, V.NOT_FASTER),
        (2, 0, V.NOT_FASTER),
        (2, 2, V.NOT_FASTER),
        (0, 3 * NOISE, V.NOT_FASTER),
        (-0.9, -1.1, V.NOT_FASTER),  # on either side of the margin, and equal to each other
        (-0.9, -1.8, V.NOT_FASTER),  # equal still
        (-0.9, -2.0, V.FASTER),
        (3 * NOISE, -2, V.INCONCLUSIVE),
        (3 * NOISE, 0, V.INCONCLUSIVE),
    ],
)
def test_speed(early: Any, base_early: Any, kind: str, metric: Metric) -> None:
    assert speed(early, base_early, metric).kind == kind


@pytest.mark.parametrize("base_early", [0, 2])
def test_a_base_that_needs_fewer_steps_too_is_named(base_early: float) -> None:
    verdict = speed(0, base_early)
    assert "sgd does not need all of them either" in said(verdict)
    assert then(verdict) == "Shorten the training of sgd instead."


@pytest.mark.parametrize("diverged", [(1, 0, 0), (0, 2, 0), (0, 0, 3)])
def test_no_speed_is_read_off_diverged_runs(diverged: tuple[int, ...]) -> None:
    verdict = speed(0, -2, diverged=diverged)
    assert verdict.kind == V.INCONCLUSIVE
    runs = 24 if diverged[1] else 16  # the base's with 0.8 T are needed last
    assert f"{sum(diverged)} of the {runs} runs compared diverged" in said(verdict)
    assert then(verdict) == "Lower the learning rate."


@METRICS
@pytest.mark.parametrize(
    ("early", "controls", "kind"),
    [
        (0, (-2, -2), V.FASTER),  # the controls lose as the base does
        (0, (-2, 0), V.INSTEAD),  # the second is as fast
        (2, (0, 0), V.FASTER),  # both are, and are beaten
        (2, (0, 2), V.INSTEAD),
        (2, (2, 4), V.INSTEAD),  # the better of two
        (0, (3 * NOISE,), V.FASTER),  # not shown to be fast
        (-2, (0,), V.NOT_FASTER),
    ],
)
def test_a_control_that_is_as_fast_is_named_instead(
    early: Any, controls: Sequence[Any], kind: str, metric: Metric
) -> None:
    verdict = speed(early, -2, metric, controls=controls)
    assert verdict.kind == kind
    if kind == V.INSTEAD:
        assert "control1 needs no more steps than that either" in said(verdict, metric)
        save = "Train control1 with 80% of the steps, which saves 20%: shorten its schedule, too."
        assert then(verdict, metric) == f"{BACKWARD} {save}"


def test_faster_needs_more_than_the_base_with_as_many_steps() -> None:
    close, noisy = speed(-0.9, -1.1), speed(-0.9, -3 + 2.9 * NOISE)
    for verdict in (close, noisy):
        assert verdict.kind == V.NOT_FASTER
        assert "With 80% of the steps each, plp is not shown to end better" in said(verdict)
    assert (close.needed, blocking(close)) == (0, "")
    assert (noisy.needed, blocking(noisy)) == (104, "plp@ - sgd@")


def test_unclear_speed_names_the_seeds_of_the_unclear_comparison() -> None:
    predictor, base = speed(2.9 * NOISE, -2), speed(0, 2.9 * NOISE)
    assert blocking(predictor) == "plp@ - sgd"
    assert blocking(base) == "sgd@ - sgd"
    for verdict in (predictor, base):
        assert compared(verdict)[blocking(verdict)].relation == UNCLEAR
        assert verdict.needed == 104


def test_seeds_cannot_tell_less_than_half_a_test_example() -> None:
    coarse = replace(ACCURACY, half_example=0.02)  # 25 test examples
    alike, noisy = quality(0, metric=coarse), quality(10 * NOISE, metric=coarse)
    assert (alike.kind, alike.needed) == (V.INCONCLUSIVE, 0)
    assert compared(alike)["plp - sgd"].mean == 0.0
    assert then(alike, coarse).startswith(
        "More seeds will not settle it: half a test example is worth the margin or more"
    )
    assert (noisy.kind, noisy.needed) == (
        V.INCONCLUSIVE,
        seeds_needed(compared(noisy)["plp - sgd"].sd, 0.02),
    )
    assert "To tell 2.00 points apart takes" in then(noisy, coarse)


# --- word by word -------------------------------------------------------------------------------


def points(mean: str, low: str = "", high: str = "") -> str:
    ends = f"{low or mean} to {high or mean}"
    return f"{mean} points (95% interval {ends}, n = 8; plus = better)"


BACKWARD = "A backward jump helps: average the weights or decay the learning rate."
LEAD = "plp with 80% of the steps ends {} sgd with all of them."
CLOSE = "More seeds will not settle it: the differences lie within the margin. "
CLOSE += "Judge with a smaller --margin, or treat it as no difference."
SEEDS = (
    "The differences spread by {} points (standard deviation). To tell 0.50 points apart takes {}."
)
OPEN = "Whether plp or sgd ends better is not clear. The difference is {}. "
OPEN += "This range includes 0 and reaches beyond 0.50 points."
TOLD = [
    (lambda: quality(0.5, 0), "plp and sgd end within 0.50 points of each other. "
     f"The difference is {points('+0.25')}.",
     "Keep sgd. On this task plp changes nothing that matters."),
    (lambda: quality(-2, 0), f"plp ends worse than sgd. The difference is {points('-1.00')}.",
     "Keep sgd."),
    (lambda: quality(2.9 * NOISE, 0), OPEN.format(points("+0.00", "-1.30", "+1.30")),
     SEEDS.format("1.55", "about 104 seeds")),
    (lambda: quality(0.3 + NOISE, 0), OPEN.format(points("+0.15", "-0.30", "+0.60")),
     SEEDS.format("0.53", "about 15 seeds")),
    (lambda: quality(5, 2, -2), "plp ends better than sgd, and better than every control "
     f"(control0, control1). The difference from sgd is {points('+2.50')}.",
     "Wrap sgd in plp, keep the learning rate 0.1, and watch the first trainings."),
    (lambda: quality(2, 0, 4), "plp beats sgd by 1.00 points, but control1 beats sgd by 2.00 "
     "points. plp does not beat control1. The difference between these two is "
     f"{points('-1.00')}.", BACKWARD),
    (lambda: quality(3, 1 + 4 * NOISE), "plp beats sgd by 1.50 points. It is not shown to beat "
     "control0, so the gain may have a cheaper explanation. The difference from control0 is "
     f"{points('+1.00', '-0.79', '+2.79')}.", SEEDS.format("2.14", "about 196 seeds")),
    (lambda: quality(1.6, 0.9), "plp beats sgd by 0.80 points. It is not shown to beat control0, "
     "so the gain may have a cheaper explanation. The difference from control0 is "
     f"{points('+0.35')}.", CLOSE),
    (lambda: quality(0, 0, diverged=(0, 3)), "plp is unstable: it diverged on 3 of 8 seeds at "
     "learning rate 0.1. sgd diverged on none.", "Keep sgd, or lower the learning rate."),
    (lambda: quality(0, 0, 0, diverged=(1, 2, 0, 4)),
     "3 of 16 runs diverged (sgd 1, plp 2).", "Lower the learning rate."),
    (lambda: quality(0.8 + 0.8 * NOISE), "plp ends better than sgd, but by less than the 0.50 "
     f"points that matter. The difference is {points('+0.40', '+0.04', '+0.76')}.",
     "Keep sgd. If so small a gain is worth having, judge with a smaller --margin."),
    (lambda: quality(-0.8 + 0.8 * NOISE), "plp ends worse than sgd, but by less than the 0.50 "
     f"points that matter. The difference is {points('-0.40', '-0.76', '-0.04')}.", "Keep sgd."),
    (lambda: speed(0, -2), f"{LEAD.format('level with')} The difference is {points('+0.00')}. "
     "With 80% of the steps sgd itself loses 1.00 points.",
     "Train plp with 80% of the steps, which saves 20%: shorten its schedule, too."),
    (lambda: speed(-2, 0), f"{LEAD.format('worse than')} The difference is {points('-1.00')}.",
     "Do not shorten the training."),
    (lambda: speed(2.9 * NOISE, 0), "Whether plp with 80% of the steps ends as well as sgd with "
     f"all of them is not clear. The difference is {points('+0.00', '-1.30', '+1.30')}.",
     SEEDS.format("1.55", "about 104 seeds")),
    (lambda: speed(0, 2.9 * NOISE), f"{LEAD.format('level with')} Whether sgd itself needs all of "
     "them is not clear. The difference between sgd with 80% of the steps and with all is "
     f"{points('+0.00', '-1.30', '+1.30')}.", SEEDS.format("1.55", "about 104 seeds")),
    (lambda: speed(2, 0), f"{LEAD.format('better than')} sgd does not need all of them either. "
     "The difference between sgd with 80% of the steps and with all is "
     f"{points('+0.00')}.", "Shorten the training of sgd instead."),
    (lambda: speed(-0.9, -1.1), f"{LEAD.format('level with')} With 80% of the steps each, plp is "
     f"not shown to end better than sgd. The difference is then {points('+0.10')}.", CLOSE),
    (lambda: speed(0, -2, diverged=(1, 2, 4)), "5 of the 16 runs compared diverged.",
     "Lower the learning rate."),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(TOLD)))
def test_a_verdict_gives_its_interval_and_n_once_and_no_letter_for_the_steps(i: int) -> None:
    _, reason, next_ = TOLD[i]
    assert reason.count("interval") == reason.count("n = ") <= 1
    assert not re.search(r"\bT\b|\bbase\b", reason + next_)


@pytest.mark.parametrize("i", range(len(TOLD)))
def test_verdicts_read(i: int) -> None:
    judge, reason, next_ = TOLD[i]
    verdict = judge()
    assert (said(verdict), then(verdict)) == (reason, next_)
    diverged = "diverged" in reason
    names = [] if diverged else ["plp - sgd"] if i < 12 else ["plp@ - sgd"]
    assert [*compared(verdict)][:1] == names
    assert (blocking(verdict) in compared(verdict)) == (verdict.needed > 0)


def test_few_seeds_are_said_to_be_few() -> None:
    few = [replace(a, **{name: getattr(a, name)[:5] for name in vars(a) if name in (
        "values", "early", "diverged", "early_diverged")})
        for a in (arm("sgd", "base"), arm("plp", "predictor", 4))]  # fmt: skip
    verdict = judge_quality(*few, [], ACCURACY, 0.95)
    assert said(verdict).startswith("Fewer than 6 seeds show nothing. The difference between plp")
    assert then(verdict) == SEEDS.format("0.00", "about 6 seeds")
    assert verdict.needed == 6


def test_seeds_that_are_there_already_are_not_asked_for() -> None:
    # sd 0.68 margins, so 10.5 * 0.4624 = 4.86 and 5 + 3 seeds would do; yet 0.55 - 0.57 < 0
    verdict = quality(0.55 + 0.68 * math.sqrt(7 / 8) * NOISE, 0)
    assert (verdict.kind, verdict.needed) == (V.INCONCLUSIVE, 8)
    assert then(verdict) == SEEDS.format("0.34", "more seeds than these")


def test_numbers_read_as_the_metric_does() -> None:
    loss = Metric("loss", False, 0.05)
    assert [ACCURACY.value(0.91234), loss.value(0.912345)] == ["91.23 %", "0.9123"]
    assert [amount(-0.0123, ACCURACY, EN), amount(-0.01234, loss, EN)] == ["1.23 points", "0.0123"]
    signed = [m.signed(x) for m in (ACCURACY, loss) for x in (0.0123, 0.0, -0.0123)]
    assert signed == ["+1.23", "+0.00", "-1.23", "+0.0123", "+0", "-0.0123"]


# --- what the rules leave open, and why -----------------------------------------------------------


def cut(a: Arm, n: int) -> Arm:
    names = ("values", "early", "diverged", "early_diverged")
    return replace(a, **{name: getattr(a, name)[:n] for name in names})


def test_no_number_of_seeds_shows_equality_where_half_an_example_is_the_margin() -> None:
    # 100 test examples: an example is a point, and the margin is half of one
    coarse = replace(ACCURACY, half_example=ACCURACY.margin)
    verdict = quality(0.1, 0, metric=coarse)
    assert (verdict.rule, verdict.advice, verdict.needed) == ("unclear", ("coarse",), 0)
    # a spread that hides that still asks for seeds
    assert quality(3 * NOISE, 0, metric=coarse).advice == ("spread",)


@pytest.mark.parametrize("offset", [2, -2])
def test_one_test_example_never_decides(offset: float) -> None:
    # two margins are one example; the interval, half an example each way, is clear of 0
    one = replace(ACCURACY, half_example=ACCURACY.margin)
    verdict = quality(offset, 0, metric=one)
    assert (verdict.kind, verdict.rule) == (V.INCONCLUSIVE, "one_example")
    assert (verdict.advice, verdict.control, verdict.needed) == (("one_example_next",), "", 0)


def test_splits_that_share_examples_are_told_apart_from_few_seeds() -> None:
    # 10.5 * (2.9^2 * 8/7) * overlap is far above 1: no number of seeds is enough
    verdict = quality(2.9 * NOISE, 0, metric=replace(ACCURACY, overlap=1.0))
    assert (verdict.kind, verdict.rule, verdict.needed) == (V.INCONCLUSIVE, "unclear", 0)
    assert (verdict.advice, verdict.control) == (("shared_splits",), "")


def test_what_is_too_coarse_says_so_with_its_rule() -> None:
    verdict = quality(0, 0, metric=replace(ACCURACY, half_example=0.02))
    assert (verdict.rule, verdict.advice, verdict.control) == ("unclear", ("coarse",), "")


def test_without_controls_none_is_said_to_be_beaten() -> None:
    verdict = quality(2)
    assert (verdict.kind, verdict.rule) == (V.ADOPT, "adopt_alone")
    assert said(verdict) == f"plp ends better than sgd. The difference is {points('+1.00')}."


def test_the_advice_of_a_control_names_its_own_rate() -> None:
    base, plp = arm("sgd", "base", early=-2), arm("plp", "predictor", 2)
    larger = replace(arm("sgd-lr-matched", "control", 2, advice="raise_lr"), lr=0.25)
    told = "Raise the learning rate of sgd to 0.25."
    assert then(judge_quality(base, plp, [larger], ACCURACY, 0.95)) == told
    assert then(judge_speed(base, plp, [larger], ACCURACY, 0.95)).startswith(told)


def test_the_control_that_comes_nearest_is_named() -> None:
    verdict = quality(3, 0.5 + 4 * NOISE, 1 + 4 * NOISE)
    assert (verdict.rule, verdict.control) == ("not_more", "control1")


def test_a_control_that_is_not_shown_to_reach_the_base_is_not_named() -> None:
    # it beats the base with as many steps, and the predictor is not shown to beat it
    assert speed(0, -9, controls=(-1.5 + 3 * NOISE,)).kind == V.FASTER


def test_what_a_speed_verdict_rests_on() -> None:
    assert [*compared(speed(0, -2, controls=(-2,)))] == ["plp@ - sgd", "sgd@ - sgd", "plp@ - sgd@"]
    assert [*compared(speed(0, -2, controls=(0,)))][3:] == ["control0@ - sgd", "plp@ - control0@"]


def test_six_seeds_are_not_few_and_every_comparison_has_its_cross_check() -> None:
    arms = [cut(arm("sgd", "base"), 6), cut(arm("plp", "predictor", 3 * NOISE), 6)]
    verdict = judge_quality(*arms, [], ACCURACY, 0.99)
    assert verdict.rule == "unclear"
    for c in compared(verdict).values():
        assert c.confidence == 0.99
        assert 0 <= c.p_sign_flip <= 1
    with pytest.raises(V.Lacking, match="plp"):
        judge_quality(arm("sgd", "base"), arms[1], [], ACCURACY, 0.95)


@pytest.mark.parametrize(("seeds", "rule"), [(5, "few"), (6, "nothing")])
def test_whether_the_base_has_learned_is_read_off_the_mean_of_few_seeds(
    seeds: int, rule: str
) -> None:
    """A mean clear of the constant by more than half an example, an interval that is not."""
    known = replace(ACCURACY, constant=0.9, half_example=0.001)
    base = cut(replace(arm("sgd", "base"), values=tuple(0.9 + 0.004 + 0.02 * NOISE)), seeds)
    plp = cut(arm("plp", "predictor"), seeds)
    assert judge_quality(base, plp, [], known, 0.95).rule == rule
    if seeds == 5:
        coarse = replace(known, half_example=0.05)
        assert judge_quality(base, plp, [], coarse, 0.95).rule == "nothing"
