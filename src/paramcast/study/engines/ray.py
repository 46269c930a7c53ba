"""Run on a Ray cluster: many machines, the same outcomes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import StudyError
from ..tasks.source import Source
from . import node
from .base import ATTEMPTS, Engine, Finished, Job

# how often a run whose process or node dies is tried in all; the run is rarely to blame
ATTEMPTS_LOST = 4
LOST = "lost"  # marks the outcome of such a run
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anyone
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "5",  # seconds that a cluster has to accept us
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5",
}
LOOK = 2.0  # seconds between two looks at the nodes of the cluster
CLIENT = "ray://"
ANSWER_SECONDS = 6.0


class RayEngine(Engine):
    """Tasks on a Ray cluster, one per run, each with one thread.

    A run that fails or exceeds the timeout is tried again; a run whose process or node dies is
    tried up to four times in all. Ray itself retries nothing, so that every attempt is counted.
    Only the driver writes the store: if it dies, only the runs in progress are lost.

    Args:
        address: "auto" is the cluster that this machine belongs to, "HOST:6379" a node of it, and
            "ray://HOST:10001" is for clients from anywhere.
        timeout: seconds that one run may take.
        cpus_per_run, gpus_per_run: what Ray reserves for a run; fractions share a device.
        workers: at most this many runs at once; None for as many as the cluster holds.

    Raises:
        StudyError: on entering the context, Ray is not installed or nothing answers there.
    """

    def __init__(
        self,
        address: str = "auto",
        timeout: float | None = None,
        *,
        cpus_per_run: float = 1.0,
        gpus_per_run: float = 0.0,
        workers: int | None = None,
    ) -> None:
        self.address, self.timeout = address, timeout
        self.cpus_per_run, self.gpus_per_run = cpus_per_run, gpus_per_run
        self._most = workers
        self._ray: Any = None  # the module, once it is connected
        self._ours = False  # we made the connection, so we end it
        self._task: Any = None
        self._parcels: dict[Source, Any] = {}
        self._running: set[Any] = set()
        self._slots, self._looked = 0, -math.inf
        self._warned = False

    def describe(self) -> dict[str, Any]:
        nodes = self._nodes()
        return {
            "engine": "ray",
            "ray": self._ray.__version__,
            "nodes": len(nodes),
            "cluster_cpus": sum(each.get("CPU", 0.0) for each in nodes),
            "cluster_gpus": sum(each.get("GPU", 0.0) for each in nodes),
            "cpus_per_run": self.cpus_per_run,
            "gpus_per_run": self.gpus_per_run,
        }

    # --- the connection -------------------------------------------------------------------------

    def __enter__(self) -> RayEngine:
        self._ray = ray = _import_ray()
        # a connection that was there before is not ours to close
        self._ours = not ray.is_initialized()
        if self._ours:
            check_reachable(self.address)
            self._connect()
        self._task = ray.remote(
            max_retries=0, max_calls=0, num_cpus=self.cpus_per_run, num_gpus=self.gpus_per_run
        )(node.execute)
        # a run that no node could ever take would wait for ever
        nodes = self._nodes()
        if not any(self._fit(each) for each in nodes):
            self.__exit__()
            cpus, gpus = (max((n.get(k, 0.0) for n in nodes), default=0.0) for k in ("CPU", "GPU"))
            raise StudyError(
                f"a run needs {self.cpus_per_run:g} CPUs and {self.gpus_per_run:g} GPUs, and no "
                f"node of the Ray cluster has them (at most {cpus:g} CPUs, {gpus:g} GPUs); lower "
                "--cpus-per-run and --gpus-per-run, or add a node"
            )
        return self

    def _connect(self) -> None:
        # a busy head may be slow to start its server for a client: try a second time
        for left in reversed(range(2 if self.address.startswith(CLIENT) else 1)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._ray.init(
                        address=self.address, logging_level=logging.ERROR, log_to_driver=False
                    )
                break
            except (Exception, SystemExit) as error:
                with contextlib.suppress(Exception):
                    self._ray.shutdown()
                if left:
                    continue
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise StudyError(
                    f"no Ray cluster can be used at {self.address} "
                    f"({lines[-1].strip()[:300]}); start one with `ray start --head`, or check "
                    "Ray's version and token"
                ) from None
        # Ray prints the logs of dying nodes, which no setting turns off (2.60); outcomes say it
        with contextlib.suppress(ImportError, AttributeError):
            from ray._private import worker

            worker.print_to_stdstream = lambda *_, **__: None

    def __exit__(self, *_: object) -> None:
        self._parcels.clear()
        if self._ours:
            self._ray.shutdown()

    # --- resources ------------------------------------------------------------------------------

    @property
    def workers(self) -> int:  # type: ignore[override]
        """The number of runs that the cluster holds at once; looked up every few seconds."""
        if time.monotonic() - self._looked > LOOK:
            slots = sum(map(self._fit, self._nodes()))
            self._slots = min(slots, self._most) if self._most else slots
            self._looked = time.monotonic()
            if self._slots == 0 and not self._warned:
                self.say("no node of the Ray cluster is left; waiting for one")
            self._warned = self._slots == 0
        return max(1, self._slots)

    def _nodes(self) -> list[dict[str, float]]:
        return [each["Resources"] for each in self._ray.nodes() if each["Alive"]]

    def _fit(self, node: dict[str, float]) -> int:
        """The number of runs that a node holds."""
        needs = (("CPU", self.cpus_per_run), ("GPU", self.gpus_per_run))
        # 1e-9: fractions such as 3 of 0.333 may round to just below a whole number
        return min(math.floor(node.get(name, 0.0) / n + 1e-9) for name, n in needs if n > 0)

    # --- runs -----------------------------------------------------------------------------------

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        try:
            super().run(jobs, finished)
        finally:  # Ctrl-C cancels what is in progress
            for handle in self._running:
                with contextlib.suppress(Exception):
                    self._ray.cancel(handle, force=True)
            self._running.clear()

    def start(self, job: Job, running: int) -> Any:
        # the files of a task are sent once
        if job.source not in self._parcels:
            self._parcels[job.source] = self._ray.put(node.pack(job.source))
        parcel = self._parcels[job.source]
        handle = self._task.remote(job.spec, job.source, parcel, self.timeout)
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
        errors, lost = self._ray.exceptions, {LOST: True}
        try:
            outcome: dict[str, Any] = self._ray.get(handle)
            return outcome
        except errors.OutOfMemoryError:
            reason = "killed by Ray because memory ran out"
        except errors.RayTaskError as error:
            reason, lost = f"{type(error.cause).__name__}: {error.cause}", {}
        except errors.RuntimeEnvSetupError as error:
            reason, lost = f"the node could not start a worker: {error}", {}
        except errors.RayError as error:
            reason = f"the worker process or its node died ({type(error).__name__})"
        return {"status": "failed", "reason": reason, **lost}


def check_reachable(address: str) -> None:
    """Refuse an address at which nothing speaks gRPC, as Ray does, within seconds.

    Ray itself waits for minutes.
    """
    if address == "auto" or os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    import grpc

    with grpc.insecure_channel(address.removeprefix(CLIENT)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise StudyError(
                f"no Ray cluster answers at {address[:80]}; start one with `ray start --head`, or "
                f"check host, firewall and port (6379 of `ray start`, 10001 of its clients)"
            ) from None


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
