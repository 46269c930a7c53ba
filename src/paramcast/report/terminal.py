"""A pilot in the terminal: progress while it runs, its table and verdict at the end."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..study.judging.sentences import advice, note, sentence
from ..study.judging.stats import FULL_CONFIDENCE, Comparison, shown_p
from ..study.judging.table import METHOD, PREDICTOR
from ..study.judging.verdict import EARLY, PERCENT, Metric
from ..study.reading import printable
from ..study.search import named
from ..study.store.folder import RESULT
from ..study.stored import ArmResult, Judged, Result
from ..study.tasks.description import lines
from ..study.words import Words

if TYPE_CHECKING:
    from ..study.engines import Finished

WIDE = 150
"""Terminal columns from which the table is printed in one piece."""
Column = tuple[str, Callable[[Any], str]]
"""A heading, and what renders an arm's cell."""


class LiveProgress:
    """Shows phase, runs done, the last value and the time left; silent without a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:>7}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[last]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._phases: dict[str, tuple[TaskID, int]] = {}  # and the runs wanted so far
        self.done = self.total = self.reused = 0

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins or goes on with more runs; stored runs count as done."""
        self.total += total
        self.done += reused
        self.reused += reused
        note = f"{reused} reused" if reused else "starting workers"
        if name not in self._phases:
            self._phases[name] = self._progress.add_task(name, total=0, last=note), 0
        self._task, before = self._phases[name]
        self._phases[name] = self._task, before + total
        self._progress.update(self._task, total=before + total, advance=reused)

    def say(self, sentence: str) -> None:
        """Print what the user should know, above the progress."""
        self._console.print(sentence, markup=False, highlight=False)

    def finished(self, finished: Finished) -> None:
        """An attempt ended: advance the progress, or say why it failed."""
        spec, outcome = finished.spec, finished.outcome
        if outcome["status"] in ("failed", "timeout"):
            again = "; trying once more" if finished.again else ""
            self.say(f"{spec.method}, seed {spec.seed}: {outcome['reason']}{again}")
            return
        self.done += 1
        last = f"{spec.method} {outcome['status']}"
        # the last value, on validation: the test split is not looked at before the verdict
        metric = outcome["validation"].get("metric")
        if outcome["status"] == "done" and metric is not None:
            percent = outcome.get("metric_name") in PERCENT
            value = f"{100 * metric:.2f} %" if percent else f"{metric:.4g}"
            last = f"{spec.method} {value}"
        if self._task is not None:
            self._progress.update(self._task, advance=1, last=last)


def progress_on_stderr() -> LiveProgress:
    """Progress on standard error, where a terminal shows it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDE
    return LiveProgress(console)


def render(result: Result) -> str:
    """Render a pilot's table, verdicts and notes for standard output, in colour on a terminal."""
    out = Console(file=sys.__stdout__, force_jupyter=False)
    if not out.is_terminal:
        out = Console(file=sys.__stdout__, force_jupyter=False, width=WIDE + 20)
    with out.capture() as captured:
        show(result, out)
    return captured.get()


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
    early = f" ({judged['early_steps']} for 0.8 T)" if judged["early_steps"] else ""
    steps = "" if judged["steps"] is None else f"{judged['steps']} steps{early}, "
    seeds = ", ".join(f"{look['seeds']:.0f}" for look in judged["looks"])
    console.print(
        f"{judged['task']}: {words(f'question.{question}')}; {judged['trainings']} trainings, "
        f"{steps}looked at after {seeds} seeds, {result['wall_seconds']:.0f} s, "
        f"{result['reused_runs']} runs reused"
        if result["kind"] != "table"
        else f"{judged['task']}: {words(f'question.{question}')}",
        highlight=False,
        markup=False,
    )
    for line in lines(judged["description"]):
        _say(printable(line), console)
    # the table; on a narrow terminal in two parts, comparisons with the base first
    own, compared = _columns(judged)
    if console.width >= WIDE:
        console.print(_table(own + compared, judged["table"]))
    else:
        first = [(heading.replace(" (", "\n("), cell) for heading, cell in compared]
        own = [(heading.replace(" ", "\n"), cell) for heading, cell in own]
        console.print(_table(own[:1] + first, judged["table"]))
        console.print(_table(own, judged["table"]))
    # the verdicts, then each command once, unwrapped so that it can be copied, and the notes
    asked, commands = words(f"question.{question}_short"), {}
    for name, answers in judged["verdicts"].items():
        for about, verdict in answers.items():
            said = sentence(verdict, metric, words)
            next_ = advice(verdict, metric, words)
            console.print()
            _say(f"{name}, {about}: {said} (Question: {asked}.) Next: {next_}", console, "  ")
            if verdict.extension is not None:
                commands[verdict.extension.command] = True
    for command in commands:
        console.print(f"\n  {command}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for each in judged["notes"]:
        _say(note(each, metric, words), console)
    where = f"Details: {result['out']}/{RESULT}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)


def _say(text: str, console: Console, indent: str = "") -> None:
    """Print a paragraph, wrapped between words."""
    width = min(console.width, 110)
    wrapped = textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)
    console.print(wrapped, highlight=False, markup=False, soft_wrap=True)


def _columns(judged: Judged) -> tuple[list[Column], list[Column]]:
    """An arm's own columns, and those that compare it: headings, and what renders a cell."""
    base, metric = judged["table"][0]["method"], judged["metric"]
    # arms that were settled at different looks have intervals of different levels
    levels = {row["to_base"].confidence for row in judged["table"] if row["to_base"] is not None}
    level = f"{100 * max(levels):.3g}%" if len(levels) == 1 else "interval"
    own: list[Column] = [("method", lambda r: r["method"])]
    # what no arm has is left out: errors are for classes, a table may hold nothing but values
    forms: dict[str, tuple[str, Callable[[float], str]]] = {
        "lr": ("lr", lambda v: f"{v:.4g}"),
        "top1_error": ("top-1 error", lambda v: f"{100 * v:.2f}"),
        "top5_error": ("top-5 error", lambda v: f"{100 * v:.2f}"),
        "loss": ("loss", lambda v: f"{v:.4f}"),
        "gap": ("gap", lambda v: f"{v:+.4f}"),
        "seconds": ("seconds", lambda v: f"{v:.2f}"),
        "peak_memory": ("peak MiB", lambda v: f"{v / 2**20:.0f}"),
    }
    rows: list[Any] = [*judged["table"]]
    for key, (heading, form) in forms.items():
        if any(row[key] is not None for row in rows):
            own.append((heading, partial(_measured, key, form)))
    if len({len(row["values"]) for row in rows}) > 1:  # some were settled at an earlier look
        own.append(("n", lambda r: str(len(r["values"]))))
    own.append(("diverged", lambda r: f"{r['diverged']}/{len(r['values'])}"))
    name = metric.name.replace("_", " ") + (" %" if metric.percent else "")
    name = f"top-1 {name}" if metric.name == "accuracy" and judged["question"] != "table" else name
    # in the table with fewer columns
    searched: list[Column] = [("searched", lambda r: named(r["settings"], "\n"))]
    compared = searched if any(row["settings"] for row in rows) else []
    compared += [(f"{name} (95%)", lambda r: _value(r, metric))]
    if any(row["early_mean"] is not None for row in rows):
        bare = "{:.4g}".format if not metric.percent else lambda v: f"{100 * v:.2f}"
        compared.append((f"at {EARLY} T", lambda r: _or_dash(r["early_mean"], bare)))
    # adjusted: several methods are judged, or this is not the first look
    adjusted = judged["confidence"] != FULL_CONFIDENCE
    compared += [
        (f"minus {base} ({level})", lambda r: _or_dash(r["to_base"], lambda c: _diff(c, metric))),
        ("p, adjusted" if adjusted else "p", lambda r: _or_dash(r["to_base"], shown_p)),
    ]
    return own, compared


def _table(columns: Iterable[tuple[str, Any]], rows: Iterable[ArmResult]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = list(columns)
    for i, (heading, _) in enumerate(columns):
        # fold a long method's name instead of cutting digits
        table.add_column(
            heading, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold"
        )
    for row in rows:
        style = "bold" if row["role"] in (PREDICTOR, METHOD) else None
        table.add_row(*(escape(cell(row)) for _, cell in columns), style=style)
    return table


def _value(row: ArmResult, metric: Metric) -> str:
    half = (row["high"] - row["low"]) / 2
    if metric.percent:
        return f"{100 * row['mean']:.2f} ± {100 * half:.2f}"
    return f"{row['mean']:.4g} ± {half:.2g}"


def _diff(c: Comparison, metric: Metric) -> str:
    return f"{metric.signed(c.mean)} ({metric.signed(c.low)} to {metric.signed(c.high)})"


def _measured(key: str, form: Callable[[float], str], row: Any) -> str:
    return _or_dash(row[key], form)


def _or_dash(value: Any, form: Any) -> str:
    return "–" if value is None else str(form(value))  # noqa: RUF001 - an en dash on purpose
