"""How many finished runs a store writes in a second, and how fast a large one is read.

    python benchmarks/store.py                              SQLite, in a temporary folder
    python benchmarks/store.py postgresql://USER@HOST/DB    an empty schema, which is left full
    python benchmarks/store.py [URL] --runs 100000          instead: reads one of so many runs

Each run has a curve of 100 points and is written in a transaction of its own, as a driver does. The
rate is that of rounds of 500 runs. The processor time of the driver is given as well: where other
programs keep the machine busy the rate is theirs, not the store's. The defaults take about 1
minute; 100,000 runs are 2.3 GB and take about 3.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import machine
import psutil
from sqlalchemy import select

from paramcast.study.engines import Finished, Job
from paramcast.study.runner import Runner
from paramcast.study.spec import RunSpec
from paramcast.study.store.store import Store
from paramcast.study.store.tables import runs
from paramcast.study.tasks.source import Source

ROUND = 500
ENVIRONMENT = {
    "paramcast": "0",
    "torch": "2",
    "python": "3",
    "cpu": "x" * 40,
    "git_commit": "0" * 40,
}


def spec(seed: int) -> RunSpec:
    return RunSpec(
        task="digits", fingerprint="f" * 64, method="plp", base="sgd", lr=0.05, schedule="cosine",
        epochs=100, batch_size=32, share=1.0, phase="final", seed=seed, device="cpu",
        versions="v",
    )  # fmt: skip


def outcome() -> dict[str, Any]:
    names = ("seconds", "train_loss", "validation_loss", "validation_metric", "validation_top5")
    curve = [
        {"step": i, "lr": 0.05, **{name: random.random() for name in names}} for i in range(100)
    ]
    last = {"loss": random.random(), "metric": random.random(), "top5": random.random()}
    return {
        "status": "done", "reason": "", "steps": 5000, "seconds": 1.0, "peak_memory": 10**9,
        "curve": curve, "validation": last, "test": last, "train_loss": 0.1, "gap": 0.1,
    }  # fmt: skip


def write(place: Path | str, rounds: int) -> tuple[list[float], list[float]]:
    """Runs per second, and milliseconds of processor time per run, of each round."""
    rates, processor = [], []
    with closing(Store(place)) as store:
        if sum(store.counts().values()):
            raise SystemExit("the schema is not empty: give another one")
        for number in range(rounds):
            specs = [spec(number * ROUND + i) for i in range(ROUND)]
            outcomes = [outcome() for _ in specs]
            start, used = time.perf_counter(), time.process_time()
            for one, result in zip(specs, outcomes, strict=True):
                store.put(one, result, ENVIRONMENT)
            rates.append(ROUND / (time.perf_counter() - start))
            processor.append(1000 * (time.process_time() - used) / ROUND)
    return rates, processor


# --- a large store --------------------------------------------------------------------------------


def fill(place: Path | str, number: int) -> list[RunSpec]:
    """So many finished runs, which differ in their seeds."""
    with closing(Store(place)) as store:
        first = spec(0)
        store.put(first, outcome(), ENVIRONMENT)
        row = store.read(lambda c: c.execute(select(runs).where(runs.c.key == first.key)).one())
        specs = [spec(seed) for seed in range(number)]
        for begin in range(1, number, 2000):
            rows = [
                {**row._mapping, "key": one.key, "seed": one.seed, "spec": json.dumps(one.fields())}
                for one in specs[begin : begin + 2000]
            ]
            store.write(lambda c, rows=rows: c.execute(runs.insert(), rows))
        store.set_about(
            "specification", {"kind": "study", "name": "large", "text": "", "device": "cpu"}
        )
    return specs


class Nobody:
    """An engine and a watcher: nothing is missing, so nothing is run."""

    workers = 1

    def run(self, jobs: Any, finished: Callable[[Finished], None]) -> None:
        raise RuntimeError("the store holds all runs")

    def phase(self, name: str, total: int, reused: int) -> None:
        if total != reused:
            raise RuntimeError(f"{reused} of {total} runs were found")


def resumed(place: Path | str, number: int) -> float:
    """Seconds until a driver knows that nothing is left to run, its jobs not made yet."""
    start, source = time.perf_counter(), Source("builtin", "digits")
    with closing(Store(place)) as store:
        jobs = [Job(spec(seed), source) for seed in range(number)]
        driver = Runner(store, Path(), ENVIRONMENT, engine=Nobody(), watcher=Nobody())
        driver.phase("final", jobs)
    return time.perf_counter() - start


def status(folder: Path, place: Path | str) -> float:
    """Seconds of `paramcast study status`, the whole process."""
    words = [] if isinstance(place, Path) else ["--store", place]
    start = time.perf_counter()
    command = [sys.executable, "-m", "paramcast", "study", "status", str(folder), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def reported(folder: Path) -> float:
    """Seconds in which the data of a report are read."""
    from paramcast.report.html.load import read_runs

    start = time.perf_counter()
    read_runs(folder)
    return time.perf_counter() - start


def read(folder: Path, place: Path | str, number: int, rounds: int) -> None:
    fill(place, number)
    if not isinstance(place, Path):
        (folder / "runs.url").write_text(place, "utf-8")
    before = psutil.Process().memory_info().rss
    ways = {
        "`study status`, the whole command": (lambda: status(folder, place), 1),
        "resume: what is missing": (lambda: resumed(place, number), 5),
        "report: specifications and outcomes": (lambda: reported(folder), 5),
    }
    rows = []
    for name, (way, goal) in ways.items():
        rows.append((name, machine.spread([way() for _ in range(rounds)]), goal))
    machine.table(f"{number:,} finished runs, n = {rounds} | s | goal", rows)
    more = (psutil.Process().memory_info().rss - before) / number / 1024
    print(f"The driver and the report grew by {more:.1f} KiB per run in all.")


# --- writing --------------------------------------------------------------------------------------


def written(place: Path | str, rounds: int) -> None:
    rates, processor = write(place, rounds)
    columns = f"n = {rounds} rounds of {ROUND} runs | runs per second | processor time per run, ms"
    name = "PostgreSQL" if isinstance(place, str) else "SQLite"
    machine.table(columns, [(name, machine.spread(rates, ".0f"), machine.spread(processor))])


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--runs", type=int, default=0)
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place: Path | str = given.url or folder / "runs.db"
        machine.heading("sqlalchemy", "psycopg")
        with closing(Store(place)) as store, store._engine.connect() as connection:
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
            print(f"{connection.dialect.name} {version}\n")
        if given.runs:
            read(folder, place, given.runs, min(given.rounds, 3))
        else:
            written(place, given.rounds)


if __name__ == "__main__":
    main()
