"""The benchmarks that run on other machines start and count right."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(BENCHMARKS / name), *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gpu_measures_a_small_network_on_a_cpu_alone_and_two_at_once() -> None:
    out = run(
        "gpu.py", "--device", "cpu", "--networks", "resnet8", "--batch-size", "4",
        "--seconds", "0.3", "--ways", "bfloat16, channels-last", "float32", "--at-once", "1", "2",
    )  # fmt: skip
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| resnet8")]
    assert [row[2:4] for row in rows] == [
        ["bfloat16, channels-last", "1"], ["float32", "1"], ["float32", "2"],
    ]  # fmt: skip
    assert all(float(row[4].replace(",", "")) > 0 for row in rows)
    # of ResNet8: the first convolution has no gradient for its inputs
    assert 0.05 < float(rows[0][1]) < 0.1
    hours = re.search(r"training ([\d.]+) h, evaluation after each epoch ([\d.]+) h", out)
    best = max(float(row[4].replace(",", "")) for row in rows)
    assert float(hours.group(1)) == pytest.approx(4 * 10 * 100 * 40_000 / best / 3600, rel=0.02)


def test_gpu_needs_a_gpu_unless_told_otherwise() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--networks", "vgg17", "--device", "cpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no network vgg17; there is cnn, mlp, resnet8" in done.stderr


def test_alarms_watches_without_touching_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    alarms = importlib.import_module("alarms")
    events, fired, accuracy = alarms.run("digits", 0.095, 0, shadow=True)
    assert len(events) == 15 * 10 // 3  # epochs x steps
    assert not any(event.applied for event in events)
    assert fired.count("jump") == sum(event.relative_jump > 0.002 for event in events)
    assert 90 < accuracy < 100
    cells = alarms.row([(events, fired, accuracy)]).split(" | ")
    assert cells[1] == f"{2 * fired.count('jump')} %"
    assert len(cells) == 9
