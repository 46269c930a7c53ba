"""Run in this process: for what no other process can load."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from . import worker
from .base import Engine, Finished, Job


class HereEngine(Engine):
    """Runs in this process, one after the other, each with one thread, as workers have.

    Example:
        >>> HereEngine().describe()
        {'engine': 'here', 'workers': 1}
    """

    workers = 1

    def describe(self) -> dict[str, Any]:
        return {"engine": "here", "workers": 1}

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        # one thread, on whose number results depend; then threads and generators as they were
        threads, here, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng():
                super().run(jobs, finished)
        finally:
            torch.set_num_threads(threads)
            random.setstate(here)
            np.random.set_state(numpy)

    def has_room(self, running: int) -> bool:
        return running == 0

    def start(self, job: Job, running: int) -> object:
        handle = object()
        self._ended = [(handle, worker.execute(*job))]
        return handle

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        return self._ended
