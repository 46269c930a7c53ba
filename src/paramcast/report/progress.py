"""How far a comparison is: one line in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from ..study.judging.verdict import PERCENT

if TYPE_CHECKING:
    from ..study.engines import Finished

WIDE = 150
"""Terminal columns that are taken where there is no terminal."""
BAR = 20
"""Columns of the bar."""


class LiveProgress:
    """One line with phase, runs done, the last value and the time left; silent without a terminal.

    How many runs a comparison takes follows from their outcomes, so the line says "of about" until
    it has ended.

    Attributes:
        expected: runs that it usually takes.
    """

    expected = 0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=BAR),
            TextColumn("{task.completed:.0f} of {task.fields[about]}{task.total:.0f}"),
            TextColumn("{task.fields[last]}", table_column=Column(no_wrap=True, max_width=22)),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "", total=0, start=False, visible=False, last="starting workers", about=""
        )
        self.done = self.total = self.reused = 0

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.ended()
        self._progress.stop()

    def ended(self) -> None:
        """All phases are over: as many runs were wanted as were made."""
        if self.total:
            last = f"{self.reused} reused" if self.reused else ""
            self._progress.update(
                self._task, description="done", total=self.done, last=last, about="", refresh=True
            )

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins or goes on with more runs; stored runs count as done."""
        if not self.total:
            self._progress.start_task(self._task)
        self.total += total
        self.done += reused
        self.reused += reused
        self._progress.update(
            self._task,
            description=name,
            total=max(self.total, self.expected),
            about="about ",
            completed=self.done,
            visible=True,
        )
        if reused:
            self._progress.update(self._task, last=f"{reused} reused")

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
        # stored runs were counted when their phase began
        self.done += 1
        last = f"{spec.method} {outcome['status']}"
        # the last value, on validation: the test split is not looked at before the verdict
        metric = outcome["validation"].get("metric")
        if outcome["status"] == "done" and metric is not None:
            percent = outcome.get("metric_name") in PERCENT
            value = f"{100 * metric:.2f} %" if percent else f"{metric:.4g}"
            last = f"{spec.method} {value}"
        self._progress.update(self._task, advance=1, last=last)


def progress_on_stderr() -> LiveProgress:
    """Progress on standard error, where a terminal shows it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDE
    return LiveProgress(console)
