"""What surrounds a comparison started from Python."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from ..errors import StudyError
from .progress import in_notebook

_at_work = False


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
