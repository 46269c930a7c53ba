"""What every comparison does: run what is missing, keep what finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import RunError
from .claims import LEASE, Claims, Share
from .engines import Engine, Finished, Job
from .folder import opened as opened
from .folder import write_json as write_json
from .folder import write_text as write_text
from .interrupts import held
from .live import Live
from .store import Store, chunks

GOOD = ("done", "diverged")
LARGE = ("curve", "class_counts")
PLANNED = "planned"
"""What a store says of the number of runs, by phase."""


class Watcher(Protocol):
    """Who is told how far a pilot is."""

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins with so many runs, of which some are stored already."""

    def finished(self, finished: Finished) -> None:
        """An attempt ended."""

    def waiting(self, runs: int) -> None:
        """Other drivers have all runs that are left, so many."""


class Runner:
    """Runs what is missing of a phase and stores it.

    On a shared store other drivers may do the same: each run is claimed before it is started. A
    run that failed twice, here or in another driver, is not tried again by those that were at work
    then; who starts later tries it again.

    Args:
        store: where runs are kept.
        out: its folder, for messages.
        environment: stored with every run.
        engine: what runs them.
        watcher: who is told how far it is.
        lease: seconds after which others take over what a dead driver was running.
        live: where runs tell how far they are.
    """

    def __init__(
        self,
        store: Store,
        out: Path,
        environment: dict[str, Any],
        *,
        engine: Engine,
        watcher: Watcher,
        lease: float = LEASE,
        live: Live | None = None,
    ) -> None:
        self.store, self.out, self.environment, self.live = store, out, environment, live
        self.engine, self.watcher, self.lease = engine, watcher, lease
        self.reused = 0
        self.failures: dict[str, Finished] = {}

    def phase(self, name: str, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """All outcomes of these jobs, by the key of their specification.

        Curves and counts per class stay in the store: there may be very many runs.

        Raises:
            RunError: runs failed twice.
            StoreError: the store cannot be read or written.
        """
        place = None if self.live is None else str(self.live.path)
        unique = {job.spec.key: job._replace(live=place) for job in jobs}
        self._plan(name, len(unique))
        outcomes: dict[str, dict[str, Any]] = {}
        for part in chunks(unique):
            found = self.store.outcomes(part)
            outcomes.update((key, _kept(outcome)) for key, outcome in found.items())
        missing = {key: job for key, job in unique.items() if key not in outcomes}
        self.reused += len(outcomes)
        if unique:
            self.watcher.phase(name, len(unique), len(outcomes))

        def note(done: Finished) -> None:
            if done.outcome["status"] in GOOD:
                outcomes[done.spec.key] = _kept(done.outcome)
                self.failures.pop(done.spec.key, None)
            else:
                self.failures[done.spec.key] = done
            self.watcher.finished(done)

        if missing and self.store.shared:
            self._divide(missing, note)
        elif missing:
            self._run(missing.values(), note)
        if self.failures:
            raise RunError(self._explain(name, len(unique)))
        return outcomes

    def _plan(self, name: str, runs: int) -> None:
        """Note how many runs the phase has, for who watches."""
        planned = self.store.about(PLANNED) or {}
        if planned.get(name) != runs:
            self.store.set_about(PLANNED, {**planned, name: runs})

    def _divide(self, missing: Mapping[str, Job], note: Callable[[Finished], None]) -> None:
        """Run what this driver can claim, until every run has ended here or elsewhere."""
        with Claims(self.store, self.lease) as claims:
            share = Share(claims, missing, self.engine.workers, note)
            self._run(self._claimed(share), note, claims.driver)

    def _claimed(self, share: Share) -> Iterator[Job | None]:
        for job in share:
            if job is None:
                self.watcher.waiting(share.left)
            yield job

    def _run(
        self,
        jobs: Iterable[Job | None],
        note: Callable[[Finished], None],
        driver: str | None = None,
    ) -> None:
        def keep(done: Finished) -> None:
            with held():  # what is stored is counted too
                note(self._keep(done, driver))
            if self.live is not None:
                self.live.ended(done.spec.key)

        self.engine.run(jobs, keep)

    def _keep(self, done: Finished, driver: str | None) -> Finished:
        """Store an attempt; what comes back is what the store holds."""
        if done.outcome["status"] not in GOOD:
            self.store.put_failure(done.spec, done.outcome, driver=None if done.again else driver)
            return done
        if self.store.put(done.spec, done.outcome, self.environment, driver=driver):
            return done
        key = done.spec.key  # another driver was first: this one had been taken for dead
        return done._replace(outcome=self.store.outcomes([key])[key])

    def _explain(self, name: str, total: int) -> str:
        first = next(iter(self.failures.values()))
        return (
            f"{len(self.failures)} of {total} {name} runs failed twice, so there is no verdict; "
            f"the first was {first.spec.method} at learning rate {first.spec.lr:.4g}, seed "
            f"{first.spec.seed}: {first.outcome['reason']}. The finished runs are kept in "
            f"{self.out}; mend the cause and start the same command again"
        )


def _kept(outcome: dict[str, Any]) -> dict[str, Any]:
    """What a comparison needs of an outcome."""
    return {name: value for name, value in outcome.items() if name not in LARGE}
