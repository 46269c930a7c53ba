"""The rates of the verdict where the truth is known (benchmarks/calibration.py, protocol §5)."""

from __future__ import annotations

import importlib.util
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
PILOTS = 300


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


SPREAD = [0.5, 0.75, 1.0, 1.5, 2.0]
OTHERS = [case for case in calibration.CASES[1:] if case.rule]


@pytest.mark.parametrize("spread", SPREAD)
def test_equal_methods_are_told_apart_in_at_most_a_twentieth(spread: float) -> None:
    found = calibration.rates(calibration.Simulated(spread), calibration.CASES[0], PILOTS)
    assert found.broken(calibration.CASES[0]) == []
    assert found.trainings < 100


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_a_simulated_case_keeps_its_promises(case: Any) -> None:
    world = calibration.Simulated(1.0, 5.0 if case.tuned else 0.0)
    assert calibration.rates(world, case, PILOTS).broken(case) == []


@pytest.mark.parametrize("case", calibration.SPEEDS, ids=lambda case: case.name)
def test_an_equal_method_is_seldom_called_faster(case: Any) -> None:
    assert calibration.rates(calibration.Simulated(0.7), case, PILOTS // 2).broken(case) == []


def test_the_default_pilot_takes_less_than_half_of_the_old_plan() -> None:
    found = calibration.rates(
        calibration.Simulated(0.75), calibration.tuned(calibration.CASES[0]), 100
    )
    assert found.trainings < 0.4 * calibration.OLD_PLAN


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
    few = calibration.Rates(["adopt"] * 84 + ["inconclusive"] * 16)
    better = CASES["+1.5 m over base and controls"]
    assert calibration.Rates(["adopt"] * 8920 + ["inconclusive"] * 1080).broken(better) == []
    assert len(calibration.Rates(["adopt"] * 8880 + ["inconclusive"] * 1120).broken(better)) == 1
    assert few.broken(better) == []  # 84 of 100 may be chance


# --- real runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank() -> Any:
    return calibration.Bank(ROOT / "results" / "paired-null.csv")


def test_the_stored_runs_are_those_of_the_study(bank: Any) -> None:
    grid = open_study(str(ROOT / "benchmarks" / "paired-null.toml"))[0].grid[0]
    assert bank.rates == grid.lr
    assert 0.003 < min(grid.lr) < max(grid.lr) < 0.3
    assert bank.losses.shape == (8, grid.seeds, len(grid.methods))
    assert np.ptp(bank.values, axis=2).max() > 0  # equal weights would differ by nothing at all


@pytest.mark.parametrize("case", calibration.RESAMPLED, ids=lambda case: case.name)
def test_resampled_pilots_of_real_runs_keep_their_promises(case: Any, bank: Any) -> None:
    assert calibration.rates(bank, case, PILOTS // 2).broken(case) == []


def test_sixty_trained_pilots_seldom_find_a_difference() -> None:
    found = calibration.trained(calibration.Trained(ROOT / "results" / "null-pilots.csv"))
    assert found.pilots == 60
    assert calibration.hits(found) <= 7


@pytest.mark.slow
def test_sixty_pilots_trained_now_seldom_find_a_difference(tmp_path: Path) -> None:
    """2,400 runs: about 10 minutes of two cores."""
    study = ROOT / "benchmarks" / "null-pilots.toml"
    assert call(tmp_path, "study", "run", study, "--out", "null").code == 0
    assert call(tmp_path, "study", "export", "null", "null.parquet", "--runs").code == 0
    calibration.write_table(tmp_path / "null.parquet", tmp_path / "null.csv")
    found = calibration.trained(calibration.Trained(tmp_path / "null.csv"))
    assert found.pilots == 60
    assert calibration.hits(found) <= 7
