"""Threads, forks, spawned processes and signals: nobody else's doing shows in a run."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

import paramcast as pc
from paramcast._files import replacing
from paramcast.anomalies import Anomaly
from paramcast.averaging import EMA
from paramcast.gates import Agreement, Every, MaxRelativeJump
from paramcast.monitors import CSV, History, JSONLines
from reference import same_bits, timeless


class Run:
    """A model, its optimizer with everything switched on, and its data."""

    def __init__(self, seed: int, monitors: tuple[Any, ...] = ()) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(32, 6, generator=generator)
        self.targets = torch.randn(32, 2, generator=generator)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        self.history = History(scored=True)
        self.optimizer = pc.PLP(
            torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9),
            gate=Anomaly(jump=0.05, drift=3.0) & Every(2)
            & Agreement(-0.5) & MaxRelativeJump(0.02),
            average=EMA(0.9),
            monitors=[self.history, *monitors],
        )  # fmt: skip

    def train(self, steps: int) -> Run:
        for _ in range(steps):
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(self.inputs), self.targets).backward()
            self.optimizer.step()
        return self

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self.model.parameters())

    def same(self, other: Run) -> bool:
        with self.optimizer.eval_weights(), other.optimizer.eval_weights():
            averages = same_bits(self.parameters, other.parameters)
        events = [list(map(timeless, run.history.rows)) for run in (self, other)]
        return averages and same_bits(self.parameters, other.parameters) and events[0] == events[1]


# --- threads ------------------------------------------------------------------------------------


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_two_models_trained_in_two_threads_are_those_trained_one_after_the_other() -> None:
    alone = [Run(seed).train(150) for seed in (1, 2)]
    together, start = [Run(seed) for seed in (1, 2)], threading.Barrier(2)

    def work(run: Run) -> None:
        start.wait()
        run.train(150)

    threads = [threading.Thread(target=work, args=(run,)) for run in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a.same(b) for a, b in zip(alone, together, strict=True))
    assert not alone[0].same(alone[1])
    assert {row.applied for row in alone[0].history.rows} == {True, False}  # the gates had a say


# --- other processes ----------------------------------------------------------------------------


def go_on(run: Run, answers: Any) -> None:
    """In a spawned process: go on in a fork with a copy, here with the copy, and with itself."""
    twin, pipe = copy.deepcopy(run), mp.get_context("fork").Pipe()
    child = os.fork()
    if child == 0:
        pipe[1].send_bytes(pickle.dumps(twin.train(20)))
        os._exit(0)
    forked = pickle.loads(pipe[0].recv_bytes())
    status = os.waitpid(child, 0)[1]
    assert not twin.same(forked)  # what the child did is not seen here
    answers.send_bytes(pickle.dumps((status, forked, twin.train(20), run.train(20))))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_goes_on_in_a_forked_and_in_a_spawned_process() -> None:
    """Both begin in mid-cycle; torch lets a spawned process share the parameters' memory."""
    run, alone = Run(3).train(10), Run(3).train(30)
    assert run.optimizer.state_dict()["paramcast"]["cycle"]["done"] == 1
    context = mp.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=go_on, args=(run, theirs))
    process.start()
    theirs.close()
    status, *runs = pickle.loads(mine.recv_bytes())
    process.join()
    assert (status, process.exitcode) == (0, 0)
    assert all(each.same(alone) for each in runs)
    assert same_bits(run.parameters, alone.parameters)  # shared, as torch has it


# --- signals ------------------------------------------------------------------------------------


class Alarm:
    """A signal at random moments, handled by `action`."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.number, self.action, self.draw, self.heard = number, action, random.Random(0), 0

    def __enter__(self) -> Alarm:
        self.before = signal.signal(self.number, self.handle)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(self.number, self.before)

    def handle(self, number: int, frame: Any) -> None:
        self.heard += 1
        self.action()


@pytest.mark.timeout(method="thread")  # it has the alarm for itself
def test_a_signal_that_is_only_noted_changes_nothing(tmp_path: Path) -> None:
    """A thousand a second, while it trains, appends to files and saves."""
    alone = Run(4).train(90)
    with Alarm(signal.SIGALRM, lambda: None) as alarm:
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
        with JSONLines(tmp_path / "events.jsonl") as lines, CSV(tmp_path / "events.csv") as table:
            run = Run(4, (lines, table))
            for _ in range(9):
                run.train(10)
                torch.save(run.optimizer.state_dict(), tmp_path / "last.pt")
                resumed = Run(4)
                resumed.optimizer.load_state_dict(torch.load(tmp_path / "last.pt"))
    assert alarm.heard > 20
    assert run.same(alone)
    rows = [json.loads(row) for row in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [event.step for event in alone.history.rows]
    assert len((tmp_path / "events.csv").read_text().splitlines()) == 1 + len(rows)


class Stop(BaseException):
    """What a handler raises."""


def stop() -> None:
    raise Stop


def write(path: Path, turn: int) -> None:
    with replacing(path) as file:
        file.write(json.dumps([turn] * 5000).encode())


@pytest.mark.timeout(method="thread")
# a file that was just opened may be left to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["SIGALRM", "SIGINT", "SIGTERM"])
def test_a_signal_that_stops_a_write_leaves_a_whole_file(name: str, tmp_path: Path) -> None:
    path, number, stopped, last = tmp_path / "result.json", getattr(signal, name), 0, 0
    write(path, 0)
    with Alarm(number, stop) as alarm:
        for turn in range(1, 60):
            moment = alarm.draw.uniform(0, 2e-3)
            timer = threading.Timer(moment, os.kill, (os.getpid(), number))
            try:
                timer.start()
                write(path, turn)
                while alarm.heard < turn:
                    time.sleep(1e-4)
            except Stop:
                stopped += 1
            timer.join()
            found = json.loads(path.read_bytes())
            assert found in ([last] * 5000, [turn] * 5000)
            assert list(tmp_path.iterdir()) == [path]
            last = found[0]
    assert alarm.heard == 59
    assert stopped > 50  # Python drops an exception raised while it runs a destructor
