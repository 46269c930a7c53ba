"""What surrounds a comparison from Python: its progress, its notices, and that it runs alone."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..errors import StudyError
from ..report.progress import LiveProgress, progress_on_stderr

if TYPE_CHECKING:
    from ..study.engines import Finished

EVERY = 0.3  # seconds between two updates
_at_work = False


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


@contextlib.contextmanager
def started(*, workers: bool) -> Iterator[None]:
    """Start the fork server, and show notices among a notebook's other output.

    Args:
        workers: whether processes on this machine will train.

    Raises:
        StudyError: another comparison runs in this process; most likely it has just imported the
            script that started it.
    """
    global _at_work
    if _at_work:
        raise StudyError(
            "a comparison was started while another one imports this file; put the call under "
            "`if __name__ == '__main__':`"
        )
    from ..study.engines import server

    # workers must not import the script, which would start this comparison again
    server.without_script = True
    # the fork server imports torch while this process does
    if workers:
        server.start_early()
    notices = sys.stdout if in_notebook() else sys.stderr
    _at_work = True
    try:
        with contextlib.redirect_stderr(notices):
            yield
    finally:
        _at_work = False
