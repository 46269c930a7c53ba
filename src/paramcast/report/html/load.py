"""The files of a pilot's or study's folder, read and checked; nothing is written."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import StoreError, StudyError

KINDS = {"pilot": ("pilot.json", "pilot.db"), "study": ("study.json", "study.db")}
RESULT_SCHEMA = 1
STORE_SCHEMAS = (1, 2)  # 2 keeps the curve in a column of its own


class Run(NamedTuple):
    """A finished run: its key, specification, outcome, curve by epoch, and when it ended."""

    key: str
    spec: dict[str, Any]
    outcome: dict[str, Any]
    curve: list[dict[str, Any]]
    finished_at: str


class Failure(NamedTuple):
    """An attempt that failed."""

    spec: dict[str, Any]
    status: str
    reason: str
    failed_at: str


class Stored(NamedTuple):
    """What a folder holds: "pilot" or "study", its result as written, runs and failures."""

    kind: str
    folder: Path
    result: dict[str, Any]
    runs: list[Run]
    failures: list[Failure]


def load(folder: Path) -> Stored:
    """Read a folder that `paramcast pilot` or `paramcast study run` wrote.

    Raises:
        StudyError: nothing has finished there, or it is of another version, or one seed.
        StoreError: the runs cannot be read.
    """
    kind = _kind(folder)
    result_name, database = KINDS[kind]
    result = _result(folder / result_name)
    cells = result["cells"] if kind == "study" else [result]
    if not cells or min(cell["seeds"] for cell in cells) < 2:
        raise StudyError(
            f"{folder / result_name} has fewer than 2 seeds, and a report compares seeds in pairs; "
            "run the same command with --seeds 6 or more"
        )
    runs, failures = _read(folder / database)
    if not runs:
        raise StudyError(
            f"{folder / database} holds no finished runs; start the command that made it again"
        )
    return Stored(kind, folder, result, runs, failures)


def _kind(folder: Path) -> str:
    if not folder.is_dir():
        raise StudyError(f"{folder} is no folder; give the folder of a pilot or study")
    for kind, (result, _) in KINDS.items():
        if (folder / result).is_file():
            return kind
    for kind, (result, database) in KINDS.items():
        if (folder / database).is_file():
            raise StudyError(
                f"{folder} has no {result}: its {kind} has not finished; "
                "start the same command again, and it goes on"
            )
    raise StudyError(
        f"{folder} holds neither pilot.json nor study.json; give the folder of a pilot or study"
    )


def _result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from None
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != RESULT_SCHEMA:
        raise StudyError(
            f"{path} has schema {schema}, this paramcast reads {RESULT_SCHEMA}; "
            "use the paramcast that wrote it"
        )
    return dict(result)


def _read(path: Path) -> tuple[list[Run], list[Failure]]:
    if not path.is_file():
        raise StoreError(f"{path} is missing; a report needs the runs beside their result")
    try:
        with contextlib.closing(_connect(path)) as connection:
            found = connection.execute("SELECT value FROM about WHERE name = 'schema'").fetchone()
            schema = json.loads(found[0]) if found else None
            if schema not in STORE_SCHEMAS:
                raise StoreError(
                    f"{path.name} has schema version {schema}, this paramcast reads "
                    f"{' and '.join(map(str, STORE_SCHEMAS))}; use the paramcast that wrote it"
                )
            return _runs(connection), _failures(connection)
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise StoreError(f"{path} cannot be read as a store of runs ({error})") from None


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only. A write-ahead log needs a writable folder, unless there is nothing in it."""
    where = path.resolve().as_uri()
    connection = sqlite3.connect(f"{where}?mode=ro", uri=True)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        return sqlite3.connect(f"{where}?immutable=1", uri=True)
    return connection


def _runs(connection: sqlite3.Connection) -> list[Run]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    curve = "curve" if "curve" in columns else "NULL"
    query = f"SELECT key, spec, outcome, {curve}, finished_at FROM runs ORDER BY finished_at, key"  # noqa: S608
    runs = []
    for key, spec, outcome, apart, finished_at in connection.execute(query):
        loaded = json.loads(outcome)
        points = json.loads(apart) if apart else loaded.get("curve", [])
        runs.append(Run(key, json.loads(spec), loaded, points, finished_at))
    return runs


def _failures(connection: sqlite3.Connection) -> list[Failure]:
    query = "SELECT spec, status, reason, failed_at FROM failures ORDER BY id"
    return [Failure(json.loads(spec), *rest) for spec, *rest in connection.execute(query)]
