"""Run one specification in a Ray worker, on one thread and within its time."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ..spec import RunSpec
from ..tasks.source import Source
from .parcel import Parcel, unpack

GRACE = 15.0
"""Seconds after its timeout at which a run that cannot be interrupted ends with its process."""


def execute(spec: RunSpec, source: Source, parcel: Parcel, timeout: float | None) -> dict[str, Any]:
    """Run one specification on this node; an error becomes the outcome's reason.

    Args:
        spec, source: the run, and the source of its task.
        parcel: the files of the task, for a node without them.
        timeout: seconds that the run may take; None for no limit.
    """
    try:
        from . import worker

        worker.use_one_thread()
        check_versions(spec)
        with _limited(timeout):
            return worker.execute(spec, unpack(source, parcel))
    except _TookTooLong:
        return {"status": "timeout", "reason": f"took longer than {timeout:g} s"}
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


def check_versions(spec: RunSpec) -> None:
    """Refuse to run with versions other than those in the run's key.

    Raises:
        RuntimeError: this node has other versions.
    """
    import torch

    from ... import __version__

    here = f"paramcast {__version__}, torch {torch.__version__}"
    if spec.versions and spec.versions != here:
        raise RuntimeError(
            f"this node has {here}, the run needs {spec.versions}; install the same on every node"
        )


class _TookTooLong(BaseException):
    """Raised by the alarm; a task's `except Exception` does not catch it."""


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """End what takes longer: by an exception or, if nothing receives it, with the process."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TookTooLong

    # an alarm raises in Python code; code that never returns ends with the process
    last = threading.Timer(seconds + GRACE, os._exit, [1])
    last.daemon = True
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    last.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        last.cancel()
