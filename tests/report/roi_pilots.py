"""Pilots with chosen values by seed, judged and stored by the real code, to count money on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.study.judging.stats import interval
from paramcast.study.judging.verdict import Arm, Metric, difference, judge_quality, judge_speed
from paramcast.study.spec import RunSpec
from paramcast.study.store.store import Store
from runs import run_spec

SPEC = run_spec(task="made", epochs=1)
ACCURACY = Metric("accuracy", True, 0.005, 0.0005)


@dataclass
class Made:
    """One arm: its name in the table and in the store, its values and seconds by seed."""

    name: str
    run: str
    role: str
    lr: float
    values: Sequence[float]
    early: Sequence[float]
    seconds: float
    early_seconds: float
    of: str = ""
    memory: int = 2**30
    counts: dict[str, list[int]] | None = None


def wave(mean: float, half: float, n: int = 8) -> np.ndarray:
    """mean + half, mean - half, ...: its mean, and sd = half sqrt(n / (n - 1))."""
    return mean + half * np.resize([1.0, -1.0], n)


def adopted(n: int = 8) -> list[Made]:
    """plp is 2 points better than sgd and 1 better than lr x G, 5 % slower; faster at 0.8 T."""
    base = wave(0.90, 0.01, n)
    plp, worse = base + wave(0.02, 0.001, n), base - wave(0.02, 0.001, n)
    return [
        Made("sgd", "base", "base", 0.1, base, worse, 100, 80),
        Made("sgd-lr-matched", "base", "control", 0.12, base + 0.01, worse, 100, 80, "plp"),
        Made("random-jump", "random-jump:plp", "control", 0.1, base, worse, 110, 88, "plp"),
        Made("plp", "plp", "predictor", 0.1, plp, base + wave(0.001, 0.001, n), 105, 84),
    ]


def useless(n: int = 8) -> list[Made]:
    """plp is worse than sgd, lr x G a point better; all are worse at 0.8 T but lr x G."""
    base = wave(0.90, 0.01, n)
    low, high = base - wave(0.02, 0.001, n), base + wave(0.01, 0.001, n)
    return [
        Made("sgd", "base", "base", 0.1, base, low, 100, 80),
        Made("sgd-lr-matched", "base", "control", 0.12, high, base, 100, 80, "plp"),
        Made("random-jump", "random-jump:plp", "control", 0.1, base, low, 110, 88, "plp"),
        Made("plp", "plp", "predictor", 0.1, low, low, 105, 84),
    ]


def store(
    folder: Path,
    arms: Sequence[Made],
    metric: Metric = ACCURACY,
    tuning: float = 1224.0,
    change: Callable[[dict[str, Any]], None] = lambda result: None,
) -> Path:
    """Write pilot.json and runs.db; `tuning` are the seconds of one tuning run beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    result = _result(arms, metric)
    change(result)
    (folder / "pilot.json").write_text(json.dumps(result, allow_nan=False))
    found = Store(folder / "runs.db")
    _put(found, SPEC.lr, "base", "tune", 1.0, 0, {"seconds": tuning})
    for arm in arms:
        for seed in range(len(arm.values)):
            outcome = {"peak_memory": arm.memory, "class_counts": arm.counts}
            whole, early = {"seconds": arm.seconds}, {"seconds": arm.early_seconds}
            _put(found, arm.lr, arm.run, "final", 1.0, seed, outcome | whole)
            _put(found, arm.lr, arm.run, "final", 0.8, seed, outcome | early)
    found.close()
    return folder


def _put(found: Store, lr: float, method: str, phase: str, share: float, seed: int, more: Any):
    values = {"method": method, "phase": phase, "share": share, "seed": seed, "lr": lr}
    found.put(RunSpec(**(asdict(SPEC) | values)), {"status": "done", **more}, {})


def _result(made: Sequence[Made], metric: Metric) -> dict[str, Any]:
    fine = (False,) * len(made[0].values)
    arms = [
        Arm(m.name, m.role, m.lr, tuple(m.values), tuple(m.early), fine, fine, m.of) for m in made
    ]
    base = arms[0]
    verdicts = {
        arm.name: {
            "quality": asdict(judge_quality(base, arm, _controls(arm, arms), metric, 0.95)),
            "speed": asdict(judge_speed(base, arm, _controls(arm, arms), metric, 0.95)),
        }
        for arm in arms
        if arm.role in ("predictor", "average")
    }
    table = [_row(arm, base, metric) for arm in arms]
    return {
        "schema": 1, "task": "made", "metric": asdict(metric), "seeds": len(fine),
        "confidence": 0.95, "table": table, "verdicts": verdicts, "command": "paramcast pilot made",
        "out": "made", "steps": 100, "early_steps": 80,
    }  # fmt: skip


def _controls(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    averages = [a for a in arms if a.role == "average" and arm.role == "predictor"]
    return [a for a in arms if a.role == "control" and a.of in ("", arm.name)] + averages


def _row(arm: Arm, base: Arm, metric: Metric) -> dict[str, Any]:
    mean, low, high = interval(arm.values)
    to_base = None if arm is base else asdict(difference(arm.values, base.values, metric, 0.95))
    return {
        "method": arm.name, "role": arm.role, "of": arm.of, "lr": arm.lr, "mean": mean, "low": low,
        "high": high, "values": list(arm.values), "early_values": list(arm.early),
        "to_base": to_base,
    }  # fmt: skip
