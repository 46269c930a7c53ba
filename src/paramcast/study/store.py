"""Finished runs, kept in a database: SQLite in the output folder."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from ..errors import StoreError
from .spec import RunSpec

SCHEMA = 1

_metadata = MetaData()
_about = Table(
    "about", _metadata, Column("name", String(64), primary_key=True), Column("value", Text)
)
_runs = Table(
    "runs",
    _metadata,
    Column("key", String(64), primary_key=True),
    Column("method", String(200), nullable=False),
    Column("lr", Float, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("status", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("finished_at", String(40), nullable=False),
)
_failures = Table(
    "failures",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("failed_at", String(40), nullable=False),
)
_looks = Table(
    "looks",
    _metadata,
    Column("seeds", Integer, primary_key=True),
    Column("looked_at", String(40), nullable=False),
)


class Store:
    """The runs of one output folder.

    Each run is written in one transaction, so a killed process leaves no half run. Failures are
    kept apart and never taken for results.

    Args:
        path: the SQLite file; it is created where missing.

    Raises:
        StoreError: the file is no database, of another version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_foreign(path)
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _set_pragmas)
        try:
            _metadata.create_all(self._engine)
            found = self.about("schema")
            if found is None:
                self.set_about("schema", SCHEMA)
            elif found != SCHEMA:
                raise StoreError(
                    f"{path.name} has schema version {found}, this paramcast reads {SCHEMA}; "
                    "use the paramcast that wrote it, or another --out folder"
                )
        except (DatabaseError, json.JSONDecodeError) as error:
            self.close()
            raise StoreError(
                f"{path} cannot be used as a store of runs ({_cause(error)}); "
                "move it away, or choose another --out folder"
            ) from None
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def about(self, name: str) -> Any:
        """A stored fact about this store, None where there is none."""
        value = self._read(lambda c: c.scalar(select(_about.c.value).where(_about.c.name == name)))
        try:
            return None if value is None else json.loads(value)
        except json.JSONDecodeError as error:
            raise self._unreadable(error) from None

    def set_about(self, name: str, value: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(_about.delete().where(_about.c.name == name))
            connection.execute(_about.insert().values(name=name, value=json.dumps(value)))

    def put(self, spec: RunSpec, outcome: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write one finished run.

        Raises:
            StoreError: it cannot be written (no space, read-only, locked).
        """
        row = {
            **{
                name: getattr(spec, name)
                for name in ("key", "method", "lr", "phase", "seed", "share")
            },
            "status": outcome["status"],
            "spec": _json(asdict(spec)),
            "outcome": _json(outcome),
            "environment": _json(environment),
            "finished_at": _now(),
        }
        self._write(_runs.insert().prefix_with("OR REPLACE").values(row))

    def put_failure(self, spec: RunSpec, outcome: dict[str, Any]) -> None:
        """Note an attempt that failed."""
        self._write(
            _failures.insert().values(
                key=spec.key,
                status=outcome["status"],
                reason=outcome["reason"],
                spec=_json(asdict(spec)),
                failed_at=_now(),
            )
        )

    def outcomes(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The outcomes of those of the keys that have finished."""
        wanted = set(keys)
        rows = self._read(lambda c: c.execute(select(_runs.c.key, _runs.c.outcome)).all())
        try:
            return {key: json.loads(text) for key, text in rows if key in wanted}
        except (json.JSONDecodeError, TypeError) as error:
            raise self._unreadable(error) from None

    def runs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Specification and outcome of every finished run."""
        rows = self._read(lambda c: c.execute(select(_runs.c.spec, _runs.c.outcome)).all())
        try:
            return [(json.loads(spec), json.loads(outcome)) for spec, outcome in rows]
        except (json.JSONDecodeError, TypeError) as error:
            raise self._unreadable(error) from None

    def counts(self) -> dict[str, int]:
        """How many runs are stored, by phase, and how many attempts failed."""
        phases = self._read(
            lambda c: c.execute(select(_runs.c.phase, func.count()).group_by(_runs.c.phase)).all()
        )
        failed = self._read(lambda c: c.scalar(select(func.count()).select_from(_failures)))
        return {**{phase: int(n) for phase, n in phases}, "failed": int(failed)}

    def looks(self) -> list[int]:
        """The numbers of final seeds at which a verdict was read, ascending."""
        seeds = self._read(
            lambda c: c.scalars(select(_looks.c.seeds).order_by(_looks.c.seeds)).all()
        )
        return list(seeds)

    def _read(self, query: Callable[[Connection], Any]) -> Any:
        try:
            with self._engine.connect() as connection:
                return query(connection)
        except SQLAlchemyError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path} cannot be read ({_cause(error)}); "
            "move it away, or choose another --out folder"
        )

    def add_look(self, seeds: int) -> None:
        if seeds not in self.looks():
            self._write(_looks.insert().values(seeds=seeds, looked_at=_now()))

    def _write(self, statement: Any) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(statement)
        except SQLAlchemyError as error:
            raise StoreError(
                f"{self.path} cannot be written ({_cause(error)}); "
                "what had finished before is kept: make room or access, and start the command again"
            ) from None


def _refuse_foreign(path: Path) -> None:
    """Leave a database alone that paramcast did not make: look at it without writing."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as c:
            tables = {name for (name,) in c.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return  # whatever is wrong with it is said when it is opened
    if tables and not set(_metadata.tables) <= tables:
        raise StoreError(
            f"{path} is a database of something else (tables {', '.join(sorted(tables)[:3])}); "
            "move it away, or choose another --out folder"
        )


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers need not wait; safe when killed
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
