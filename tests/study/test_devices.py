"""Workers take places on a machine's GPUs in turn, and a dead worker's place is taken over."""

from __future__ import annotations

from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import joblib
import pytest
import torch

from paramcast.cli.options import RunOptions, make_engine
from paramcast.study.engines.devices import take_slot, usual_workers
from paramcast.study.engines.server import workers_context


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
