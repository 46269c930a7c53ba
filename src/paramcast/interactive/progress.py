"""Progress in a notebook: the terminal's, in the cell's output."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..report.progress import LiveProgress, progress_on_stderr

if TYPE_CHECKING:
    from ..study.engines import Finished

EVERY = 0.3  # seconds between two updates


class NotebookProgress(LiveProgress):
    """Shows in one output of the cell what `LiveProgress` shows in a terminal."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._output: Any = None
        self._drawn = 0.0

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.ended()
        self._draw()

    def phase(self, name: str, total: int, reused: int) -> None:
        super().phase(name, total, reused)
        self._draw()

    def say(self, sentence: str) -> None:
        print(sentence)  # noqa: T201 - the cell's output

    def finished(self, finished: Finished) -> None:
        super().finished(finished)
        if time.monotonic() - self._drawn >= EVERY:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        show: Any = display
        # the notebook itself draws a rich table
        picture = self._progress.make_tasks_table(self._progress.tasks)
        if self._output is None:
            self._output = show(picture, display_id=True)
        else:
            self._output.update(picture)
        self._drawn = time.monotonic()


def progress_here() -> LiveProgress:
    """The progress display that suits where this process runs."""
    return NotebookProgress() if in_notebook() else progress_on_stderr()


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
