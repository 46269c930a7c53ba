"""Read and check the files of a pilot's or study's folder; nothing is written."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Select, select

from ...errors import StoreError, StudyError
from ...study.reading import object_from_json
from ...study.store.folder import DATABASE, RESULT, reading
from ...study.store.store import Store, chunks
from ...study.store.tables import failures, runs
from ...study.stored import Result, read_result
from ...study.tables.saving import runs_of

MOST_ROWS = 5000
"""Of a table of results that a page repeats."""


class Run(NamedTuple):
    """A finished run: key, specification, outcome, curve by epoch, and time of its end."""

    key: str
    spec: dict[str, Any]
    outcome: dict[str, Any]
    curve: Sequence[dict[str, Any]]
    finished_at: str


class Failure(NamedTuple):
    """An attempt that failed."""

    spec: dict[str, Any]
    status: str
    reason: str
    failed_at: str


class Stored(NamedTuple):
    """The content of a folder: its kind, as in its result, the result, runs and failures."""

    kind: str
    folder: Path
    result: Result
    runs: list[Run]
    failures: list[Failure]


def load(folder: Path) -> Stored:
    """Read a folder that `paramcast pilot` or `paramcast study run` wrote.

    Raises:
        StudyError: nothing has finished there, it is of another version, or it has one seed.
        StoreError: the runs cannot be read.
    """
    result = read_result(folder)
    if min(cell["seeds"] for cell in result["cells"]) < 2:
        raise StudyError(
            f"{folder / RESULT} has fewer than 2 seeds, and a report compares seeds in pairs; "
            "run the same command with --seeds 6 or more"
        )
    if result["kind"] == "table":  # its rows are the runs, without a store
        (cell,) = result["cells"]
        many = sum(len(row["values"]) for row in cell["table"]) > MOST_ROWS
        own = [] if many else [Run(*each, [], "") for each in runs_of(cell)]
        return Stored("table", folder, result, own, [])
    finished, wrong = read_runs(folder)
    if not finished:
        raise StudyError(
            f"{folder / DATABASE} holds no finished runs; start the command that made it again"
        )
    return Stored(result["kind"], folder, result, finished, wrong)


def folder_of(place: Path) -> Path:
    """The folder of a pilot or study, given the folder or one of its files."""
    return place.parent if place.name in (DATABASE, RESULT) and place.is_file() else place


def read_runs(folder: Path) -> tuple[list[Run], list[Failure]]:
    """Read every run and failure of the folder's store, a file or a PostgreSQL database.

    Raises:
        StoreError: they cannot be read.
    """
    with reading(folder) as store:
        return new_runs(store, folder), new_failures(store)


def new_runs(
    store: Store, folder: Path, url: str | None = None, seen: Container[str] = ()
) -> list[Run]:
    """The finished runs, by when they ended, but for those of these keys.

    Args:
        store: open.
        folder, url: where it is, for the curves, which are read when one is first looked at.
        seen: the keys of runs that are known.

    Raises:
        StoreError: they cannot be read.
    """
    # keys first: a follower knows most of them, and asks for few rows
    ended = select(runs.c.key).order_by(runs.c.finished_at)
    new = [key for (key,) in _ask(store, ended) if key not in seen]
    columns = (runs.c.key, runs.c.spec, runs.c.outcome, runs.c.finished_at)
    rows: dict[str, Any] = {}
    for part in chunks(new):
        found = _ask(store, select(*columns).where(runs.c.key.in_(part)))
        rows |= {row.key: row for row in found}
    with _readable(store):
        read = [_run(*rows[key]) for key in new]
    # curves are most of a store
    curves = later(new, functools.partial(_curves, folder, url))
    return [run._replace(curve=curve) for run, curve in zip(read, curves, strict=True)]


def new_failures(store: Store, seen: int = 0) -> list[Failure]:
    """The attempts that failed, but for the first ones, of which so many are known.

    Raises:
        StoreError: they cannot be read.
    """
    columns = (failures.c.spec, failures.c.status, failures.c.reason, failures.c.failed_at)
    query = select(*columns).order_by(failures.c.id).offset(seen)
    with _readable(store):
        return [
            Failure(object_from_json(spec), *map(_text, rest)) for spec, *rest in _ask(store, query)
        ]


def _ask(store: Store, query: Select[Any]) -> Any:
    return store.read(lambda connection: connection.execute(query).all())


@contextlib.contextmanager
def _readable(store: Store) -> Iterator[None]:
    """A store may hold anything, so it is checked before it reaches a page."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{store.name} cannot be read ({error}); move it away and run again"
        ) from None


def _run(key: str, spec: str, outcome: str, finished_at: str) -> Run:
    """A run without its curve."""
    return Run(
        _text(key), object_from_json(spec), object_from_json(outcome), [], _text(finished_at)
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is not text")
    return value


def _curves(folder: Path, url: str | None, keys: list[str]) -> dict[str, Points]:
    with reading(folder, url) as store:
        found = store.curves(keys)
    if not all(isinstance(points, list) for points in found.values()):
        raise StoreError(f"{store.name} cannot be read (a curve is not a list); move it away")
    return found


# --- curves are most of a large store, so they are read when one is first looked at ---------------

Points = list[dict[str, Any]]
Read = Callable[[list[str]], dict[str, Points]]


class Batch:
    """Runs whose curves are read together."""

    def __init__(self, keys: list[str], read: Read) -> None:
        self._keys, self._read = keys, read

    @functools.cached_property
    def points(self) -> dict[str, Points]:
        return self._read(self._keys)


class Curve(Sequence[dict[str, Any]]):
    """One run's points by epoch; the first look at one reads the curves of its whole batch."""

    def __init__(self, key: str, batch: Batch) -> None:
        self._key, self._batch = key, batch

    def __len__(self) -> int:
        return len(self._batch.points.get(self._key, []))

    def __getitem__(self, index: Any) -> Any:
        return self._batch.points.get(self._key, [])[index]


def later(keys: Sequence[str], read: Read) -> list[Curve]:
    """A curve for each key; the first look at one calls `read` with the keys of its batch."""
    batches = [(part, Batch(part, read)) for part in chunks(keys)]
    return [Curve(key, batch) for part, batch in batches for key in part]
