"""PLP with and without the default anomaly rules at a learning rate ten times too high.

    python benchmarks/excessive_rate.py digits 8
    python benchmarks/excessive_rate.py fashion/cnn@10000 8

The rate is first tuned for SGD on the validation loss (5 rates, 2 seeds, the task's own schedule);
then SGD, PLP and PLP with `gate=Anomaly()` run at 1, 3 and 10 times it, paired by seed: the same
initial weights and batches. It prints a Markdown table of test accuracies and of the differences to
SGD with 95 % t intervals.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor

import torch
from scipy import stats

import paramcast as pc
from paramcast.anomalies import Anomaly
from paramcast.study.tasks.source import find, load
from paramcast.study.training.evaluating import evaluate
from paramcast.study.training.loop import lr_factor

METHODS = {
    "SGD": lambda base: base,
    "PLP": pc.PLP,
    "PLP, gate=Anomaly()": lambda base: pc.PLP(base, gate=Anomaly()),
}


def run(name: str, method: str, lr: float, schedule: str, seed: int) -> tuple[float, float]:
    """Validation loss and test accuracy in per cent of one training."""
    torch.set_num_threads(1)
    prepared = load(find(name))
    task, train = prepared.task, prepared.train
    torch.manual_seed(seed)
    model = task.model()
    base = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=task.momentum, weight_decay=task.weight_decay
    )
    optimizer = METHODS[method](base)
    per_epoch = math.ceil(len(train) / task.batch_size)
    steps = task.epochs * per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: lr_factor(schedule, t, steps)
    )
    for _ in range(task.epochs):
        model.train()
        for batch in torch.randperm(len(train)).split(task.batch_size):
            optimizer.zero_grad()
            task.loss(model(train.inputs[batch]), train.targets[batch]).backward()
            optimizer.step()
            scheduler.step()
    validation = evaluate(model, prepared, prepared.validation)["loss"]
    test = evaluate(model, prepared, prepared.test)["metric"]
    return (validation if math.isfinite(validation) else math.inf), 100 * test


def main(name: str, seeds: int) -> None:
    task = load(find(name)).task
    low, high = task.lr_range
    rates = [low * (high / low) ** (i / 4) for i in range(5)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        trials = [
            [pool.submit(run, name, "SGD", lr, task.schedule, 1000 + s) for s in range(2)]
            for lr in rates
        ]
        losses = [statistics.fmean(f.result()[0] for f in row) for row in trials]
        tuned = rates[losses.index(min(losses))]
        print(
            f"\n{name}: tuned rate of SGD {tuned:.4g} of {[f'{r:.3g}' for r in rates]}, "
            f"n = {seeds}\n"
        )
        print("| rate, schedule | method | accuracy % (lowest) | minus SGD (95 % interval) |")
        print("|---|---|---|---|")
        for factor, schedule in itertools.product((1, 3, 10), (task.schedule, "constant")):
            lr = factor * tuned
            jobs = {
                m: [pool.submit(run, name, m, lr, schedule, s) for s in range(seeds)]
                for m in METHODS
            }
            scores = {m: [f.result()[1] for f in row] for m, row in jobs.items()}
            for m, values in scores.items():
                gap = [a - b for a, b in zip(values, scores["SGD"], strict=True)]
                half = stats.t.ppf(0.975, seeds - 1) * statistics.stdev(gap) / math.sqrt(seeds)
                mean = statistics.fmean(gap)
                difference = (
                    ""
                    if m == "SGD"
                    else (f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})")
                )
                print(
                    f"| {lr:.4g}, {schedule} | {m} | {statistics.fmean(values):.2f} "
                    f"({min(values):.2f}) | {difference} |",
                    flush=True,
                )
    print(
        f"\n{os.cpu_count()} cores ({platform.machine()}), one thread per run, "
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"paramcast {pc.__version__}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8)
