"""Run what is missing of a comparison, and store what finishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import RunError, StudyError
from .engines import Engine, Finished, Job
from .interrupts import held
from .spec import RunSpec
from .store.live import Live
from .store.store import Store, chunks

GOOD = ("done", "diverged")
HOPELESS_FROM = 2
"""Runs of a method that fail, and none that succeeds, after which the rest are not tried."""
LARGE = ("curve", "class_counts")
"""Parts of an outcome that no comparison needs in memory."""
PLANNED = "planned"
"""The name under which a store keeps the number of runs by phase."""


class Watcher(Protocol):
    """Is told how far a comparison is."""

    def phase(self, name: str, total: int, reused: int) -> None:
        """A phase begins with `total` runs, of which `reused` are stored already."""

    def finished(self, finished: Finished) -> None:
        """An attempt ended."""


class Runner:
    """Runs what a phase lacks, and stores it.

    A run that failed twice is not tried again until the user starts the command again. Where the
    first runs of a method all fail, its others are not tried either.

    Args:
        store: where runs are kept.
        out: its folder, for messages.
        environment: stored with every run.
        engine: what runs them.
        watcher: told how far the comparison is.
        live: the folder in which runs report how far they are.
    """

    def __init__(
        self,
        store: Store,
        out: Path,
        environment: dict[str, Any],
        *,
        engine: Engine,
        watcher: Watcher,
        live: Live | None = None,
    ) -> None:
        self.store, self.out, self.environment, self.live = store, out, environment, live
        self.engine, self.watcher = engine, watcher
        self.reused = 0
        self.failures: dict[str, Finished] = {}
        self._work: set[tuple[str, str]] = set()  # tasks with the methods that ran on them

    def phase(self, name: str, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """Run what is missing of these jobs, which no phase had before; their outcomes by key.

        Curves and counts per class stay in the store, because there may be very many runs.

        Raises:
            RunError: runs failed twice.
            StoreError: the store cannot be read or written.
        """
        place = None if self.live is None else str(self.live.path)
        unique = {job.spec.key: job._replace(live=place) for job in jobs}
        planned = self.store.about(PLANNED) or {}  # shown by `paramcast watch` and `study status`
        self.store.set_about(PLANNED, {**planned, name: planned.get(name, 0) + len(unique)})
        # what is stored already
        outcomes: dict[str, dict[str, Any]] = {}
        for part in chunks(unique):
            found = self.store.outcomes(part)
            outcomes.update((key, _kept(outcome)) for key, outcome in found.items())
        missing = {key: job for key, job in unique.items() if key not in outcomes}
        self.reused += len(outcomes)
        self._work |= {(unique[key].spec.task, unique[key].spec.method) for key in outcomes}
        if unique:
            self.watcher.phase(name, len(unique), len(outcomes))

        def keep(done: Finished) -> None:
            key = done.spec.key
            with held():  # Ctrl-C never falls between storing a run and counting it
                if done.outcome["status"] not in GOOD:
                    self.store.put_failure(done.spec, done.outcome)
                    if done.outcome.get("misuse"):  # every other run would fail so, too
                        raise StudyError(done.outcome["reason"])
                    self.failures[key] = done
                else:
                    self.store.put(done.spec, done.outcome, self.environment)
                    outcomes[key] = _kept(done.outcome)
                    self._work.add((done.spec.task, done.spec.method))
                    self.failures.pop(key, None)
                self.watcher.finished(done)
            if self.live is not None:
                self.live.ended(key)

        # a method whose first runs all fail would fail on every seed
        skipped: list[Job] = []

        def hopeful() -> Iterator[Job]:
            for key in missing:
                if self._hopeless(unique[key].spec):
                    skipped.append(unique[key])
                else:
                    yield unique[key]

        if missing:
            self.engine.run(hopeful(), keep)
        if self.failures:
            first = next(iter(self.failures.values()))
            rate = f" at learning rate {first.spec.lr:.4g}" if first.spec.lr else ""
            # some rates went well
            some = name == "tuning" and len(self.failures) + len(skipped) < len(unique)
            lost = (
                "; if it is the learning rate, narrow --lr-range, or end the training with a loss "
                "of NaN there, which counts as diverged"
            )
            untried = f", {len(skipped)} more like them were not tried" if skipped else ""
            raise RunError(
                f"{len(self.failures)} of {len(unique)} {name} runs failed twice{untried}, so "
                f"there is no verdict; the first was {first.spec.method}{rate}, "
                f"seed {first.spec.seed}: {first.outcome['reason']}. The "
                f"finished runs are kept in {self.out}; fix the cause and start the same command "
                f"again{lost if some else ''}"
            )
        return outcomes

    def _hopeless(self, spec: RunSpec) -> bool:
        """Whether runs of a method on a task have only failed."""
        kind = spec.task, spec.method
        ended = [each.spec for each in self.failures.values() if not each.again]
        failed = sum((each.task, each.method) == kind for each in ended)
        return failed >= HOPELESS_FROM and kind not in self._work


def _kept(outcome: dict[str, Any]) -> dict[str, Any]:
    """The parts of an outcome that a comparison needs."""
    return {name: value for name, value in outcome.items() if name not in LARGE}
