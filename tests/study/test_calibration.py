"""The rates of the verdict where the truth is known (benchmarks/calibration.py, protocol §5)."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from paramcast.study import stats

ROOT = Path(__file__).parents[2]
PILOTS = 1000


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibration", ROOT / "benchmarks/calibration.py")
    module = sys.modules["calibration"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


calibration = _load()
CASES = {case.name: case for case in calibration.CASES}


@pytest.fixture(autouse=True)
def _without_cross_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_sign_flip", lambda d: 1.0)  # slow, and decides nothing


PROTOCOL = [
    ("base against base", 8, 1.0, (0.1, 0.6, 41.5, 1.9, 55.9)),
    ("base against base", 12, 0.7, (0, 0, 98.8, 0.3, 0.9)),
    ("+1.5 m over base and controls", 8, 1.0, (88, 0.7, 0.1, 0, 11)),
    ("only a larger step, +2 m", 8, 1.0, (1.8, 97.7, 0, 0, 0.5)),
    ("only noise, +2 m", 8, 1.0, (2, 97.5, 0, 0, 0.5)),
    ("harm, -2 m", 8, 1.0, (0, 0, 0, 99.8, 0.2)),
]
OTHERS = [case.name for case in calibration.CASES if case.rule]
OTHERS = [name for name in OTHERS if name not in {row[0] for row in PROTOCOL}]


@pytest.mark.parametrize(("name", "n", "spread", "expected"), PROTOCOL)
def test_rates_are_those_of_the_protocol(
    name: str, n: int, spread: float, expected: tuple[float, ...]
) -> None:
    case = calibration.replace(CASES[name], n=n)
    found = calibration.rates(calibration.Simulated(spread), case, PILOTS)
    assert found.broken(case) == []
    for kind, p in zip(calibration.QUALITY, expected, strict=True):
        error = 400 * math.sqrt(p / 100 * (1 - p / 100) / PILOTS) + 0.3
        assert abs(found.per_cent(kind) - p) <= error, dict(found.counts)


@pytest.mark.parametrize("name", OTHERS)
def test_a_simulated_case_keeps_its_promises(name: str) -> None:
    case = CASES[name]
    world = calibration.Simulated(1.0, 5.0 if case.tuned else 0.0)
    assert calibration.rates(world, case, PILOTS).broken(case) == []


@pytest.mark.parametrize("case", calibration.SPEEDS[1::4] + calibration.SPEEDS[-1:], ids=str)
def test_an_equal_method_is_seldom_called_faster(case: object) -> None:
    world = calibration.Simulated(case.spread)
    found = calibration.Rates(calibration.speed(world, case) for _ in range(PILOTS))
    assert found.broken(case) == []


def test_the_tuning_rule_is_needed() -> None:
    """With noisy tuning, each method at its own best rate is a false alarm three times as often."""
    world = calibration.Simulated(0.7, 10.0, 5.0)
    with_rule, without = (
        calibration.rates(world, case, PILOTS).per_cent(*calibration.HIT)
        for case in (CASES["base against base, tuned 8 x 3"],
                     CASES["the same without the tuning rule, 8 x 3"])
    )  # fmt: skip
    assert without > 2 * with_rule


def test_a_broken_promise_is_noticed() -> None:
    case = CASES["base against base"]
    hits = calibration.Rates(["harmful"] * 58 + ["no difference"] * 942)
    assert hits.broken(case) == []
    assert hits.per_cent("harmful", "adopt") == 5.8
    many = calibration.Rates(["harmful"] * 580 + ["no difference"] * 9420)
    assert many.broken(case) == [
        "base against base: adopt or harmful 5.80 %, promised at most 5.0 %"
    ]
    few = calibration.Rates(["adopt"] * 70 + ["inconclusive"] * 30)
    better = CASES["+1.5 m over base and controls"]
    assert calibration.Rates(["adopt"] * 7900 + ["inconclusive"] * 2100).broken(better) == []
    assert len(calibration.Rates(["adopt"] * 7800 + ["inconclusive"] * 2200).broken(better)) == 1
    assert few.broken(better) == []  # 70 of 100 may be chance
