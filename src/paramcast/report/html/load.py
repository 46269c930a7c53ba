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


Points = list[dict[str, Any]]


class Curve(Sequence[dict[str, Any]]):
    """One run's points by epoch, of the curves by key that `read` returns at the first look."""

    def __init__(self, key: str, read: Callable[[], dict[str, Points]]) -> None:
        self._key, self._read = key, read

    def __len__(self) -> int:
        return len(self._read().get(self._key, []))

    def __getitem__(self, index: Any) -> Any:
        return self._read().get(self._key, [])[index]


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
    found = []
    for part in chunks(new):
        rows = {row.key: row for row in _ask(store, select(*columns).where(runs.c.key.in_(part)))}
        # curves are most of a store: those of a part are read when one is first looked at
        curves = functools.cache(functools.partial(_curves, folder, url, part))
        with _readable(store):
            for key in part:
                _, spec, outcome, at = rows[key]
                parsed = object_from_json(spec), object_from_json(outcome)
                found.append(Run(_text(key), *parsed, Curve(key, curves), _text(at)))
    return found


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
