"""Run in this process: for what no other process can load."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from . import worker
from .base import ATTEMPTS, Finished, Job, drive


class HereEngine:
    """Runs in this process, one after the other, each with one thread, as workers have.

    Example:
        >>> HereEngine().describe()
        {'engine': 'here', 'workers': 1}
    """

    workers = 1

    def __init__(self) -> None:
        self.say: Callable[[str], None] = lambda _: None
        self._ended: list[tuple[Any, dict[str, Any]]] = []

    def __enter__(self) -> HereEngine:
        return self

    def __exit__(self, *_: object) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {"engine": "here", "workers": 1}

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        """Run every job: see Engine.run."""
        with _undisturbed():
            drive(self, jobs, finished)

    def has_room(self, running: int) -> bool:
        return running == 0

    def start(self, job: Job, running: int) -> object:
        handle = object()
        self._ended = [(handle, worker.execute(*job))]
        return handle

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        return self._ended

    def attempts(self, outcome: dict[str, Any]) -> int:
        return ATTEMPTS


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, on whose number results depend; then threads and generators as they were."""
    threads, here, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(here)
        np.random.set_state(numpy)
