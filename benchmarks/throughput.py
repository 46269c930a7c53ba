"""Training steps per second of the pilot, beside a bare loop, Lightning and skorch.

    python benchmarks/throughput.py                       about 15 minutes on 2 cores
    python benchmarks/throughput.py --tasks digits --rounds 3 --seconds 0.5 --busy   a quick look
    python benchmarks/throughput.py --schedule            a whole pilot against the sum of its runs

All make whole runs of equal steps and evaluations (benchmarks/loops.py), each for so many seconds,
in turn. A process per core has one thread; "all cores" is one process with as many threads. The
processes are started before and told what to do; they begin together.
--schedule runs `paramcast pilot` without its command line, from starting processes to its verdict,
and divides by the sum of its runs' times and the cores (rounds: at most 3, a minute each).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machine
import torch
from loops import LOOPS, steps_of

from paramcast.study.engines import worker
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find, load
from paramcast.study.training.methods import parse_methods

TASKS = {"digits": {}, "fashion@2000": {"epochs": 1}, "cifar100/resnet8@500": {"epochs": 1}}
"""Built-in names and what is changed, so that a run takes a second or two."""


def spec_of(name: str) -> RunSpec:
    task = load(find(name)).task
    settings = {"epochs": task.epochs, "batch_size": 32, **TASKS.get(name, {})}
    return RunSpec(
        task=name, fingerprint="", method="base", base="sgd", lr=0.05, schedule="cosine",
        share=1.0, phase="tune", seed=0, device="cpu", versions="", **settings,
    )  # fmt: skip


def serve(pipe: Connection) -> None:
    """Runs what it is told to for some seconds, and answers with steps and seconds."""
    known: dict[str, Any] = {}
    while True:
        try:
            name, way, threads, seconds = pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        torch.set_num_threads(threads)
        if name not in known:
            known[name] = load(find(name)), spec_of(name)
        LOOPS[way](*known[name])  # imports, first steps
        pipe.send("ready")
        pipe.recv()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            steps += LOOPS[way](*known[name])
        pipe.send(steps / (time.perf_counter() - start))


class Crew:
    """A process per core, started once."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        for _ in range(number):
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(theirs,), daemon=True).start()
            self.pipes.append(ours)

    def rate(self, name: str, way: str, seconds: float, *, together: bool) -> float:
        """Steps per second: of all processes with one thread, or of one with all threads."""
        pipes = self.pipes if together else self.pipes[:1]
        for pipe in pipes:
            pipe.send((name, way, 1 if together else len(self.pipes), seconds))
        for pipe in pipes:
            pipe.recv()
        for pipe in pipes:
            pipe.send("go")
        return sum(pipe.recv() for pipe in pipes)


WAYS = {
    "pilot: the study's loop, a process per core": ("study", True),
    "bare loop, a process per core": ("bare", True),
    "bare loop, all cores": ("bare", False),
    "Lightning, a process per core": ("lightning", True),
    "Lightning, all cores": ("lightning", False),
    "skorch, a process per core": ("skorch", True),
    "skorch, all cores": ("skorch", False),
}


def throughput(given: argparse.Namespace) -> Iterator[list[object]]:
    crew = Crew(machine.cores())
    for name in given.tasks:
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for label, (way, together) in WAYS.items():
                rates[label].append(crew.rate(name, way, given.seconds, together=together))
        pilot, *others = rates.values()
        best = [max(both) for both in zip(*others[:2], strict=True)]
        steps = steps_of(load(find(name)), spec_of(name))
        for label, found in rates.items():
            share, over = machine.quotients(found, best), machine.quotients(pilot, found)
            yield [name, steps, label, machine.spread(found, ".4g"), machine.spread(share),
                   machine.spread(over)]  # fmt: skip


# --- a whole pilot --------------------------------------------------------------------------------


def timed(spec: RunSpec, source: Any, live: str | None = None) -> dict[str, Any]:
    """worker.execute, and how long it took."""
    start = time.perf_counter()
    outcome = worker.execute(spec, source, live)
    return {**outcome, "wall": time.perf_counter() - start}


class Adding:
    """Adds up what the runs took."""

    def __init__(self) -> None:
        self.walls: list[float] = []

    def phase(self, name: str, total: int, reused: int) -> None:
        pass

    def finished(self, finished: Any) -> None:
        self.walls.append(finished.outcome["wall"])


def schedule(given: argparse.Namespace) -> Iterator[list[object]]:
    # not above: workers import this file, but never what the driver alone needs
    from paramcast.study.engines import LocalEngine, local
    from paramcast.study.grid.run import run_pilot

    local.worker = SimpleNamespace(**{**vars(worker), "execute": timed})
    for name in ("digits", "digits/mlp"):
        whole, work = [], []
        for _ in range(min(given.rounds, 3)):
            with tempfile.TemporaryDirectory() as folder:
                adding, plan = Adding(), plan_of(name, Path(folder), quick=given.quick)
                start = time.perf_counter()
                with LocalEngine(machine.cores()) as engine:
                    run_pilot(plan, engine=engine, watcher=adding)
                whole.append(time.perf_counter() - start)
                work.append(sum(adding.walls) / machine.cores())
        yield [name, len(adding.walls), machine.spread(whole, ".1f"), machine.spread(work, ".1f"),
               machine.spread(machine.quotients(whole, work), ".3f"), 1.1]  # fmt: skip


def plan_of(name: str, folder: Path, *, quick: bool) -> Any:
    from paramcast.study.plan import QUICK, Options, Plan

    source = find(name)
    prepared = load(source)
    task, defaults = prepared.task, QUICK if quick else {}
    options = Options(
        source=source, methods=parse_methods("plp"), base="sgd", lr=None, lr_range=task.lr_range,
        epochs=task.epochs, batch_size=task.batch_size, schedule=task.schedule, margin=None,
        device="cpu", **defaults,
    )  # fmt: skip
    return Plan(options, prepared, folder)


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seconds", type=float, default=2.0, help="one measurement, at least")
    parser.add_argument("--schedule", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a quick pilot for --schedule")
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    machine.heading("lightning", "skorch")
    if given.schedule:
        columns = "pilot | runs | whole, s | sum of runs / cores, s | ratio | goal"
        machine.table(columns, schedule(given))
        return
    print(f"n = {given.rounds} rounds; the pilot's goal is 0.95 of the better bare loop\n")
    columns = "task | steps per run | way | steps per s | / better bare loop | pilot's / its"
    machine.table(columns, throughput(given))


if __name__ == "__main__":
    sys.exit(main())
