"""A pilot in the terminal: its table and verdict."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console

from ..study.judging.sentences import advice, caution, kind, note, sentence
from ..study.judging.stats import FULL_CONFIDENCE, shown_p
from ..study.judging.table import METHOD, PREDICTOR
from ..study.judging.verdict import EARLY, Metric
from ..study.reading import printable
from ..study.search import named
from ..study.store.folder import RESULT
from ..study.stored import ArmResult, Judged, Result
from ..study.tasks.description import lines
from ..study.words import Words
from .columns import ALWAYS, Column, captured, fitted, interval, left_out
from .progress import WIDE

NONE = "\u2013"
AT_EARLY = f"at {100 * EARLY:.0f}% steps"
"""The heading of results with a schedule of fewer steps."""


def render(result: Result) -> str:
    """Render a pilot's table, verdicts and notes for standard output, in colour on a terminal."""
    return captured(partial(show, result), WIDE + 20)


def as_text(result: Result) -> str:
    """The same as plain text, as wide as the terminal, if there is one."""
    width = shutil.get_terminal_size((WIDE + 20, 0)).columns
    page = io.StringIO()
    show(result, Console(file=page, width=width, force_terminal=False, force_jupyter=False))
    return page.getvalue().rstrip("\n")


def show(result: Result, console: Console) -> None:
    """Print a pilot's table, verdicts and notes."""
    (judged,), words = result["cells"], Words("en")
    metric, question = judged["metric"], judged["question"]
    # a name is shown as it is
    title = f"{judged['task']}. {words(f'question.{question}')}"
    console.print(title, highlight=False, markup=False)
    if result["kind"] != "table":
        _say(_took(judged, result), console)
    for line in lines(judged["description"]):
        _say(printable(line), console)
    styles = ["bold" if row["role"] in (PREDICTOR, METHOD) else None for row in judged["table"]]
    table, left = fitted(_columns(judged), console.width, styles)
    console.print(table)
    if left:
        _say(left_out(left), console)
    if len({len(row["values"]) for row in judged["table"]}) > 1:
        _say(
            "A difference pairs the seeds that both have, so it may differ from that of the means.",
            console,
        )
    # the verdicts, then each command once, unwrapped so that it can be copied, and the notes
    asked, commands = words(f"question.{question}_short"), {}
    for name, answers in judged["verdicts"].items():
        for about, verdict in answers.items():
            console.print()
            _say(f"{name}, {about}, {asked}: {kind(verdict, words)}", console, "  ")
            _say(f"  {sentence(verdict, metric, words)}", console, "  ")
            if verdict.cautions:
                _say(f"  Caution: {caution(verdict, metric, words)}", console, "  ")
            _say(f"  Next: {advice(verdict, metric, words)}", console, "  ")
            if verdict.extension is not None:
                commands[verdict.extension.command] = True
    for command in commands:
        console.print(f"\n  {command}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for each in judged["notes"]:
        _say(note(each, metric, words), console)
    where = f"Details: {result['out']}/{RESULT}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)


def _took(judged: Judged, result: Result) -> str:
    """What was run: trainings, their length, looks, and time."""
    found = f"{judged['trainings']} trainings"
    if judged["steps"] is not None:
        found += f" of {judged['steps']} steps"
    if judged["early_steps"]:
        found += f" ({100 * EARLY:.0f}%: {judged['early_steps']})"
    seeds = ", ".join(f"{look['seeds']:.0f}" for look in judged["looks"])
    return (
        f"{found}, judged after {seeds} seeds, {result['wall_seconds']:.0f} s, "
        f"{result['reused_runs']} runs reused."
    )


def _say(text: str, console: Console, indent: str = "") -> None:
    """Print a paragraph, wrapped between words."""
    width = min(console.width, 110)
    wrapped = textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)
    console.print(wrapped, highlight=False, markup=False, soft_wrap=True)


def _columns(judged: Judged) -> list[Column]:
    """The arms side by side: the comparison first, then what each measured."""
    # each figure under its name, with the rank by which it gives way
    rows: list[Any] = [*judged["table"]]
    metric = judged["metric"]
    # arms that were settled at different looks have intervals of different levels
    levels = {row["to_base"].confidence for row in rows if row["to_base"] is not None}
    level = f"{100 * max(levels):.3g}%" if len(levels) == 1 else "interval"
    name = metric.name.replace("_", " ") + (" %" if metric.percent else "")
    name = f"top-1 {name}" if metric.name == "accuracy" and judged["question"] != "table" else name
    bare = "{:.4g}".format if not metric.percent else lambda v: f"{100 * v:.2f}"
    # adjusted: several methods are judged, or this is not the first look
    p = "p" if judged["confidence"] == FULL_CONFIDENCE else "p, adjusted"
    bad = 2 if any(row["diverged"] for row in rows) else 9  # what went wrong is shown

    def measured(
        heading: str, rank: int, key: str, form: Callable[[Any], str], *, always: bool = False
    ) -> list[Column]:
        """A column of what some arms may not have; none where no arm has it."""
        values = [row[key] for row in rows]
        if not always and all(value is None for value in values):
            return []
        return [Column(heading, [NONE if v is None else form(v) for v in values], rank)]

    found = [Column("method", [row["method"] for row in rows], ALWAYS, right=False)]
    found += measured("lr", 1, "lr", "{:.4g}".format)
    if any(row["settings"] for row in rows):
        found.append(Column("searched", [named(row["settings"], "\n") for row in rows], 2))
    counts = [len(row["values"]) for row in rows]
    if len({*counts}) > 1:  # some were settled at an earlier look
        found.append(Column("n", [*map(str, counts)], 3))
    found.append(Column(f"{name} (95%)", [_value(row, metric) for row in rows], ALWAYS))
    found += measured(AT_EARLY, 4, "early_mean", bare)
    minus = f"minus {rows[0]['method']} ({level})"
    found += measured(minus, ALWAYS, "to_base", partial(interval, metric=metric), always=True)
    found += measured(p, 5, "to_base", shown_p, always=True)
    lost = [f"{row['diverged']}/{n}" for row, n in zip(rows, counts, strict=True)]
    found.append(Column("diverged", lost, bad))
    for heading, rank, key, form in (
        ("top-1 error", 7, "top1_error", _percent),
        ("top-5 error", 10, "top5_error", _percent),
        ("loss", 6, "loss", "{:.4f}".format),
        ("gap", 11, "gap", "{:+.4f}".format),
        ("seconds", 8, "seconds", "{:.2f}".format),
        ("peak MiB", 12, "peak_memory", lambda v: f"{v / 2**20:.0f}"),
    ):
        found += measured(heading, rank, key, form)
    return found


def _value(row: ArmResult, metric: Metric) -> str:
    half = (row["high"] - row["low"]) / 2
    if metric.percent:
        return f"{100 * row['mean']:.2f} ± {100 * half:.2f}"
    return f"{row['mean']:.4g} ± {half:.2g}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
