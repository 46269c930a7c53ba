"""What every comparison does: open its folder, run what is missing, keep what finishes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ..errors import RunError, StoreError
from .engines import Engine, Finished, Job
from .store import Store

LOCK = ".lock"


class Watcher(Protocol):
    """Who is told how far a pilot is."""

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins with so many runs, of which some are stored already."""

    def finished(self, finished: Finished) -> None:
        """An attempt ended."""


class Runner:
    """Runs what is missing of a phase and stores it.

    Args:
        store: where runs are kept.
        out: its folder, for messages.
        environment: stored with every run.
        engine: what runs them.
        watcher: who is told how far it is.
    """

    def __init__(
        self,
        store: Store,
        out: Path,
        environment: dict[str, Any],
        *,
        engine: Engine,
        watcher: Watcher,
    ) -> None:
        self.store, self.out, self.environment = store, out, environment
        self.engine, self.watcher = engine, watcher
        self.reused = 0
        self.failures: dict[str, Finished] = {}

    def phase(self, name: str, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """All outcomes of these jobs, by the key of their specification.

        Raises:
            RunError: runs failed twice.
        """
        unique = {job.spec.key: job for job in jobs}
        outcomes = self.store.outcomes(unique)
        missing = [job for key, job in unique.items() if key not in outcomes]
        self.reused += len(outcomes)
        if unique:
            self.watcher.phase(name, len(unique), len(outcomes))

        def note(done: Finished) -> None:
            if done.outcome["status"] in ("done", "diverged"):
                outcomes[done.spec.key] = done.outcome
            self._keep(done)
            self.watcher.finished(done)

        if missing:
            self.engine.run(missing, note)
        if self.failures:
            raise RunError(self._explain(name, len(unique)))
        return outcomes

    def _keep(self, done: Finished) -> None:
        if done.outcome["status"] in ("done", "diverged"):
            self.store.put(done.spec, done.outcome, self.environment)
            self.failures.pop(done.spec.key, None)
        else:
            self.store.put_failure(done.spec, done.outcome)
            self.failures[done.spec.key] = done

    def _explain(self, name: str, total: int) -> str:
        first = next(iter(self.failures.values()))
        return (
            f"{len(self.failures)} of {total} {name} runs failed twice, so there is no verdict; "
            f"the first was {first.spec.method} at learning rate {first.spec.lr:.4g}, seed "
            f"{first.spec.seed}: {first.outcome['reason']}. The finished runs are kept in "
            f"{self.out}; mend the cause and start the same command again"
        )


@contextmanager
def opened(
    out: Path,
    database: str,
    kind: str,
    identity: dict[str, Any],
    differ: Callable[[dict[str, Any]], str],
) -> Iterator[Store]:
    """The folder's store, locked, checked to hold this specification's runs.

    Args:
        out: the folder; made where missing.
        database: the file in it.
        kind: "pilot" or "study": under this name the identity is kept in the store.
        identity: what the store must be of; {"identity": hash, ...}.
        differ: tells in words how a stored identity differs.

    Raises:
        StoreError: the folder cannot be used, or holds another specification's results.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be a folder ({error.strerror}); choose another"
        ) from None
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out} is not writable; choose another folder")
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another paramcast is running in {out}; wait for it, or choose another --out"
        ) from None
    try:
        store = Store(out / database)
        try:
            found = store.about(kind)
            if found is None:
                store.set_about(kind, identity)
            elif found["identity"] != identity["identity"]:
                raise StoreError(
                    f"{out} holds the results of another specification "
                    f"({differ(found)}); "
                    "choose another --out folder, nothing was changed"
                )
            yield store
        finally:
            store.close()
    finally:
        lock.release()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write atomically.

    Raises:
        StoreError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
