"""Run on this machine: processes with one thread each, as many as its memory allows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from ..interrupts import held
from . import worker
from .base import Engine, Finished, Job
from .crew import Crew, Ended, Task
from .devices import take_slot

KEPT_FREE = 0.1  # the share of the available memory that is kept free
# the files with a container's own limit, in versions 2 and 1 of control groups
MEMORY_LIMITS = tuple(
    Path("/sys/fs/cgroup", file) for file in ("memory.max", "memory/memory.limit_in_bytes")
)
KILLED = "killed, probably because memory ran out"

Kind = tuple[Any, ...]  # runs that take about the same memory: a task, a batch size, a device


class LocalEngine(Engine):
    """Worker processes on this machine, which stay for all calls of run() within the context.

    A run that fails, dies or exceeds the timeout is tried again, while the others go on. Before the
    first runs of a task one worker measures how much memory a run takes, and fewer run at once if
    the memory would not hold them all. A run that was killed, as a system out of memory does, is
    tried again alone.

    Args:
        workers: the number of processes, each with one thread.
        timeout: seconds that one run may take.
        say: receives a sentence when fewer than `workers` run at once.
        memory: bytes that the runs may take; None for what is available when the workers start.

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
        say: Callable[[str], None] = Engine.say,
        memory: int | None = None,
    ) -> None:
        self.workers, self.timeout, self.say, self._memory = workers, timeout, say, memory
        self._entered = False
        self._crew: Any = None  # a Crew, while workers are there

    def __enter__(self) -> LocalEngine:
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._entered = False
        self._stop()

    def describe(self) -> dict[str, Any]:
        return {"engine": "local", "workers": self.workers}

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        try:
            if self._crew is None:
                self._begin()
            super().run(jobs, finished)
        except BaseException:
            self._stop()
            raise
        if not self._entered:
            self._stop()

    def _begin(self) -> None:
        """Start the workers, of whose runs nothing is known yet."""
        self._available = available_memory() if self._memory is None else self._memory
        self._budget = int(self._available * (1 - KEPT_FREE))
        self._sizes: dict[Kind, int] = {}  # bytes of a run's own
        self._shared = 0  # bytes that a worker shares with the others
        self._measuring: dict[Kind, Task] = {}
        self._jobs: dict[Task, Job] = {}
        self._alone: set[str] = set()  # keys of runs that ran out of memory
        self._said = self.workers
        self._slots = tempfile.mkdtemp(prefix="paramcast-workers-")
        self._crew = Crew(self.workers, self.timeout, _initialise, self._slots)
        with held():  # each worker that is interrupted while it starts would print a traceback
            self._crew.start()

    def _stop(self) -> None:
        with held():
            crew, self._crew = self._crew, None
            if crew is not None:
                crew.stop()
                shutil.rmtree(self._slots, ignore_errors=True)

    # --- runs and their memory ------------------------------------------------------------------

    def start(self, job: Job, running: int) -> Task | None:
        if self.workers > 1:
            # a run that ran out of memory runs alone
            alone = {job.spec.key, *(j.spec.key for j in self._jobs.values())} & self._alone
            if alone and running:
                return None
            # measure what a run takes once; then start no more than the memory holds
            if not self._known(job) or (running and running >= self._limit(job)):
                return None
        task: Task = self._crew.submit(worker.execute, *job)
        self._jobs[task] = job
        return task

    def _known(self, job: Job) -> bool:
        """Whether the memory that a run takes is known; if not, let one worker measure it."""
        kind = _kind(job)
        if kind in self._sizes:
            return True
        if kind not in self._measuring:
            self._measuring[kind] = self._crew.submit(worker.measure, *job)
        ended = self._measuring[kind].ended
        if ended is None:
            return False
        # if the measurement failed the run will fail too, and say why
        peak, shared = ended.value if ended.how == "value" else (0, 0)
        # a run's own bytes; shared pages count once for all workers
        self._sizes[kind], self._shared = max(0, peak - shared), shared
        return True

    def _limit(self, job: Job) -> int:
        """The number of runs that may go on at once, this one among them."""
        # as if each took what the largest does: kinds are mixed only where tasks change
        kinds = {_kind(job), *map(_kind, self._jobs.values())}
        largest = max(self._sizes.get(kind, 0) for kind in kinds)
        # memory for a run in every worker: no limit but the waiting ones
        if largest * self.workers <= self._budget:
            return 2 * self.workers
        at_once = max(1, self._budget // largest)
        if at_once < self._said:
            self._said = at_once
            self.say(
                f"{at_once} of {self.workers} workers run at once: a run takes "
                f"{largest / 2**30:.2g} GiB, {self._available / 2**30:.2g} GiB of memory is "
                "available"
            )
        return at_once

    def wait(self, handles: Sequence[Task], seconds: float) -> list[tuple[Task, dict[str, Any]]]:
        done = self._crew.wait(seconds)
        return [(task, self._outcome(task)) for task in done if task in self._jobs]

    def _outcome(self, task: Task) -> dict[str, Any]:
        job = self._jobs.pop(task)
        how, value = task.ended or Ended("death")
        if how == "value":
            outcome: dict[str, Any] = value  # also "failed", where `execute` caught an error
        elif how == "late":
            outcome = {"status": "timeout", "reason": f"took longer than {self.timeout:g} s"}
        else:
            if how == "death":
                died = KILLED if value == -9 else "the worker process died"
                value = f"{died} (exit code {value})"
            outcome = {"status": "failed", "reason": value}
        reason = outcome["reason"] if outcome["status"] == "failed" else ""
        if reason.startswith((KILLED, "MemoryError")) or "can't allocate memory" in reason:
            self._alone.add(job.spec.key)
        elif "peak_memory" in outcome and job.spec.device == "cpu":
            # a run may take more than its first steps did
            took = outcome["peak_memory"] - self._shared
            self._sizes[_kind(job)] = max(self._sizes.get(_kind(job), 0), took)
        return outcome


def available_memory() -> int:
    """Bytes that new processes can take, by the machine's memory and the container's limit."""
    left = [int(psutil.virtual_memory().available)]
    for file in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            processes = psutil.process_iter(["memory_info"])
            held = (p.info["memory_info"] for p in processes)  # None: access denied
            left.append(int(file.read_text("utf-8")) - sum(m.rss for m in held if m is not None))
    return max(0, min(left))


def _kind(job: Job) -> Kind:
    return (job.source, job.spec.batch_size, job.spec.device)


def _initialise(slots: str) -> None:
    """Prepare a worker: leave Ctrl-C to the parent, print to standard error, use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    os.environ["OMP_NUM_THREADS"] = "1"
    worker.use_one_thread()
    take_slot(slots)
