"""The fork server of the workers: it imports torch once, while the parent starts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

PRELOAD = [
    "paramcast.study.engines.worker",
    "torch._dynamo",  # the first optimizer would import it, a second in every worker
    "sklearn.datasets",
    "sklearn.model_selection",
]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# A process that asked the CUDA runtime for devices cannot be forked. The server asks the driver's
# management library (NVML) instead.
ENVIRONMENT = {**ONE_THREAD, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


def workers_context() -> Any:
    """The multiprocessing context of the workers: a fork server if the system has one."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


# Whether workers leave out the script that started this process: a comparison that a user's script
# started would start once more in each of them. One of ours may tell them something (research/).
without_script = False


@contextlib.contextmanager
def workers_main() -> Iterator[None]:
    """While a worker starts: what it imports as the main module."""
    script = sys.modules["__main__"]
    if not without_script:
        yield
        return
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def start_early() -> None:
    """Start the fork server now, so that its imports run beside this process's own."""
    context = workers_context()
    if context.get_start_method() != "forkserver":
        return
    import signal
    import threading
    from multiprocessing import forkserver

    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None  # inherited
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)  # inherited too: a server with one thread is safe to fork
    try:
        forkserver.ensure_running()
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
