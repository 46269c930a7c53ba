"""Worker processes, each with its own pipe, so that the death of one harms no other.

A shared queue would not do: a worker that is killed while it holds the queue's lock, or halfway
through a message, blocks all others for good.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from ...errors import RunError
from .server import start_early, workers_context, workers_main

STARTS = 4  # after that many deaths in a row before a worker was ready, the crew gives up
GRACE = 3.0  # seconds that a process has to end after it is told to


class Ended(NamedTuple):
    """How a task ended: "value", "error" (in words), "death" (exit code) or "late"."""

    how: str
    value: Any = None


@dataclass(eq=False)
class Task:
    """A function that a worker runs, with its arguments, and how it ended; None until then."""

    call: tuple[Callable[..., Any], tuple[Any, ...]]
    ended: Ended | None = None


class Crew:
    """A fixed number of worker processes, which run tasks in the order of submission.

    A task may take `timeout` seconds before its worker is killed, by a monotonic clock, which
    stands still while the machine sleeps. `prepare(*arguments)` runs first in each worker.
    """

    def __init__(
        self, size: int, timeout: float | None, prepare: Callable[..., None], *arguments: Any
    ) -> None:
        self._size, self._timeout = size, timeout
        self._prepare = prepare, arguments
        self._workers: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self._died_early = 0

    def start(self) -> None:
        """Start all workers and wait until they are ready."""
        while sum(worker.ready for worker in self._workers) < self._size:
            self._hire()
            self.wait(1.0)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Task:
        """Let the next free worker run a function."""
        task = Task((function, arguments))
        self._waiting.append(task)
        self._hand_out()
        return task

    def wait(self, seconds: float) -> list[Task]:
        """Wait for tasks to end, for at most that many seconds; return those that did."""
        now = time.monotonic()
        # seconds until the timeout of each task under way
        left = (w.begun + self._timeout - now for w in self._workers if w.task and self._timeout)
        pipes = {worker.pipe: worker for worker in self._workers}
        # until a worker says something, or the first timeout is due
        ready = connection.wait(list(pipes), max(0.0, min((seconds, *left))))
        # hear first, then stop: a result that came in time counts, however late we look
        tasks = [self._hear(pipes[pipe]) for pipe in ready]  # type: ignore[index]
        tasks += [self._stop_late(worker) for worker in list(self._workers)]
        self._hand_out()
        return [task for task in tasks if task is not None]

    def stop(self) -> None:
        """End all workers, whatever they are doing."""
        # all are told before one is waited for
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _hire(self) -> None:
        while len(self._workers) < self._size:
            try:
                self._workers.append(_Worker(*self._prepare))
            except (OSError, EOFError):  # the fork server has died; the next worker starts it again
                self._count_early_death()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers, and replace dead ones where there is work."""
        if self._waiting:
            self._hire()
        for worker in self._workers:
            if self._waiting and worker.ready and worker.task is None:
                task = self._waiting.popleft()
                if not worker.begin(task):
                    self._waiting.appendleft(task)  # dead: its pipe will say so in a moment

    def _hear(self, worker: _Worker) -> Task | None:
        """Receive a worker's message, or its death; return the task that ended, if one did."""
        try:
            ended: Ended | None = worker.pipe.recv()
        except Exception:  # the pipe's end, or half a message: the worker is dead
            self._workers.remove(worker)
            ended = Ended("death", worker.end())
            if not worker.ready:
                self._count_early_death()
        # its first message, None, says that it is ready; every later one ends a task
        if not worker.ready:
            worker.ready = ended is None
            self._died_early = 0 if worker.ready else self._died_early
            return None
        task, worker.task = worker.task, None
        if task is not None:
            task.ended = ended
        return task

    def _count_early_death(self) -> None:
        self._died_early += 1
        if self._died_early >= STARTS:
            raise RunError(
                "the worker processes cannot start; standard error says why, and with one worker "
                "less memory is needed (--workers 1)"
            )

    def _stop_late(self, worker: _Worker) -> Task | None:
        task = worker.task
        if task is None or self._timeout is None:
            return None
        if time.monotonic() - worker.begun <= self._timeout:
            return None
        self._workers.remove(worker)
        worker.process.kill()
        worker.end()
        task.ended = Ended("late")
        return task


class _Worker:
    """A process, its task, and when that began."""

    def __init__(self, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        start_early()  # if the fork server died, start it in the environment that it needs
        context = workers_context()
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, prepare, arguments), name="paramcast worker"
        )
        try:
            with workers_main():
                self.process.start()
        finally:
            theirs.close()  # only the worker holds that end now, so that its death closes the pipe
        self.ready = False
        self.task: Task | None = None
        self.begun = 0.0

    def begin(self, task: Task) -> bool:
        """Send the worker a task; return whether it could be sent."""
        try:
            self.pipe.send(task.call)
        except OSError:
            return False
        self.task, self.begun = task, time.monotonic()
        return True

    def end(self) -> int | None:
        """Wait for the process to end, or kill it after GRACE seconds; return its exit code."""
        self.process.join(GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(GRACE)
        self.pipe.close()
        return self.process.exitcode


def _work(
    pipe: connection.Connection, prepare: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Run, in a worker, what the driver sends, until the driver is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_driver, name="end with driver", daemon=True).start()
    prepare(*arguments)
    with contextlib.suppress(OSError):  # the driver is gone already
        pipe.send(None)  # ready
    while True:
        try:
            function, given = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            ended = Ended("value", function(*given))
        except BaseException as error:
            ended = Ended("error", f"{type(error).__name__}: {error}")
        try:
            pipe.send(ended)
        except OSError:
            return
        except Exception as error:  # a result that cannot be pickled; nothing was sent
            pipe.send(Ended("error", f"{type(error).__name__}: {error}"))


def _end_with_driver() -> None:
    """End when the driver does, even if it was killed, instead of finishing a run for no one."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
