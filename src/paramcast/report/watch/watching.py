"""What several viewers ask at once, read once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ...study.reading import as_written
from .board import Board
from .follow import Follower, Look, is_there, newest
from .view import view


class Watching:
    """One pilot or study, looked at whenever somebody asks.

    Args:
        folder: its folder, or one with several such folders: then the one that changed last.
        url: of a PostgreSQL store; None for the one that the folder names, else its file.

    Example::

        print(Watching(Path("paramcast-runs")).view()["state"])
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._given, self._url, self._lock = folder, url, threading.Lock()
        self._board = Board()
        self._follower: Follower | None = None

    def view(self, cell: int | None = None) -> dict[str, Any]:
        """Look, and show one comparison: see `view.view`.

        Raises:
            StudyError: there is nothing to read yet, or it cannot be read.
        """
        with self._lock, as_written(self._given, "start its command again, or move it away"):
            look, folder = self._look()
            return view(self._board, look, str(folder), cell)

    def is_there(self) -> bool:
        """Whether there is a store to read."""
        return self._url is not None or is_there(newest(self._given))

    def _look(self) -> tuple[Look, Path]:
        if self._follower is None:
            folder = self._given if self._url else newest(self._given)
            self._board = Board()
            self._follower = Follower(
                folder, self._url, ended=self._board.ended, failed=self._board.attempt_failed
            )
        try:
            return self._follower.look(), self._follower.folder
        except Exception:
            self._follower = None  # begin anew: it may be another one that comes
            raise
