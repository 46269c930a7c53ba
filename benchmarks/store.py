"""How many finished runs a store writes in a second, and how fast a large one is read.

    python benchmarks/store.py                              SQLite, in a temporary folder
    python benchmarks/store.py postgresql://USER@HOST/DB    an empty schema, which is left full
    python benchmarks/store.py [URL] --runs 100000          also reads so many back

Each run has a curve of 100 points and is written in a transaction of its own, as a driver does; on
PostgreSQL it is claimed before and its claim ends in the same transaction. The rate is the median
over rounds of 500 runs (--rounds); quartiles in brackets. The processor time of the driver is given
as well: where other programs keep the machine busy the rate is theirs, not the store's.
--drivers N writes from N processes at once (PostgreSQL), and reports the sum.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import sqlalchemy

from paramcast.study.claims import Claims
from paramcast.study.spec import RunSpec
from paramcast.study.store import Store

ROUND = 500
ENVIRONMENT = {
    "paramcast": "0",
    "torch": "2",
    "python": "3",
    "cpu": "x" * 40,
    "git_commit": "0" * 40,
}


def spec(seed: int, driver: int) -> RunSpec:
    return RunSpec(
        task="digits", fingerprint="f" * 64, method="plp", base="sgd", lr=0.05, schedule="cosine",
        epochs=100, batch_size=32, share=1.0, phase="final", seed=seed, device="cpu",
        versions=f"driver {driver}",
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


def write(place: Path | str, rounds: int, driver: int = 0) -> tuple[list[float], list[float]]:
    """Runs per second, and milliseconds of processor time per run, of each round."""
    rates, processor = [], []
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(place)))
        claims = stack.enter_context(Claims(store)) if store.shared else None
        for number in range(rounds):
            specs = [spec(number * ROUND + i, driver) for i in range(ROUND)]
            outcomes = [outcome() for _ in specs]
            start, used = time.perf_counter(), time.process_time()
            for begin in range(0, ROUND, 4):
                some = specs[begin : begin + 4]
                if claims:
                    claims.take([s.key for s in some], 4)
                for one, result in zip(some, outcomes[begin : begin + 4], strict=True):
                    store.put(one, result, ENVIRONMENT, driver=claims and claims.driver)
            rates.append(ROUND / (time.perf_counter() - start))
            processor.append(1000 * (time.process_time() - used) / ROUND)
    return rates, processor


def written_by(drivers: int, place: Path | str, rounds: int) -> float:
    """Runs per second of several processes together, their start not counted."""
    with multiprocessing.get_context("spawn").Pool(drivers) as pool:
        pool.starmap(write, [(place, 1, 100 + i) for i in range(drivers)])
        start = time.perf_counter()
        pool.starmap(write, [(place, rounds, i) for i in range(drivers)])
        return drivers * rounds * ROUND / (time.perf_counter() - start)


def read(place: Path | str, keys: Sequence[str]) -> None:
    """What `status`, `resume` and `export` read."""
    actions = {
        "status (counts)": lambda store: store.counts(),
        "resume (outcomes of all keys)": lambda store: store.outcomes(keys),
        "export (all runs)": lambda store: store.runs(),
    }
    for name, action in actions.items():
        times = []
        for _ in range(3):
            with closing(Store(place, write=False)) as store:
                start = time.perf_counter()
                action(store)
                times.append(time.perf_counter() - start)
        print(f"{name}: {statistics.median(times):.2f} s, n = 3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--drivers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=0)
    given = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        place: Path | str = given.url or Path(folder) / "study.db"
        with closing(Store(place)) as store, store._engine.connect() as connection:
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
            print(
                f"{connection.dialect.name} {version}, sqlalchemy {sqlalchemy.__version__}, "
                f"Python {platform.python_version()}, {platform.machine()}"
            )
        if given.drivers > 1:
            rate = written_by(given.drivers, place, given.rounds)
            print(f"{given.drivers} drivers: {rate:.0f} runs per second together")
            return
        rounds = max(given.rounds, -(-given.runs // ROUND))
        rates, processor = write(place, rounds)
        low, middle, high = statistics.quantiles(rates, n=4)
        print(
            f"{middle:.0f} runs per second ({low:.0f} to {high:.0f}), {len(rates)} rounds of "
            f"{ROUND}, curves of 100 points; {statistics.median(processor):.2f} ms of processor "
            "time per run"
        )
        if given.runs:
            print(f"{rounds * ROUND} runs in the store:")
            read(place, [spec(i, 0).key for i in range(rounds * ROUND)])


if __name__ == "__main__":
    main()
