"""Following a pilot or study: each look reads what has come since the last one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from ...errors import StoreError, StudyError
from ...study.reading import from_json, object_from_json
from ...study.store.folder import RESULT, reading, remembers, specification_of
from ...study.store.live import InProgress, driver, in_progress
from ...study.store.store import Store, chunks
from ...study.store.tables import failures, runs
from ...study.stored import Result, read_result
from ..html.load import Failure, Run


class Look(NamedTuple):
    """What a look found beside the runs.

    Attributes:
        kind: "pilot" or "study".
        about: what the store is of.
        planned: runs by phase ("tuning", "final"), a pilot's "seeds", and the least, usual and most
            runs of its "price"; empty if not known.
        result: None until the verdict.
        driver: who is at work, in words; None where nobody is.
        running: runs in progress that can be seen from here.
    """

    kind: str
    about: dict[str, Any]
    planned: dict[str, Any]
    result: Result | None
    driver: str | None
    running: list[InProgress]

    @property
    def finished(self) -> bool:
        """Whether the verdict is there, for the seeds that were asked for last."""
        if self.result is None or self.driver:
            return False
        asked = self.planned.get("seeds")
        return asked is None or self.result["cells"][0]["planned_seeds"] == asked


class Follower:
    """Reads a folder's store again and again, each run once.

    Args:
        folder: of a pilot or study; for another place of the store it may be missing.
        url: of a PostgreSQL store; None for the one that the folder names, else its file.
        ended, failed: told of each finished run and of each failed attempt, once.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None = None,
        *,
        ended: Callable[[Run], None],
        failed: Callable[[Failure], None] = lambda _: None,
    ) -> None:
        self.folder, self.url = folder, url
        self._ended, self._failed = ended, failed
        self.kind = ""  # as soon as it is known
        self._seen: set[str] = set()
        self._last_failure = 0
        self._verdict: tuple[int, Result | None] = (0, None)

    def look(self) -> Look:
        """Read what is new.

        Raises:
            StudyError: there is no store, or it cannot be read.
        """
        if self.url is None and not remembers(self.folder):
            raise StudyError(
                f"{self.folder} holds no pilot or study yet; give the folder of one (its --out)"
            )
        with reading(self.folder, self.url) as store:
            about = specification_of(store)
            self.kind = kind = about["kind"]
            self._read_runs(store)
            self._read_failures(store)
            planned = store.about("planned") or {}
            at_work = store.driver or driver(self.folder)
        running = [run for run in in_progress(self.folder) if run.key not in self._seen]
        result = self._result()
        return Look(kind, about, planned, result, at_work, running)

    def _read_runs(self, store: Store) -> None:
        ended = select(runs.c.key).order_by(runs.c.finished_at, runs.c.key)
        keys = store.read(lambda c: c.scalars(ended).all())
        new = [key for key in keys if key not in self._seen]
        if not new:
            return
        query = select(runs.c.key, runs.c.spec, runs.c.outcome, runs.c.curve, runs.c.finished_at)
        for part in chunks(new):
            chosen = query.where(runs.c.key.in_(part)).order_by(runs.c.finished_at, runs.c.key)
            for row in store.read(functools.partial(_all, query=chosen)):
                self._ended(_loaded(store, *row))
                self._seen.add(row.key)

    def _read_failures(self, store: Store) -> None:
        query = select(
            failures.c.id,
            failures.c.spec,
            failures.c.status,
            failures.c.reason,
            failures.c.failed_at,
        ).order_by(failures.c.id)
        chosen = query.where(failures.c.id > self._last_failure)
        for number, spec, *rest in store.read(lambda c: c.execute(chosen).all()):
            self._last_failure = number
            try:
                failed = Failure(object_from_json(spec), *map(str, rest))
            except ValueError as error:
                raise _unreadable(store, error) from None
            self._failed(failed)

    def _result(self) -> Result | None:
        """The verdict's file, if it is there, read again when it changes; a damaged one is none."""
        try:
            changed = (self.folder / RESULT).stat().st_mtime_ns
            if self._verdict[0] != changed:
                self._verdict = (changed, read_result(self.folder))
        except (OSError, StudyError):
            return None
        return self._verdict[1]


def _all(connection: Connection, query: Any) -> Any:
    return connection.execute(query).all()


def newest(parent: Path) -> Path:
    """The folder itself if it has a store, else that of its folders whose store changed last."""
    if remembers(parent):
        return parent
    found = [(_changed(folder), folder) for folder in parent.glob("*") if remembers(folder)]
    return max(found)[1] if found else parent


def _changed(folder: Path) -> float:
    times = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()]
    return max(times, default=0.0)


def _loaded(
    store: Store, key: str, spec: str, outcome: str, curve: str | None, finished_at: str
) -> Run:
    try:
        points = from_json(curve) if curve else []
        return Run(key, object_from_json(spec), object_from_json(outcome), points, finished_at)
    except ValueError as error:
        raise _unreadable(store, error) from None


def _unreadable(store: Store, error: Exception) -> StoreError:
    return StoreError(f"{store.name} cannot be read ({error}); {store.place.remedy}")
