"""The simulation's inputs, measured here, and the simulation against real runs (see scale.py)."""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scale import Cluster, Inputs

from paramcast.study.engines import Finished, Job, LocalEngine
from paramcast.study.engines.environment import describe_environment
from paramcast.study.spec import RunSpec
from paramcast.study.store.store import Store
from paramcast.study.tasks.source import Source, find, load
from paramcast.study.training.loop import run

EPOCHS = 100


def specification(seed: int, *, epochs: int = 1, share: float = 1.0) -> RunSpec:
    return RunSpec(
        task="digits/mlp", fingerprint="", method="base", base="sgd", lr=0.05, schedule="cosine",
        epochs=epochs, batch_size=32, share=share, phase="final", seed=seed, device="cpu",
        versions="",
    )  # fmt: skip


def measure() -> None:
    """Print each input with how it was measured."""
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}")
    outcome = run(specification(0, epochs=EPOCHS), load(find("digits/mlp")))
    with tempfile.TemporaryDirectory() as folder:
        write = store_write(Path(folder), outcome)
    print(f"write {write:.2g} s: Store.put on SQLite, curve of {EPOCHS} epochs, median of 300")
    jobs = [Job(specification(seed, share=0.0), find("digits/mlp")) for seed in range(300)]
    before = time.process_time()
    LocalEngine(1).run(jobs, lambda done: None)
    dispatch = (time.process_time() - before) / len(jobs)
    print(f"dispatch {dispatch:.2g} s: the driver's CPU time per run of one step, n = 300")
    ahead, done = held_bytes(find("digits/mlp"), outcome)
    few = held_bytes(find("digits/mlp"), {**outcome, "curve": []})[1]
    print(f"bytes_ahead {ahead:.0f}: a job and its key")
    print(f"bytes_done {done:.0f}: an outcome; {few:.0f} without its curve")
    keys = [specification(seed) for seed in range(2000)]
    before = time.process_time()
    for each in keys:
        _ = each.key
    print(f"a key takes {(time.process_time() - before) / len(keys):.2g} s")


def store_write(folder: Path, outcome: dict[str, Any]) -> float:
    environment = describe_environment(find("digits/mlp"))
    store = Store(folder / "runs.db")
    seconds = []
    for seed in range(300):
        start = time.perf_counter()
        store.put(specification(seed), outcome, environment)
        seconds.append(time.perf_counter() - start)
    store.close()
    return statistics.median(seconds)


def held_bytes(source: Source, outcome: dict[str, Any]) -> tuple[float, float]:
    """Memory per job that a Runner holds, and per outcome."""
    text, count = json.dumps(outcome), 500

    def grown(make: Callable[[int], Any]) -> float:
        tracemalloc.start()
        kept = [make(i) for i in range(count)]
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size / len(kept)

    def job(i: int) -> tuple[str, Job]:
        made = Job(specification(i), source)
        return made.spec.key, made

    return grown(job), grown(lambda i: json.loads(text))


SLEEPS = """
import time
import torch
from paramcast.study import Task

def model():
    time.sleep(0.25)
    return torch.nn.Linear(4, 2)

def task():
    split = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    return Task("sleeps", model, split, split, split, batch_size=8)
"""
"""Runs that take their time without a core, so that two workers do not hinder each other."""


def check() -> None:
    """Fit duration and overhead on 1 worker, predict 200 runs on 2, and compare; three times."""
    for _ in range(3):
        alone, driver, write = makespan(1, 50)
        given = Inputs(
            runs=200, workers=2, median=alone - driver - write, sigma=0.0, dispatch=driver,
            write=write, ahead=0.0,
        )  # fmt: skip
        predicted = Cluster(given).simulate().seconds
        measured = makespan(2, 200)[0] * 200
        print(
            f"1 worker: {alone * 1e3:.1f} ms a run, of which driver {driver * 1e3:.2f} ms, store "
            f"{write * 1e3:.2f} ms; 200 runs on 2 workers: predicted {predicted:.2f} s, measured "
            f"{measured:.2f} s, ratio {measured / predicted:.3f}"
        )


def makespan(workers: int, runs: int) -> tuple[float, float, float]:
    """Seconds per run between the first and the last result; driver's CPU and store's time."""
    ends: list[float] = []
    writes: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sleeps.py"
        file.write_text(SLEEPS)
        source = find(str(file))
        skipped = workers  # the first run of each worker loads the task
        jobs = [Job(specification(s, share=0.0), source) for s in range(runs + skipped)]
        environment = describe_environment(source)
        store = Store(Path(folder) / "runs.db")

        def finished(done: Finished) -> None:
            start = time.perf_counter()
            ends.append(start)
            store.put(done.spec, done.outcome, environment)
            writes.append(time.perf_counter() - start)

        before = time.process_time()
        LocalEngine(workers).run(jobs, finished)
        spent = (time.process_time() - before) / len(jobs)
        store.close()
    write = statistics.median(writes)
    return (ends[-1] - ends[skipped - 1]) / runs, max(spent - write, 1e-5), write
