"""The tables of a store, and the clock of its database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

SCHEMA = 2
"""1 kept the curve inside the outcome and knew neither drivers nor claims."""

FIRST_TABLES = {"about", "runs", "failures", "looks"}
"""What a store of any version has."""

metadata = MetaData()
about = Table(
    "about", metadata, Column("name", String(64), primary_key=True), Column("value", Text)
)
runs = Table(
    "runs",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("method", Text, nullable=False),
    Column("lr", Float, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("status", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("finished_at", String(40), nullable=False),
    Column("curve", Text),
)
runs_by_phase = Index("runs_phase", runs.c.phase)  # counting need not pass the curves
failures = Table(
    "failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("failed_at", String(40), nullable=False),
)
failures_by_key = Index("failures_key", failures.c.key)
looks = Table(
    "looks",
    metadata,
    Column("seeds", Integer, primary_key=True),
    Column("looked_at", String(40), nullable=False),
)
drivers = Table(
    "drivers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("expires", Float, nullable=False),
)
claims = Table(
    "claims",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("driver", String(32), nullable=False),
)


class clock(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The database's own time, in seconds since 1970: drivers' clocks differ."""

    type = Float()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(element: Any, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(element: Any, compiler: Any, **kw: Any) -> str:
    # not now(), which is when the transaction began
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
