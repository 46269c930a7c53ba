"""Running on this machine: processes with one thread each, as many as its memory allows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as RunTimeout
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ...errors import RunError
from .. import worker
from ..devices import take_slot
from ..server import start_early, workers_context
from .base import ATTEMPTS, Finished, Job, drive, pause
from .machine import available_memory

KEPT_FREE = 0.1
"""The share of the available memory that no run is planned into."""


class LocalEngine:
    """Worker processes on this machine.

    A run that fails, dies or exceeds the timeout is tried once more; the others go on. Before the
    first runs of a task one worker measures what a run takes, and fewer run at once if the memory
    would not hold them all. A run that was killed, which is what a system without memory does, is
    tried again alone.

    Args:
        workers: processes, each with one thread.
        timeout: seconds that one run may take.
        say: told in a sentence when fewer than `workers` run at once.
        memory: bytes that the runs may take; None for what is available.

    Example:
        >>> engine = LocalEngine(workers=2, timeout=600)
        >>> engine.describe()
        {'engine': 'local', 'workers': 2}
    """

    def __init__(
        self,
        workers: int,
        timeout: float | None = None,
        *,
        say: Callable[[str], None] | None = None,
        memory: int | None = None,
    ) -> None:
        self.workers, self.timeout, self._memory = workers, timeout, memory
        self.say = say or (lambda _: None)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to let go: processes end with each call of run()."""

    def describe(self) -> dict[str, Any]:
        return {"engine": "local", "workers": self.workers}

    def run(self, jobs: Iterable[Job | None], finished: Callable[[Finished], None]) -> None:
        """Run every job in worker processes: see Engine.run."""
        start_early()
        available = available_memory() if self._memory is None else self._memory
        slots = tempfile.mkdtemp(prefix="paramcast-workers-")
        pool = ProcessPool(
            max_workers=self.workers,
            context=workers_context(),
            initializer=_initialise,
            initargs=(slots,),
        )
        try:
            with _interrupts_wait():
                wait([pool.schedule(_ready) for _ in range(self.workers)])
            drive(_Pool(pool, self.workers, self.timeout, available, self.say), jobs, finished)
            pool.close()
        finally:
            pool.stop()
            pool.join()
            shutil.rmtree(slots, ignore_errors=True)


Kind = tuple[Any, ...]
"""Runs that take about the same memory: a task, a batch size, a device."""


class _Pool:
    """A pool of processes that knows what its runs take."""

    def __init__(
        self,
        pool: ProcessPool,
        workers: int,
        timeout: float | None,
        available: int,
        say: Callable[[str], None],
    ) -> None:
        self._pool, self._workers, self._timeout, self._say = pool, workers, timeout, say
        self._available, self._budget = available, int(available * (1 - KEPT_FREE))
        self._sizes: dict[Kind, int] = {}
        self._shared = 0  # bytes that a worker shares with the others
        self._measuring: dict[Kind, Future[Any]] = {}
        self._jobs: dict[Future[Any], Job] = {}
        self._alone: set[str] = set()  # keys of runs for which the memory did not suffice
        self._said = workers

    def has_room(self, running: int) -> bool:
        return running < 2 * self._workers  # a worker that ends has its next run waiting

    def start(self, job: Job, running: int) -> Future[Any] | None:
        if self._workers > 1 and not self._fits(job, running):
            return None
        future = self._pool.schedule(worker.execute, args=[*job], timeout=self._timeout)
        self._jobs[future] = job
        return future

    def _fits(self, job: Job, running: int) -> bool:
        """Whether it may start beside those that run."""
        alone = {job.spec.key, *(j.spec.key for j in self._jobs.values())} & self._alone
        if alone and running:
            return False
        return self._known(job) and (running == 0 or running < self._limit(job))

    def _limit(self, job: Job) -> int:
        kinds = Counter(_kind(j) for j in self._jobs.values())
        largest = max(self._sizes.get(kind, 0) for kind in (*kinds, _kind(job)))
        if largest * self._workers <= self._budget:
            return 2 * self._workers
        at_once = max(1, self._budget // largest)
        if at_once < self._said:
            self._said = at_once
            self._say(
                f"{at_once} of {self._workers} workers run at once: a run takes {_gb(largest)}, "
                f"{_gb(self._available)} of memory are available"
            )
        return at_once

    def _known(self, job: Job) -> bool:
        """Whether it is known what the run takes; else one worker is sent to measure it."""
        kind = _kind(job)
        if kind in self._sizes:
            return True
        if kind not in self._measuring:
            self._measuring[kind] = self._pool.schedule(
                worker.measure, args=[*job], timeout=self._timeout
            )
        if not self._measuring[kind].done():
            return False
        try:
            peak, shared = self._measuring[kind].result()
        except Exception:  # whatever is wrong with the task is said by its runs
            peak, shared = 0, 0
        self._sizes[kind], self._shared = max(0, peak - shared), shared
        del self._measuring[kind]
        return True

    def wait(
        self, handles: Sequence[Future[Any]], seconds: float
    ) -> list[tuple[Future[Any], dict[str, Any]]]:
        both = [*handles, *self._measuring.values()]
        if pause(both, seconds):
            return []
        done, _ = wait(both, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(future, self._ended(future)) for future in handles if future in done]

    def attempts(self, outcome: dict[str, Any]) -> int:
        return ATTEMPTS

    def _ended(self, future: Future[Any]) -> dict[str, Any]:
        job, outcome = self._jobs.pop(future), _outcome(future, self._timeout)
        if outcome["status"] == "failed" and _lacked_memory(outcome["reason"]):
            self._alone.add(job.spec.key)
        elif "peak_memory" in outcome and job.spec.device == "cpu":
            took = outcome["peak_memory"] - self._shared
            self._sizes[_kind(job)] = max(self._sizes.get(_kind(job), 0), took)
        return outcome


def _kind(job: Job) -> Kind:
    return (job.source, job.spec.batch_size, job.spec.device)


def _gb(size: int) -> str:
    return f"{size / 2**30:.2g} GiB"


KILLED = "killed, probably for want of memory"


def _outcome(future: Future[Any], timeout: float | None) -> dict[str, Any]:
    try:
        outcome: dict[str, Any] = future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "the worker processes cannot start; in a script of your own, start the pilot under "
            "`if __name__ == '__main__':`"
        ) from error
    except RunTimeout:
        return {"status": "timeout", "reason": f"took longer than {timeout:g} s"}
    except ProcessExpired as error:
        died = KILLED if error.exitcode == -9 else "the worker process died"
        return {"status": "failed", "reason": f"{died} (exit code {error.exitcode})"}
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return outcome


def _lacked_memory(reason: str) -> bool:
    return reason.startswith((KILLED, "MemoryError")) or "can't allocate memory" in reason


def _ready() -> None:
    """In a worker: it has started; long enough for each worker to take one."""
    time.sleep(0.05)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: stopped half-way they would complain one by one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _initialise(slots: str) -> None:
    """In a worker: leave Ctrl-C to the parent, print to standard error, use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    os.environ["OMP_NUM_THREADS"] = "1"
    worker.use_one_thread()
    take_slot(slots)
