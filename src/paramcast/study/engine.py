"""Running many specifications: local processes with one thread each."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as RunTimeout
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from pebble import ProcessExpired, ProcessPool

from ..errors import RunError
from . import worker
from .devices import take_slot
from .server import start_early, workers_context
from .spec import RunSpec
from .tasks.source import Source

ATTEMPTS = 2


class Job(NamedTuple):
    """A run, and where a worker loads its task from."""

    spec: RunSpec
    source: Source


class Finished(NamedTuple):
    """A run that ended: its outcome, whose status may be "failed" or "timeout"."""

    spec: RunSpec
    outcome: dict[str, Any]
    attempt: int


def run_all(
    jobs: Iterable[Job],
    *,
    workers: int,
    finished: Callable[[Finished], None],
    timeout: float | None = None,
) -> None:
    """Run every job in worker processes; results come in any order.

    A run that fails, dies or exceeds the timeout is tried once more; the others go on.

    Args:
        jobs: what to run, in the order in which to start.
        workers: processes, each with one thread.
        finished: called in this process for every attempt that ended.
        timeout: seconds one run may take.
    """
    start_early()
    waiting = iter(jobs)
    running: dict[Future[Any], tuple[Job, int]] = {}
    slots = tempfile.mkdtemp(prefix="paramcast-workers-")
    pool = ProcessPool(
        max_workers=workers, context=workers_context(), initializer=_initialise, initargs=(slots,)
    )

    def submit(job: Job, attempt: int) -> None:
        running[pool.schedule(worker.execute, args=[*job], timeout=timeout)] = (job, attempt)

    try:
        with _interrupts_wait():
            wait([pool.schedule(_ready) for _ in range(workers)])
        for job in itertools.islice(waiting, 2 * workers):
            submit(job, 1)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job, attempt = running.pop(future)
                outcome = _outcome(future, timeout)
                finished(Finished(job.spec, outcome, attempt))
                if outcome["status"] in ("failed", "timeout") and attempt < ATTEMPTS:
                    submit(job, attempt + 1)
                else:
                    for following in itertools.islice(waiting, 1):
                        submit(following, 1)
        pool.close()
    finally:
        pool.stop()
        pool.join()
        shutil.rmtree(slots, ignore_errors=True)


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
        return {
            "status": "failed",
            "reason": f"the worker process died (exit code {error.exitcode})",
        }
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return outcome


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
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    take_slot(slots)
