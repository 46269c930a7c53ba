"""The store of runs: what is written stays, what is damaged or not ours is left alone."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server

from paramcast.errors import StoreError
from paramcast.study.interrupts import held
from paramcast.study.store import database
from paramcast.study.store.store import Store
from runs import run_spec

SPEC = run_spec(method="plp(start='last')", batch_size=4, fingerprint="f")
OUTCOME = {"status": "done", "reason": "", "curve": [{"step": 1, "loss": 0.1 + 0.2}], "gap": None}


def outcome(i: int) -> dict[str, Any]:
    return OUTCOME | {"number": i, "padding": "x" * 2000}


Place = Path | str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, path: Path) -> Place:
    """A file, and a schema of a real PostgreSQL."""
    if request.param == "sqlite":
        return path
    server = request.getfixturevalue("postgres")
    return server.url(request.getfixturevalue("schema"))


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with closing(Store(place)) as opened:
        yield opened


@pytest.fixture
def file_store(path: Path) -> Iterator[Store]:
    with closing(Store(path)) as opened:
        yield opened


def whole(store: Store, *keys: str) -> dict[str, dict[str, Any]]:
    """The outcomes with their curves."""
    curves = store.curves(keys)
    return {key: found | {"curve": curves[key]} for key, found in store.outcomes(keys).items()}


def reopened(place: Place, *keys: str) -> dict[str, dict[str, Any]]:
    """The outcomes that a new store finds there; everything else is read as well."""
    with closing(Store(place)) as again:
        again.about("pilot")
        again.looks()
        return whole(again, *keys)


def sql(place: Place, statement: str) -> list[Any]:
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as connection, connection:
            return connection.execute(statement).fetchall()
    import psycopg

    with psycopg.connect(place) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_what_is_put_comes_back_to_the_last_bit(store: Store, place: Place) -> None:
    store.put(SPEC, OUTCOME, {"torch": "2"})
    assert whole(store, SPEC.key) == {SPEC.key: OUTCOME}
    # the curve is kept apart
    assert store.outcomes([SPEC.key]) == {SPEC.key: {"status": "done", "reason": "", "gap": None}}
    stored = json.loads(json.dumps(asdict(SPEC)))
    assert store.runs() == [(stored, store.outcomes([SPEC.key])[SPEC.key])]
    assert store.curves([SPEC.key, "unknown"]) == {SPEC.key: OUTCOME["curve"]}
    store.close()
    assert reopened(place, SPEC.key) == {SPEC.key: OUTCOME}


def test_more_keys_than_one_query_names(store: Store) -> None:
    specs = [replace(SPEC, seed=i) for i in (0, 700, 1300)]
    for spec in specs:
        store.put(spec, outcome(spec.seed), {})
    keys = [replace(SPEC, seed=i).key for i in range(1301)]
    assert [found["number"] for found in store.outcomes(keys).values()] == [0, 700, 1300]
    assert store.outcomes(["unknown"]) == store.outcomes([]) == {}


def test_the_first_result_of_a_run_stays(store: Store, place: Place) -> None:
    store.put(SPEC, outcome(1), {})
    store.put(SPEC, outcome(2), {})
    assert store.outcomes([SPEC.key])[SPEC.key]["number"] == 1
    assert sql(place, "SELECT count(*) FROM runs") == [(1,)]


def test_a_run_is_stored_with_everything_that_determined_it(store: Store, place: Place) -> None:
    spec = replace(SPEC, method="plp(" + "x" * 300 + ")")
    store.put(spec, OUTCOME, {"torch": "2.0"})
    columns = "method, lr, phase, seed, share, status, spec, environment"
    ((method, lr, phase, seed, share, status, text, environment),) = sql(
        place, f"SELECT {columns} FROM runs"
    )
    assert (method, lr, phase, seed) == (spec.method, spec.lr, "final", 0)
    assert (share, status, environment) == (1.0, "done", '{"torch": "2.0"}')
    assert '"fingerprint": "f"' in text


def test_failures_are_no_results(store: Store, place: Place) -> None:
    store.put_failure(SPEC, {"status": "failed", "reason": "boom"})
    store.put_failure(SPEC, {"status": "timeout", "reason": "slow"})
    assert store.outcomes([SPEC.key]) == {}
    failed = sql(place, "SELECT key, status, reason FROM failures ORDER BY id")
    assert failed == [(SPEC.key, "failed", "boom"), (SPEC.key, "timeout", "slow")]
    assert store.counts() == {"failed": 2}


def test_a_reason_may_hold_what_no_database_does(store: Store, place: Place) -> None:
    store.put_failure(SPEC, {"status": "failed", "reason": "a\0b\udc80c"})
    assert sql(place, "SELECT reason FROM failures") == [("a\\x00b\\udc80c",)]


def test_numbers_that_json_does_not_know_are_not_written(store: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(SPEC, OUTCOME | {"gap": float("nan")}, {})
    assert store.outcomes([SPEC.key]) == {}


def test_facts_and_looks(store: Store) -> None:
    assert store.about("pilot") is None
    store.set_about("pilot", {"identity": "a"})
    store.set_about("pilot", {"identity": "b"})
    assert store.about("pilot") == {"identity": "b"}
    assert store.adopt("pilot", {"identity": "c"}) == {"identity": "b"}
    assert store.adopt("study", "first") == store.adopt("study", "second") == "first"
    assert store.looks() == []
    for seeds in (12, 6, 12):
        store.add_look(seeds)
    assert store.looks() == [6, 12]


def test_a_reader_changes_nothing(store: Store, place: Place, tmp_path: Path) -> None:
    store.put(SPEC, OUTCOME, {})
    with closing(Store(place, write=False)) as reader:
        assert whole(reader, SPEC.key) == {SPEC.key: OUTCOME}
        assert reader.counts() == {"final": 1, "failed": 0}
    empty = tmp_path / "empty.db"
    with pytest.raises(StoreError, match=r"empty\.db holds no study"):
        Store(empty, write=False)
    with closing(sqlite3.connect(empty)) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []


def test_a_reader_of_a_file_cannot_write(file_store: Store, path: Path) -> None:
    file_store.put(SPEC, OUTCOME, {})
    with closing(Store(path, write=False)) as reader:
        with pytest.raises(StoreError, match="attempt to write a readonly database"):
            reader.put(replace(SPEC, seed=1), OUTCOME, {})
        assert reader.counts() == {"final": 1, "failed": 0}


# --- what cannot be used ------------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    """Opening and reading ends in a StoreError, and the file stays as it was."""
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        reopened(path, SPEC.key)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"hello, world", b"SQLite format 3\0" + b"\1" * 500, bytes(range(256)) * 64]
)
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, r"runs\.db cannot be used as a store of runs .*move it away")


def test_a_truncated_database(file_store: Store, path: Path) -> None:
    for i in range(20):
        file_store.put(replace(SPEC, seed=i), outcome(i), {})
    file_store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "malformed")


def test_any_damaged_page_is_refused_or_harmless(file_store: Store, path: Path) -> None:
    specs = [replace(SPEC, seed=i) for i in range(12)]
    for i, spec in enumerate(specs):
        file_store.put(spec, outcome(i), {})
    file_store.add_look(6)
    file_store.close()
    whole, keys = path.read_bytes(), [spec.key for spec in specs]
    healthy, refusals = reopened(path, *keys), 0
    for begin in range(0, len(whole), 4096):
        path.write_bytes(whole[:begin] + b"\xa5" * 4096 + whole[begin + 4096 :])
        try:
            assert reopened(path, *keys) == healthy
        except StoreError:
            refusals += 1
    assert refusals > 5


def test_an_unreadable_outcome_is_refused(file_store: Store, path: Path) -> None:
    file_store.put(SPEC, OUTCOME, {})
    file_store.close()
    sql(path, "UPDATE runs SET outcome = '{'")
    refused(path, r"cannot be read .*move it away")


@pytest.mark.parametrize("version", [1, 3, "2", None, True])
def test_another_schema_is_refused(file_store: Store, path: Path, version: Any) -> None:
    file_store.set_about("schema", version)
    file_store.close()
    said = f"schema version {version!r}, this paramcast reads 2; use the paramcast that wrote it"
    refused(path, said)
    with pytest.raises(StoreError, match=said):
        Store(path, write=False)
    assert [child.name for child in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("table", ["runs (id INTEGER)", "songs (title TEXT)"])
def test_somebody_elses_database_is_left_alone(path: Path, table: str) -> None:
    sql(path, f"CREATE TABLE {table}")
    refused(path, r"runs\.db .*(move it away|another --out folder)")


def test_a_database_that_may_not_be_written(unprivileged: Any) -> None:
    folder, nobody = unprivileged
    path = folder / "runs.db"
    (folder / "readonly").mkdir()
    (folder / "readonly").chmod(0o555)
    with nobody():
        with pytest.raises(StoreError, match=r"cannot be used .*unable to open"):
            Store(folder / "readonly" / "runs.db")
        Store(path).close()
        path.chmod(0o444)

        def write() -> None:
            Store(path).put(SPEC, OUTCOME, {})

        with pytest.raises(StoreError, match="readonly database"):
            write()


def test_a_full_disk_is_reported_and_keeps_what_was_there(file_store: Store, path: Path) -> None:
    file_store.put(SPEC, OUTCOME, {})
    file_store.close()
    ((pages,),) = sql(path, "PRAGMA page_count")
    full = Store(path)
    with full._engine.connect() as connection:  # SQLite's own limit stands for the disk's
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    big = OUTCOME | {"padding": "x" * 10**6}
    with pytest.raises(StoreError, match=r"cannot be written .*full.*make room"):
        full.put(replace(SPEC, seed=1), big, {})
    full.close()
    assert reopened(path, SPEC.key) == {SPEC.key: OUTCOME}


# --- death and company --------------------------------------------------------------------------

WRITER = """
import sqlite3, sys, time
from dataclasses import replace
from pathlib import Path
sys.path[:0] = {folders!r}
from test_store import SPEC, Store, outcome

path = Path(sys.argv[1])
store = Store(path)
for i in range(30):
    store.put(replace(SPEC, seed=i), outcome(i), {{}})
half = sqlite3.connect(path)
half.execute("INSERT INTO runs SELECT 'half', method, lr, phase, seed, share, status, spec, "
             "outcome, environment, finished_at, curve FROM runs LIMIT 1")
print("written", flush=True)
time.sleep(60)
"""


def test_a_writer_killed_in_mid_transaction_leaves_whole_runs(path: Path) -> None:
    code = WRITER.format(folders=[str(folder) for folder in Path(__file__).parents[:2]])
    writer = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    writer.kill()
    writer.communicate()
    specs = [replace(SPEC, seed=i) for i in range(30)]
    found = reopened(path, "half", *(spec.key for spec in specs))
    assert found == {spec.key: outcome(i) for i, spec in enumerate(specs)}
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    again = Store(path)
    again.put(SPEC, OUTCOME, {})
    again.close()


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def lock(path: Path) -> Iterator[Callable[[], Callable[[], None]]]:
    """lock(): another process locks the file; what comes back unlocks it."""
    begun: list[subprocess.Popen[str]] = []

    def hold() -> Callable[[], None]:
        command, pipe = [sys.executable, "-c", HOLDER, path], subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        begun.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process.stdin.close

    yield hold
    for process in begun:
        with process:  # closes its pipes and waits
            pass


def test_a_locked_file_is_waited_for(file_store: Store, path: Path, lock: Any) -> None:
    timer = threading.Timer(0.3, lock())
    timer.start()
    file_store.put(SPEC, OUTCOME, {})
    assert timer.finished.is_set()
    assert reopened(path, SPEC.key) == {SPEC.key: OUTCOME}


def test_a_file_that_stays_locked_is_one_sentence(
    path: Path, lock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    with closing(Store(path)) as store:
        store.put(SPEC, OUTCOME, {})
        unlock = lock()
        with closing(Store(path, write=False)) as reader:  # a reader need not wait
            assert reader.counts() == {"final": 1, "failed": 0}
        said = r"runs\.db cannot be written \(database is locked\); .* another program has locked"
        for write in (
            lambda: store.put(replace(SPEC, seed=1), OUTCOME, {}),
            lambda: store.put_failure(SPEC, {"status": "failed", "reason": "boom"}),
            lambda: store.set_about("pilot", 1),
        ):
            with pytest.raises(StoreError, match=said):
                write()
        refused(path, r"runs\.db cannot be used .*locked\); another program has locked it: wait")
        unlock()
        store.put(replace(SPEC, seed=1), OUTCOME, {})
        assert store.counts() == {"final": 2, "failed": 0}


def test_a_server_that_is_away_is_said_and_once_it_is_back_the_store_goes_on(
    postgres: Server, schema: str
) -> None:
    with closing(Store(postgres.url(schema))) as store:
        store.put(SPEC, OUTCOME, {})
        postgres.stop()
        try:
            for use in (lambda: store.put(replace(SPEC, seed=1), OUTCOME, {}), store.counts):
                with pytest.raises(StoreError, match=r"cannot be (written|read) .*check its serv"):
                    use()
        finally:
            postgres.start()
        store.put(replace(SPEC, seed=1), OUTCOME, {})
        assert store.counts() == {"final": 2, "failed": 0}


def test_a_schema_has_one_driver_which_any_reader_is_told(postgres: Server, schema: str) -> None:
    url, other = postgres.url(schema), postgres.schema()
    said = rf"another paramcast is running in {re.escape(url)} \(process {os.getpid()} on .* UTC\)"
    with closing(Store(url)) as store, closing(Store(url, write=False)) as reader:
        with pytest.raises(StoreError, match=said + "; wait for it, or choose another --store"):
            Store(url)
        assert str(reader.driver).startswith(f"process {os.getpid()} on {socket.gethostname()}")
        store.put(SPEC, OUTCOME, {})
        with closing(Store(postgres.url(other))) as beside:  # another schema is another store
            beside.put(SPEC, OUTCOME, {})
        store.close()
        for _ in range(100):  # the server may take a moment to hear of it
            if reader.driver is None:
                break
            time.sleep(0.1)
        assert reader.driver is None
    postgres.sql(f"DROP SCHEMA {other} CASCADE")
    assert reopened(url, SPEC.key) == {SPEC.key: OUTCOME}


def test_a_server_that_starts_anew_gives_the_lock_to_who_asks_first(
    postgres: Server, schema: str
) -> None:
    url = postgres.url(schema)
    with closing(Store(url)) as first:
        first.put(SPEC, OUTCOME, {})
        postgres.stop()
        postgres.start()
        first.counts()  # it goes on, and has the lock again
        with pytest.raises(StoreError, match="another paramcast is running in"):
            Store(url)
        postgres.stop()
        postgres.start()
        with closing(Store(url)) as second:
            for use in (lambda: first.put(replace(SPEC, seed=1), OUTCOME, {}), first.counts):
                with pytest.raises(StoreError, match="another paramcast is running in"):
                    use()
            assert second.counts() == {"final": 1, "failed": 0}
        first.put(replace(SPEC, seed=1), OUTCOME, {})


@pytest.mark.parametrize("signals", [1, 2])
def test_held_within_held_leaves_signals_to_it_and_a_second_one_ends_both(signals: int) -> None:
    done: list[str] = []

    @held()
    def outer() -> None:
        inner()
        done.append("outer")

    @held()
    def inner() -> None:
        for _ in range(signals):
            signal.raise_signal(signal.SIGINT)
        done.append("inner")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == (["inner", "outer"] if signals == 1 else [])


class Stop(BaseException):
    """What a signal's handler raises."""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_stops_a_write_leaves_a_run_whole_or_none(
    name: str, store: Store, place: Place
) -> None:
    def stop(*_: Any) -> None:
        raise Stop

    number, draw, stopped = getattr(signal, name), random.Random(0), 0
    written: set[str] = set()
    signal.signal(number, stop)
    for i in range(60):
        spec, heard = replace(SPEC, seed=i), stopped
        moment = draw.uniform(0, 5e-3)
        timer = threading.Timer(moment, os.kill, (os.getpid(), number))
        try:
            timer.start()
            store.put(spec, outcome(i), {})
            written.add(spec.key)
            while True:
                time.sleep(1e-4)
        except Stop:
            stopped += 1
        timer.join()
        assert stopped == heard + 1
    keys = {replace(SPEC, seed=i).key: i for i in range(60)}
    found = whole(store, *keys)
    assert written <= found.keys()
    assert all(found[key] == outcome(keys[key]) for key in found)
    for i in keys.values():  # and the store goes on
        store.put(replace(SPEC, seed=i), outcome(i), {})
    store.close()
    assert reopened(place, *keys) == {key: outcome(i) for key, i in keys.items()}


def test_a_second_signal_does_not_wait(postgres: Server, schema: str) -> None:
    """Who presses Ctrl-C twice is not kept by a table that somebody has locked."""
    import psycopg

    url = postgres.url(schema)
    with closing(Store(url)) as store, psycopg.connect(url) as other:
        other.execute("LOCK TABLE runs IN EXCLUSIVE MODE")
        timers = [threading.Timer(t, os.kill, (os.getpid(), signal.SIGINT)) for t in (0.2, 0.4)]
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            store.put(SPEC, OUTCOME, {})
        assert timers[1].finished.is_set()
        other.rollback()
        store.put(SPEC, OUTCOME, {})
