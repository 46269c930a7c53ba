"""Run on a Ray cluster: many machines, the same outcomes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from ...errors import RunError, StudyError
from ..tasks.source import Source
from . import node
from .address import CLIENT, check_reachable, read_address
from .base import ATTEMPTS, Finished, Job, drive
from .parcel import pack

ATTEMPTS_LOST = 4
"""How often a run whose process or node dies is tried in all; the run is rarely to blame."""
LOST = "lost"
"""Marks the outcome of such a run."""
OBJECT_STORE = 100 * 2**20  # bytes, in a cluster of our own
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anyone
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "5",  # seconds that a cluster has to accept us
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5",
}
LOOK = 2.0
"""Seconds between two looks at the nodes of the cluster."""


class RayEngine:
    """Tasks on a Ray cluster, one per run, each with one thread.

    A run that fails or exceeds the timeout is tried again; a run whose process or node dies is
    tried up to four times in all. Ray itself retries nothing, so that every attempt is counted.
    Only the driver writes the store: if it dies, only the runs in progress are lost.

    Args:
        address: "auto" (the cluster that this machine belongs to), "local" (one of our own, which
            ends with the engine), "HOST:6379" (from a node of the cluster), or "ray://HOST:10001"
            (from anywhere).
        timeout: seconds that one run may take.
        cpus_per_run, gpus_per_run: what Ray reserves for a run; fractions share a device.
        workers: at most this many runs at once; None for as many as the cluster holds.
        say: receives what the user should know.

    Raises:
        StudyError: the address is not one or, on entering the context, Ray is not installed or
            nothing answers there.
    """

    def __init__(
        self,
        address: str = "auto",
        timeout: float | None = None,
        *,
        cpus_per_run: float = 1.0,
        gpus_per_run: float = 0.0,
        workers: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.address, self.timeout = read_address(address), timeout
        self.cpus_per_run, self.gpus_per_run = cpus_per_run, gpus_per_run
        self.say = say or (lambda _: None)
        self._most = workers
        self._ray: ModuleType | None = None
        self._ours = False  # we made the connection, so we end it
        self._task: Any = None
        self._parcels: dict[Source, Any] = {}
        self._slots, self._looked = 0, -math.inf
        self._warned = False

    @property
    def workers(self) -> int:
        """The number of runs that the cluster holds at once, now."""
        return max(1, self._count())

    def describe(self) -> dict[str, Any]:
        ray = self._connected()
        nodes = _nodes(ray)
        return {
            "engine": "ray",
            "ray": ray.__version__,
            "nodes": len(nodes),
            "cluster_cpus": sum(each.get("CPU", 0.0) for each in nodes),
            "cluster_gpus": sum(each.get("GPU", 0.0) for each in nodes),
            "cpus_per_run": self.cpus_per_run,
            "gpus_per_run": self.gpus_per_run,
        }

    # --- the connection -------------------------------------------------------------------------

    def __enter__(self) -> RayEngine:
        if self.address.text == "local":
            _lock_out_others()
        ray = _import_ray()
        # a connection that was there before is not ours to close
        self._ours = not ray.is_initialized()
        if self._ours:
            check_reachable(self.address)
            self._init(ray)
        self._ray = ray
        self._task = ray.remote(
            max_retries=0,
            max_calls=0,
            num_cpus=self.cpus_per_run,
            num_gpus=self.gpus_per_run,
        )(node.execute)
        try:
            self._refuse_too_large()
        except StudyError:
            self.__exit__(None, None, None)
            raise
        return self

    def _init(self, ray: ModuleType) -> None:
        settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address.text == "local":
            import joblib

            # a cluster of our own, with only as many cores as the runs need
            cores = self._most * self.cpus_per_run if self._most else joblib.cpu_count()
            settings.update(
                num_cpus=math.ceil(cores),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                _node_ip_address="127.0.0.1",
            )
        for attempt in range(2 if self.address.text.startswith(CLIENT) else 1):
            # a busy head may be slow to start its server for this client: try a second time
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ray.init(address=self.address.text, **settings)
                break
            except (Exception, SystemExit) as error:
                with contextlib.suppress(Exception):
                    ray.shutdown()
                if attempt == 0 and self.address.text.startswith(CLIENT):
                    continue
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise StudyError(
                    f"no Ray cluster can be used at {self.address.text} "
                    f"({lines[-1].strip()[:300]}); start one with `ray start --head`, check Ray's "
                    "version and token, or use --address local"
                ) from None
        _leave_messages_to_us()

    def __exit__(self, *_: object) -> None:
        ray, self._ray, self._task = self._ray, None, None
        self._parcels.clear()
        if ray is not None and self._ours:
            ray.shutdown()

    def _connected(self) -> ModuleType:
        if self._ray is None:
            raise RunError("the Ray engine is not connected; use it as `with RayEngine(...) as e:`")
        return self._ray

    # --- resources ------------------------------------------------------------------------------

    def _count(self) -> int:
        """The number of runs that fit into the living nodes, updated every few seconds."""
        if time.monotonic() - self._looked > LOOK:
            slots = sum(self._fit(each) for each in _nodes(self._connected()))
            self._slots = min(slots, self._most) if self._most else slots
            self._looked = time.monotonic()
            if self._slots == 0 and not self._warned:
                self.say("no node of the Ray cluster is left; waiting for one")
            self._warned = self._slots == 0
        return self._slots

    def _fit(self, node: dict[str, float]) -> int:
        needs = (("CPU", self.cpus_per_run), ("GPU", self.gpus_per_run))
        # 1e-9: fractions such as 3 of 0.333 may round to just below a whole number
        return min(math.floor(node.get(name, 0.0) / n + 1e-9) for name, n in needs if n > 0)

    def _refuse_too_large(self) -> None:
        nodes = _nodes(self._connected())
        if any(self._fit(each) for each in nodes):
            return
        cpus = max((each.get("CPU", 0.0) for each in nodes), default=0.0)
        gpus = max((each.get("GPU", 0.0) for each in nodes), default=0.0)
        raise StudyError(
            f"a run needs {self.cpus_per_run:g} CPUs and {self.gpus_per_run:g} GPUs, and no node "
            f"of the Ray cluster has them (at most {cpus:g} CPUs, {gpus:g} GPUs); lower "
            "--cpus-per-run and --gpus-per-run, or add a node"
        )

    # --- runs -----------------------------------------------------------------------------------

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        """Run every job on the cluster: see Engine.run. Ctrl-C cancels what is in progress."""
        tasks = _Tasks(self, self._connected())
        try:
            drive(tasks, jobs, finished)
        finally:
            tasks.cancel()

    def submit(self, job: Job) -> Any:
        """Hand one job to Ray; the files of its task are sent once."""
        if job.source not in self._parcels:
            self._parcels[job.source] = self._connected().put(pack(job.source))
        return self._task.remote(job.spec, job.source, self._parcels[job.source], self.timeout)


class _Tasks:
    """The tasks of one call of run()."""

    def __init__(self, engine: RayEngine, ray: ModuleType) -> None:
        self._engine, self._ray = engine, ray
        self._running: set[Any] = set()

    def has_room(self, running: int) -> bool:
        return running < 2 * self._engine.workers  # a free node finds its next run waiting

    def start(self, job: Job, running: int) -> Any:
        handle = self._engine.submit(job)
        self._running.add(handle)
        return handle

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        # wait for one, then take all that are ready by now
        ready, _ = self._ray.wait(list(handles), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(list(handles), num_returns=len(handles), timeout=0)
        self._running.difference_update(ready)
        return [(handle, self._outcome(handle)) for handle in ready]

    def attempts(self, outcome: dict[str, Any]) -> int:
        return ATTEMPTS_LOST if LOST in outcome else ATTEMPTS

    def _outcome(self, handle: Any) -> dict[str, Any]:
        errors = self._ray.exceptions
        try:
            outcome: dict[str, Any] = self._ray.get(handle)
        except errors.OutOfMemoryError:
            return {
                "status": "failed",
                "reason": "killed by Ray because memory ran out",
                LOST: True,
            }
        except errors.RayTaskError as error:
            return {"status": "failed", "reason": f"{type(error.cause).__name__}: {error.cause}"}
        except errors.RuntimeEnvSetupError as error:
            return {"status": "failed", "reason": f"the node could not start a worker: {error}"}
        except errors.RayError as error:
            kind = type(error).__name__
            return {
                "status": "failed",
                "reason": f"the worker process or its node died ({kind})",
                LOST: True,
            }
        return outcome

    def cancel(self) -> None:
        for handle in self._running:
            with contextlib.suppress(Exception):
                self._ray.cancel(handle, force=True)


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    return [each["Resources"] for each in ray.nodes() if each["Alive"]]


def _lock_out_others() -> None:
    """Set a secret for a cluster of our own, because Ray's servers listen on every interface.

    Ray reads the mode on import; if it is imported already, it makes a secret by itself.
    """
    if not os.environ.get("RAY_AUTH_MODE") and "ray" not in sys.modules:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _import_ray() -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError:
        raise StudyError(
            "--engine ray needs one more package: pip install 'paramcast[ray]'"
        ) from None
    return ray


def _leave_messages_to_us() -> None:
    """Keep Ray from printing the logs of dying nodes; outcomes say what they mean.

    No setting turns this off (2.60), so we replace the function that prints, if it is there.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None
