"""A thread that reads the store as `paramcast watch` does, and tells trackers what is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ...errors import StudyError
from ..html.load import Failure, Run
from ..watch.follow import Follower, Look

EVERY = 2.0
"""Seconds between two looks at the store."""


class Tracker(Protocol):
    """Keeps a copy of the runs somewhere.

    A tracker is told of every finished run at each start, and leaves out those it has already.
    """

    name: str

    def ended(self, run: Run, kind: str) -> None:
        """A run has finished, of a "pilot" or "study"."""

    def failed(self, failure: Failure) -> None:
        """An attempt has failed."""

    def look(self, look: Look) -> None:
        """All that has ended so far was told; what else there is to see."""

    def close(self) -> None:
        """Nothing more comes."""


class Following:
    """Tells trackers about a folder's runs while a driver fills it, as a context.

    Each tracker is told in a thread of its own: a slow one holds up no other. What goes wrong with
    one is said once, and never stops a run.

    Args:
        folder: the output folder; it need not exist yet.
        url: of a PostgreSQL store, if it is not the folder's own.
        trackers: who is told.
        say: told in a sentence when a tracker fails.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None,
        trackers: Sequence[Tracker],
        say: Callable[[str], None],
    ) -> None:
        self._all = [_Told(folder, url, tracker, say) for tracker in trackers]

    def __enter__(self) -> Following:
        for told in self._all:
            told.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Tell what is left; after an interruption the next start does that."""
        for told in self._all:
            told.hurry = kind is not None
            told.over.set()
        for told in self._all:
            told.thread.join()


class _Told:
    """One tracker, and the thread that tells it."""

    def __init__(
        self, folder: Path, url: str | None, tracker: Tracker, say: Callable[[str], None]
    ) -> None:
        self._tracker, self._say = tracker, say
        self._follower = Follower(folder, url, ended=self._ended, failed=tracker.failed)
        self.over, self.hurry = threading.Event(), False
        self.thread = threading.Thread(target=self._follow, name=tracker.name, daemon=True)

    def _follow(self) -> None:
        try:
            last = False
            while not last:
                last = self.over.wait(EVERY)
                self._look()
            self._tracker.close()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self._say(
                f"{self._tracker.name} gets nothing more ({type(error).__name__}: {lines[0]}); the "
                "runs go on, and the same command with the same option catches up"
            )

    def _look(self) -> None:
        try:
            look = self._follower.look()
        except StudyError:
            return  # not there yet, or what is wrong is said by who writes it
        self._tracker.look(look)

    def _ended(self, run: Run) -> None:
        if not self.hurry:
            self._tracker.ended(run, self._follower.kind)
