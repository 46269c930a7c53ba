"""Key figures and return: a worked example, closed forms, and what is said without a gain."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from roi_pilots import Made, adopted, store, useless, wave
from scipy import stats

from paramcast.report import roi
from paramcast.report.roi import money
from paramcast.report.roi.effects import ratio
from paramcast.report.roi.terminal import show
from paramcast.study.verdict import Metric

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
"""Every input known exactly, so that only the effect is drawn."""


def exact(**changes: Any) -> roi.Inputs:
    lines = [line for line in EXACT.splitlines() if line.partition(" ")[0] not in changes]
    lines += [f"{key} = {value}" for key, value in changes.items() if value is not None]
    return roi.read_inputs("\n".join(lines), "exact.toml")


def counted(folder: Path, inputs: roi.Inputs) -> dict[str, Any]:
    """The summary of plp, after a way through strict JSON."""
    found = roi.summary(roi.read(folder), inputs)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
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
    assert case["alternative"] == "sgd-lr-matched"  # 0.91, the best that is free; plp has 0.92
    assert case["effect"]["mean"] == pytest.approx(0.01)
    at = case["at_value"]
    # benefit: 1 point x 600, half of it transferred; added: 10 h x (105 - 100) / 100 x 41 + 0.5
    # N = 300 - 50 - 21 - 4 = 225; NPV = 12 x 225 - 504.2; ROI = 2195.8 / 504.2; 504.2 / 225 months
    expected = {
        "investment": 504.2, "benefit": 600, "transferred": 300, "monitoring": 50, "added": 21,
        "failures": 4, "net": 225, "npv": 2195.8, "roi": 4.3550178, "payback": 2.2408889,
    }  # fmt: skip
    assert at == pytest.approx(expected)
    # NPV 0: N = 504.2 / 12 = 42.016667; transferred 117.016667; points 2 x 117.016667 / 600
    assert case["break_even"]["effect"] == pytest.approx(0.00390055556)
    # each training adds 2.1, so 300 - 54 - 2.1 n = 42.016667
    volume = {"side": "at most", "trainings_per_month": pytest.approx(97.1349206)}
    assert case["break_even"]["volume"] == volume


def test_fewer_steps_same_model_by_hand(adopt: Path) -> None:
    case = counted(adopt, exact())["cases"]["speed"]
    assert case["applies"]
    assert case["alternative"] == "sgd with T"  # nothing free reaches sgd's result with 0.8 T
    assert case["effect"]["mean"] == pytest.approx(0.16)  # 1 - 80 / 100 steps x 84 s / 80 s
    at = case["at_value"]
    # benefit 10 h x 0.16 x 41 = 65.6, transferred 32.8; N = 32.8 - 50 - 0.5 - 4; never paid back
    assert at["net"] == pytest.approx(-21.7)
    assert at["npv"] == pytest.approx(-12 * 21.7 - 504.2)
    assert at["payback"] == "never"
    # per training 0.5 x 10 h x 0.16 x 4.1 - 0.05 = 3.23, so 3.23 n = 54 + 42.016667
    volume = {"side": "at least", "trainings_per_month": pytest.approx(29.7265222)}
    assert case["break_even"]["volume"] == volume


def test_the_two_cases_are_never_added(adopt: Path) -> None:
    found = counted(adopt, exact())
    assert "never added" in found["sentence"]
    assert set(found["cases"]) == {"quality", "speed"}


def test_errors_can_be_valued_instead_of_points(adopt: Path) -> None:
    inputs = exact(value_per_point=None, cost_per_error=6)
    case = counted(adopt, inputs)["cases"]["quality"]
    assert case["at_value"]["benefit"] == pytest.approx(0.01 * 10_000 * 6)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1e-12, 0.08, 1.0])
@pytest.mark.parametrize("months", [1, 12, 600])
def test_the_annuity_is_the_sum_over_months(rate: float, months: int) -> None:
    summed = math.fsum((1 + rate) ** (-t / 12) for t in range(1, months + 1))
    assert money.annuity(rate, months) == pytest.approx(summed, rel=1e-9)
    assert money.annuity(np.array([rate]), np.array([months]))[0] == pytest.approx(summed, rel=1e-9)


def test_npv_with_a_discount_rate(adopt: Path) -> None:
    # (1.01)^12 - 1 a year is 1 % a month: 225 x (1 - 1.01^-12) / 0.01 - 504.2
    case = counted(adopt, exact(discount_rate=1.01**12 - 1))["cases"]["quality"]
    annuity = (1 - 1.01**-12) / 0.01
    assert case["at_value"]["npv"] == pytest.approx(225 * annuity - 504.2)


@pytest.mark.parametrize("price", [600, 240, 234, 200])
def test_the_probability_is_the_t_tail_beyond_break_even(adopt: Path, price: float) -> None:
    """With exact inputs NPV > 0 means mean + t se > break-even."""
    case = counted(adopt, exact(value_per_point=price))["cases"]["quality"]
    effect = case["effect"]
    # d = 0.01 +- 0.001: sd = 0.001 sqrt(8 / 7), se = sd / sqrt(8)
    assert effect["standard_error"] == pytest.approx(0.001 / math.sqrt(7))
    distance = (case["break_even"]["effect"] - effect["mean"]) / effect["standard_error"]
    p = stats.t.sf(distance, 7)
    assert case["probability"] == pytest.approx(p, abs=4 * math.sqrt(0.25 / 10_000))


def test_some_probabilities_are_neither_0_nor_1(adopt: Path) -> None:
    case = counted(adopt, exact(value_per_point=234))["cases"]["quality"]
    assert 0.05 < case["probability"] < 0.95


def test_the_distribution_of_the_npv_is_the_t_distribution(adopt: Path) -> None:
    case = counted(adopt, exact())["cases"]["quality"]
    scale = case["effect"]["standard_error"] * 0.5 * 100 * 600 * 12
    low, high = (2195.8 + stats.t.ppf(q, 7) * scale for q in (0.025, 0.975))
    spread = case["distribution"]["npv"]
    assert spread["median"] == pytest.approx(2195.8, abs=0.05 * scale)
    assert spread["low"] == pytest.approx(low, abs=0.2 * scale)
    assert spread["high"] == pytest.approx(high, abs=0.2 * scale)


def test_inputs_are_drawn_from_triangles(adopt: Path) -> None:
    """A triangle's mean is (low + value + high) / 3, its variance (a^2+b^2+c^2-ab-ac-bc)/18."""
    work = "{ value = 1, low = 0, high = 5 }"
    sure = counted(adopt, exact(transfer=0))["cases"]["quality"]
    case = counted(adopt, exact(transfer=0, monitoring_hours_per_month=work))["cases"]["quality"]
    net = case["distribution"]["net"]
    sd = 50 * math.sqrt((0 + 1 + 25 - 0 - 0 - 5) / 18)
    assert net["mean"] == pytest.approx(
        sure["at_value"]["net"] - 50 * (6 / 3 - 1), abs=4 * sd / 100
    )
    # cumulative: (x - low)^2 / ((high - low)(value - low)), and from above likewise
    assert net["low"] == pytest.approx(-25 - 50 * (5 - math.sqrt(0.025 * 5 * 4)), abs=0.1 * sd)
    assert net["high"] == pytest.approx(-25 - 50 * math.sqrt(0.025 * 5 * 1), abs=0.1 * sd)


@pytest.mark.parametrize("question", ["quality", "speed"])
def test_break_even_solved_gives_npv_0(tmp_path: Path, question: str) -> None:
    folder = store(tmp_path / "first", adopted())
    inputs = roi.defaults()
    case = counted(folder, inputs)["cases"][question]
    x, hours = inputs.at_value(), roi.read(folder)["pilot_hours"]

    def npv(x: Any, effect: float) -> float:
        if question == "speed":
            return money.speed(x, effect, hours).npv
        return money.quality(x, effect, case["added_share"]["mean"], hours, percent=True).npv

    assert npv(x, case["break_even"]["effect"]) == pytest.approx(0, abs=1e-6)
    n = case["break_even"]["volume"]["trainings_per_month"]
    critical = x["critical_trainings_per_month"] / x["trainings_per_month"] * n
    moved = x | {"trainings_per_month": n, "critical_trainings_per_month": critical}
    assert npv(moved, case["effect"]["mean"]) == pytest.approx(0, abs=1e-6)


def test_the_tornado_moves_one_input_at_a_time(adopt: Path) -> None:
    inputs = roi.defaults()
    case = counted(adopt, inputs)["cases"]["quality"]
    bars = {bar["input"]: bar for bar in case["tornado"]}
    unused = {"predictions_per_month"}
    assert set(bars) == {"effect", *inputs.estimates}
    assert all(bars[key]["swing"] == 0 for key in unused)
    assert [b["swing"] for b in case["tornado"]] == sorted(
        (b["swing"] for b in case["tornado"]), reverse=True
    )
    at = case["at_value"]
    factor = money.annuity(0.08, 12)
    # transfer 0 and 1: N loses or wins half of the benefit, 500 a point
    assert bars["transfer"]["npv_at_low"] == pytest.approx(at["npv"] - at["transferred"] * factor)
    assert bars["transfer"]["npv_at_high"] == pytest.approx(at["npv"] + at["transferred"] * factor)
    half = case["effect"]["high"] - case["effect"]["mean"]
    assert bars["effect"]["npv_at_high"] == pytest.approx(at["npv"] + half * 0.5 * 50_000 * factor)


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


def test_no_verdict_no_probability(tmp_path: Path) -> None:
    found = counted(store(tmp_path / "useless", useless()), exact())
    assert found["sentence"].startswith('plp: the pilot\'s verdict is "harmful" on quality')
    assert "no return to count" in found["sentence"]
    assert not {"probability", "distribution", "tornado"} & set(str(found).split("'"))
    case = found["cases"]["quality"]
    # effect 0: N = -50 - 21 - 4 = -75; beside it lr x G: 1 point x 600 x 0.5 x 12 months
    assert case["at_value"]["npv"] == pytest.approx(-75 * 12 - 504.2)
    assert case["counted_effect"] == 0
    assert case["free_alternative"]["name"] == "sgd-lr-matched"
    assert case["free_alternative"]["npv"] == pytest.approx(3600)
    # lr x G reaches sgd's result with 0.8 T: 10 h x 0.2 x 41 x 0.5 x 12 months
    speed = found["cases"]["speed"]
    assert speed["free_alternative"]["name"] == "sgd-lr-matched with 0.8 T"
    assert speed["free_alternative"]["npv"] == pytest.approx(492)


def test_speed_is_counted_over_what_is_as_fast_and_free(tmp_path: Path) -> None:
    arms = adopted()
    arms[1] = replace(arms[1], early=arms[0].values - 0.003)  # lr x G is as fast, and beaten
    arms[3] = replace(arms[3], early=arms[0].values + 0.003)
    case = counted(store(tmp_path / "free", arms), exact())["cases"]["speed"]
    assert case["verdict"] == "faster"
    assert case["alternative"] == "sgd-lr-matched with 0.8 T"
    assert case["effect"]["mean"] == pytest.approx(0.8 * (80 - 84) / 80)
    arms[1] = replace(arms[1], early=arms[3].early)  # as good
    case = counted(store(tmp_path / "level", arms), exact())["cases"]["speed"]
    assert (case["verdict"], case["applies"]) == ("use the control instead", False)


def test_a_load_that_changes_between_long_and_short_runs_saves_no_time(tmp_path: Path) -> None:
    """All long runs come first: what slows them all is no saving of the short ones."""
    arms = [replace(arm, seconds=3 * arm.seconds) for arm in adopted()]
    case = counted(store(tmp_path / "loaded", arms), exact())["cases"]["speed"]
    assert case["effect"]["mean"] == pytest.approx(0.16)


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


def test_a_better_reference_is_named(tmp_path: Path) -> None:
    arms = adopted()
    arms.append(Made("demon", "demon", "reference", 0.1, arms[0].values + 0.03, [], 100, 80))
    notes = counted(store(tmp_path / "demon", arms), exact())["notes"]
    assert notes == [
        "demon, a reference, ended better than sgd-lr-matched on average "
        "(93.00 % against 91.00 %); it is not counted."
    ]


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
            "early_to_early": 2.1,
            "base_early": -2.0,
            "time_added": 5.0,
            "time_added_over_alternative": 5.0,
            "cost_per_training": 10 * 2.1 * 0.05,
            "energy": 10 * 0.5 * 0.05,
            "memory": 0.0,
            "work_hours": 1,
            "work_cost": 50,
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


def test_old_runs_have_no_counts_per_class_and_say_so(adopt: Path) -> None:
    found = figures(adopt, exact(positive_class=1))
    assert found["false_positives"]["value"] is None
    assert "no counts per class are stored" in found["false_positives"]["reason"]


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


def text(folder: Path, inputs: roi.Inputs, width: int = 100) -> str:
    screen = io.StringIO()
    show(roi.summary(roi.read(folder), inputs), Console(file=screen, width=width))
    return screen.getvalue()


def test_the_text_says_the_verdict_first_and_the_formulas_last(tmp_path: Path) -> None:
    said = text(store(tmp_path / "useless", useless()), exact())
    assert said.startswith('plp: the pilot\'s verdict is "harmful" on quality')
    assert "at effect 0" in said
    assert "Beside it, free: sgd-lr-matched, NPV 3,600 EUR, from its effect of 1 (0.9106" in said
    assert "robability" not in said
    for name, formula in money.FORMULAS.items():
        assert " ".join(f"{name} = {formula}".split()) in " ".join(said.split())


def test_the_text_of_an_adopted_method(adopt: Path) -> None:
    said = text(adopt, exact(currency="'[b]<i>'"))
    assert "What matters most (NPV, [b]<i>)" in said
    assert "Probability that it pays (NPV > 0): 100 %." in said
    assert "Break-even (NPV 0): an effect of 0.3901 points, or at most 97.13 trainings" in said
    assert "2,196" in said
    assert "never" in said


def test_nothing_invested_has_no_return_on_it(adopt: Path) -> None:
    inputs = exact(integration_hours=0, price_per_compute_hour=0, watts=0)
    case = counted(adopt, inputs)["cases"]["quality"]
    assert case["at_value"]["investment"] == 0
    assert case["at_value"]["roi"] is None
    assert case["distribution"]["roi"] is None
    assert case["at_value"]["payback"] == 0
    assert "not defined" in text(adopt, inputs)


def test_an_effect_without_value_never_breaks_even(adopt: Path) -> None:
    inputs = exact(transfer=0)
    assert counted(adopt, inputs)["cases"]["quality"]["break_even"]["effect"] is None
    assert "No effect breaks even: the transfer or the value is 0." in text(adopt, inputs)


# --- a real pilot ---------------------------------------------------------------------------------

TASK = """
import torch
from paramcast.study import Task

def blobs(count, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    centres = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    return centres[y] + torch.randn(count, 4, generator=g), y

def task():
    return Task(
        name="<blobs & 'quotes'>", model=lambda: torch.nn.Linear(4, 3), epochs=2, batch_size=8,
        train=blobs(40, 1), validation=blobs(40, 2), test=blobs(60, 3), lr_range=(0.01, 0.3),
    )
"""


def test_a_real_pilot_and_its_command(tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(textwrap.dedent(TASK))
    (tmp_path / "roi.toml").write_text("positive_class = 2\npredictions_per_month = 6000\n")

    def paramcast(*words: str) -> str:
        command = [sys.executable, "-m", "paramcast", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["--lr", "0.1", "--methods", "plp", "--seeds", "2", "--workers", "1", "--out", "out"]
    paramcast("pilot", "blobs.py:task", *options)
    found = json.loads(paramcast("roi", "out", "--inputs", "roi.toml", "--json"))
    assert found["task"] == "<blobs & 'quotes'>"
    result = roi.read(tmp_path / "out")
    base, plp = result["table"][0], result["table"][-1]
    for row in (base, plp):
        for counts, value in zip(row["runs"]["class_counts"], row["values"], strict=True):
            assert counts["actual"] == [20, 20, 20]
            assert sum(counts["hits"]) / 60 == pytest.approx(value)
    figures = {row["key"]: row for row in found["methods"]["plp"]["kpis"]}
    wrong = [
        np.mean([c["predicted"][2] - c["hits"][2] for c in row["runs"]["class_counts"]]) / 60
        for row in (plp, base)
    ]
    assert figures["false_positives"]["value"] == pytest.approx(6000 * (wrong[0] - wrong[1]))
    text = paramcast("roi", "out")
    assert text.startswith('plp: the pilot\'s verdict is "inconclusive"')
    assert "Probability" not in text


def test_it_needs_no_torch(adopt: Path) -> None:
    code = (
        "import sys; from paramcast import cli; sys.argv = ['paramcast', 'roi', sys.argv[1]]; "
        "code = cli._main(); sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, adopt], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Probability that it pays (NPV > 0)" in done.stdout
