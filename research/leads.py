"""Explore leads: train arms on seeds from 1000 on and append a row for each run to a CSV file.

    python research/leads.py run research/leads/*.txt --rows results/leads.csv
    python research/leads.py table results/leads.csv      # every arm
    python research/leads.py summary results/leads.csv    # methods against tasks

A line of an arms file is `TASK BATCH EPOCHS SHARE SCHEDULE BASE LR SEEDS METHOD`, a comment starts
with `#`, and rates and methods may list alternatives with `|`. What has a row is not run again.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch

from paramcast import Forecast
from paramcast.predictors import PrimalAveraging
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Prepared
from paramcast.study.training import loop
from paramcast.study.training.evaluating import evaluate
from paramcast.study.training.probes import PROBES, Watched

FIRST_SEED = 1000
READ_OUT = 3  # seeds; evaluating is half of a run of the small GPT
KAPPAS = (0.05, 0.1, 0.25)
PREPARED: dict[str, Prepared] = {}
FIELDS = (
    "task", "batch", "epochs", "share", "schedule", "base", "lr", "method", "seed", "status",
    "seconds", "val_loss", "val", "test",
    *(f"{what}@{k}" for k in KAPPAS for what in ("val_loss", "test")),
)  # fmt: skip
Key = tuple[str, ...]


class Arm(NamedTuple):
    """One training but for its seed."""

    task: str
    batch: str
    epochs: str
    share: str
    schedule: str
    base: str
    lr: str
    method: str


class ReadOut:
    """Measures what x + kappa (z - x) would give, at the end of a run of primal averaging."""

    def __init__(self, run: Watched) -> None:
        self.run, self.prepared = run, PREPARED[run.task.name]

    def step(self, number: int) -> None:
        pass

    @torch.no_grad()
    def finish(self) -> dict[str, float]:
        optimizer, found = self.run.optimizer, {}
        if not isinstance(optimizer, Forecast) or not isinstance(
            optimizer.predictor, PrimalAveraging
        ):
            return {}
        segments, done = optimizer._cycle.members.segments, 0.0
        for kappa in KAPPAS:  # the model holds x here
            for segment in segments:
                torch._foreach_add_(segment.points, segment.buffers[1], alpha=kappa - done)
            done = kappa
            values = [
                evaluate(self.run.model, self.prepared, split)
                for split in (self.prepared.validation, self.prepared.test)
            ]
            found[f"val_loss@{kappa}"] = values[0]["loss"]
            found[f"test@{kappa}"] = 100 * values[1]["metric"]
        return found


def arms(files: Sequence[Path]) -> Iterator[tuple[Arm, int]]:
    """Every arm of the files with each of its seeds; seeds are outermost: all arms grow alike."""
    for file in files:
        wanted: list[tuple[Arm, int]] = []
        for line in file.read_text("utf-8").splitlines():
            words = line.partition("#")[0].split(maxsplit=8)
            if not words:
                continue
            *cell, lrs, seeds, methods = words
            for lr, method in itertools.product(lrs.split("|"), methods.split("|")):
                arm = Arm._make([*cell, lr, method.strip()])
                wanted += [(arm, n) for n in range(int(seeds))]
        yield from sorted(wanted, key=lambda each: each[1])


def train(arm: Arm, seed: int) -> dict[str, Any]:
    """One training, as a row."""
    if arm.task not in PREPARED:
        prepared = load(find(arm.task))
        PREPARED[arm.task] = PREPARED[prepared.task.name] = prepared
    spec = RunSpec(
        task=arm.task, fingerprint="", method=arm.method, base=arm.base, lr=float(arm.lr),
        schedule=arm.schedule, epochs=int(arm.epochs), batch_size=int(arm.batch),
        share=float(arm.share), phase="final", seed=FIRST_SEED + seed, device="cpu", versions="",
        probes=("readout",) if seed < READ_OUT else (), channels_last=True,
    )  # fmt: skip
    out = loop.run(spec, PREPARED[arm.task])
    return {
        **arm._asdict(), "seed": FIRST_SEED + seed, "status": out["status"],
        "seconds": round(out["seconds"], 2),
        "val_loss": out["validation"]["loss"], "val": 100 * out["validation"]["metric"],
        "test": 100 * out["test"]["metric"], **out["measures"],
    }  # fmt: skip


def read(rows: Path) -> list[dict[str, str]]:
    if not rows.exists():
        return []
    with rows.open(newline="") as file:
        return list(csv.DictReader(file))


def run(files: Sequence[Path], rows: Path) -> None:
    PROBES["readout"] = ReadOut
    torch.set_num_threads(1)
    for arm, seed in arms(files):
        key = (*arm, str(FIRST_SEED + seed))
        if key in {tuple(row[f] for f in (*Arm._fields, "seed")) for row in read(rows)}:
            continue
        start = time.time()
        row = train(arm, seed)
        with rows.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        click.echo(f"{time.time() - start:5.1f} s  {row['test']:.2f}  {' '.join(key)}")


def cells(rows: Path) -> dict[Key, dict[Key, list[dict[str, str]]]]:
    """The rows by task, batch size, epochs and base, and in these by arm."""
    found: dict[Key, dict[Key, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in read(rows):
        arm = row["share"], row["schedule"], row["base"], row["method"], row["lr"]
        found[row["task"], row["batch"], row["epochs"], row["base"]][arm].append(row)
    return found


def summary(rows: Path, fewest: int = 3) -> None:
    """Methods with 0.8 T steps minus the best base at T, by the multiple of that base's rate."""
    shown: dict[Key, dict[Key, list[str]]] = defaultdict(lambda: defaultdict(list))
    every = cells(rows)
    tasks = [cell for cell in every if not cell[0].startswith("research")]
    for cell in tasks:
        found = every[cell]
        best, rate = _best_base(found)
        for (share, schedule, _, method, lr), group in sorted(found.items(), key=_order):
            pairs = [float(r["test"]) - best[r["seed"]] for r in group if r["seed"] in best]
            if share != "0.8" or len(pairs) < fewest:
                continue
            name = method.replace(", weight_decay=0.1", "").replace("research/momenta.py:", "")
            own = schedule not in ("warmup", "constant") or cell[0].endswith("@60000")
            text = f"{float(lr) / rate:.2g}: {_with_error(pairs, '+.2f')} ({len(pairs)})"
            kind = (
                "warm-up, constant" if schedule == "warmup" else "the base's" if own else schedule
            )
            shown[name, kind][cell].append(text)
    click.echo(
        f"| method | schedule | {' | '.join(f'{t}, {b}, {base}' for t, b, _, base in tasks)} |"
    )
    click.echo("|---" * (2 + len(tasks)) + "|")
    for arm, by_task in sorted(shown.items()):
        click.echo(f"| {' | '.join([*arm, *('; '.join(by_task[t]) for t in tasks)])} |")


def table(rows: Path) -> None:
    for cell, found in sorted(cells(rows).items()):
        task, batch, epochs, base = cell
        click.echo(f"\n**{task}**, batch size {batch}, T = {epochs} epochs, {base}\n")
        click.echo(
            "| steps | schedule | method | lr | n | test | minus the base at T | validation loss "
            "| read-out |"
        )
        click.echo("|---|---|---|---|---|---|---|---|---|")
        best, _ = _best_base(found)
        for (share, schedule, _, method, lr), group in sorted(found.items(), key=_order):
            steps = "T" if share == "1" else f"{share} T"
            columns = [steps, schedule, method, lr, str(len(group)), *_numbers(group, best)]
            click.echo(f"| {' | '.join(columns)} |")


def _order(item: tuple[Key, Any]) -> tuple[Any, ...]:
    share, schedule, base, method, lr = item[0]
    return share, method.startswith("research"), method, schedule, base, float(lr)


def _best_base(found: dict[Key, list[dict[str, str]]]) -> tuple[dict[str, float], float]:
    """The values by seed of the base at T with the lowest validation loss, and its rate."""
    bases = [group for arm, group in found.items() if arm[0] == "1" and arm[3] == "base"]
    best = min(bases, key=lambda group: statistics.fmean(float(r["val_loss"]) for r in group))
    return {row["seed"]: float(row["test"]) for row in best}, float(best[0]["lr"])


def _with_error(values: Sequence[float], form: str) -> str:
    """The mean with its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):{form}} ± {error:.2f}"


def _numbers(group: Sequence[dict[str, str]], best: dict[str, float]) -> list[str]:
    """The metric, its paired difference to the best base, validation loss, read-outs' gains."""
    test = [float(row["test"]) for row in group]
    pairs = [float(r["test"]) - best[r["seed"]] for r in group if r["seed"] in best]
    lost = sum(row["status"] != "done" for row in group)
    loss = statistics.fmean(float(row["val_loss"]) for row in group)
    few = [row for row in group if row["test@0.1"]]
    gains = [
        f"{k}: {statistics.fmean(float(r[f'test@{k}']) - float(r['test']) for r in few):+.2f}"
        for k in KAPPAS * bool(few)
    ]
    return [
        _with_error(test, ".2f") + f" ({lost} diverged)" * bool(lost),
        _with_error(pairs, "+.2f"),
        f"{loss:.4f}",
        ", ".join(gains),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "table", "summary"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("results/leads.csv"))
    given = parser.parse_args()
    if given.what == "run":
        run(given.files, given.rows)
    else:
        (table if given.what == "table" else summary)(given.files[0])


if __name__ == "__main__":
    main()
