"""What the knobs of the averages do, and over how many learning rates they work.

    python benchmarks/averages.py digits --base adamw --epochs 12 --batch-size 32
    python benchmarks/averages.py fashion@5000 --base adamw --epochs 4 --batch-size 64

Each training at a constant rate after a warm-up is evaluated with every average at once, which is
exact: none of them touches the training. Beside it the same base trains with a schedule. The first
table has the test accuracy (in points) by learning rate; the second, each evaluation at the rate
that its own validation loss chooses, minus the scheduled base at its own, paired by seed, with 95 %
t intervals. The rates are log-uniform over --range; the choice and the figures use the same runs.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import NamedTuple

import machine
import torch

from paramcast.averaging import EMA, SWA, Average, PolynomialDecay, Trend
from paramcast.running.evaluation import Averager
from paramcast.study.judging.stats import interval
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Prepared
from paramcast.study.training.build import make_base
from paramcast.study.training.evaluating import evaluate, to_normalise
from paramcast.study.training.loop import lr_factor

LIVE = "the weights themselves"
AVERAGES: list[Average] = [
    *(PolynomialDecay(eta) for eta in (1, 3, 8, 16, 32)),
    *(EMA(share=share) for share in (0.02, 0.05, 0.1)),
    SWA(start_share=0.75),
    *(Trend(lag=lag) for lag in (0.06, 0.03, 0.0, -0.05, -0.1)),
    Trend(16, 5), Trend(4, 1),
]  # fmt: skip
SHOWN = (LIVE, repr(PolynomialDecay()), repr(Trend()))
"""Of the first table, at a constant rate."""


class Job(NamedTuple):
    """One training."""

    task: str
    base: str
    schedule: str
    lr: float
    epochs: int
    batch_size: int
    seed: int


@cache
def loaded(task: str) -> Prepared:
    """The task; each process reads it once."""
    return load(find(task))


def train(job: Job) -> dict[str, tuple[float, float]]:
    """Validation loss and test accuracy in points, by what was evaluated."""
    torch.set_num_threads(1)
    prepared = loaded(job.task)
    task, examples = prepared.task, prepared.train
    torch.manual_seed(job.seed)
    model = task.model()
    optimizer = make_base(task, job.base, model, job.lr)
    steps = job.epochs * math.ceil(len(examples) / job.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: lr_factor(job.schedule, t, steps)
    )
    rules = AVERAGES if job.schedule == "warmup" else []
    averagers = [Averager() for _ in rules]
    generator, step = torch.Generator().manual_seed(job.seed), 0
    for _ in range(job.epochs):
        model.train()
        for batch in torch.randperm(len(examples), generator=generator).split(job.batch_size):
            inputs = examples.inputs[batch]
            if task.augment is not None:
                inputs = task.augment(inputs, generator)
            optimizer.zero_grad()
            task.loss(model(inputs), examples.targets[batch]).backward()
            optimizer.step()
            scheduler.step()
            step += 1
            with torch.no_grad():
                for rule, averager in zip(rules, averagers, strict=True):
                    averager.update(rule, list(model.parameters()), step, steps)

    def measured() -> tuple[float, float]:
        loss = evaluate(model, prepared, prepared.validation)["loss"]
        test = evaluate(model, prepared, prepared.test)["metric"]
        return (loss if math.isfinite(loss) else math.inf), 100 * test

    batches = to_normalise(model, examples.inputs, job.batch_size)
    found = {LIVE: measured()}
    for rule, averager in zip(rules, averagers, strict=True):
        with averager.swapped_in(rule, model, batches):
            found[repr(rule)] = measured()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("--base", default="adamw")
    parser.add_argument("--schedule", default="wsd", help="of the base beside it")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--range", type=float, nargs=2, default=(0.0003, 0.03))
    parser.add_argument("--rates", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    low, high = given.range
    rates = [low * (high / low) ** (i / (given.rates - 1)) for i in range(given.rates)]
    jobs = [
        Job(given.task, given.base, schedule, lr, given.epochs, given.batch_size, seed)
        for schedule in (given.schedule, "warmup")
        for lr in rates
        for seed in range(given.seeds)
    ]
    with ProcessPoolExecutor(machine.cores(), mp_context=get_context("forkserver")) as pool:
        found = dict(zip(jobs, pool.map(train, jobs), strict=True))
    by: dict[tuple[str, str], dict[float, list[tuple[float, float]]]]
    by = defaultdict(lambda: defaultdict(list))
    for job, values in found.items():
        for what, value in values.items():
            by[job.schedule, what][job.lr].append(value)
    machine.heading(figures="Means over seeds, 95 % t intervals in brackets.")
    print(
        f"{given.task}, {given.base}, {given.epochs} epochs, batch size {given.batch_size}, "
        f"n = {given.seeds} seeds\n"
    )
    rows = [(given.schedule, LIVE), *(("warmup", what) for what in SHOWN)]
    print("| schedule | evaluated | " + " | ".join(f"lr {lr:.2g}" for lr in rates) + " |")
    print("|---|---|" + "---|" * len(rates))
    for schedule, what in rows:
        means = [statistics.mean(test for _, test in by[schedule, what][lr]) for lr in rates]
        print(f"| {schedule} | {what} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    print(
        f"\n| evaluated at a constant rate | lr | accuracy | minus {given.schedule} |"
        "\n|---|---|---|---|"
    )
    reference = best(by[given.schedule, LIVE])
    for what in [LIVE, *map(repr, AVERAGES)]:
        lr = best(by["warmup", what])
        mine = [test for _, test in by["warmup", what][lr]]
        theirs = [test for _, test in by[given.schedule, LIVE][reference]]
        mean, least, most = interval([a - b for a, b in zip(mine, theirs, strict=True)])
        difference = f"{mean:+.2f} ({least:+.2f} to {most:+.2f})"
        print(f"| {what} | {lr:.2g} | {statistics.mean(mine):.2f} | {difference} |")


def best(by_rate: dict[float, list[tuple[float, float]]]) -> float:
    """The rate with the lowest mean validation loss."""
    return min(by_rate, key=lambda lr: statistics.mean(loss for loss, _ in by_rate[lr]))


if __name__ == "__main__":
    main()
