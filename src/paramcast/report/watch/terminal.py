"""A pilot or study in progress, drawn for the terminal."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...study.judging.verdict import PERCENT
from ...study.reading import as_written, printable
from ...study.search import named
from ...study.store.live import InProgress
from ..columns import Column, fitted
from ..html.comparison import Cell, mean_curve
from ..html.load import Run
from .board import Board, Event, at_share, phase_name
from .following import Look

BARS = "▁▂▃▄▅▆▇█"
WIDTH, BAR = 16, 20
"""Columns of a curve and of a bar."""
STATES = {"running": "green", "finished": "cyan", "stopped": "yellow"}
FIXED, EVENTS = 17, 8
"""Lines that are always there, and events shown."""
NONE = "–"  # noqa: RUF001 - an en dash on purpose


def picture(board: Board, console: Console, height: int | None = None) -> tuple[Group, bool]:
    """Look, and draw the comparison that had a run last.

    Args:
        board: of the pilot or study.
        console: for its width.
        height: lines that there are; None for as many as it takes.

    Returns:
        What rich prints, and whether the pilot or study has finished.

    Raises:
        StudyError: there is nothing to read yet, or it cannot be read.
    """
    with as_written(board.folder, "start its command again, or move it away"):
        look = board.look()
        return draw(board, look, console, height), look.state == "finished"


def draw(board: Board, look: Look, console: Console, height: int | None = None) -> Group:
    """What is known, as something that rich prints."""
    events = board.events()[:EVENTS]
    room = None
    if height is not None:
        room = max(4, height - FIXED - len(look.running) - len(events))
    # how far it is, then the comparison: its arms, or its rates while those are tuned
    parts: list[RenderableType] = [_head(look), *_phases(board, look), ""]
    if len(board.cells) > 1:
        count = f"{board.latest.label}: the latest of {len(board.cells)} comparisons begun"
        parts += [Text(printable(count), style="bold"), ""]
    if board.runs:
        columns = _arms(board.latest) or _tuning(board.latest)
        rows = len(columns[0].cells)
        parts.append(fitted([c._replace(cells=c.cells[:room]) for c in columns], console.width)[0])
        if room is not None and rows > room:
            more = f"and {rows - room} more: watch with --once or --web"
            parts.append(Text(more, style="dim"))
        parts.append("")
    # what goes on now, what went wrong, and at the end the verdict
    if look.running:
        parts += [fitted(_running(look.running, board), console.width)[0], ""]
    parts += map(_event, events)
    for sentence in look.verdicts():
        parts += [Text(printable(sentence), style="bold"), ""]
    return Group(*parts)


def sparkline(values: Sequence[float | None]) -> str:
    """Values as bars from the lowest to the highest, neighbours averaged to fit the width.

    Where all are above 0, as losses are, the height is that of the logarithm.

    Example:
        >>> sparkline([1.0, 2.0, None, 128.0])
        '▁▂ █'
    """
    # means of neighbours, as many as there is room for
    size = max(1, math.ceil(len(values) / WIDTH))
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    known = [[value for value in group if value is not None] for group in groups]
    means = [fmean(each) if each else None for each in known]
    # losses fall by factors
    if all(mean is None or mean > 0 for mean in means):
        means = [mean and math.log(mean) for mean in means]
    ends = [mean for mean in means if mean is not None] or [0.0]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0
    return "".join(
        " " if mean is None else BARS[round((mean - low) / span * (len(BARS) - 1))]
        for mean in means
    )


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _head(look: Look) -> Text:
    head = Text.assemble(
        (printable(look.name), "bold"), f"  {look.kind}, ", (look.state, STATES[look.state])
    )
    if look.state == "stopped":
        head.append(": nobody is at work on it; the same command goes on with it")
    return head.append(f"  {printable(str(look.folder))}", style="dim")


def _phases(board: Board, look: Look) -> Iterator[RenderableType]:
    """How far each phase is, and what is known of the whole."""
    table = Table.grid(padding=(0, 1))
    phases = board.phases(look.planned)
    for name, done, total in phases:
        bar = ProgressBar(total=total, completed=done, width=BAR) if total else ""
        table.add_row(name, bar, f"{done} of {total} runs" if total else f"{done} runs")
    yield table
    notes = []
    if look.planned.get("price") and look.state != "finished":
        _, usual, most = look.planned["price"]
        notes.append(f"usually {usual} runs in all, at most {most}")
    # of the phase under way: runs left times the time between the latest ends
    left = next((total - done for _, done, total in phases if total and done < total), None)
    each = board.seconds_per_run()
    if left and each is not None and look.state == "running":
        notes.append(f"about {duration(left * each)} left of those asked for so far")
    counts = {"diverged": board.diverged(), "failed attempts": len(board.failures)}
    notes += [f"{n} {what}" for what, n in counts.items() if n]
    if notes:
        yield Text(", ".join(notes))


# --- the comparison -------------------------------------------------------------------------------


class Line(NamedTuple):
    """An arm at one length: means over its finished runs, of the metric the last one.

    Attributes:
        metric: in per cent where it is an accuracy.
        loss: at the end; of a diverged run the constant predictor's.
        losses: by epoch.
    """

    name: str
    lr: float
    done: int
    diverged: int
    metric: float | None
    loss: float | None
    losses: list[float]


@functools.lru_cache(2)  # means take a while, and are the same until another run has ended
def lines_of(cell: Cell) -> list[Line]:
    """The arms with runs at full length, then those with fewer steps."""
    scale = 100.0 if cell.metric.name in PERCENT else 1.0
    lines = []
    for arm, ended in (
        *((arm, arm.final) for arm in cell.arms),
        *((arm, arm.early) for arm in cell.arms),
    ):
        runs = [run for run in ended if run is not None]
        if not runs:
            continue
        curves = [run.curve for run in runs]
        metric, losses = (
            [point.mean for point in mean_curve(curves, f"validation_{name}")]
            for name in ("metric", "loss")
        )
        lines.append(
            Line(
                arm.name + at_share(runs[0].spec["share"]),
                arm.row["lr"] or 0.0,
                len(runs),
                sum(run.outcome["status"] == "diverged" for run in runs),
                scale * metric[-1] if metric else None,
                _loss(runs),
                losses,
            )
        )
    return lines


def _loss(runs: Iterable[Run]) -> float | None:
    losses = [run.outcome["validation"].get("loss") for run in runs]
    known = [loss for loss in losses if loss is not None]
    return fmean(known) if known else None


def _arms(cell: Cell) -> list[Column]:
    lines = lines_of(cell)
    if not lines:
        return []
    percent = cell.metric.name in PERCENT
    metric = f"validation {cell.metric.name.replace('_', ' ')}" + (", %" if percent else "")
    form = "{:.2f}" if percent else "{:.4g}"
    diverged = [str(line.diverged or "") for line in lines]
    return [
        Column("method", [printable(line.name) for line in lines]),
        Column("lr", [f"{line.lr:.4g}" for line in lines], 1),
        Column("runs", [str(line.done) for line in lines]),
        Column("diverged", diverged, 3 if any(diverged) else 9),
        Column(metric, [_number(line.metric, form) for line in lines]),
        Column("loss", [_number(line.loss, "{:.4f}") for line in lines], 2),
        Column("loss by epoch", [sparkline(line.losses) for line in lines], 4, right=False),
    ]


def _tuning(cell: Cell) -> list[Column]:
    """By method: the learning rates tried so far, and the best one.

    The best is one of those that were tried on the most seeds: the search has left the others.
    """
    rates = cell.result["learning_rates"]
    beside = dict(zip(rates["tried"], rates["settings"], strict=False))
    rows = []
    for method, by_lr in sorted(cell.tuning.items(), key=lambda each: each[0] != "base"):
        name = next(arm.name for arm in cell.arms if arm.method == method)
        losses = {lr: loss for lr, runs in by_lr.items() if (loss := _loss(runs)) is not None}
        if losses:
            # most seeds first, then the lowest mean
            best = min(losses, key=lambda lr: (-len(by_lr[lr]), losses[lr]))
            rows.append((printable(name), losses, best))
    curves = [sparkline([*losses.values()]) for _, losses, _ in rows]
    searched = [named(beside.get(best, {}), "\n") for *_, best in rows]
    return [
        Column("method", [name for name, *_ in rows]),
        Column("rates tried", [str(len(losses)) for _, losses, _ in rows], 2),
        Column("best lr", [f"{best:.4g}" for *_, best in rows]),
        *([Column("searched", searched, 2)] if any(searched) else []),
        Column("its loss", [f"{losses[best]:.4f}" for _, losses, best in rows], 1),
        Column("loss from low to high rates", curves, 3, right=False),
    ]


# --- runs in progress, and events -----------------------------------------------------------------


def _running(runs: Sequence[InProgress], board: Board) -> list[Column]:
    losses = [[point.get("validation_loss") for point in run.curve] for run in runs]
    last = [next((v for v in reversed(each) if v is not None), None) for each in losses]
    at = [int(run.curve[-1].get("step", 0)) if run.curve else 0 for run in runs]
    pairs = [*zip(at, (run.steps for run in runs), strict=True)]
    names = [f"{board.name_of(run.spec)}, {phase_name(run.spec)}" for run in runs]
    return [
        Column("running now", [*map(printable, names)]),
        Column("lr", [f"{run.spec['lr']:.4g}" for run in runs], 2),
        Column("seed", [str(run.spec["seed"]) for run in runs], 1),
        Column("", [ProgressBar(of or None, n, width=BAR) for n, of in pairs], 4, width=BAR),
        Column("step", [f"{n} of {of}" if of else str(n) for n, of in pairs]),
        Column("losses", [sparkline(each) for each in losses], 3, right=False),
        Column("validation loss", [_number(loss, "{:.4f}") for loss in last], 0),
    ]


def _event(event: Event) -> Text:
    at = datetime.fromisoformat(event.at).astimezone().strftime("%H:%M:%S")
    style = "red" if event.kind in ("failed", "timeout") else "yellow"
    line = Text.assemble((at, "dim"), " ", (event.kind, style), f" {printable(event.text)}")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)
