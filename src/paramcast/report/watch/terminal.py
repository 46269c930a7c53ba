"""A pilot or study in progress, drawn for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...study.reading import printable
from ...study.search import named
from ..columns import Column, fitted
from .board import at_share

BARS, PLAIN = "▁▂▃▄▅▆▇█", "._-=+*#@"
WIDTH, BAR = 16, 20
"""Columns of a curve and of a bar."""
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
        parts += [_arms(view, bars, room, console.width), ""]
    elif view["tuning"]:
        parts += [_tuning(view, bars, room, console.width), ""]
    if view["running"]:
        parts += [_running(view, bars, console.width), ""]
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
    if view["price"] is not None and view["state"] != "finished":
        _, usual, most = view["price"]
        notes.append(f"usually {usual} runs in all, at most {most}")
    if view["seconds_left"] is not None:
        notes.append(f"about {duration(view['seconds_left'])} left of those asked for so far")
    notes += [f"{view[name]} {text}" for name, text in
              (("diverged", "diverged"), ("failed", "failed attempts")) if view[name]]  # fmt: skip
    return Group(table, Text(", ".join(notes))) if notes else table


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _arms(view: dict[str, Any], bars: str, room: int | None, width: int) -> RenderableType:
    arms = view["arms"][:room]
    form = ".2f" if "%" in view["metric"] else ".4g"
    diverged = [str(arm["diverged"]) if arm["diverged"] else "" for arm in arms]
    columns = [
        Column("method", [arm["method"] + at_share(arm["share"]) for arm in arms]),
        Column("lr", [f"{arm['lr']:.4g}" for arm in arms], 1),
        Column("runs", [str(arm["done"]) for arm in arms]),
        Column("diverged", diverged, 3 if any(diverged) else 9),
        Column(f"validation {view['metric']}", [_number(arm["metric"], form) for arm in arms]),
        Column("loss", [_number(arm["loss"], ".4f") for arm in arms], 2),
        Column("loss by epoch", [sparkline(arm["losses"], bars) for arm in arms], 4, right=False),
    ]
    if any(arm["written"] for arm in arms):
        columns += [
            Column("cosine", [_of_predictions(arm["cosine"]) for arm in arms], 7),
            Column("error", [_of_predictions(arm["error"]) for arm in arms], 8),
        ]
    for heading, cells in _unusual(arms).items():
        columns.append(Column(heading, cells, 5))
    table, _ = fitted(columns, width)
    return _with_rest(table, len(view["arms"]), room)


def _unusual(arms: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Columns on predictions that went otherwise than usual; none where nothing did."""
    # of all predictions, and runs in which a rule acted or a prediction was not finite
    written = ["" if arm["written"] in (None, 1.0) else f"{arm['written']:.0%}" for arm in arms]
    alarms = [f"{arm['anomalous']}/{arm['done']}" if arm["anomalous"] else "" for arm in arms]
    found = {"predictions written": written, "runs with alarms": alarms}
    return {heading: cells for heading, cells in found.items() if any(cells)}


def _of_predictions(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _tuning(view: dict[str, Any], bars: str, room: int | None, width: int) -> RenderableType:
    rows = view["tuning"][:room]
    losses = [[loss for _, loss in row["points"]] for row in rows]
    curves = [sparkline(each, bars) for each in losses]
    columns = [
        Column("method", [row["method"] for row in rows]),
        Column("rates tried", [str(len(each)) for each in losses], 2),
        Column("best lr", [f"{row['best'][0]:.4g}" for row in rows]),
        *(
            [Column("searched", [named(row["searched"], "\n") for row in rows], 2)]
            if any(row["searched"] for row in rows)
            else []
        ),
        Column("its loss", [f"{row['best'][1]:.4f}" for row in rows], 1),
        Column("loss from low to high rates", curves, 3, right=False),
    ]
    return _with_rest(fitted(columns, width)[0], len(view["tuning"]), room)


def _running(view: dict[str, Any], bars: str, width: int) -> Table:
    runs = view["running"]
    last = [next((v for v in reversed(run["loss"]) if v is not None), None) for run in runs]
    steps = [
        f"{run['step']} of {run['steps']}" if run["steps"] else str(run["step"]) for run in runs
    ]
    done = [ProgressBar(run["steps"] or None, run["step"], width=BAR) for run in runs]
    columns = [
        Column("running now", [f"{run['method']}, {run['phase']}" for run in runs]),
        Column("lr", [f"{run['lr']:.4g}" for run in runs], 2),
        Column("seed", [str(run["seed"]) for run in runs], 1),
        Column("", done, 4, width=BAR),
        Column("step", steps),
        Column("losses", [sparkline(run["loss"], bars) for run in runs], 3, right=False),
        Column("validation loss", [_number(loss, ".4f") for loss in last], 0),
    ]
    return fitted(columns, width)[0]


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


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
