"""Key figures and return: a worked example, closed forms, and what is said without a gain."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from roi_pilots import ACCURACY, Made, adopted, store, useless, wave
from scipy import stats

from paramcast.report import roi
from paramcast.report.roi import effects, money, returns
from paramcast.report.roi.effects import Effect, best_quality, gain, ratio
from paramcast.report.roi.terminal import show
from paramcast.study.judging.verdict import Extension, Metric
from paramcast.study.store.folder import to_json
from runs import cell

EXACT = """
training_hours = 10
trainings_per_month = 10
critical_trainings_per_month = 2
price_per_compute_hour = 2
watts = 500
price_per_kwh = 0.2
added_gib = 0.5
price_per_gib_hour = 0.01
value_per_day = 240
value_per_point = 600
predictions_per_month = 10000
integration_hours = 10
hourly_rate = 50
monitoring_hours_per_month = 1
failure_chance_per_month = 0.02
failure_cost = 200
transfer = 0.5
horizon_months = 12
discount_rate = 0
"""
"""Every input known exactly, so that only the effect has a range."""


def exact(**changes: Any) -> roi.Inputs:
    lines = [line for line in EXACT.splitlines() if line.partition(" ")[0] not in changes]
    lines += [f"{key} = {value}" for key, value in changes.items() if value is not None]
    return roi.read_inputs("\n".join(lines), "exact.toml")


def counted(folder: Path, inputs: roi.Inputs) -> dict[str, Any]:
    """The summary of plp, after a way through strict JSON."""
    found = roi.summary(roi.read(folder), inputs)
    json.loads(to_json(found))  # strict
    return found["methods"]["plp"]


@pytest.fixture
def adopt(tmp_path: Path) -> Path:
    return store(tmp_path / "adopt", adopted())


# --- the worked example, with a pencil ------------------------------------------------------------

# An hour costs 2 + 0.5 kW x 0.2 = 2.10. If all trainings take an hour longer, a month costs
# 10 x 2.10 + 2 / 24 x 240 = 41 more. Memory: 10 trainings x 10 h x 0.5 GiB x 0.01 = 0.5 a month.
# The pilot: 8 seeds x (100 + 100 + 110 + 105 + 80 + 80 + 88 + 84 = 747 s) + 1224 s of tuning
# = 7200 s = 2 h, so I0 = 10 x 50 + 2 x 2.10 = 504.2. Monitoring 1 x 50, failures 0.02 x 200 = 4.


def test_same_steps_better_model_by_hand(adopt: Path) -> None:
    case = counted(adopt, exact())["cases"]["quality"]
    assert case["applies"]
    # 0.91, the best that is free; plp has 0.92
    assert case["alternative"] == {"name": "sgd-lr-matched", "shortened": False}
    assert case["effect"]["mean"] == pytest.approx(0.01)
    at = case["at_value"]
    # benefit: 1 point x 600, half of it transferred; added: 10 h x (105 - 100) / 100 x 41 + 0.5
    # N = 300 - 50 - 21 - 4 = 225; NPV = 12 x 225 - 504.2; ROI = 2195.8 / 504.2; 504.2 / 225 months
    expected = {
        "investment": 504.2, "benefit": 600, "transferred": 300, "monitoring": 50, "added": 21,
        "failures": 4, "net": 225, "npv": 2195.8, "roi": 4.3550178, "payback": 2.2408889,
    }  # fmt: skip
    assert at == pytest.approx(expected | {"running": 75})
    # NPV 0: N = 504.2 / 12 = 42.016667; transferred 117.016667; points 2 x 117.016667 / 600
    assert case["break_even"] == pytest.approx(0.00390055556)


def test_fewer_steps_same_model_by_hand(adopt: Path) -> None:
    case = counted(adopt, exact())["cases"]["speed"]
    assert case["applies"]
    # nothing free reaches sgd's result with 0.8 T
    assert case["alternative"] == {"name": "sgd", "shortened": False}
    assert case["effect"]["mean"] == pytest.approx(0.16)  # 1 - 80 / 100 steps x 84 s / 80 s
    at = case["at_value"]
    # benefit 10 h x 0.16 x 41 = 65.6, transferred 32.8; N = 32.8 - 50 - 0.5 - 4; never paid back
    assert at["net"] == pytest.approx(-21.7)
    assert at["npv"] == pytest.approx(-12 * 21.7 - 504.2)
    assert at["payback"] == "never"


def test_errors_can_be_valued_instead_of_points_and_months_discounted(adopt: Path) -> None:
    # (1.01)^12 - 1 a year is 1 % a month: 225 x (1 - 1.01^-12) / 0.01 - 504.2
    inputs = exact(value_per_point=None, cost_per_error=6, discount_rate=1.01**12 - 1)
    at = counted(adopt, inputs)["cases"]["quality"]["at_value"]
    assert at["benefit"] == pytest.approx(0.01 * 10_000 * 6)
    assert at["npv"] == pytest.approx(225 * (1 - 1.01**-12) / 0.01 - 504.2)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1e-12, 0.08, 1.0])
@pytest.mark.parametrize("months", [1, 12, 600])
def test_the_annuity_is_the_sum_over_months(rate: float, months: int) -> None:
    summed = math.fsum((1 + rate) ** (-t / 12) for t in range(1, months + 1))
    found = money.annuity({"discount_rate": rate, "horizon_months": months})
    assert found == pytest.approx(summed, rel=1e-9)


def test_low_and_high_are_counted_at_the_ends_of_the_interval(adopt: Path) -> None:
    """With exact inputs: mean -+ t(n - 1) x standard error, and 12 x 0.5 x 600 a point."""
    case = counted(adopt, exact())["cases"]["quality"]
    # d = 0.01 +- 0.001: sd = 0.001 sqrt(8 / 7), se = sd / sqrt(8)
    half = stats.t.ppf(0.975, 7) * 0.001 / math.sqrt(7)
    assert case["effect"]["low"] == pytest.approx(0.01 - half)
    for at, effect in (("at_low", 0.01 - half), ("at_high", 0.01 + half)):
        assert case[at]["transferred"] == pytest.approx(0.5 * 100 * 600 * effect)
        assert case[at]["npv"] == pytest.approx(12 * (30_000 * effect - 75) - 504.2)


def test_low_and_high_take_each_input_at_its_worse_and_at_its_better_end(adopt: Path) -> None:
    ranges = {
        "transfer": "{ value = 0.5, low = 0.2, high = 0.6 }",
        "monitoring_hours_per_month": "{ value = 1, low = 0.5, high = 2 }",
    }
    case = counted(adopt, exact(**ranges))["cases"]["quality"]
    half = stats.t.ppf(0.975, 7) * 0.001 / math.sqrt(7)
    low = 60_000 * 0.2 * (0.01 - half) - 2 * 50 - 25
    high = 60_000 * 0.6 * (0.01 + half) - 0.5 * 50 - 25
    assert (case["at_low"]["net"], case["at_high"]["net"]) == pytest.approx((low, high))
    assert case["at_low"]["payback"] == "never"
    assert case["at_value"]["net"] == pytest.approx(225)


def corners(ranges: dict[str, tuple[float, float]], count: int) -> list[dict[str, float]]:
    """All of them, or so many drawn with a fixed seed."""
    if 2 ** len(ranges) <= count:
        return [dict(zip(ranges, c, strict=True)) for c in itertools.product(*ranges.values())]
    chosen = random.Random(0)
    return [{k: chosen.choice(pair) for k, pair in ranges.items()} for _ in range(count)]


@pytest.mark.parametrize("effect", [(-0.1, 0.2), (0.001, 0.1), (-0.2, -0.1), (0.0, 0.0)])
@pytest.mark.parametrize("horizon", [(6.0, 24.0), (12.0, 12.0)])
@pytest.mark.parametrize("question", ["quality", "speed"])
def test_no_other_ends_are_worse_or_better(
    question: str, effect: tuple[float, float], horizon: tuple[float, float]
) -> None:
    """A longer horizon is worse where N is below 0, more trainings where each costs time."""
    inputs = roi.defaults()
    x = {**inputs.at_value(), "effect": 0.0, "added": 0.0}
    ranges = {**inputs.ranges(), "horizon_months": horizon}
    measured = {"effect": effect, "added": (0.1, -0.1)}
    used = ["transfer", "trainings_per_month", "horizon_months", "value_per_day", "value_per_point",
            "price_per_compute_hour", "critical_trainings_per_month"]  # fmt: skip

    def npv(x: money.Values) -> float:
        terms = money.quality(x, 2.0, percent=True) if question == "quality" else money.speed(x, 2)
        return terms.npv

    for keys, count in ((used, 128), (list(ranges), 500)):
        own = {key: ranges[key] for key in keys}
        ends = [
            npv(money.end(npv, x | {key: pair[i] for key, pair in measured.items()}, own, pick))
            for i, pick in enumerate((min, max))
        ]
        others = [npv({**x, **c}) for c in corners(own | measured, 4 * count)]
        assert ends[0] <= min(others) + 1e-9
        assert ends[1] >= max(others) - 1e-9


@pytest.mark.parametrize("question", ["quality", "speed"])
def test_break_even_solved_gives_npv_0(tmp_path: Path, question: str) -> None:
    folder = store(tmp_path / "first", adopted())
    inputs = roi.defaults()
    case = counted(folder, inputs)["cases"][question]
    x, hours = inputs.at_value(), roi.read(folder)["pilot_hours"]

    def npv(x: Any, effect: float) -> float:
        x = {**x, "effect": effect, "added": case["added_share"]["mean"]}
        if question == "speed":
            return money.speed(x, hours).npv
        return money.quality(x, hours, percent=True).npv

    assert npv(x, case["break_even"]) == pytest.approx(0, abs=1e-6)


def test_a_linearised_ratio_is_exact_for_proportional_pairs() -> None:
    b = np.array([1.0, 2.0, 4.0, 3.0])
    found = ratio(1.1 * b, b)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    # b constant: the ordinary interval over the constant
    spread = ratio([1.0, 3.0], [2.0, 2.0])
    assert spread is not None
    assert spread.high - spread.mean == pytest.approx(stats.t.ppf(0.975, 1) * 1 / 2)
    assert ratio([1.0], [0.0]) is None


# --- the free alternative -------------------------------------------------------------------------


def test_without_adopt_or_faster_the_effect_is_0(tmp_path: Path) -> None:
    found = counted(store(tmp_path / "useless", useless()), exact())
    case = found["cases"]["quality"]
    # effect 0: N = -50 - 21 - 4 = -75; beside it lr x G: 1 point x 600 x 0.5 x 12 months
    assert case["at_value"]["npv"] == pytest.approx(-75 * 12 - 504.2)
    assert case["counted_effect"] == 0
    assert {case[at]["transferred"] for at in ("at_value", "at_low", "at_high")} == {0}
    assert case["alternative"]["name"] == "sgd-lr-matched"
    assert case["free_alternative"]["npv"] == pytest.approx(3600)
    # lr x G reaches sgd's result with 0.8 T: 10 h x 0.2 x 41 x 0.5 x 12 months
    speed = found["cases"]["speed"]
    assert speed["alternative"] == {"name": "sgd-lr-matched", "shortened": True}
    assert speed["free_alternative"]["npv"] == pytest.approx(492)


def test_speed_is_counted_over_what_is_as_fast_and_free(tmp_path: Path) -> None:
    arms = adopted()
    arms[1] = replace(arms[1], early=arms[0].values - 0.003)  # lr x G is as fast, and beaten
    arms[3] = replace(arms[3], early=arms[0].values + 0.003)
    case = counted(store(tmp_path / "free", arms), exact())["cases"]["speed"]
    assert case["verdict"] == "faster"
    assert case["alternative"] == {"name": "sgd-lr-matched", "shortened": True}
    assert case["effect"]["mean"] == pytest.approx(0.8 * (80 - 84) / 80)
    arms[1] = replace(arms[1], early=arms[3].early)  # as good
    case = counted(store(tmp_path / "level", arms), exact())["cases"]["speed"]
    assert (case["verdict"], case["applies"]) == ("use the control instead", False)


def test_a_load_that_changes_between_long_and_short_runs_saves_no_time(tmp_path: Path) -> None:
    """All long runs come first: what slows them all is no saving of the short ones."""
    arms = [replace(arm, seconds=3 * arm.seconds) for arm in adopted()]
    case = counted(store(tmp_path / "loaded", arms), exact())["cases"]["speed"]
    assert case["effect"]["mean"] == pytest.approx(0.16)


def shortened(arms: list[Made], seeds: dict[str, tuple[int, int]]) -> list[Made]:
    """The arms with the values of the first seeds: by name, how many with T and with 0.8 T."""
    full = len(arms[0].values), len(arms[0].early)
    return [
        replace(arm, values=arm.values[:long], early=arm.early[:short])
        for arm in arms
        for long, short in [seeds.get(arm.name, full)]
    ]


def test_arms_with_fewer_seeds_are_compared_on_the_seeds_of_both(tmp_path: Path) -> None:
    others = dict.fromkeys(("plp", "sgd-lr-matched", "random-jump"), (6, 6))
    some = store(tmp_path / "some", shortened(adopted(), others))
    few = store(tmp_path / "few", adopted(6), tuning=1224.0 + 2 * 180)  # sgd ran 2 seeds more
    found, wanted = counted(some, exact()), counted(few, exact())
    assert set(found["seeds"].values()) == {6}
    for name, case in wanted["cases"].items():
        assert found["cases"][name]["effect"] == pytest.approx(case["effect"])
        assert found["cases"][name]["at_low"] == pytest.approx(case["at_low"])
    assert figures(some, exact()).keys() == figures(few, exact()).keys()
    for key in figures(few, exact()):
        assert figures(some, exact())[key] == pytest.approx(figures(few, exact())[key])


def test_the_best_alternative_is_the_best_on_the_seeds_of_all(tmp_path: Path) -> None:
    arms = adopted()
    # the last two seeds would make the base the best
    arms[0] = replace(arms[0], values=np.append(arms[0].values[:6], [1.0, 1.0]))
    others = dict.fromkeys(("plp", "sgd-lr-matched", "random-jump"), (6, 6))
    found = counted(store(tmp_path, shortened(arms, others)), exact())
    assert found["alternative"] == "sgd-lr-matched"


def test_groups_that_no_seed_pairs_are_taken_whole() -> None:
    many, few = [0.9, 0.92, 0.94, 0.96, 0.98], [0.95, 0.93]
    groups = replace(ACCURACY, paired=False)
    assert gain(many, few, groups).mean == pytest.approx(0)
    assert gain(many, few, ACCURACY).mean == pytest.approx(0.91 - 0.94)
    found = ratio(many, few, paired=False)
    assert found is not None
    assert found.mean == pytest.approx(1)
    rows: list[dict[str, Any]] = [{"values": few}, {"values": [*many, 1.0]}]
    assert best_quality(rows, groups) is rows[1]
    assert best_quality(rows, ACCURACY) is rows[0]


def test_without_a_base_at_0_8_t_the_time_is_that_of_the_whole_runs(tmp_path: Path) -> None:
    """Where the predictor loses with 0.8 T, nothing else runs with it."""
    arms = useless()
    seeds = {"sgd": (8, 0), "sgd-lr-matched": (8, 0), "random-jump": (8, 0)}
    folder = store(tmp_path, shortened(arms, seeds))
    case = counted(folder, exact())["cases"]["speed"]
    assert (case["verdict"], case["applies"]) == ("not faster", False)
    assert case["alternative"] == {"name": "sgd", "shortened": False}
    assert case["effect"]["mean"] == pytest.approx(1 - 0.8 * 105 / 100)
    assert case["counted_effect"] == 0
    assert "early_to_base" in figures(folder, exact())


@pytest.mark.parametrize("kept", [["sgd", "plp"], ["sgd", "sgd-lr-matched", "plp"]])
def test_controls_that_were_not_needed_are_not_missed(tmp_path: Path, kept: list[str]) -> None:
    """Nothing is counted, so nothing has to be ruled out."""
    arms = [arm for arm in useless() if arm.name in kept]
    found = counted(store(tmp_path, arms), exact())
    assert not any(case["applies"] for case in found["cases"].values())
    assert found["alternative"] == ("sgd-lr-matched" if len(kept) > 2 else "sgd")


def test_an_average_is_an_alternative_of_a_predictor_and_not_of_itself(tmp_path: Path) -> None:
    arms = adopted()
    better = arms[0].values + wave(0.015, 0.001)
    arms.append(Made("ema", "ema", "average", 0.1, better, arms[0].early, 120, 96))
    found = roi.summary(roi.read(store(tmp_path / "ema", arms)), exact())["methods"]
    assert found["plp"]["alternative"] == "ema"
    # plp is faster than ema: in this case no saving is counted, added = memory
    assert found["plp"]["cases"]["quality"]["added_share"]["mean"] == pytest.approx(-0.15)
    assert found["plp"]["cases"]["quality"]["at_value"]["added"] == pytest.approx(0.5)
    assert found["ema"]["alternative"] == "sgd"


# --- key figures ----------------------------------------------------------------------------------


def figures(folder: Path, inputs: roi.Inputs) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in counted(folder, inputs)["kpis"]}


def test_key_figures_by_hand(adopt: Path) -> None:
    found = figures(adopt, exact())
    values = {key: row["value"] for key, row in found.items()}
    assert values == pytest.approx(
        {
            "gain": 2.0,  # 92 - 90 points
            "gain_over_alternative": 1.0,
            "error_reduction": 20.0,  # 0.08 of 0.10 errors left
            "errors_base": 1000,  # of 10,000 predictions
            "errors_method": 800,
            "errors_difference": -200,
            "early_to_base": 0.1,
            "time_added": 5.0,
            "cost_per_training": 10 * 2.1 * 0.05,
            "energy": 10 * 0.5 * 0.05,
            "memory": 0.0,
            "work_hours": 1,
        }
    )
    half = stats.t.ppf(0.975, 7) * 0.1 * math.sqrt(8 / 7) / math.sqrt(8)
    assert found["gain"]["high"] - found["gain"]["low"] == pytest.approx(2 * half)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())


def test_mistakes_at_a_class(tmp_path: Path) -> None:
    arms = adopted()
    arms[0].counts = {"actual": [60, 40], "predicted": [58, 42], "hits": [54, 36]}
    arms[3].counts = {"actual": [60, 40], "predicted": [57, 43], "hits": [55, 38]}
    folder = store(tmp_path / "classes", arms)
    found = figures(folder, exact(positive_class=1))
    # of 100 predictions 42 - 36 = 6 were falsely positive, now 43 - 38 = 5; negative 4, now 2
    assert found["false_positives"]["value"] == pytest.approx(-0.01 * 10_000)
    assert found["false_negatives"]["value"] == pytest.approx(-0.02 * 10_000)


def test_runs_without_counts_per_class_say_so(adopt: Path) -> None:
    found = figures(adopt, exact(positive_class=1))
    assert found["false_positives"]["value"] is None
    assert found["false_positives"]["reason"] == "no_counts"


def test_a_metric_where_less_is_better(tmp_path: Path) -> None:
    metric = Metric("mse", False, 0.05)
    arms = adopted()
    for arm, level in zip(arms, (2.0, 1.8, 2.0, 1.5), strict=True):
        arm.values, arm.early = level + wave(0, 0.01), level + 0.5 + wave(0, 0.01)
    folder = store(tmp_path / "mse", arms, metric)
    found = counted(folder, exact())
    assert found["cases"]["quality"]["verdict"] == "adopt"
    values = {row["key"]: row["value"] for row in found["kpis"]}
    assert values["gain"] == pytest.approx(0.5)
    assert values["error_reduction"] == pytest.approx(25)
    assert "errors_base" not in values
    # 0.3 over lr x G, a unit being worth 600 a month
    assert found["cases"]["quality"]["at_value"]["benefit"] == pytest.approx(0.3 * 600)


# --- the text -------------------------------------------------------------------------------------


def text(folder: Path, inputs: roi.Inputs, *, full: bool = False) -> str:
    screen = io.StringIO()
    show(roi.summary(roi.read(folder), inputs), Console(file=screen, width=120), full=full)
    return screen.getvalue()


def test_five_lines_say_what_two_cases_are_worth(adopt: Path) -> None:
    assert text(adopt, exact(currency="'[b]<i>'")).splitlines() == [
        'plp against sgd on made, n = 8: quality "adopt", counted over sgd-lr-matched; '
        'speed "faster", counted over sgd as it is.',
        "Free alternative: for quality sgd-lr-matched (net present value 3,600 [b]<i>); for "
        "speed sgd as it is (net present value 0 [b]<i>). Next: Wrap sgd in "
        "plp, keep the learning rate 0.1, and watch the first trainings. Train plp with 80% of the "
        "steps, which saves 20%: shorten its schedule, too.",
        "1 of 19 inputs are defaults: horizon_months.",
        "The pilot took 2 compute hours, 4.2 [b]<i>.",
        "Over 12 months: for quality net present value 2,196 [b]<i> (low 1,874, high 2,518), "
        "pay-back: 2.24 months, break-even at a gain of 0.39 points (measured: 1 points); for "
        "speed net present value -765 [b]<i> (low -765, high -765), pay-back: never, break-even "
        "at a gain of 47.1 % of the training time (measured: 16 % of the training time).",
    ]


def test_what_is_better_but_does_not_pay_is_not_advised(adopt: Path) -> None:
    said = text(adopt, exact(value_per_point=1.0))
    assert "Next: plp is better, but costs more than it brings at these inputs. Keep sgd" in said
    assert "Wrap sgd" not in said


def test_five_lines_say_that_there_is_no_return(tmp_path: Path) -> None:
    assert text(store(tmp_path / "useless", useless()), exact()).splitlines() == [
        'plp against sgd on made, n = 8: quality "harmful"; speed "not faster". There is no return '
        "to count.",
        # sgd-lr-matched would be worth 3,600 EUR, and 492 EUR with 0.8 T: against "keep sgd"
        "Free alternative: sgd as it is, which costs and brings nothing new. Next: Keep sgd. Do "
        "not shorten the training.",
        "1 of 19 inputs are defaults: horizon_months.",
        "The pilot took 2 compute hours, 4.2 EUR.",
        "Break-even: never at what the pilot shows. plp would cost 504 EUR once and 75 EUR a "
        "month, and pays only with a gain of 0.39 points.",
    ]


def test_the_command_of_an_extension_is_named(tmp_path: Path) -> None:
    def extend(result: dict[str, Any]) -> None:
        more = Extension(16, 40.0, "paramcast pilot made --seeds 16")
        verdicts = cell(result)["verdicts"]["plp"]
        verdicts["quality"] = replace(verdicts["quality"], extension=more)

    said = text(store(tmp_path / "more", useless(), change=extend), exact())
    assert said.splitlines()[1].endswith("paramcast pilot made --seeds 16")


def test_each_method_has_its_five_lines(tmp_path: Path) -> None:
    arms = adopted()
    arms.append(Made("ema", "ema", "average", 0.1, arms[0].values, arms[0].early, 120, 96))
    said = text(store(tmp_path / "two", arms), exact()).splitlines()
    assert [line.partition(" ")[0] for line in said] == [
        "plp", "Free", "1", "The", "Over", "", "ema", "Free", "1", "The", "Break-even:",
    ]  # fmt: skip


def test_full_adds_the_ends_the_break_even_the_inputs_and_the_formulas(adopt: Path) -> None:
    given = exact(transfer="{ value = 0.5, low = 0.2, high = 0.6 }")
    lines = [" ".join(line.split()) for line in text(adopt, given, full=True).splitlines()]
    assert lines[:5] == [" ".join(line.split()) for line in text(adopt, given).splitlines()]
    for wanted in (
        "Key figure Value Low High Unit",
        "same steps, better model, over sgd-lr-matched (verdict: adopt) all worse all better",
        "= N, monthly net 225 34.3 317 EUR/month",
        "break-even effect (NPV 0) 0.39 points",
        "transfer 0.5 0.2 0.6 share yours",
        "failure_cost 200 200 200 EUR yours",
        *(" ".join(f"{name} = {formula}".split()) for name, formula in money.FORMULAS.items()),
    ):
        assert wanted in lines


def test_a_terminal_breaks_the_lines_between_words(adopt: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=60, force_terminal=True, color_system=None)
    show(roi.summary(roi.read(adopt), exact()), console, full=False)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    whole = text(adopt, exact())
    assert " ".join(screen.getvalue().split()) == " ".join(whole.split())


def test_the_noise_of_a_clock_is_no_effect(adopt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds whose difference may as well be 0 cost nothing, at either end, and a note says so."""
    for low, seen in ((-0.02, False), (0.01, True)):
        measured = Effect(0.05, low, 0.12, 8)
        monkeypatch.setattr(returns, "added_share", lambda *_, it=measured, **__: it)
        case = counted(adopt, exact())["cases"]["quality"]
        added = [case[at]["added"] for at in ("at_low", "at_value", "at_high")]
        # memory costs 0.5; 10 h x share x 41 x ... only where the clock shows something
        assert (added[0] == added[1] == added[2]) is not seen
        note = "plp adds no time that can be told from the noise of the clock (-2 to +12 % over "
        assert (note in text(adopt, exact(), full=True)) is not seen
        assert case["added_share"]["mean"] == 0.05


def test_the_time_of_trainings_of_less_than_a_second_is_not_carried_over(
    adopt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Effect(0.05, 0.01, 0.12, 8)  # clear of zero
    monkeypatch.setattr(returns, "added_share", lambda *_, **__: measured)
    for shortest, counts in ((1.0, True), (1e9, False)):
        monkeypatch.setattr(effects, "SHORTEST", shortest)
        found = figures(adopt, exact())
        assert found["time_added"]["value"] == pytest.approx(5.0)
        for key in ("cost_per_training", "energy"):
            assert (found[key]["value"] is not None) is counts
        case = counted(adopt, exact())["cases"]["quality"]
        added = [case[at]["added"] for at in ("at_low", "at_value", "at_high")]
        assert (added[0] == added[1] == added[2]) is not counts
        note = "sgd's trainings took less than a second each, too short to say what plp adds"
        assert (note in text(adopt, exact(), full=True)) is not counts


def test_what_is_not_defined_is_said(adopt: Path) -> None:
    """The return on nothing, and the break-even of an effect without value."""
    inputs = exact(integration_hours=0, price_per_compute_hour=0, watts=0)
    case = counted(adopt, inputs)["cases"]["quality"]
    assert case["at_value"]["investment"] == 0
    assert case["at_value"]["roi"] is None
    assert case["at_value"]["payback"] == 0
    assert "not defined" in text(adopt, inputs, full=True)
    inputs = exact(transfer=0)
    assert counted(adopt, inputs)["cases"]["quality"]["break_even"] is None
    said = " ".join(text(adopt, inputs, full=True).split())
    assert "break-even effect (NPV 0) never points" in said
