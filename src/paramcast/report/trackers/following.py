"""A thread that reads the store as `paramcast watch` does, and tells trackers what is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import StudyError
from ..html.load import Failure, Run
from ..watch.following import Follower, Look

EVERY = 2.0
"""Seconds between two looks at the store."""


class Tracker:
    """Keeps a copy of the runs somewhere.

    A tracker is told of every finished run at each start, and leaves out those it has already.
    """

    name = ""

    def ended(self, run: Run, kind: str) -> None:
        """A run has finished, of a "pilot" or "study"."""

    def failed(self, failure: Failure) -> None:
        """An attempt has failed; that is not a run, and what fails twice ends the command."""

    def verdict(self, text: str) -> None:
        """The verdict as Markdown, when it is there and when it changes."""

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
        self._folder, self._url, self._say = folder, url, say
        self._over, self._hurry = threading.Event(), False
        self._threads = [
            threading.Thread(target=self._tell, args=[tracker], name=tracker.name, daemon=True)
            for tracker in trackers
        ]

    def __enter__(self) -> Following:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Tell what is left; after an interruption the next start does that."""
        self._hurry = kind is not None
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _tell(self, tracker: Tracker) -> None:
        follower, told, last = Follower(self._folder, self._url), "", False
        try:
            while not last:
                last = self._over.wait(EVERY)
                try:
                    look = follower.look()
                except StudyError:
                    continue  # not there yet, or what is wrong is said by who writes it
                told = self._tell_what_is_new(look, tracker, told)
            tracker.close()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self._say(
                f"{tracker.name} gets nothing more ({type(error).__name__}: {lines[0]}); the runs "
                "go on, and the same command with the same option catches up"
            )

    def _tell_what_is_new(self, look: Look, tracker: Tracker, told: str) -> str:
        """Tell what a look found; return the verdict that is told now."""
        # after Ctrl-C nobody waits for a tracker
        for run in look.ended:
            if not self._hurry:
                tracker.ended(run, look.kind)
        for failure in look.failed:
            tracker.failed(failure)
        verdict = "\n".join(f"- {sentence}" for sentence in look.verdicts())
        if verdict != told:
            tracker.verdict(verdict)
        return verdict
