"""The place of a store's tables: a SQLite file or a PostgreSQL schema, opened and checked."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from ...errors import StoreError
from ..reading import from_json, moment, shown
from .tables import SCHEMA, about, metadata

SCHEMES = ("postgresql", "postgresql+psycopg")
SECRETS = ("password", "sslpassword", "passfile")
LOCK = """
    SELECT pg_try_advisory_lock(1885434467, oid::int)
    FROM (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AS store"""
"""Locks the store's schema, under a number that others will not use: "parc" as four bytes."""
HOLDER = """
    SELECT application_name, backend_start
    FROM pg_locks JOIN pg_stat_activity USING (pid) JOIN pg_namespace n ON n.oid = objid
    WHERE locktype = 'advisory' AND classid = 1885434467 AND nspname = current_schema()
        AND datname = current_database()"""
"""Who holds that lock, and since when."""
CONNECTING = {
    "connect_timeout": 5,  # seconds per address of the host
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms, so that we notice a server that vanished
    "application_name": f"paramcast, process {os.getpid()} on {socket.gethostname()}",
}
NOTICING = ("tcp_keepalives_idle = 15", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")
"""The same for the server, in seconds: a driver whose machine vanished loses its lock."""
PATIENCE = 10.0
"""Seconds to wait for a locked file."""
FULL = ("disk is full", "No space left on device")
LOCKED = ("database is locked", "lock timeout")
MOST_BYTES = 64 * 2**20
"""The size limit of one stored value; the curve of 100,000 epochs takes a third of it."""


class SqliteFile:
    """A file in the output folder; the folder's lock admits one driver at a time."""

    remedy = own_room = "move it away, or choose another folder"

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.secret = path, str(path), None

    def engine(self, *, write: bool) -> Engine:
        engine = create_engine(URL.create("sqlite", database=str(self.path)))  # a name may hold "?"
        event.listen(engine, "connect", _set_pragmas)
        more = "" if write else "query_only=ON"
        if write and (not self.path.is_file() or self.path.stat().st_size == 0):
            more = "journal_mode=WAL"  # readers never wait, and a kill does no harm
        if more:
            event.listen(engine, "connect", lambda c, _: c.execute(f"PRAGMA {more}"))
        event.listen(engine, "begin", _begin)
        return engine


class PostgresSchema:
    """The first schema of a PostgreSQL server's search path; one driver at a time.

    The server's lock belongs to the connection and ends with it, however a driver dies. A driver
    has one connection, which takes the lock before anything else, so that nothing is written
    without the lock, even after the server has restarted.

    Raises:
        StoreError: the text is not such a URL.
    """

    remedy = "see docs/store.md, or give another --store"
    own_room = "give it a schema of its own: CREATE SCHEMA name, and ?options=-csearch_path%3Dname"

    def __init__(self, url: str) -> None:
        self.url = parse(url)
        self.name, self.secret = without_password(self.url), self.url.password

    def engine(self, *, write: bool) -> Engine:
        given = {k: v for k, v in CONNECTING.items() if k not in self.url.query}
        try:
            # pre_ping: a connection that was cut during a run of hours is opened again
            engine = create_engine(
                self.url, connect_args=given, pool_size=1, max_overflow=0, pool_pre_ping=True
            )
        except ImportError:
            raise StoreError(
                "--store postgresql://... needs a driver: pip install 'paramcast[postgres]'"
            ) from None
        if write:
            event.listen(engine, "connect", self._lock)
        return engine

    def _lock(self, connection: Any, _record: object) -> None:
        try:
            for setting in NOTICING:
                connection.execute(f"SET {setting}")
            taken = connection.execute(LOCK).fetchone()
            if taken == (False,):  # no row means no schema; whatever needs one says so
                raise in_use(self.name, holder(connection.execute), "choose another --store")
            connection.commit()
        except BaseException:
            connection.close()
            raise


Place = SqliteFile | PostgresSchema


def holder(execute: Callable[[str], Any]) -> str | None:
    """The driver that holds the lock of a PostgreSQL store, in words; None if none does.

    Args:
        execute: runs a statement in the store's schema.
    """
    found = execute(HOLDER).fetchone()
    if found is None:
        return None
    name, since = found  # PostgreSQL hides the time from a role without the right to see it
    return str(name).removeprefix("paramcast, ") + (f", since {moment(since)}" if since else "")


def in_use(place: str, holder: str | None, choose: str) -> StoreError:
    """The error for a second driver.

    Args:
        place: the folder or the URL.
        holder: the first driver, if known.
        choose: what the user can do instead of waiting.
    """
    who = f" ({holder})" if holder else ""
    return StoreError(f"another paramcast is running in {place}{who}; wait for it, or {choose}")


def parse(url: str) -> URL:
    """Read a PostgreSQL URL, for psycopg 3.

    Raises:
        StoreError: it cannot be read, or is of something else. The message does not repeat the URL,
            which may hold a password.
    """
    form = "--store must be postgresql://USER@HOST/DATABASE"
    try:
        url.encode()
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"{form}, got something that is not a URL") from None
    # a file is chosen by its folder, not by a URL
    if parsed.drivername == "sqlite":
        raise StoreError(f"{form}; leave it out for the SQLite file in the --out folder")
    if parsed.drivername not in SCHEMES:
        raise StoreError(f"{form}, got the scheme {parsed.drivername!r}")
    return parsed.set(drivername="postgresql+psycopg")


def without_password(url: URL) -> str:
    """The URL without its secrets, to be shown and stored."""
    query = {name: value for name, value in url.query.items() if name not in SECRETS}
    public = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string()


def prepare(place: Place, engine: Engine) -> None:
    """Create the tables if there are none.

    Raises:
        StoreError: the tables there belong to something else, or are of another version.
    """
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        if not is_store(connection, place):
            metadata.create_all(connection)
            connection.execute(about.insert().values(name="schema", value=json.dumps(SCHEMA)))


def is_store(connection: Connection, place: Place) -> bool:
    """Whether a store's tables are there; False if there are none at all.

    Raises:
        StoreError: the tables there belong to something else, or are of another version.
    """
    # no table: a new file or schema; other tables: somebody else's
    found = set(inspect(connection).get_table_names())
    if not found:
        return False
    if not found >= metadata.tables.keys():
        raise StoreError(
            f"{place.name} is a database of something else (tables "
            f"{', '.join(sorted(found)[:3])}); {place.own_room}"
        )
    value = connection.scalar(select(about.c.value).where(about.c.name == "schema"))
    version = None if value is None else from_json(value)
    if type(version) is not int or version != SCHEMA:
        raise StoreError(
            f"{place.name} has schema version {shown(version)}, this paramcast reads {SCHEMA}; "
            f"use the paramcast that wrote it, or {place.remedy.rpartition(', or ')[2]}"
        )
    return True


def cause(error: Exception, secret: str | None = None) -> str:
    """What the database said, on one line and without the password."""
    raised = getattr(error, "orig", None) or error
    said = getattr(getattr(raised, "diag", None), "message_primary", None) or str(raised).strip()
    said = " ".join(said.partition("\nMultiple connection attempts")[0].split())
    return said.replace(secret, "***") if secret else said


def to_json(value: Any) -> str:
    """Strict JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def is_away(error: DBAPIError) -> bool:
    """Whether the server is gone, stopping or starting."""
    state = getattr(error.orig, "sqlstate", "")  # a file's errors have none
    # 57P..: an operator intervened; 08..: the connection failed; None: there was no answer
    return error.connection_invalidated or state is None or state.startswith(("57P", "08"))


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin` does it: sqlite3 begins none for CREATE and ALTER
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(0, MOST_BYTES)  # 0: SQLITE_LIMIT_LENGTH
    for pragma in (
        "trusted_schema=OFF",  # no dangerous functions in views and triggers
        "cell_size_check=ON",  # a damaged page is an error, not a wrong value
        f"busy_timeout={PATIENCE * 1000:.0f}",
        "synchronous=NORMAL",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock now: two processes that both make the tables do so in turn
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
