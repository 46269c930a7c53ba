"""What limits a study of many runs on many workers: a simulation, event by event.

    python benchmarks/scale.py                    10^6 runs on 10^3 workers, and the sweep
    python benchmarks/scale.py --runs 100000 --workers 1000 --median 60 ...
    python benchmarks/scale.py measure            the inputs, measured on this machine
    python benchmarks/scale.py check              200 real runs on 2 workers against the simulation

A driver hands out runs and keeps `ahead` more per worker handed out than are running. A worker that
ends a run takes the next at once, if there is one. The driver takes results one after another: each
costs it `dispatch` seconds, then it waits for the store to write it, then it hands out one more
run. A node of workers fails at random and comes back; its runs are noticed after `notice` seconds
and handed out again. Durations are lognormal.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import simpy


@dataclass(frozen=True)
class Inputs:
    """What a simulation assumes; times in seconds."""

    runs: int = 1_000_000
    workers: int = 1000
    median: float = 60.0  # duration of a run
    sigma: float = 0.5  # of its logarithm
    dispatch: float = 0.0007  # of the driver, per run
    write: float = 0.0016  # of the store, per run
    ahead: float = 1.0  # runs handed out per worker beyond the running one
    node: int = 16  # workers that fail together
    mtbf: float = math.inf  # between failures of one node
    repair: float = 600.0
    notice: float = 60.0
    bytes_ahead: int = 700  # per run handed out
    bytes_done: int = 2_000  # per finished run that the driver keeps
    law: str = "lognormal"  # or "exponential": durations, dispatch and writes, to check by theory
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """What came out."""

    seconds: float
    lost: int
    workers_busy: float
    driver_busy: float
    store_busy: float
    wait: float  # mean, from a run's end until the driver takes it up
    memory: float  # bytes of the driver

    def rate(self, runs: int) -> float:
        return runs / self.seconds


class Draws:
    """Random numbers, drawn many at a time."""

    def __init__(self, draw: Callable[[int], Any]) -> None:
        self.draw, self.left = draw, iter(())

    def __call__(self) -> float:
        for value in self.left:
            return value
        self.left = iter(self.draw(8192).tolist())
        return self()


class Cluster:
    """Workers, the driver and the store, in simulated time."""

    def __init__(self, given: Inputs) -> None:
        self.given, self.env = given, simpy.Environment()
        random = np.random.default_rng(given.seed)
        if given.law == "exponential":
            self.duration = Draws(lambda n: random.exponential(given.median, n))
            self.dispatch = Draws(lambda n: random.exponential(given.dispatch, n))
            self.write = Draws(lambda n: random.exponential(given.write, n))
        else:
            self.duration = Draws(lambda n: given.median * random.lognormal(0.0, given.sigma, n))
            self.dispatch = lambda: given.dispatch
            self.write = lambda: given.write
        self.until_failure = Draws(lambda n: random.exponential(given.mtbf, n))
        self.inbox: deque[tuple[float, bool]] = deque()  # (since, whether it is a result)
        self.busy, self.ready, self.handed = False, 0, 0
        self.idle = deque(range(given.workers))
        self.began: list[float | None] = [None] * given.workers  # None: not running
        self.up, self.life = [True] * given.workers, [0] * given.workers
        self.left, self.done, self.lost = given.runs, 0, 0
        self.worked = self.drove = self.wrote = self.waited = self.memory = 0.0
        self.finished = self.env.event()

    def simulate(self) -> Found:
        """From the first run handed out until the last is stored."""
        g = self.given
        self.inbox.extend([(0.0, False)] * (g.workers + round(g.ahead * g.workers)))
        self._take()
        if math.isfinite(g.mtbf):
            for first in range(0, g.workers, g.node):
                node = range(first, min(first + g.node, g.workers))
                self.after(self.until_failure(), self._fail, node)
        self.env.run(until=self.finished)
        seconds = self.env.now
        return Found(
            seconds=seconds,
            lost=self.lost,
            workers_busy=self.worked / (g.workers * seconds),
            driver_busy=self.drove / seconds,
            store_busy=self.wrote / seconds,
            wait=self.waited / g.runs,
            memory=self.memory,
        )

    def after(self, delay: float, do: Callable[..., None], *args: Any) -> None:
        """Do something after a delay."""
        event = self.env.timeout(delay)
        event.callbacks.append(lambda _: do(*args))

    # --- the driver ---

    def _take(self) -> None:
        """Take up what lies longest in the inbox: a result, or a run to hand out."""
        if self.busy or not self.inbox:
            return
        self.busy = True
        since, is_result = self.inbox.popleft()
        spent = self.dispatch()
        self.drove += spent
        if is_result:
            self.waited += self.env.now - since
            self.after(spent, self._write)
        else:
            self.after(spent, self._hand_out)

    def _write(self) -> None:
        spent = self.write()
        self.wrote += spent
        self.after(spent, self._stored)

    def _stored(self) -> None:
        self.handed -= 1
        self.done += 1
        if self.done == self.given.runs:
            self._note_memory()
            self.finished.succeed()
            return
        self._hand_out()

    def _hand_out(self) -> None:
        self.busy = False
        if self.left > 0:
            self.left -= 1
            self.ready += 1
            self.handed += 1
            while self.idle:
                w = self.idle.popleft()
                if self.up[w] and self.began[w] is None:
                    self._start(w)
                    break
        self._note_memory()
        self._take()

    def _note_memory(self) -> None:
        held = self.handed * self.given.bytes_ahead + self.done * self.given.bytes_done
        self.memory = max(self.memory, held)

    # --- a worker ---

    def _start(self, w: int) -> None:
        self.ready -= 1
        self.began[w] = self.env.now
        self.after(self.duration(), self._end, w, self.life[w])

    def _end(self, w: int, life: int) -> None:
        if life != self.life[w]:
            return  # its node failed in the meantime
        self.worked += self.env.now - self.began[w]
        self.began[w] = None
        self.inbox.append((self.env.now, True))
        self._occupy(w)
        self._take()

    def _occupy(self, w: int) -> None:
        if self.ready:
            self._start(w)
        else:
            self.idle.append(w)

    def _fail(self, node: range) -> None:
        for w in node:
            self.life[w] += 1
            self.up[w] = False
            if self.began[w] is not None:
                self.began[w] = None
                self.lost += 1
                self.after(self.given.notice, self._retry)
        self.after(self.given.repair, self._repair, node)

    def _retry(self) -> None:
        self.handed -= 1
        self.left += 1
        self.inbox.append((self.env.now, False))
        self._take()

    def _repair(self, node: range) -> None:
        for w in node:
            self.up[w] = True
            self._occupy(w)
        self.after(self.until_failure(), self._fail, node)


# --- tables -------------------------------------------------------------------------------------

COLUMNS = (
    "| workers | median run, s | runs | runs/s | workers busy | driver busy "
    "| store busy | wait for the driver, s | driver memory, MB | runs lost | takes |\n"
    + "|---" * 11
    + "|"
)


def row(given: Inputs) -> str:
    found = Cluster(given).simulate()
    return (
        f"| {given.workers:,} | {given.median:g} | {given.runs:,} | "
        f"{found.rate(given.runs):,.1f} | {found.workers_busy:.1%} | {found.driver_busy:.1%} | "
        f"{found.store_busy:.1%} | {found.wait:.3g} | {found.memory / 1e6:,.0f} | "
        f"{found.lost:,} | {spoken(found.seconds)} |"
    )


def spoken(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def sweep(given: Inputs) -> None:
    """Workers from 10 to 10^4 and runs of 1 to 1000 s, a hundred runs per worker."""
    print(COLUMNS)
    for workers in (10, 100, 1000, 10_000):
        for median in (1.0, 10.0, 100.0, 1000.0):
            runs = min(100 * workers, 300_000)
            print(row(replace(given, workers=workers, median=median, runs=runs)), flush=True)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["simulate", "sweep", "measure", "check"])
    for field in fields(Inputs):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    values = vars(parser.parse_args(words))
    what = values.pop("what")
    given = Inputs(**values)
    if what in ("measure", "check"):
        import scale_inputs

        (scale_inputs.measure if what == "measure" else scale_inputs.check)()
        return
    print(" ".join(f"{f.name}={getattr(given, f.name)}" for f in fields(given)) + "\n")
    if what in (None, "simulate"):
        begun = time.perf_counter()
        print(f"{COLUMNS}\n{row(given)}")
        print(f"\nsimulated in {time.perf_counter() - begun:.0f} s\n")
    if what in (None, "sweep"):
        sweep(given)


if __name__ == "__main__":
    main(sys.argv[1:])
