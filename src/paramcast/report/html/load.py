"""Read and check the files of a pilot's or study's folder; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

from sqlalchemy import select

from ...errors import StoreError, StudyError
from ...study.reading import object_from_json
from ...study.store.folder import DATABASE, RESULT, reading
from ...study.store.tables import failures, runs
from ...study.stored import Result, read_result
from ...study.tables.saving import runs_of

FAILURE = (failures.c.spec, failures.c.status, failures.c.reason, failures.c.failed_at)
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
        query = select(runs.c.key, runs.c.spec, runs.c.outcome, runs.c.finished_at)
        found = store.read(lambda c: c.execute(query.order_by(runs.c.finished_at)).all())
        wrong = store.read(lambda c: c.execute(select(*FAILURE).order_by(failures.c.id)).all())
        name = store.name
    try:
        # a store may hold anything, so check it before it reaches the page
        failed = [Failure(object_from_json(spec), *rest) for spec, *rest in wrong]
        if not all(isinstance(text, str) for _, *texts in failed for text in texts):
            raise ValueError("a failure is not text")
        read = [_run(*row) for row in found]
    except (ValueError, TypeError) as error:
        raise StoreError(f"{name} cannot be read ({error}); move it away and run again") from None
    curves = later([run.key for run in read], partial(_curves, folder))
    return [run._replace(curve=curve) for run, curve in zip(read, curves, strict=True)], failed


def _run(key: str, spec: str, outcome: str, finished_at: str) -> Run:
    """A run without its curve, which is read when someone looks at it."""
    if not isinstance(key, str) or not isinstance(finished_at, str):
        raise ValueError("a run's key or time is not text")
    return Run(key, object_from_json(spec), object_from_json(outcome), [], finished_at)


def _curves(folder: Path, keys: list[str]) -> dict[str, list[dict[str, Any]]]:
    with reading(folder) as store:
        found = store.curves(keys)
    if not all(isinstance(points, list) for points in found.values()):
        raise StoreError(f"{store.name} cannot be read (a curve is not a list); move it away")
    return found


# --- curves are most of a large store, so they are read when one is first looked at ---------------

Points = list[dict[str, Any]]
Read = Callable[[list[str]], dict[str, Points]]
BATCH = 500
"""The number of runs whose curves are read together."""


class Curve(Sequence[dict[str, Any]]):
    """One run's points by epoch; the first look at one reads the curves of its whole batch."""

    def __init__(self, key: str, batch: list[Curve], read: Read) -> None:
        self._key, self._batch, self._read = key, batch, read
        self._points: Points | None = None

    def _all(self) -> Points:
        if self._points is None:
            found = self._read([curve._key for curve in self._batch])
            for curve in self._batch:
                curve._points = found.get(curve._key, [])
        return self._points or []

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Points: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Points:
        return self._all()[index]


def later(keys: Sequence[str], read: Read) -> list[Curve]:
    """A curve for each key; the first look at one calls `read` with the keys of its batch."""
    curves: list[Curve] = []
    for start in range(0, len(keys), BATCH):
        batch: list[Curve] = []
        batch += [Curve(key, batch, read) for key in keys[start : start + BATCH]]
        curves += batch
    return curves
