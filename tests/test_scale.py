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


def test_a_run_handed_out_ahead_fills_the_wait_for_the_driver() -> None:
    # Both handed out by 2; the worker is busy from 1 on but for its last result's 3 seconds.
    found = simulate(runs=4, workers=1, median=10.0, dispatch=1.0, write=2.0, ahead=1.0)
    assert found.seconds == 1 + 4 * 10 + 3


@pytest.mark.parametrize(("workers", "saturated"), [(10, False), (200, True)])
def test_fixed_times_give_the_smaller_of_two_rates(workers: int, saturated: bool) -> None:
    # D/D/1 with N sources: N / (T + s) until the server is full, then 1 / s; the first N runs are
    # handed out before.
    found = simulate(runs=4000, workers=workers, median=10.0, dispatch=0.05, write=0.05)
    rate = 1 / 0.1 if saturated else workers / (10.0 + 0.1)
    assert found.seconds == pytest.approx(workers * 0.05 + 4000 / rate, rel=0.01)
    assert (found.driver_busy + found.store_busy > 0.98) == saturated


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


def test_memory_is_what_is_handed_out_and_what_is_done() -> None:
    found = simulate(
        runs=1000, workers=10, median=1.0, dispatch=0.0, write=0.0, ahead=1.0,
        bytes_ahead=7, bytes_done=1000,
    )  # fmt: skip
    assert 1_000_000 <= found.memory <= 1_000_000 + 20 * 7


def test_the_same_seed_gives_the_same_figures() -> None:
    one, two, other = (simulate(runs=2000, sigma=0.5, seed=seed) for seed in (1, 1, 2))
    assert one == two != other
