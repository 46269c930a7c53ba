"""The part that all engines share: start runs while there is room, and retry what failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ..spec import RunSpec
from ..tasks.source import Source

ATTEMPTS = 2  # how often a run that fails is tried in all
POLL = 0.5  # seconds after which an engine checks again whether it can start something


class Job(NamedTuple):
    """A run, and the source of its task.

    `live` is the folder in which the run reports how far it is, if its engine can reach it.
    """

    spec: RunSpec
    source: Source
    live: str | None = None


class Finished(NamedTuple):
    """An attempt that ended, with its outcome, whose status may be "failed" or "timeout".

    `again` says whether the run will be tried again.
    """

    spec: RunSpec
    outcome: dict[str, Any]
    again: bool = False


class Engine(ABC):
    """Runs jobs somewhere; the same specifications give the same outcomes in every engine.

    An engine is a context, which releases what it holds (processes, a connection) at its end. Its
    `workers` are the number of runs at once; `say` receives what the user should know.
    """

    workers: int
    say: Callable[[str], None] = staticmethod(lambda _: None)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        return

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The engine's name and resources, as stored with every run."""

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        """Run every job; results come in any order.

        `jobs` are in the order in which to start them, and may be lazy: an engine takes at most
        twice as many as it runs at once. `finished` is called in this process for every attempt
        that ended.
        """
        waiting = iter(jobs)
        running: dict[Any, tuple[Job, int]] = {}
        again: deque[tuple[Job, int]] = deque()
        while True:
            # start while there is room, retries first; the head of `again` is the next to start
            while self.has_room(len(running)):
                if not again:
                    again.extend((job, 1) for job in islice(waiting, 1))
                if not again:  # all jobs have been started
                    break
                handle = self.start(again[0][0], len(running))
                if handle is None:
                    break
                running[handle] = again.popleft()
            if not running and not again:
                return

            # take in what has ended
            for handle, outcome in self.wait(list(running), POLL):
                job, attempt = running.pop(handle)
                # a diverged run is a result; only failures and timeouts are retried
                bad = outcome["status"] in ("failed", "timeout")
                retry = bad and attempt < self.attempts(outcome)
                if retry:
                    again.append((job, attempt + 1))
                finished(Finished(job.spec, outcome, retry))

    # --- where engines differ -------------------------------------------------------------------

    def has_room(self, running: int) -> bool:
        """Whether another job can be taken while that many run."""
        return running < 2 * self.workers  # a free worker finds its next run waiting

    @abstractmethod
    def start(self, job: Job, running: int) -> Any:
        """Start a job and return its handle; None if it must wait for others to end."""

    @abstractmethod
    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        """Wait at most that many seconds for handles to end; return them with their outcomes."""

    def attempts(self, outcome: dict[str, Any]) -> int:
        """The number of attempts that a run with this outcome gets in all."""
        return ATTEMPTS
