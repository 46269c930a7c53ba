"""What an engine adds to a run: python benchmarks/engines.py [RUNS] [--ray ADDRESS]

Runs of a task that takes a few milliseconds go through each engine with one worker; what is more
than the run itself, per run, is the engine's. The clock starts with the first outcome, so that
starting processes is apart. Prints medians of five rounds.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from paramcast.study.engines import Job, LocalEngine
from paramcast.study.engines.ray import RayEngine
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find, load

ROUNDS = 5
TASK = """
import torch
from paramcast.study import Task

def split():
    return torch.eye(3).repeat(4, 1), torch.arange(12) % 3

def task():
    return Task(name="tiny", model=lambda: torch.nn.Linear(3, 3), train=split(),
                validation=split(), test=split(), epochs=1, batch_size=12)
"""


def jobs(file, count, first):
    source = find(str(file))
    load(source)
    spec = {
        "task": "tiny", "fingerprint": "", "method": "base", "base": "sgd", "lr": 0.1,
        "schedule": "constant", "epochs": 1, "batch_size": 12, "share": 1.0, "phase": "final",
        "device": "cpu", "versions": "",
    }  # fmt: skip
    return [Job(RunSpec(seed=first + n, **spec), source) for n in range(count)]


def measure(engine, file, count):
    """Seconds until the first outcome, and medians per run: of the wall clock, of training."""
    starts, walls, inside = [], [], []
    with engine:
        for number in range(ROUNDS):
            ends, trained = [], []

            def note(done, ends=ends, trained=trained):
                ends.append(time.perf_counter())
                trained.append(done.outcome["seconds"])

            begun = time.perf_counter()
            engine.run(jobs(file, count, number * count), note)
            starts.append(ends[0] - begun)
            walls.append((ends[-1] - ends[0]) / (count - 1))
            inside.append(statistics.median(trained))
    return starts[0], statistics.median(starts), statistics.median(walls), statistics.median(inside)


def alone(file, count):
    """The same runs in this process, one after the other: seconds per run."""
    from paramcast.study.engines import worker

    worker.use_one_thread()
    each = []
    for job in jobs(file, count + 1, 10**6):
        begun = time.perf_counter()
        worker.execute(*job)
        each.append(time.perf_counter() - begun)
    return statistics.median(each[1:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=int, nargs="?", default=200)
    parser.add_argument("--ray", default="auto", help="address of a cluster [auto]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.py"
        file.write_text(TASK)
        run = alone(file, given.runs)
        print(f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} "
              f"cores, load {os.getloadavg()[0]:.1f}, n = {given.runs} x {ROUNDS}")  # fmt: skip
        print(f"\na run in this process: {1e3 * run:.2f} ms\n")
        print("| engine, 1 worker | first start | later starts | per run | overhead per run |")
        print("|---|---|---|---|---|")
        for name, engine in (
            ("local", LocalEngine(1)),
            (f"ray ({given.ray})", RayEngine(given.ray, workers=1)),
        ):
            first, start, wall, _ = measure(engine, file, given.runs)
            print(f"| {name} | {first:.1f} s | {start:.1f} s | {1e3 * wall:.1f} ms | "
                  f"{1e3 * (wall - run):.1f} ms |")  # fmt: skip


if __name__ == "__main__":
    main()
