"""How long `paramcast judge` takes on 10^5 rows, start and report included: wall, CPU seconds.

    python benchmarks/judge.py [--rounds 5]

Each is a process of its own, in turn, on a table of ten methods with 10,000 seeds each. Bytecode is
compiled before, as installing does. About a minute.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import pandas as pd

SOURCE = Path(__file__).parents[1] / "src"
METHODS, SEEDS, GOAL = 10, 10_000, 2.0


def table() -> pd.DataFrame:
    """Accuracies by method and seed."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0.87, 0.01, SEEDS)
    own = rng.normal(0, 0.002, (METHODS, SEEDS)) + 0.0001 * np.arange(METHODS)[:, None]
    return pd.DataFrame(
        {
            "method": np.repeat(["sgd", *(f"m{i}" for i in range(1, METHODS))], SEEDS),
            "seed": np.tile(np.arange(SEEDS), METHODS),
            "accuracy": (shared + own).round(5).ravel(),
        }
    )


def main() -> None:
    parser = machine.options(__doc__)
    parser.set_defaults(rounds=5)
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    compileall.compile_dir(SOURCE, quiet=1)
    machine.heading("pandas")
    with tempfile.TemporaryDirectory() as folder:
        frame = table()
        frame.to_csv(Path(folder, "t.csv"), index=False)
        frame.to_parquet(Path(folder, "t.parquet"))
        took: dict[str, list[tuple[float, float]]] = {"t.csv": [], "t.parquet": []}
        for _ in range(given.rounds):
            for name, found in took.items():
                command = [sys.executable, "-m", "paramcast", "judge", name, "--out", "out"]
                start, used = time.perf_counter(), cpu()
                subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
                found.append((time.perf_counter() - start, cpu() - used))
    rows = [
        (name, *(machine.spread([*each], ".2f") for each in zip(*found, strict=True)), GOAL)
        for name, found in took.items()
    ]
    machine.table(f"{METHODS * SEEDS} rows (n = {given.rounds}) | s | CPU s | goal", rows)


def cpu() -> float:
    """CPU seconds of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
