"""Workers take places on a machine's GPUs in turn, and a dead worker's place is taken over."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import joblib
import pytest
import torch

from paramcast.cli.options import RunOptions, make_engine
from paramcast.study.engines import Job, LocalEngine
from paramcast.study.engines.devices import take_slot, usual_workers
from paramcast.study.engines.server import workers_context
from paramcast.study.tasks.source import find
from runs import run_spec


def hold(folder: str, pipe: Connection) -> None:
    """Take a place, tell it twice, and keep it."""
    pipe.send((take_slot(folder), take_slot(folder)))
    pipe.recv()


def test_a_killed_workers_number_is_given_to_the_next(tmp_path: Path) -> None:
    context = workers_context()
    running: list[tuple[BaseProcess, Connection]] = []

    def start() -> tuple[int, int]:
        ours, theirs = context.Pipe()
        process = context.Process(target=hold, args=(str(tmp_path), theirs), daemon=True)
        process.start()
        theirs.close()
        running.append((process, ours))
        return ours.recv()

    try:
        assert [start(), start()] == [(0, 0), (1, 1)]  # a process keeps its own
        running[0][0].kill()
        running[0][0].join()
        assert [start(), start()] == [(0, 0), (2, 2)]
    finally:
        for process, pipe in running:
            process.kill()
            process.join()
            pipe.close()


NOTES_ITS_SLOT = """
import os, time
from pathlib import Path
from paramcast.study.engines import devices
from paramcast.study.spec import axis_seed

HERE = Path(__file__).parent
SEEDS = [axis_seed("initialisation", "final", seed) for seed in range(1, 8)]

def make_model():
    if torch.initial_seed() in SEEDS:
        slot = devices._held["slot"][0]
        HERE.joinpath(f"{slot}-{os.getpid()}").touch()
        if slot == 0 and len(list(HERE.glob("0-*"))) == 1:
            os._exit(7)
        until = time.monotonic() + 60
        while len(list(HERE.glob("0-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.02)
    return torch.nn.Linear(4, 3)
"""
"""In the runs of seeds 1 to 7 the first worker in place 0 dies; the one in place 1 waits until
another has come there."""


def test_the_worker_that_stands_in_for_a_dead_one_takes_its_place(
    task_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = task_file(more=NOTES_ITS_SLOT)
    specs = [run_spec(epochs=1, seed=seed) for seed in range(8)]
    statuses: list[str] = []
    LocalEngine(2).run(
        [Job(s, find(str(file))) for s in specs],
        lambda done: statuses.append(done.outcome["status"]),
    )
    assert statuses.count("failed") == 1
    held = sorted(path.name.split("-")[0] for path in tmp_path.glob("?-*"))
    assert held == ["0", "0", "1"]


@pytest.mark.parametrize(
    ("device", "cores", "gpus", "workers"),
    [
        ("cpu", 8, 4, 8),
        ("cuda", 16, 1, 2),
        ("cuda", 16, 4, 8),
        ("cuda:3", 16, 4, 2),
        ("cuda", 1, 4, 1),  # each worker needs a core that gives its GPU orders
    ],
)
def test_workers_unless_told_otherwise(device: str, cores: int, gpus: int, workers: int) -> None:
    assert usual_workers(device, cores, gpus) == workers


def test_the_command_line_takes_two_workers_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    engines = [make_engine(RunOptions(device=name)) for name in ("cpu", "cuda", "cuda:3")]
    assert [engine.workers for engine in engines] == [16, 8, 2]
    assert make_engine(RunOptions(device="cuda", workers=5)).workers == 5
