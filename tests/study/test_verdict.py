"""Every branch of protocol §4.9 and §4.11, by hand-made arms; the rates are in test_calibration.

Arms are offsets from the base in units of the margin, seed by seed. A constant offset of 0 is
equal, +2 better, -2 worse; one that alternates between +3 and -3 is unclear.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramcast.study import verdict as V
from paramcast.study.stats import UNCLEAR
from paramcast.study.verdict import Arm, Metric, Verdict, judge_quality, judge_speed

N = 8
NOISE = np.array([1.0, -1.0] * (N // 2))
LEVEL = 0.9 + 0.01 * np.sin(np.arange(N))  # the base's values, different on every seed
ACCURACY = Metric("accuracy", True, 0.005)
MSE = Metric("mse", False, 0.005)
METRICS = pytest.mark.parametrize("metric", [ACCURACY, MSE], ids=lambda m: m.name)
NEVER = (False,) * N


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


def quality(
    predictor: Any, *controls: Any, metric: Metric = ACCURACY, diverged: tuple[int, ...] = ()
) -> Verdict:
    """The verdict on offsets of a predictor and its controls; `diverged` counts base first."""
    counts = (*diverged, *[0] * (2 + len(controls) - len(diverged)))
    return judge_quality(
        arm("sgd", "base", metric=metric, diverged=counts[0]),
        arm("plp", "predictor", predictor, metric=metric, diverged=counts[1]),
        [
            arm(f"control{i}", "control", c, metric=metric, diverged=k, advice=f"do {i}")
            for i, (c, k) in enumerate(zip(controls, counts[2:], strict=True))
        ],
        metric,
        0.95,
    )


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
    ("diverged", "kind", "sentence"),
    [
        ((0, 3, 0, 0), V.HARMFUL, r"unstable.*plp diverged on 3 of 8 seeds"),
        ((0, 8, 0, 0), V.HARMFUL, r"unstable"),
        ((0, 3, 0, 5), V.HARMFUL, r"unstable"),
        ((0, 2, 0, 0), V.INCONCLUSIVE, r"2 of 32 runs diverged"),
        ((1, 0, 0, 0), V.INCONCLUSIVE, r"1 of 32 runs diverged"),
        ((1, 8, 0, 0), V.INCONCLUSIVE, r"9 of 32 runs diverged"),
        ((0, 0, 1, 0), V.INCONCLUSIVE, r"1 of 32 runs diverged"),
        ((0, 0, 0, 4), V.INCONCLUSIVE, r"4 of 32 runs diverged"),
    ],
)
@pytest.mark.parametrize("predictor", [0, 4, -4])
def test_divergence_comes_first(
    diverged: tuple[int, ...], kind: str, sentence: str, predictor: float
) -> None:
    verdict = quality(predictor, 0, 0, diverged=diverged)
    assert verdict.kind == kind
    assert re.search(sentence, verdict.sentence)
    assert re.search(r"[Ll]ower the learning rate", verdict.next)


@pytest.mark.parametrize("predictor", [0, 4, -4])
def test_fewer_than_six_seeds_are_inconclusive(predictor: float) -> None:
    def five(a: Arm) -> Arm:
        cut = {name: getattr(a, name)[:5] for name in ("values", "early", "diverged")}
        return replace(a, **cut, early_diverged=a.early_diverged[:5])

    base, one = arm("sgd", "base"), arm("plp", "predictor", predictor, early=predictor)
    answers = (
        judge_quality(five(base), five(one), [five(arm("c", "control"))], ACCURACY, 0.95),
        judge_speed(five(base), five(one), ACCURACY, 0.95),
    )
    for verdict in answers:
        assert verdict.kind == V.INCONCLUSIVE
        assert verdict.needed >= 6


def test_the_advice_is_that_of_the_best_control_which_explains_the_gain() -> None:
    # control0 is beaten, control3 is no better than the base; control2 is the best of the rest
    verdict = quality(4, 2, 4, 5, 1.5 + 9 * NOISE)
    assert verdict.kind == V.INSTEAD
    assert verdict.next == "Do 2."
    assert "control2" in verdict.sentence


def test_a_verdict_names_its_numbers() -> None:
    sentence = quality(-2).sentence
    assert "-1.00 points" in sentence
    assert "95% interval -1.00 to -1.00, n = 8" in sentence
    lower_is_better = quality(-2, metric=MSE).sentence
    assert "-0.01 mse (plus = better; 95% interval -0.01 to -0.01, n = 8)" in lower_is_better


def test_every_comparison_is_kept() -> None:
    assert set(quality(4, 0, 0).comparisons) == {
        "plp - sgd",
        "plp - control0", "plp - control1",
        "control0 - sgd", "control1 - sgd",
    }  # fmt: skip


@METRICS
def test_inconclusive_names_spread_and_seeds(metric: Metric) -> None:
    # differences of 2 +- 2.9 margins on 8 seeds: sd = 2.9 sqrt(8/7) = 3.100 margins, and
    # 10.5 * 3.100^2 = 100.9, so 101 + 3
    verdict = quality(2 + 2.9 * NOISE, 0, 0, metric=metric)
    assert verdict.unclear == "plp - sgd"
    assert verdict.needed == 104
    spread = "1.55 points" if metric.percent else "0.0155"
    assert f"spread by {spread} (sd)" in verdict.next
    assert "104 seeds" in verdict.next


def test_not_more_than_its_control_asks_for_seeds_of_the_unclear_comparison() -> None:
    verdict = quality(3, 1 + 4 * NOISE, 0)
    sd = 4 * math.sqrt(8 / 7)
    assert verdict.unclear == "plp - control0"
    assert verdict.needed == math.ceil(10.5 * sd**2) + 3
    assert "larger step" in verdict.sentence


def test_seeds_are_counted_on_a_comparison_that_is_unclear() -> None:
    # plp and the control hardly differ; what is not known is whether the control beats the base.
    # The half-width of 1.75 margins of noise on 8 seeds is 1.564 margins.
    verdict = quality(1.58 + 1.75 * NOISE, 1.54 + 1.75 * NOISE)
    relations = {name: c.relation for name, c in verdict.comparisons.items()}
    assert relations == {"plp - sgd": "better", "plp - control0": "equal",
                         "control0 - sgd": UNCLEAR}  # fmt: skip
    assert verdict.kind == V.INCONCLUSIVE
    assert relations[verdict.unclear] == UNCLEAR


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
        judge_speed(base, predictor, metric, 0.95).kind,
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
    early: Any, base_early: Any, metric: Metric = ACCURACY, diverged: tuple[int, ...] = (0, 0, 0)
) -> Verdict:
    """The verdict on offsets at 0.8 T; diverged: base, base at 0.8 T, predictor at 0.8 T."""
    return judge_speed(
        arm("sgd", "base", early=base_early, metric=metric,
            diverged=diverged[0], early_diverged=diverged[1]),
        arm("plp", "predictor", early=early, metric=metric, early_diverged=diverged[2]),
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
    assert "sgd needs fewer steps too" in verdict.sentence
    assert verdict.next == "Shorten the training of sgd instead."


@pytest.mark.parametrize("diverged", [(1, 0, 0), (0, 2, 0), (0, 0, 3)])
def test_no_speed_is_read_off_diverged_runs(diverged: tuple[int, ...]) -> None:
    verdict = speed(0, -2, diverged=diverged)
    assert verdict.kind == V.INCONCLUSIVE
    assert f"{sum(diverged)} of the 24 runs compared diverged" in verdict.sentence
    assert verdict.next == "Lower the learning rate."


def test_faster_needs_more_than_the_base_with_as_many_steps() -> None:
    close, noisy = speed(-0.9, -1.1), speed(-0.9, -3 + 2.9 * NOISE)
    for verdict in (close, noisy):
        assert verdict.kind == V.NOT_FASTER
        assert "with 0.8 T steps each plp is not shown to end better than sgd" in verdict.sentence
    assert (close.needed, close.unclear) == (0, "")
    assert (noisy.needed, noisy.unclear) == (104, "plp - sgd, both at 0.8 T")


def test_unclear_speed_names_the_seeds_of_the_unclear_comparison() -> None:
    predictor, base = speed(2.9 * NOISE, -2), speed(0, 2.9 * NOISE)
    assert predictor.unclear == "plp at 0.8 T - sgd at T"
    assert base.unclear == "sgd at 0.8 T - sgd at T"
    for verdict in (predictor, base):
        assert verdict.comparisons[verdict.unclear].relation == UNCLEAR
        assert verdict.needed == 104
