"""The rows of the bar as Markdown, from results/bar alone: python research/bar_table.py TASK..."""

from __future__ import annotations

import sys
from collections import defaultdict
from statistics import fmean, stdev

import click

import kept
from bar import ROWS, TASKS
from selection import row

PER_CENT = ("accuracy",)
Base = tuple[str, str, str, str]
"""Optimizer, beta2, schedule, epochs."""


def report(task: str) -> None:
    """How long training pays, then the bases that were searched, the best in front."""
    tuned: dict[Base, dict[float, float]] = defaultdict(dict)
    final: dict[tuple[Base, float], list[dict[str, str]]] = defaultdict(list)
    rows = [r for r in kept.read(ROWS / f"{task}.csv") if r["method"] == "base"]
    for r in (r for r in rows if r["share"] == "1.0"):
        base = r["base"], r["beta2"], r["schedule"], r["epochs"]
        if r["phase"] == "tune" and r["seed"] == "0":
            loss = float(r["validation_loss"]) if r["status"] == "done" else float("inf")
            tuned[base][float(r["lr"])] = loss
        elif r["phase"] == "final":
            final[base, float(r["lr"])].append(r)
    click.echo(f"\n**{task}** (`{TASKS[task]}`)\n")
    row("base", "beta2", "schedule", "lr", "epochs", "test", "sd", "n", "seconds")
    row(*["---"] * 9)
    for base, lr in sorted(_curves(final), key=lambda k: (k[0][:3], k[1], int(k[0][3]))):
        own = final[base, lr]
        value, spread = _values(own)
        row(*base[:3], f"{lr:.4g}", base[3], value, spread, len(own), _seconds(own))
    click.echo()
    row(
        "base", "beta2", "schedule", "epochs", "lr", "validation loss", "test of 2 seeds", "seconds"
    )
    row(*["---"] * 8)
    for base, losses in sorted(tuned.items(), key=lambda each: min(each[1].values())):
        if len(losses) < 4:
            continue  # a search that was broken off
        lr = min(losses, key=losses.__getitem__)
        at_end = ", the lowest tried" * (lr == min(losses)) + ", the highest tried" * (
            lr == max(losses)
        )
        own = sorted(final[base, lr], key=lambda r: int(r["seed"]))[:2]
        value = _values(own)[0] if own else ""
        row(*base, f"{lr:.4g}{at_end}", f"{losses[lr]:.4f}", value, _seconds(own) if own else "")


def _curves(final: dict[tuple[Base, float], list[dict[str, str]]]) -> list[tuple[Base, float]]:
    """Bases that ran with three numbers of epochs or more at one rate, without a search."""
    lengths: dict[tuple[tuple[str, ...], float], set[str]] = defaultdict(set)
    for (base, lr), own in final.items():
        if len(own) >= 3:
            lengths[base[:3], lr].add(base[3])
    return [
        (b, lr) for (b, lr), own in final.items() if len(own) >= 3 and len(lengths[b[:3], lr]) > 2
    ]


def _values(rows: list[dict[str, str]]) -> tuple[str, str]:
    """Mean and standard deviation on test."""
    values = [float(r["test_metric"]) for r in rows]
    spread = stdev(values) if len(values) > 1 else 0.0
    if rows[0]["metric_name"] in PER_CENT:
        return f"{100 * fmean(values):.2f} %", f"{100 * spread:.2f}"
    return f"{fmean(values):.5g}", f"{spread:.3g}"


def _seconds(rows: list[dict[str, str]]) -> str:
    return f"{min(float(r['seconds']) for r in rows):.2g}"


if __name__ == "__main__":
    for name in sys.argv[1:] or [task for task in TASKS if (ROWS / f"{task}.csv").is_file()]:
        report(name)
