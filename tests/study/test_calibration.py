"""The rates of the verdict where the truth is known (benchmarks/calibration.py, protocol §5)."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from command import call
from paramcast.study.grid.file import open_study
from paramcast.study.judging import stats

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


# --- real runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank() -> Any:
    return calibration.Bank(ROOT / "results" / "paired-null.csv")


def test_the_stored_runs_are_those_of_the_study(bank: Any) -> None:
    grid = open_study(str(ROOT / "benchmarks" / "paired-null.toml"))[0].grid[0]
    assert bank.rates == grid.lr
    assert 0.003 < min(grid.lr) < max(grid.lr) < 0.3
    assert bank.loss.shape == (8, grid.seeds, len(grid.methods))
    assert np.ptp(bank.value, axis=2).max() > 0  # equal weights would differ by nothing at all


@pytest.mark.parametrize("case", calibration.RESAMPLED, ids=lambda case: case.name)
def test_resampled_pilots_of_real_runs_keep_their_promises(case: Any, bank: Any) -> None:
    assert calibration.rates(bank, case, PILOTS // 2).broken(case) == []


def test_sixty_trained_pilots_seldom_find_a_difference() -> None:
    pilots = calibration.Bank(ROOT / "results" / "null-pilots.csv")
    assert calibration.trained(pilots).pilots == 60
    assert calibration.hits(calibration.trained(pilots)) <= 7


@pytest.mark.slow
def test_sixty_pilots_trained_now_seldom_find_a_difference(tmp_path: Path) -> None:
    """2,400 runs: about 10 minutes of two cores."""
    study = ROOT / "benchmarks" / "null-pilots.toml"
    assert call(tmp_path, "study", "run", study, "--out", "null").code == 0
    assert call(tmp_path, "study", "export", "null", "null.parquet", "--runs").code == 0
    calibration.write_table(tmp_path / "null.parquet", tmp_path / "null.csv")
    found = calibration.trained(calibration.Bank(tmp_path / "null.csv"))
    assert found.pilots == 60
    assert calibration.hits(found) <= 7
