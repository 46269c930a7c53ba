"""The same runs as other processors would compute them: python benchmarks/processors.py [SEEDS]

torch and its libraries choose their code by the processor. Each row makes them choose as on an
older one (child processes with other environments) and compares every final run of the digits task
with that of this machine: the same seeds, methods and learning rates, one thread. It says whether
the fingerprint is the same, without which no run of one is used for the other.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys

import torch

from paramcast.study.engines import worker
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find, load
from paramcast.study.training.loop import run

TASK, METHODS, RATES = "digits", ("base", "plp"), (0.003, 0.03, 0.1)
PROCESSORS = {
    "this one": {},
    "with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "SSE 4 alone": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}


def compute(seeds: int) -> dict[str, object]:
    """In a child process: all runs, as the engine would run them."""
    worker.use_one_thread()
    prepared = load(find(TASK))
    task, runs = prepared.task, {}
    for method, lr, seed in itertools.product(METHODS, RATES, range(seeds)):
        spec = RunSpec(
            task=TASK, fingerprint="", method=method, base="sgd", lr=lr, schedule=task.schedule,
            epochs=task.epochs, batch_size=task.batch_size, share=1.0, phase="final", seed=seed,
            device="cpu", versions="",
        )  # fmt: skip
        test = run(spec, prepared)["test"]
        runs[f"{method} {lr} {seed}"] = test["metric"], test["loss"]
    examples = len(prepared.test)
    return {"fingerprint": worker.fingerprint(prepared), "examples": examples, "runs": runs}


def main(seeds: int) -> None:
    found = {}
    for name, environment in PROCESSORS.items():
        done = subprocess.run(
            [sys.executable, __file__, "compute", str(seeds)],
            env={**os.environ, **environment}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        found[name] = json.loads(done.stdout)
    here = found["this one"]
    print("| processor | fingerprint | runs equal to the bit | test examples judged otherwise, at "
          "most | of the mean of a row | test loss, at most |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for name, there in found.items():
        pairs = {key: (run, there["runs"][key]) for key, run in here["runs"].items()}
        equal = sum(a == b for a, b in pairs.values())
        most = max(abs(a[0] - b[0]) for a, b in pairs.values()) * here["examples"]
        loss = max(abs(b[1] / a[1] - 1) for a, b in pairs.values())
        means = [
            abs(sum(a[0] - b[0] for key, (a, b) in pairs.items() if key.startswith(row)) / seeds)
            for row in (f"{method} {lr} " for method, lr in itertools.product(METHODS, RATES))
        ]
        same = "the same" if there["fingerprint"] == here["fingerprint"] else "another"
        print(f"| {name} | {same} | {equal} of {len(pairs)} | {most:.0f} of {here['examples']} | "
              f"{100 * max(means):.2f} points | {100 * loss:.2g} % |")  # fmt: skip
    print(f"\n{seeds} seeds, rates {RATES}; this one: {torch.backends.cpu.get_cpu_capability()}, "
          f"torch {torch.__version__}, Python {platform.python_version()}")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["compute"]:
        print(json.dumps(compute(int(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
