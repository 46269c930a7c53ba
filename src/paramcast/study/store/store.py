"""Finished runs, kept in a database: SQLite in the output folder, or PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ...errors import StoreError
from ..interrupts import held
from ..reading import from_json, object_from_json
from ..spec import RunSpec
from .database import (
    FULL,
    LOCKED,
    PostgresSchema,
    SqliteFile,
    cause,
    holder,
    is_away,
    is_store,
    prepare,
    to_json,
)
from .tables import about, failures, looks, runs

Read = Callable[[str], Any]
CHUNK = 500  # keys in one query, below every SQLite's limit of parameters


class Store:
    """The runs of one pilot or study.

    Each run is written in one transaction, so that a killed process leaves no half run. Failures
    have their own table and are never taken for results.

    Args:
        place: the SQLite file, or the URL of a PostgreSQL database.
        write: open to write runs, and create the tables if there are none; else nothing is changed.
            A PostgreSQL store has one writer at a time; a file is locked with its folder (see
            `folder.opened`).

    Raises:
        StoreError: it is not a store, has another version, cannot be reached, read or written, or
            another driver is writing it.

    Example::

        with contextlib.closing(Store(Path("runs.db"), write=False)) as store:
            print(store.counts())
    """

    def __init__(self, place: Path | str, *, write: bool = True) -> None:
        self.place = SqliteFile(place) if isinstance(place, Path) else PostgresSchema(place)
        self._engine = self.place.engine(write=write)
        try:
            # an address that nobody answers has a sentence of its own
            self._connect()
            if write:
                prepare(self.place, self._engine)
            else:
                with self._engine.connect() as connection:
                    if not is_store(connection, self.place):
                        raise StoreError(
                            f"{self.name} holds no study; give the folder or --store of one"
                        )
        except (SQLAlchemyError, OSError, ValueError) as error:
            self.close()
            raise StoreError(
                f"{self.name} cannot be used as a store of runs ({self._cause(error)}); "
                f"{self._remedy(error, self.place.remedy)}"
            ) from None
        except StoreError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The file, or the URL without its password."""
        return self.place.name

    @property
    def driver(self) -> str | None:
        """The driver that is writing it, in words, if a server keeps it; else ask its folder."""
        if not isinstance(self.place, PostgresSchema):
            return None
        return self.read(lambda c: holder(c.exec_driver_sql))  # type: ignore[no-any-return]

    def close(self) -> None:
        with held():  # an interrupt while a connection closes would print a traceback
            self._engine.dispose()

    # --- facts --------------------------------------------------------------------------------

    def about(self, name: str) -> Any:
        """A stored fact about this store; None if there is none of that name."""
        value = self.read(lambda c: c.scalar(select(about.c.value).where(about.c.name == name)))
        return None if value is None else self._loaded([value])[0]

    def set_about(self, name: str, value: Any) -> None:
        def write(connection: Connection) -> None:
            connection.execute(about.delete().where(about.c.name == name))
            connection.execute(about.insert(), {"name": name, "value": json.dumps(value)})

        self.write(write)

    def adopt(self, name: str, value: Any) -> Any:
        """The stored fact of that name, which the given value becomes if there is none."""
        if self.about(name) is None:
            self.set_about(name, value)
        # as it was written: JSON has made lists of tuples
        return self.about(name)

    def looks(self) -> list[int]:
        """The numbers of final seeds at which a verdict was read, in ascending order."""
        return list(
            self.read(lambda c: c.scalars(select(looks.c.seeds).order_by(looks.c.seeds)).all())
        )

    def add_look(self, seeds: int) -> None:
        if seeds not in self.looks():
            row = {"seeds": seeds, "looked_at": _now()}
            self.write(lambda c: c.execute(looks.insert(), row))

    # --- runs ---------------------------------------------------------------------------------

    def put(self, spec: RunSpec, outcome: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write one finished run, unless it is stored already: the first result stays.

        Raises:
            StoreError: it cannot be written (no space, read-only, locked, unreachable).
        """
        row = {
            **{
                name: getattr(spec, name)
                for name in ("key", "method", "lr", "phase", "seed", "share")
            },
            "status": outcome["status"],
            "spec": to_json(spec.fields()),
            "outcome": to_json({k: v for k, v in outcome.items() if k != "curve"}),
            "environment": to_json(environment),
            "finished_at": _now(),
            # the largest part, which few readers need
            "curve": to_json(outcome["curve"]) if "curve" in outcome else None,
        }

        def write(connection: Connection) -> None:
            if connection.scalar(select(runs.c.key).where(runs.c.key == spec.key)) is None:
                connection.execute(runs.insert(), row)

        self.write(write)

    def put_failure(self, spec: RunSpec, outcome: dict[str, Any]) -> None:
        """Note an attempt that failed."""
        # PostgreSQL's text cannot hold NUL, and no database can hold a lone surrogate
        storable = outcome["reason"].encode("utf-8", "backslashreplace").decode("utf-8")
        row = {
            "key": spec.key,
            "status": outcome["status"],
            "reason": storable.replace("\0", "\\x00"),
            "spec": to_json(spec.fields()),
            "failed_at": _now("microseconds"),
        }
        self.write(lambda c: c.execute(failures.insert(), row))

    def outcomes(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The outcomes of the finished runs among these keys, without their curves."""
        return self._by_key(runs.c.outcome, keys, object_from_json)

    def curves(self, keys: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """The curves of the finished runs among these keys: a point per epoch."""
        return self._by_key(func.coalesce(runs.c.curve, "[]"), keys, from_json)

    def runs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The specification and outcome of every finished run, without its curve."""
        query = select(runs.c.spec, runs.c.outcome)
        rows = self.read(lambda c: c.execute(query).all())
        specs = self._loaded([spec for spec, _ in rows], object_from_json)
        outcomes = self._loaded([outcome for _, outcome in rows], object_from_json)
        return list(zip(specs, outcomes, strict=True))

    def counts(self) -> dict[str, int]:
        """The number of stored runs by phase, and of failed attempts."""
        by_phase = select(runs.c.phase, func.count()).group_by(runs.c.phase)
        phases = self.read(lambda c: c.execute(by_phase).all())
        failed = self.read(lambda c: c.scalar(select(func.count()).select_from(failures)))
        return {**{phase: int(n) for phase, n in phases}, "failed": int(failed)}

    def _by_key(self, column: Any, keys: Iterable[str], read: Read) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in chunks(keys):
            # a database limits the names in one query, so ask in parts
            query = select(runs.c.key, column).where(runs.c.key.in_(part))
            rows = self.read(lambda c: c.execute(query).all())  # noqa: B023 - called at once
            loaded = self._loaded([text for _, text in rows], read)
            found.update(zip((key for key, _ in rows), loaded, strict=True))
        return found

    # --- transactions ---------------------------------------------------------------------------

    def read(self, query: Callable[[Connection], Any]) -> Any:
        """Run a query and return its result.

        Raises:
            StoreError: the database cannot be read.
        """
        try:
            return self._transaction(query)
        except SQLAlchemyError as error:
            raise self._unreadable(error) from None

    def write(self, action: Callable[[Connection], Any]) -> None:
        """Run an action in one transaction.

        Raises:
            StoreError: the database cannot be written.
        """
        try:
            self._transaction(action, write=True)
        except DBAPIError as error:
            what = self._remedy(error, "make room or access")
            raise StoreError(
                f"{self.name} cannot be written ({self._cause(error)}); what had finished before "
                f"is kept: {what}, and start the command again"
            ) from None

    def _transaction(self, action: Callable[[Connection], Any], *, write: bool = False) -> Any:
        # an interrupt inside a driver of databases could leave its connection unusable
        with (
            held(),
            self._engine.connect().execution_options(write=write) as connection,
            connection.begin(),
        ):
            return action(connection)

    def _connect(self) -> None:
        try:
            self._engine.connect().close()
        except SQLAlchemyError as error:
            if not isinstance(self.place, PostgresSchema):
                raise
            raise StoreError(
                f"{self.name} cannot be reached ({self._cause(error)}); check the address, the "
                "database, the user and the password (PGPASSWORD or ~/.pgpass)"
            ) from None

    def _loaded(self, texts: list[str], read: Read = from_json) -> list[Any]:
        try:
            return [read(text) for text in texts]
        except ValueError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> StoreError:
        what = self._remedy(error, self.place.remedy)
        return StoreError(f"{self.name} cannot be read ({self._cause(error)}); {what}")

    def _remedy(self, error: Exception, usual: str) -> str:
        """What to do about a database that cannot be used."""
        if isinstance(error, DBAPIError) and is_away(error):
            return "check its server"
        if any(words in str(error) for words in FULL):
            return "make room"
        if any(words in str(error) for words in LOCKED):
            return "another program has locked it: wait for it, or end it"
        return usual

    def _cause(self, error: Exception) -> str:
        return cause(error, self.place.secret)


def chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    """The keys, each once, in parts of at most CHUNK."""
    ordered = list(dict.fromkeys(keys))
    return (ordered[begin : begin + CHUNK] for begin in range(0, len(ordered), CHUNK))


def _now(precision: str = "seconds") -> str:
    return datetime.now(timezone.utc).isoformat(timespec=precision)
