"""What the benchmarks share: an idle machine, loops that run in turn, medians, Markdown tables.

Import it before torch: the pool of threads reads its settings when torch is loaded. Its threads
sleep while they wait; spinning, two of them are 40 times slower than one on a machine that is busy.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

for _name, _value in (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0")):
    os.environ.setdefault(_name, _value)

BUSY = 10.0
"""Per cent of all cores in use by others from which a machine is not idle."""
LOOK = 2.0
"""Seconds during which it is looked at."""


def options(doc: str | None) -> argparse.ArgumentParser:
    """A command line with what every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="all take turns so often")
    parser.add_argument(
        "--busy", action="store_true", help="measure on a busy machine all the same"
    )
    return parser


def check_idle(*, busy: bool) -> None:
    """Refuse a machine on which others compute, or say that it is one."""
    used, load = psutil.cpu_percent(LOOK), os.getloadavg()[0]
    if used <= BUSY:
        return
    found = f"{used:.0f} % of {cores()} cores are in use by others, load {load:.1f}"
    if not busy:
        sys.exit(f"{found}: no timing would mean anything; wait, or add --busy")
    print(f"**Measured on a busy machine: {found}.**\n")


def heading(
    *packages: str, figures: str = "Medians over the rounds, quartiles in brackets."
) -> None:
    """The command, the hardware and the versions."""
    words = [
        Path(sys.argv[0]).name,
        *(word.partition("//")[0] + "//..." if "://" in word else word for word in sys.argv[1:]),
    ]
    print(f"`python benchmarks/{shlex.join(words)}`\n")
    versions = ", ".join(f"{name} {installed(name)}" for name in ("torch", *packages))
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{cores()} cores, {platform.machine()}, {memory:.0f} GiB; {versions}, Python "
        f"{platform.python_version()}. {figures}\n"
    )


def installed(package: str) -> str:
    """The version of a package, "none" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_turn(
    loops: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    at_least: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of each loop, once per round, in another order each round.

    Args:
        at_least: seconds that one measurement lasts; a short loop is called several times in it.
        clock: in seconds; on a GPU one that waits for it.
    """
    calls = {name: _calls(loop, at_least, clock) for name, loop in loops.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    order = list(loops)
    draw = random.Random(0)
    for _ in range(rounds):
        draw.shuffle(order)
        for name in order:
            seconds[name].append(_time(loops[name], calls[name], clock))
    return seconds


def _calls(loop: Callable[[], object], at_least: float, clock: Callable[[], float]) -> int:
    """How many calls take so long; they also warm up."""
    once = min(_time(loop, 1, clock) for _ in range(3))
    return max(1, round(at_least / max(once, 1e-7)))


def _time(loop: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        loop()
    return (clock() - start) / calls


def added(loop: Sequence[float], without: Sequence[float], steps: int) -> list[float]:
    """Milliseconds per step that a loop of so many steps takes more, within each round."""
    return [1000 * (a - b) / steps for a, b in zip(loop, without, strict=True)]


def quotients(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a / b within each round."""
    return [x / y for x, y in zip(a, b, strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median, and the quartiles in brackets."""
    if len(values) < 3:
        return format(statistics.median(values), form)
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def table(columns: str, rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table, row by row as they come; the columns as "a | b | c"."""
    print(f"| {columns} |")
    print("|" + "---|" * (columns.count(" | ") + 1))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print()
