"""How long it takes to start: imports, --help, and the first line of progress of a pilot.

    python benchmarks/starting.py [--rounds 15]

Each is a process of its own, in turn. "import paramcast" is what it adds to `import torch` in the
same process; the first line is waited for on a pseudo-terminal, and the pilot is then stopped.
Bytecode is compiled before, as installing does. About 2 minutes.
"""

from __future__ import annotations

import compileall
import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine

SOURCE = Path(__file__).parents[1] / "src"
ADDED = """
import time
import torch
start = time.perf_counter()
import paramcast
paramcast.PLP
print(time.perf_counter() - start)
"""
COMMAND = [sys.executable, "-m", "paramcast"]
GOALS = {"import paramcast": 30, "--help": 300, "first line": 1000}


def added() -> float:
    done = subprocess.run([sys.executable, "-c", ADDED], capture_output=True, check=True)
    return float(done.stdout)


def process(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([*COMMAND, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def first_line() -> float:
    """Seconds until a pilot on a terminal says something."""
    with tempfile.TemporaryDirectory() as folder:
        master, slave = pty.openpty()
        start = time.perf_counter()
        begun = subprocess.Popen([*COMMAND, "pilot", "--out", folder], stdout=slave, stderr=slave)
        os.close(slave)
        said = os.read(master, 1)
        elapsed = time.perf_counter() - start
        begun.terminate()
        while said:
            try:
                said = os.read(master, 4096)
            except OSError:  # Linux: the other side is closed
                break
        begun.wait()
        os.close(master)
    return elapsed


def main() -> None:
    given = machine.options(__doc__).parse_args()
    machine.check_idle(busy=given.busy)
    compileall.compile_dir(SOURCE, quiet=1)
    machine.heading("click")
    helped = (["--help"], ["pilot", "--help"], ["study", "run", "--help"], ["report", "--help"])
    ways: dict[str, Callable[[], float]] = {
        "import paramcast, PLP, after torch": added,
        **{f"paramcast {' '.join(w)}": (lambda w=w: process(*w)) for w in helped},
        "paramcast pilot: first line of progress": first_line,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    rows = []
    for name, found in seconds.items():
        goal = next(ms for part, ms in GOALS.items() if part in name)
        rows.append((name, machine.spread([1000 * s for s in found], ".0f"), goal))
    machine.table(f"what (n = {given.rounds}) | ms | goal", rows)


if __name__ == "__main__":
    main()
