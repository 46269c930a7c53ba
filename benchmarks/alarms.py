"""What the monitoring sheet's numbers are in healthy and unhealthy trainings (docs/adopt.md).

    python benchmarks/alarms.py digits 8
    python benchmarks/alarms.py fashion/cnn@10000 8

SGD's tuned rate (see excessive_rate.py), a thirtieth, three and ten times it; the task's schedule.
"shadow" predicts and writes nothing, "on" writes every prediction. All rules of `Anomaly` are on
and only warn. Printed are shares of all predictions of all seeds, medians, firings per 100
predictions, and the test accuracy, "on" minus "shadow" (which is SGD), with its 95 % t interval.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean, median
from typing import Any

import torch

import paramcast as pc
from paramcast.anomalies import Anomaly
from paramcast.monitors import History
from paramcast.study.judging.stats import interval
from paramcast.study.tasks.source import find, load
from paramcast.study.training.evaluating import evaluate
from paramcast.study.training.loop import lr_factor

TUNED = 0.09487
FACTORS = (1 / 30, 1, 3, 10)
RULES = {"disagreement": 3, "loss": 4.0, "drift": 4.0}
WARN = dict.fromkeys(("jump", *RULES), "warn")


def run(name: str, lr: float, seed: int, *, shadow: bool) -> tuple[list[Any], list[str], float]:
    """Events, the rules that fired and the test accuracy in per cent of one training."""
    torch.set_num_threads(1)
    prepared = load(find(name))
    task, train = prepared.task, prepared.train
    torch.manual_seed(seed)
    model = task.model()
    rules, history = Anomaly(actions=WARN, **RULES), History()
    optimizer = pc.PLP(
        torch.optim.SGD(
            model.parameters(), lr=lr, momentum=task.momentum, weight_decay=task.weight_decay
        ),
        gate=rules,
        monitors=[history],
        shadow=shadow,
    )
    steps = task.epochs * -(-len(train) // task.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: lr_factor(task.schedule, t, steps)
    )
    for _ in range(task.epochs):
        model.train()
        for batch in torch.randperm(len(train)).split(task.batch_size):
            optimizer.zero_grad()
            loss = task.loss(model(train.inputs[batch]), train.targets[batch])
            loss.backward()
            optimizer.observe(loss.item())
            optimizer.step()
            scheduler.step()
    optimizer.flush()
    accuracy = 100 * evaluate(model, prepared, prepared.test)["metric"]
    return history.rows, [fired.rule for fired in rules.fired], accuracy


def row(runs: list[tuple[list[Any], list[str], float]]) -> str:
    """The columns of one condition, over all seeds."""
    events = [event for rows, _, _ in runs for event in rows]
    fired = [rule for _, rules, _ in runs for rule in rules]
    errors = [e.error for e in events if e.error is not None]
    cosines = [e.cosine for e in events if e.cosine is not None]
    cells = [
        f"{median(e.relative_jump for e in events):.2g}",
        f"{100 * fired.count('jump') / len(events):.0f} %",
        f"{median(errors):.2f}",
        f"{100 * fmean(e < 1 for e in errors):.0f} %",
        f"{median(cosines):.2f}",
        f"{100 * fmean(c < 0 for c in cosines):.0f} %",
        *(f"{100 * fired.count(rule) / len(events):.1f}" for rule in RULES),
    ]
    return " | ".join(cells)


def main(name: str, seeds: int) -> None:
    print(
        f"\n{name}, n = {seeds}\n\n| learning rate | | relative jump | above 0.002 | error "
        "| error < 1 | cosine | cosine < 0 | disagreement | loss | drift | minus SGD |"
    )
    print("|" + "---|" * 12)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for factor in FACTORS:
            arms = {}
            for shadow in (True, False):
                jobs = [
                    pool.submit(run, name, factor * TUNED, s, shadow=shadow) for s in range(seeds)
                ]
                arms[shadow] = [job.result() for job in jobs]
            gaps = [on[2] - off[2] for off, on in zip(arms[True], arms[False], strict=True)]
            mean, low, high = interval(gaps)
            for shadow, runs in arms.items():
                gap = "" if shadow else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
                mode = "shadow" if shadow else "on"
                print(f"| {factor * TUNED:.2g} | {mode} | {row(runs)} | {gap} |", flush=True)
    print(
        f"\n{os.cpu_count()} cores ({platform.machine()}), one thread per run, "
        f"torch {torch.__version__}, Python {platform.python_version()}, paramcast {pc.__version__}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8)
