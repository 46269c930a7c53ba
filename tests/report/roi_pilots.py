"""Pilots with chosen values by seed, judged and stored by the real code, to count money on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.study.judging.table import LR_MATCHED, judge, numbers
from paramcast.study.judging.verdict import Arm, Metric
from paramcast.study.spec import RunSpec
from paramcast.study.store.folder import to_json
from paramcast.study.store.store import Store
from runs import run_spec, whole

SPEC = run_spec(task="made", epochs=1)
ACCURACY = Metric("accuracy", True, 0.005, 0.0005)


@dataclass
class Made:
    """One arm: its name in the table and in the store, its values and seconds by seed.

    Arms may have values of fewer seeds than the base, as those that were settled at an early look.
    """

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
    """Write result.json and runs.db; `tuning` are the seconds of one tuning run beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    result = _result(arms, metric)
    change(result)
    (folder / "result.json").write_text(to_json(result))
    found = Store(folder / "runs.db")
    found.put(_spec(SPEC.lr, "base", "tune", 1.0, 0), {"status": "done", "seconds": tuning}, {})
    for arm in arms:
        for seed in range(max(len(arm.values), len(arm.early))):
            outcome = {"status": "done", "peak_memory": arm.memory, "class_counts": arm.counts}
            for share, seconds in ((1.0, arm.seconds), (0.8, arm.early_seconds)):
                spec = _spec(arm.lr, arm.run, "final", share, seed)
                found.put(spec, {**outcome, "seconds": seconds}, {})
    found.close()
    return folder


def _spec(lr: float, method: str, phase: str, share: float, seed: int) -> RunSpec:
    values = {"method": method, "phase": phase, "share": share, "seed": seed, "lr": lr}
    return RunSpec(**(asdict(SPEC) | values))


def _result(made: Sequence[Made], metric: Metric) -> dict[str, Any]:
    n, fewest = (pick(len(m.values) for m in made) for pick in (max, min))
    fine = (False,) * n
    arms = [
        Arm(m.name, m.role, m.lr, tuple(m.values), tuple(m.early), fine, fine, m.of) for m in made
    ]
    table = [
        {
            "method": m.name, "role": m.role, "control_of": m.of, "run": m.run, "lr": m.lr,
            "family": LR_MATCHED if LR_MATCHED in m.name else m.name, "loss": 0.0, "gap": None,
            "keys": [_spec(m.lr, m.run, "final", 1.0, s).key for s in range(len(m.values))],
            "settings": {},
            "early_keys": [_spec(m.lr, m.run, "final", 0.8, s).key for s in range(len(m.early))],
            "seconds": m.seconds, "peak_memory": m.memory, "divergences": [],
            "top1_error": None, "top5_error": None, "measures": {},
            **numbers(arm, arms[0], None, metric, 0.95),
        }
        for m, arm in zip(made, arms, strict=True)
    ]  # fmt: skip
    tuned = _spec(SPEC.lr, "base", "tune", 1.0, 0).key
    judged = {
        "task": "made", "question": "today", "description": {}, "metric": metric, "seeds": n,
        "confidence": 0.95, "table": table, "notes": [],
        "verdicts": judge(arms, metric, 0.95, seeds=fewest)[0],
        "looks": [{"seeds": n, "confidence": 0.95}], "trainings": 2 * n * len(made) + 1,
        "planned_seeds": n, "lazy": False,
        "steps": 100, "early_steps": 80, "specification": {}, "settings": {}, "label": "",
        "learning_rates": {
            "tried": [0.1], "settings": [{}], "chosen": {}, "keys": {"base": [[tuned]]}, "seeds": 1,
        },
    }  # fmt: skip
    return whole(judged, command="paramcast pilot made", out="made")
