"""A pilot or study in progress, drawn for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...study.reading import printable
from .board import at_share

BARS, PLAIN = "▁▂▃▄▅▆▇█", "._-=+*#@"
WIDTH, BAR = 20, 28
WIDE, NARROW = 132, 12
"""Columns from which everything fits, and the width of a curve where it does not."""
STATES = {"running": "green", "finished": "cyan", "stopped": "yellow"}
FIXED, EVENTS = 17, 8
"""Lines that are always there, and events shown."""
NONE = "–"  # noqa: RUF001 - an en dash on purpose


def draw(view: dict[str, Any], console: Console, height: int | None = None) -> RenderableType:
    """The view as something that rich prints.

    Args:
        view: what `view.view` returns.
        console: for its encoding.
        height: lines that there are; None for as many as it takes.
    """
    view = _shown(view)
    bars = PLAIN if console.options.ascii_only else BARS
    narrow = console.width < WIDE
    parts: list[RenderableType] = [_head(view), _phases(view), ""]
    events = view["events"][:EVENTS]
    room = None
    if height is not None:
        room = max(4, height - FIXED - len(view["running"]) - len(events))
    if len(view["cells"]) > 1:
        label = view["cells"][view["cell"]]
        count = f"{label}: the latest of {len(view['cells'])} comparisons begun"
        parts += [Text(count, style="bold"), ""]
    if view["arms"]:
        parts += [_arms(view, bars, room, narrow=narrow), ""]
    elif view["tuning"]:
        parts += [_tuning(view, bars, room), ""]
    if view["running"]:
        parts += [_running(view, bars, narrow=narrow), ""]
    parts += [_event(event) for event in events]
    for sentence in view["verdicts"]:
        parts += [Text(sentence, style="bold"), ""]
    return Group(*parts)


def _shown(value: Any) -> Any:
    """The same with texts as they may be shown: what comes from a store may hold anything."""
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def sparkline(values: Sequence[float | None], bars: str = BARS, width: int = WIDTH) -> str:
    """Values as bars from the lowest to the highest, neighbours averaged to fit the width.

    Where all are above 0, as losses are, the height is that of the logarithm.

    Example:
        >>> sparkline([1.0, 2.0, None, 128.0])
        '▁▂ █'
    """
    size = max(1, math.ceil(len(values) / width))
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    means = [_mean([v for v in group if v is not None]) for group in groups]
    if all(mean is None or mean > 0 for mean in means):
        means = [mean and math.log(mean) for mean in means]
    known = [mean for mean in means if mean is not None]
    low, span = min(known, default=0.0), (max(known, default=0.0) - min(known, default=0.0)) or 1.0
    return "".join(
        " " if mean is None else bars[round((mean - low) / span * (len(bars) - 1))]
        for mean in means
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _head(view: dict[str, Any]) -> Text:
    head = Text.assemble(
        (view["name"], "bold"), f"  {view['kind']}, ", (view["state"], STATES[view["state"]])
    )
    if view["state"] == "stopped":
        head.append(": nobody is at work on it; the same command goes on with it")
    return head.append(f"  {view['folder']}", style="dim")


def _phases(view: dict[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for phase in view["phases"]:
        total = phase["total"]
        bar: RenderableType = ""
        if total:
            bar = ProgressBar(total=total, completed=phase["done"], width=BAR)
        of = "" if total is None else f" of {total}"
        table.add_row(phase["name"], bar, f"{phase['done']}{of} runs")
    notes = []
    if view["seconds_left"] is not None:
        notes.append(f"about {duration(view['seconds_left'])} left in this phase")
    notes += [f"{view[name]} {text}" for name, text in
              (("diverged", "diverged"), ("failed", "failed attempts")) if view[name]]  # fmt: skip
    return Group(table, Text(", ".join(notes))) if notes else table


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _arms(view: dict[str, Any], bars: str, room: int | None, *, narrow: bool) -> RenderableType:
    arms, table = view["arms"], _new_table()
    diverged = not narrow  # the head counts them
    heads = ["method", "lr", "runs", *["diverged"] * diverged]
    heads += [f"validation{chr(10) if narrow else ' '}{view['metric']}", "loss"]
    for i, heading in enumerate(heads):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    table.add_column("loss by epoch", no_wrap=True)
    predicted = not narrow and any(arm["accepted"] for arm in arms)
    for heading in ("cosine", "error", "alarms") if predicted else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in arms[:room]:
        cells = [
            arm["method"] + at_share(arm["share"]),
            f"{arm['lr']:.4g}",
            str(arm["done"]),
            *[str(arm["diverged"]) if arm["diverged"] else ""] * diverged,
            _number(arm["metric"], ".2f" if "%" in view["metric"] else ".4g"),
            _number(arm["loss"], ".4f"),
            sparkline(arm["losses"], bars, NARROW if narrow else WIDTH),
        ]
        if predicted:
            alarms = f"{arm['anomalous']}/{arm['done']}" if arm["anomalous"] else ""
            numbers = (arm["cosine"], arm["error"])
            cells += [*("" if n is None else f"{n:.2f}" for n in numbers), alarms]
        table.add_row(*map(escape, cells))
    return _with_rest(table, len(arms), room)


def _tuning(view: dict[str, Any], bars: str, room: int | None) -> RenderableType:
    table = _new_table()
    for heading in ("method", "rates tried", "best lr", "its loss", "loss from low to high rates"):
        table.add_column(heading, justify="left" if heading[0] in "m" else "right", no_wrap=True)
    table.columns[-1].justify = "left"
    for row in view["tuning"][:room]:
        best = row["best"]
        losses = [loss for _, loss in row["points"]]
        table.add_row(
            escape(row["method"]), str(len(losses)), f"{best[0]:.4g}", f"{best[1]:.4f}",
            sparkline(losses, bars),
        )  # fmt: skip
    return _with_rest(table, len(view["tuning"]), room)


def _running(view: dict[str, Any], bars: str, *, narrow: bool) -> Table:
    table = _new_table()
    loss_of = "loss" if narrow else "validation loss"
    for heading in ("running now", "lr", "seed", *[""] * (not narrow), "step", loss_of):
        right = heading in ("lr", "seed")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for run in view["running"]:
        loss = next((v for v in reversed(run["loss"]) if v is not None), None)
        table.add_row(
            escape(f"{run['method']}, {run['phase']}"), f"{run['lr']:.4g}",
            str(run["seed"]),
            *[ProgressBar(run["steps"] or None, run["step"], width=BAR)] * (not narrow),
            f"{run['step']} of {run['steps']}" if run["steps"] else str(run["step"]),
            ("" if narrow else f"{sparkline(run['loss'], bars)} ") + _number(loss, ".4f"),
        )  # fmt: skip
    return table


def _event(event: dict[str, Any]) -> Text:
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S")
    style = "red" if event["kind"] in ("failed", "timeout") else "yellow"
    line = Text.assemble((at, "dim"), " ", (event["kind"], style), f" {event['text']}")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _with_rest(table: Table, rows: int, room: int | None) -> RenderableType:
    if room is None or rows <= room:
        return table
    return Group(table, Text(f"and {rows - room} more: watch with --once or --web", style="dim"))


def _new_table() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold")


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
