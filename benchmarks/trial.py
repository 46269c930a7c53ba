"""What being judged adds to a training: the protocol of a trial, and the start of a command.

    python benchmarks/trial.py                     pairs of trainings of 10 s each, 6 minutes
    python benchmarks/trial.py --seconds 1 --pairs 3       a quick look

The same function trains in turn for itself (with a neutral trial) and as a run of a pilot, in one
process with one thread, whose processor time is taken: other processes do not count. A command
that does nothing is started by itself and as a run, by the clock. Each pair's order is the reverse
of the one before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from paramcast import Trial
from paramcast.study.own.run import run_own
from paramcast.study.plan import Options, Plan
from paramcast.study.tasks.source import Source, find, load_subject
from paramcast.study.training.methods import Candidate, parse_methods

FILE = """
import torch

metric, lr_range = "accuracy", (0.01, 1.0)


def train(trial):
    torch.manual_seed(trial.seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = trial.wrap(torch.optim.SGD(model.parameters(), lr=trial.lr, momentum=0.9))
    x, y = torch.randn(2000, 64), torch.randint(10, (2000,))
    for step in range(trial.steps(STEPS)):
        batch = torch.randint(2000, (64,))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            trial.report(step, train_loss=loss)
    return {"validation_loss": loss.item(), "accuracy": 0.5}
"""


def timed(function, *arguments, clock=time.process_time) -> float:
    start = clock()
    result = function(*arguments)
    seconds = clock() - start
    if isinstance(result, dict) and result.get("status") == "failed":
        raise RuntimeError(result["reason"])
    return seconds


def in_pairs(alone, judged, pairs: int, clock=time.process_time) -> list[tuple[float, float]]:
    alone(), judged()  # warm up
    found = []
    for i in range(pairs):
        order = (alone, judged) if i % 2 == 0 else (judged, alone)
        seconds = {each: timed(each, clock=clock) for each in order}
        found.append((seconds[alone], seconds[judged]))
    return found


def show(name: str, found: list[tuple[float, float]]) -> None:
    alone, judged = (statistics.median(each) for each in zip(*found, strict=True))
    added = statistics.median(b - a for a, b in found)
    share = statistics.median(b / a - 1 for a, b in found)
    print(
        f"{name}: alone {alone:.4g} s, judged {judged:.4g} s, added {1000 * added:+.1f} ms "
        f"({100 * share:+.2f} %), median of {len(found)} pairs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of one training")
    parser.add_argument("--pairs", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        live = folder / "out" / ".live" / "bench"
        live.mkdir(parents=True)
        (folder / "train.py").write_text(FILE.replace("STEPS", "500"))

        def function_run():
            subject = load_subject(find(f"{folder / 'train.py'}:train"))
            methods = parse_methods("plp")
            options = Options(subject.source, methods, "own", (0.1, 1.0), 0, 0, "", lr=0.1)
            spec = Plan(options, subject, folder / "out").spec("base", 0.1, "final", 0, 1.0)
            return subject, spec

        # as many steps as fill the time
        subject, _ = function_run()
        subject.function(Trial(lr=0.1))
        steps = round(500 * given.seconds / timed(subject.function, Trial(lr=0.1)))
        (folder / "train.py").write_text(FILE.replace("STEPS", str(steps)))
        subject, spec = function_run()
        found = in_pairs(
            lambda: subject.function(Trial(lr=0.1)),
            lambda: run_own(spec, subject.source, str(live)),
            given.pairs,
        )
        show(f"a function of {steps} steps", found)

        words = (sys.executable, "-S", "-c", "print('{{\"accuracy\": 0.{seed}}}')")
        commands = (("base", words), ("new", words))
        source = Source("command", str(folder), metric="accuracy", commands=commands)
        options = Options(source, (Candidate("new"),), "own", (0.0, 0.0), 0, 0, "", lr=0.1)
        plan = Plan(options, load_subject(source), folder / "out")
        spec = replace(plan.spec("base", 0.1, "final", 0, 1.0))
        plain = [word.format(seed=0) for word in words]
        found = in_pairs(
            lambda: subprocess.run(plain, stdout=subprocess.DEVNULL, check=True),
            lambda: run_own(spec, source, str(live)),
            max(20, given.pairs),
            clock=time.perf_counter,
        )
        show("a command that does nothing", found)


if __name__ == "__main__":
    main()
