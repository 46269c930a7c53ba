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


class LocalEngine(Engine):
    """Worker processes on this machine, which stay for all calls of run() within the context.

    A run that fails, dies or exceeds the timeout is tried again, while the others go on. A run that
    was killed, as a system out of memory does, is tried again alone.

    Args:
        workers: the most processes, each with one thread; fewer if the memory does not hold them.
        timeout: seconds that one run may take.

    Example:
        >>> engine = LocalEngine(workers=2, timeout=600)
        >>> engine.describe()
        {'engine': 'local', 'workers': 2}
    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        self.workers, self.timeout = workers, timeout
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
        """Start as many workers as the memory holds."""
        available = available_memory()
        # a worker takes about what this process, which has loaded the task, shares with no other
        memory = psutil.Process().memory_full_info()
        size = getattr(memory, "uss", memory.rss)  # some kernels do not tell what is shared
        count = min(self.workers, max(1, int(available * (1 - KEPT_FREE)) // size))
        if count < self.workers:
            self.say(
                f"{count} of {self.workers} workers run at once: one takes about "
                f"{size / 2**30:.2g} GiB, {available / 2**30:.2g} GiB of memory is available"
            )
        self._jobs: dict[Task, Job] = {}
        self._alone: set[str] = set()  # keys of runs that ran out of memory
        self._slots = tempfile.mkdtemp(prefix="paramcast-workers-")
        self._crew = Crew(count, self.timeout, _initialise, self._slots)
        with held():  # each worker that is interrupted while it starts would print a traceback
            self._crew.start()

    def _stop(self) -> None:
        with held():
            crew, self._crew = self._crew, None
            if crew is not None:
                crew.stop()
                shutil.rmtree(self._slots, ignore_errors=True)

    def start(self, job: Job, running: int) -> Task | None:
        # a run that ran out of memory runs alone
        keys = {job.spec.key, *(other.spec.key for other in self._jobs.values())}
        if keys & self._alone and running:
            return None
        task: Task = self._crew.submit(worker.execute, *job)
        self._jobs[task] = job
        return task

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


def _initialise(slots: str) -> None:
    """Prepare a worker: leave Ctrl-C to the parent, print to standard error, use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    os.environ["OMP_NUM_THREADS"] = "1"
    worker.use_one_thread()
    take_slot(slots)
