"""A store of version 1, as the previous paramcast wrote it, becomes one of version 2."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from paramcast.errors import StoreError
from paramcast.study.store import Store

VERSION_1 = """
CREATE TABLE about (name VARCHAR(64) NOT NULL, value TEXT, PRIMARY KEY (name));
CREATE TABLE failures (
    id INTEGER NOT NULL, "key" VARCHAR(64) NOT NULL, status VARCHAR(16) NOT NULL,
    reason TEXT NOT NULL, spec TEXT NOT NULL, failed_at VARCHAR(40) NOT NULL, PRIMARY KEY (id)
);
CREATE TABLE looks (seeds INTEGER NOT NULL, looked_at VARCHAR(40) NOT NULL, PRIMARY KEY (seeds));
CREATE TABLE runs (
    "key" VARCHAR(64) NOT NULL, method VARCHAR(200) NOT NULL, lr FLOAT NOT NULL,
    phase VARCHAR(16) NOT NULL, seed INTEGER NOT NULL, share FLOAT NOT NULL,
    status VARCHAR(16) NOT NULL, spec TEXT NOT NULL, outcome TEXT NOT NULL,
    environment TEXT NOT NULL, finished_at VARCHAR(40) NOT NULL, PRIMARY KEY ("key")
);
INSERT INTO about VALUES('schema','1');
INSERT INTO about VALUES('pilot','{"identity": "a"}');
INSERT INTO failures VALUES(1,'k0','failed','boom','{}','2026-11-24T03:21:31+00:00');
INSERT INTO looks VALUES(6,'2026-11-24T03:21:31+00:00');
"""
CURVE = [{"loss": 0.1 + 0.2, "step": 1}]
OLD = {"gap": None, "reason": "", "status": "done"}
KEYS = [f"k{i}" for i in range(1200)]
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from paramcast.study.store import Store

left = int(sys.argv[2])

@event.listens_for(Engine, "commit" if left == 0 else "before_cursor_execute")
def killed(connection, *rest):
    global left
    left -= 1
    if left == 0 or (left < 0 and connection.get_execution_options().get("write")):
        os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1]))
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1."""
    path = tmp_path / "pilot.db"
    rows = [
        (key, "plp", 0.1, "final", i, 1.0, "done", "{}", json.dumps(OLD | {"curve": CURVE}), "{}",
         "2026-11-24T03:21:31+00:00")
        for i, key in enumerate(KEYS)
    ]  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        connection.executemany(f"INSERT INTO runs VALUES ({','.join('?' * 11)})", rows)
    return path


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        ((found,),) = connection.execute("SELECT value FROM about WHERE name = 'schema'")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return str(found)


def check_migrated(path: Path) -> None:
    with closing(Store(path)) as store:
        assert store.outcomes(KEYS) == dict.fromkeys(KEYS, OLD)
        assert store.curves(KEYS) == dict.fromkeys(KEYS, CURVE)
        assert (store.about("pilot"), store.looks()) == ({"identity": "a"}, [6])
        assert store.counts() == {"final": 1200, "failed": 1}
    assert version(path) == "2"
    assert layout(path) == layout_of_new(path.with_name("new.db"))


def layout(path: Path) -> dict[str, set[str]]:
    """Tables with their columns, and indices."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        return {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info('{name}')")}
            for name in names
        }


def layout_of_new(path: Path) -> dict[str, set[str]]:
    Store(path).close()
    return layout(path)


def test_nothing_is_lost_and_the_old_file_is_kept(old: Path) -> None:
    check_migrated(old)
    copy = old.with_name("pilot.db.v1.bak")
    assert version(copy) == "1"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1200,)
    check_migrated(old)  # and is no longer touched


def test_who_only_reads_does_not_migrate(old: Path) -> None:
    with closing(Store(old, write=False)) as store:
        assert store.counts() == {"final": 1200, "failed": 1}
        assert store.about("pilot") == {"identity": "a"}
        spec, outcome = store.runs()[0]
        assert (spec, outcome["status"]) == ({}, "done")
    assert version(old) == "1"
    assert not old.with_name("pilot.db.v1.bak").exists()


def test_a_damaged_old_store_is_refused_and_stays(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE runs SET outcome = '{' WHERE key = 'k1000'")
    before = old.read_bytes()
    with pytest.raises(StoreError, match=r"pilot\.db cannot be used as a store .*move it away"):
        Store(old)
    assert old.read_bytes() == before
    assert version(old) == "1"


@pytest.mark.parametrize("statement", [8, 14, 700, 0], ids=lambda n: f"at-{n or 'commit'}")
def test_a_kill_in_the_middle_leaves_version_1(old: Path, statement: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_AT, old, str(statement)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert version(old) == "1"
    check_migrated(old)
