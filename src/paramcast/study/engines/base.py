"""What every engine does: start runs as there is room, and try again what failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from ..spec import RunSpec
from ..tasks.source import Source

ATTEMPTS = 2
POLL = 0.5
"""Seconds after which an engine asks again whether there is something to start."""


class Job(NamedTuple):
    """A run, and where a worker loads its task from.

    `live` is the folder in which it tells how far it is, on an engine whose runs can reach it.
    """

    spec: RunSpec
    source: Source
    live: str | None = None


class Finished(NamedTuple):
    """An attempt that ended: its outcome, whose status may be "failed" or "timeout".

    `again` says whether the run will be tried once more.
    """

    spec: RunSpec
    outcome: dict[str, Any]
    attempt: int
    again: bool = False


class Engine(Protocol):
    """Runs jobs somewhere; the same specifications give the same outcomes in every engine.

    An engine is a context: what it holds (processes, a connection) is let go at its end.
    """

    @property
    def workers(self) -> int:
        """How many runs go on at once."""

    def describe(self) -> dict[str, Any]:
        """Its name and resources, as stored with every run."""

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        """Run every job; results come in any order.

        Args:
            jobs: what to run, in the order in which to start. It may be lazy: no more than twice
                as many as run at once are taken ahead.
            finished: called in this process for every attempt that ended.

        Raises:
            RunError: the engine cannot run anything.
        """

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """The part in which engines differ."""

    def has_room(self, running: int) -> bool:
        """Whether another job should be taken while this many run."""

    def start(self, job: Job, running: int) -> Any:
        """Start a job and return its handle; None if it has to wait for others to end."""

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        """The handles that ended, with their outcomes; none after that many seconds.

        It is called while something runs, or is measured before it is started.
        """

    def attempts(self, outcome: dict[str, Any]) -> int:
        """How often a run with this outcome is tried in all."""


def drive(backend: Backend, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
    """Run every job on a backend; a run that fails is tried again before new ones start."""
    waiting = iter(jobs)
    running: dict[Any, tuple[Job, int]] = {}
    again: deque[tuple[Job, int]] = deque()
    while True:
        # start what there is room for, first what has failed before
        while backend.has_room(len(running)):
            if not again:
                again.extend((job, 1) for job in islice(waiting, 1))
            if not again:  # all jobs have been started
                break
            handle = backend.start(again[0][0], len(running))
            if handle is None:
                break
            running[handle] = again.popleft()
        if not running and not again:
            return

        # take in what has ended
        for handle, outcome in backend.wait(list(running), POLL):
            job, attempt = running.pop(handle)
            bad = outcome["status"] in ("failed", "timeout")
            retry = bad and attempt < backend.attempts(outcome)
            if retry:
                again.append((job, attempt + 1))
            finished(Finished(job.spec, outcome, attempt, retry))
