"""The tables of a store."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text

SCHEMA = 2
"""The version of the tables; stores of another version are refused."""

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
runs_by_phase = Index("runs_phase", runs.c.phase)  # counts runs without reading their curves
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
