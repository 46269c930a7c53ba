"""Where a store's tables lie: a SQLite file or a PostgreSQL schema, opened, checked, migrated."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from ..errors import StoreError
from .reading import from_json, moment, object_from_json, shown
from .tables import (
    FIRST_TABLES,
    SCHEMA,
    about,
    failures_by_key,
    metadata,
    runs,
    runs_by_phase,
)

SCHEMES = ("postgresql", "postgresql+psycopg")
SECRETS = ("password", "sslpassword", "passfile")
LOCK = """
    SELECT pg_try_advisory_lock(1885434467, oid::int)
    FROM (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AS store"""
"""The store's schema, locked under a number that others will not use: "parc" as four bytes."""
HOLDER = """
    SELECT application_name, backend_start
    FROM pg_locks JOIN pg_stat_activity USING (pid) JOIN pg_namespace n ON n.oid = objid
    WHERE locktype = 'advisory' AND classid = 1885434467 AND nspname = current_schema()
        AND datname = current_database()"""
CONNECTING = {
    "connect_timeout": 5,  # seconds per address of the host
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms: a server that vanished is noticed
    "application_name": f"paramcast, process {os.getpid()} on {socket.gethostname()}",
}
NOTICING = ("tcp_keepalives_idle = 15", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")
"""The same for the server (seconds): a driver whose machine vanished keeps no lock."""
PATIENCE = 10.0
"""Seconds for which a locked database, or a server that is away, is waited for."""
FULL = ("disk is full", "No space left on device")
PLAIN = ("CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ")
MOST_BYTES = 64 * 2**20
"""Of one stored value; the curve of 100,000 epochs has a third of that."""
LOCKED = ("database is locked", "lock timeout")


class SqliteFile:
    """A file in the output folder; one driver at a time, by the folder's lock."""

    remedy = "move it away, or choose another folder"

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.secret = path, str(path), None

    def engine(self, *, write: bool) -> Engine:
        self._refuse_foreign()
        engine = create_engine(URL.create("sqlite", database=str(self.path)))  # "?" is a name too
        event.listen(engine, "connect", _set_pragmas)
        if write:
            event.listen(engine, "connect", _keep_a_log)
        event.listen(engine, "begin", _begin)
        return engine

    def check(self, connection: Connection) -> None:
        """Refuse a file that computes something by itself when it is read or written."""
        _refuse_living(connection.exec_driver_sql, self)

    def insert(self) -> Callable[[Table], Any]:
        """The dialect's INSERT, which knows ON CONFLICT; each dialect is slow to import."""
        from sqlalchemy.dialects.sqlite import insert

        return insert

    def back_up(self, version: int) -> None:
        """A copy beside the file, made once."""
        copy = self.path.with_name(f"{self.path.name}.v{version}.bak")
        if copy.exists():
            return
        partial = copy.with_name(f"{copy.name}.partial")
        partial.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
        os.replace(partial, copy)

    def _refuse_foreign(self) -> None:
        """Leave a database alone that paramcast did not make: look at it without writing."""
        if not self.path.is_file() or self.path.stat().st_size == 0:
            return
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
                refuse_foreign(found, self)
                _refuse_living(connection.execute, self)
        except sqlite3.Error:
            return  # whatever is wrong with it is said when it is opened


class PostgresSchema:
    """The first schema of a PostgreSQL server's search path; one driver at a time.

    The lock is the server's: it belongs to the connection, and ends with it however a driver dies.
    A driver has one connection, which takes the lock before anything else. So nothing is written
    without it, also where a server started anew.

    Raises:
        StoreError: the text is no such URL.
    """

    remedy = "see docs/store.md, or give another --store"

    def __init__(self, url: str) -> None:
        self.url = parse(url)
        self.name, self.secret = without_password(self.url), self.url.password

    def engine(self, *, write: bool) -> Engine:
        given = {k: v for k, v in CONNECTING.items() if k not in self.url.query}
        try:
            engine = create_engine(self.url, connect_args=given, pool_size=1, max_overflow=0)
        except ImportError:
            raise StoreError(
                "--store postgresql://... needs a driver: pip install 'paramcast[postgres]'"
            ) from None
        if write:
            event.listen(engine, "connect", self._lock)
        return engine

    def check(self, connection: Connection) -> None:
        """Nothing: what its schema holds is the business of whoever owns it."""

    def insert(self) -> Callable[[Table], Any]:
        """As that of SqliteFile."""
        from sqlalchemy.dialects.postgresql import insert

        return insert

    def _lock(self, connection: Any, _record: Any) -> None:
        try:
            for setting in NOTICING:
                connection.execute(f"SET {setting}")
            taken = connection.execute(LOCK).fetchone()
            if taken == (False,):  # none: there is no schema, which is said when it is needed
                raise in_use(self.name, holder(connection.execute), "choose another --store")
            connection.commit()
        except BaseException:
            connection.close()
            raise

    def back_up(self, version: int) -> None:
        """Nothing: there is no version of a PostgreSQL store to migrate."""


Place = SqliteFile | PostgresSchema


def holder(execute: Callable[[str], Any]) -> str | None:
    """Which driver has the lock of a PostgreSQL store, in words.

    Args:
        execute: runs a statement in the store's schema.
    """
    found = execute(HOLDER).fetchone()
    if found is None:
        return None
    name, since = found  # a role without the right to know is not told since when
    return str(name).removeprefix("paramcast, ") + (f", since {moment(since)}" if since else "")


def in_use(place: str, holder: str | None, choose: str) -> StoreError:
    """What a second driver is told.

    Args:
        place: the folder or the URL.
        holder: the first driver, if known.
        choose: what else can be done than wait.
    """
    who = f" ({holder})" if holder else ""
    return StoreError(f"another paramcast is running in {place}{who}; wait for it, or {choose}")


def parse(url: str) -> URL:
    """A URL of PostgreSQL, for psycopg 3.

    Raises:
        StoreError: it cannot be read, or is of something else. It is not repeated: it may hold a
            password.
    """
    form = "--store must be postgresql://USER@HOST/DATABASE"
    try:
        url.encode()
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"{form}, got something that is no URL") from None
    if parsed.drivername == "sqlite":
        raise StoreError(f"{form}; leave it out for the SQLite file in the --out folder")
    if parsed.drivername not in SCHEMES:
        raise StoreError(f"{form}, got the scheme {parsed.drivername!r}")
    return parsed.set(drivername="postgresql+psycopg")


def without_password(url: URL) -> str:
    """The URL as it may be shown and kept."""
    query = {name: value for name, value in url.query.items() if name not in SECRETS}
    public = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string()


def prepare(place: Place, engine: Engine) -> None:
    """Make the tables where there are none, migrate those of an older version.

    Raises:
        StoreError: they are somebody else's, or of a newer version.
    """
    with engine.connect() as connection:
        if version(connection) == 1:
            place.back_up(1)
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        found = set(inspect(connection).get_table_names())
        if not found:
            metadata.create_all(connection)
            connection.execute(about.insert().values(name="schema", value=json.dumps(SCHEMA)))
            return
        refuse_foreign(found, place)
        check_version(version(connection), place, {1, SCHEMA})
        if version(connection) == 1:
            _migrate(connection)


def check_version(found: Any, place: Place, readable: set[int]) -> None:
    """Refuse a store of a version that is not among these."""
    if type(found) is not int or found not in readable:
        raise StoreError(
            f"{place.name} has schema version {shown(found)}, this paramcast reads {SCHEMA}; "
            f"use the paramcast that wrote it, or {place.remedy.rpartition(', or ')[2]}"
        )


def refuse_foreign(found: set[str], place: Place) -> None:
    """Refuse tables that are not a store's."""
    if found and not found >= FIRST_TABLES:
        raise StoreError(
            f"{place.name} is a database of something else (tables "
            f"{', '.join(sorted(found)[:3])}); {_own_room(place)}"
        )


def version(connection: Connection) -> Any:
    """The schema's version, None where there are no tables; 1 where a kill left it unsaid."""
    if not inspect(connection).has_table(about.name):
        return None
    value = connection.scalar(select(about.c.value).where(about.c.name == "schema"))
    return 1 if value is None else from_json(value)


def cause(error: Exception, secret: str | None = None) -> str:
    """What the database said, in one line and without the password."""
    raised = getattr(error, "orig", None) or error
    said = getattr(getattr(raised, "diag", None), "message_primary", None) or str(raised).strip()
    said = " ".join(said.partition("\nMultiple connection attempts")[0].split())
    return said.replace(secret, "***") if secret else said


def _own_room(place: Place) -> str:
    if isinstance(place, SqliteFile):
        return place.remedy
    return "give it a schema of its own: CREATE SCHEMA name, and ?options=-csearch_path%3Dname"


def _migrate(connection: Connection) -> None:
    """From version 1: the curve leaves the outcome; indices come."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN curve TEXT"))
    for index in (runs_by_phase, failures_by_key):
        index.create(connection)
    keys = list(connection.scalars(select(runs.c.key)))
    for begin in range(0, len(keys), 500):
        part = runs.c.key.in_(keys[begin : begin + 500])
        for key, stored in connection.execute(select(runs.c.key, runs.c.outcome).where(part)).all():
            outcome, curve = split(object_from_json(stored))
            connection.execute(
                update(runs).where(runs.c.key == key).values(outcome=outcome, curve=curve)
            )
    connection.execute(about.delete().where(about.c.name == "schema"))
    connection.execute(about.insert().values(name="schema", value=json.dumps(SCHEMA)))


def split(outcome: dict[str, Any]) -> tuple[str, str | None]:
    """The outcome without its curve, and the curve, as JSON."""
    rest = {name: value for name, value in outcome.items() if name != "curve"}
    return to_json(rest), to_json(outcome["curve"]) if "curve" in outcome else None


def to_json(value: Any) -> str:
    """Strict JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def remedy(error: Exception, usual: str) -> str:
    """What to do about a database that cannot be used."""
    if any(words in str(error) for words in FULL):
        return "make room"
    if any(words in str(error) for words in LOCKED):
        return "another program has locked it: wait for it, or end it"
    return usual


def is_away(error: DBAPIError) -> bool:
    """Whether the server is gone, or is just stopping or starting."""
    state = getattr(error.orig, "sqlstate", None)
    lost = error.connection_invalidated or (state is None and isinstance(error, OperationalError))
    return lost or str(state).startswith(("57P", "08"))


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3 would begin no transaction for CREATE and ALTER
    _limit(connection)
    cursor = connection.cursor()
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.execute("PRAGMA cell_size_check=ON")  # a damaged page is an error, not a wrong value
    cursor.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _keep_a_log(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")  # readers need not wait; safe when killed


def _refuse_living(query: Callable[..., Any], place: SqliteFile) -> None:
    """Refuse views, triggers, virtual tables and computed columns.

    They run when a table is read or written, for ever if they like. SQLite goes by the statement,
    not by the type beside it.
    """
    computed = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden > 0"
    for name, statement in query("SELECT name, sql FROM sqlite_master").fetchall():
        plain = statement is None or str(statement).upper().startswith(PLAIN)
        if not plain or query(computed, (name,)).fetchone()[0]:
            raise StoreError(
                f"{place.name} holds {shown(name)}, which is no plain table of values and would "
                f"compute something when it is read; {place.remedy}"
            )


def _limit(connection: Any) -> None:
    """No value may be larger than any that a store has; needs Python 3.11."""
    if hasattr(connection, "setlimit"):
        connection.setlimit(0, MOST_BYTES)  # 0: SQLITE_LIMIT_LENGTH


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
