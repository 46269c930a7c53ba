"""One pilot or study, read a little further whenever it is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...study.reading import as_written
from ...study.store.folder import remembers
from ..html.load import Run
from .board import Board
from .follow import Follower, Look, newest
from .view import view


class Watching:
    """One pilot or study, looked at again and again.

    Args:
        folder: its folder, or one with several such folders: then the one that changed last.
        url: of a PostgreSQL store; None for the one that the folder names, else its file.

    Example::

        print(Watching(Path("paramcast-runs")).view()["state"])
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.url = url
        self._given = folder
        self.board = Board()
        self._follower: Follower | None = None

    def view(self) -> dict[str, Any]:
        """Look, and show the comparison that had a run last: see `view.view`.

        Raises:
            StudyError: there is nothing to read yet, or it cannot be read.
        """
        with as_written(self._given, "start its command again, or move it away"):
            look, folder = self._look()
            return view(self.board, look, str(folder))

    def is_there(self) -> bool:
        """Whether there is a store to read."""
        return self.url is not None or remembers(newest(self._given))

    def _ended(self, run: Run) -> None:
        self.board.alone = self._follower is not None and self._follower.kind == "pilot"
        self.board.ended(run)

    def _look(self) -> tuple[Look, Path]:
        if self._follower is None:
            folder = self._given if self.url else newest(self._given)
            self.board = Board()
            self._follower = Follower(
                folder, self.url, ended=self._ended, failed=self.board.attempt_failed
            )
        try:
            return self._follower.look(), self._follower.folder
        except Exception:
            self._follower = None  # start again: it may be another one that comes
            raise
