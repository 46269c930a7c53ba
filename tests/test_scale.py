"""The simulation of many runs on many workers, against what can be worked out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("simpy")
FILE = Path(__file__).parents[1] / "benchmarks" / "scale.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


scale = load()
BARE = {"sigma": 0.0, "ahead": 0.0}


def simulate(**changes: Any) -> Any:
    return scale.Cluster(scale.Inputs(**(BARE | changes))).simulate()


def test_one_worker_and_three_runs_on_paper() -> None:
    # Handed out at 1, ends at 11, taken up for 1, written by 14, ends at 24, 27, 37, 40.
    found = simulate(runs=3, workers=1, median=10.0, dispatch=1.0, write=2.0)
    assert found.seconds == 1 + 3 * (10 + 1 + 2)
    assert found.workers_busy == pytest.approx(30 / 40)
    assert found.driver_busy == pytest.approx(4 / 40)
    assert found.store_busy == pytest.approx(6 / 40)
    assert found.wait == 0.0


def repairman(sources: int, think: float, service: float) -> tuple[float, float]:
    """M/M/1 with N sources: throughput and mean wait in the queue."""
    weights = [1.0]
    for n in range(1, sources + 1):
        weights.append(weights[-1] * (sources - n + 1) / think * service)
    share = [w / sum(weights) for w in weights]
    rate = sum(share[1:]) / service
    waiting = sum(p * max(0, n - 1) for n, p in enumerate(share))
    return rate, waiting / rate


@pytest.mark.parametrize("sources", [5, 15, 40])
def test_one_driver_is_the_machine_repairman(sources: int) -> None:
    found = simulate(
        runs=60_000, workers=sources, median=10.0, dispatch=0.6, write=0.0, law="exponential"
    )
    rate, wait = repairman(sources, 10.0, 0.6)
    assert found.rate(60_000) == pytest.approx(rate, rel=0.03)
    assert found.wait == pytest.approx(wait, rel=0.06)
    assert found.driver_busy == pytest.approx(rate * 0.6, rel=0.03)


def test_every_run_ends_once_whatever_fails() -> None:
    given = scale.Inputs(runs=40_000, workers=64, median=60.0, node=8, mtbf=3000.0, repair=300.0)
    cluster = scale.Cluster(given)
    found = cluster.simulate()
    assert cluster.done == given.runs
    assert cluster.left == 0
    assert found.lost > 50
    # A node is up 3000 s of 3300, and loses about 40 s of work of each worker when it fails.
    assert found.workers_busy == pytest.approx((3000 - 40) / 3300, rel=0.02)


def test_the_same_seed_gives_the_same_figures() -> None:
    one, two, other = (simulate(runs=2000, sigma=0.5, seed=seed) for seed in (1, 1, 2))
    assert one == two != other
