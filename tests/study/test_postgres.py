"""Studies on a real PostgreSQL: what it refuses, its one driver, deaths of drivers and servers."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from postgres_server import PASSWORD, Server
from test_engine import at_seeds

from command import call, without_notice
from paramcast.errors import StoreError
from paramcast.report.watch.board import Board
from paramcast.study.store.store import Store
from runs import run_spec, timeless

STUDY = """
name = "shared"
question = "Is it the same?"
[[grid]]
task = "blobs.py:task"
methods = "plp"
schedule = "constant"
lr = [0.03, 0.1]
seeds = 3
epochs = 1
"""
RUNS = 2 * 3 * 4  # learning rates, seeds, methods with their controls
SLOW = """
import time

class Slow(torch.nn.Linear):
    def forward(self, x):
        time.sleep(0.03 if self.training else 0)
        return super().forward(x)
"""
MODEL = "model=lambda: torch.nn.Sequential(Slow(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))"


@pytest.fixture
def url(postgres: Server, schema: str) -> str:
    return postgres.url(schema)


@pytest.fixture
def study(tmp_path: Path, task_file: Callable[..., Path]) -> Path:
    task_file(MODEL, SLOW)
    (tmp_path / "shared.toml").write_text(STUDY)
    return tmp_path


def table(folder: Path) -> list[dict[str, Any]]:
    """The cells of a result.json, without what the clock and the machine say."""
    result = json.loads((folder / "result.json").read_text("utf-8"))
    return [timeless([cell["settings"], cell["table"]]) for cell in result["cells"]]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same study in a folder of its own, with one driver."""
    from blobs import BLOBS

    folder = tmp_path_factory.mktemp("local")
    (folder / "blobs.py").write_text(
        BLOBS + SLOW + f"\n\ndef changes():\n    return dict({MODEL})\n"
    )
    (folder / "shared.toml").write_text(STUDY)
    ran = call(folder, "study", "run", "shared.toml", "--out", "out", "--workers", 2)
    assert ran.code == 0, ran.err
    return table(folder / "out")


def stored(server: Server, schema: str) -> int:
    """Finished runs, 0 before there is a table."""
    ((found,),) = server.sql(f"SELECT to_regclass('{schema}.runs')")
    return int(server.sql("SELECT count(*) FROM runs", schema=schema)[0][0]) if found else 0


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(2000):
        if condition():
            return
        assert process.poll() is None, "it ended too early"
        time.sleep(0.03)
    pytest.fail("it took a minute")


# --- one driver ---------------------------------------------------------------------------------


@pytest.mark.ci
def test_a_second_driver_is_told_of_the_first_whose_death_leaves_no_lock(
    postgres: Server, schema: str, url: str, start: Any, study: Path, local: Any, paramcast: Any
) -> None:
    process = start("study", "run", "shared.toml", "--out", "one", "--workers", 2, "--store", url)
    until(lambda: stored(postgres, schema) >= 2, process)
    words = ("study", "run", "shared.toml", "--out", "two", "--workers", 2, "--store", url)
    who = f"process {process.pid} on {socket.gethostname()}, since 2"
    refused(paramcast(*words), f"another paramcast is running in {url} ({who}",
            " UTC); wait for it, or choose another --store")  # fmt: skip
    assert list((study / "two").iterdir()) == []
    assert f"; at work: {who}" in paramcast("study", "status", "nowhere", "--store", url).out
    family = psutil.Process(process.pid).children(recursive=True)
    assert process.poll() is None
    process.kill()
    process.wait()
    before = stored(postgres, schema)
    assert before < RUNS
    ran = paramcast(*words, "--json")
    assert ran.code == 0, ran.err
    assert ran.result["reused_runs"] == before
    assert table(study / "two") == local
    assert "at work" not in paramcast("study", "status", "two").out
    psutil.wait_procs(family, timeout=30)


@pytest.mark.ci
def test_ctrl_c_gives_the_store_back_and_a_server_that_goes_away_is_said(
    postgres: Server, schema: str, url: str, start: Any, study: Path, local: Any, paramcast: Any
) -> None:
    words = ("study", "run", "shared.toml", "--out", "out", "--workers", 2)
    process = start(*words, "--store", url)
    until(lambda: stored(postgres, schema) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    kept = stored(postgres, schema)
    said = rf"paramcast: interrupted; {kept} of {RUNS} runs are kept in .*\n"
    assert re.fullmatch(said, without_notice(err)), err
    assert kept < RUNS
    assert "study shared, not finished" in paramcast("study", "status", "out").out

    process = start("study", "resume", "out", "--workers", 2)  # the folder knows the address
    until(lambda: stored(postgres, schema) > kept, process)
    postgres.stop()
    try:
        out, err = process.communicate(timeout=120)
    finally:
        postgres.start()
    assert (process.returncode, out) == (2, "")
    said = r"paramcast: postgresql://owner@\S+ cannot be (written|read) .* check its server.*\n"
    assert re.fullmatch(said, without_notice(err)), err
    ran = paramcast("study", "resume", "out", "--workers", 2)  # once it is back
    assert ran.code == 0, ran.err
    assert table(study / "out") == local
    assert postgres.sql("SELECT key FROM failures", schema=schema) == []
    assert (
        f"finished; 0 of 0 tuning runs, {RUNS} of at most"
        in paramcast("study", "status", "out").out
    )
    assert paramcast("study", "export", "out", "runs.csv", "--runs").code == 0
    assert len((study / "runs.csv").read_text().splitlines()) == RUNS + 1

    (study / "other.toml").write_text(STUDY.replace("0.03", "0.04"))
    other = paramcast("study", "run", "other.toml", "--out", "other", "--store", url)
    assert other.code == 2
    assert "holds the results of another specification (the study's file changed)" in other.err
    assert "choose another --store, nothing was changed" in other.err


def test_runs_that_fail_end_a_pilot_as_they_do_in_a_folder(
    postgres: Server, schema: str, url: str, task_file: Any, paramcast: Any
) -> None:
    task_file(more=at_seeds({1: "raise RuntimeError('boom')"}))
    words = ("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2, "--all-arms", "--out", "out")
    for attempts in (16, 32):  # a driver that starts later tries again
        ran = paramcast(*words, "--store", url)
        assert ran.code == 1
        assert "8 of 16 final runs failed twice, so there is no verdict" in ran.err
        found = postgres.sql("SELECT status, reason FROM failures", schema=schema)
        assert len(found) == attempts
        assert set(found) == {("failed", "RuntimeError: boom")}


# --- passwords and what is refused --------------------------------------------------------------


def test_a_password_is_used_and_never_kept(
    postgres: Server, schema: str, paramcast: Any, task_file: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    task_file()
    postgres.sql(f"ALTER SCHEMA {schema} OWNER TO locked")
    url = postgres.url(schema, user="locked")
    secret = PASSWORD.replace(" ", "%20")
    words = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 2, "--all-arms", "--out", "out")
    ran = paramcast(*words, "--store", url.replace("locked@", f"locked:{secret}@"))
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "runs.url").read_text() == url + "\n"
    kept = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    rows = repr([postgres.sql(f"SELECT * FROM {t}", schema=schema) for t in ("about", "runs")])
    for text in (ran.out, ran.err, kept.decode(), rows):
        assert PASSWORD not in text
        assert secret not in text
    again = paramcast(*words)
    assert again.code == 2
    assert re.fullmatch(r"paramcast: postgresql://locked@\S+ cannot be reached .*\n", again.said)
    assert "no password supplied" in again.err
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert paramcast(*words, "--json").result["reused_runs"] == 16


def refused(ran: Any, *messages: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert ran.said.count("\n") == 1
    for message in messages:
        assert message in ran.err, ran.err


def test_a_missing_driver_is_named(paramcast: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    ran = paramcast("study", "status", ".", "--store", "postgresql://u@127.0.0.1:1/db")
    refused(ran, "needs a driver: pip install 'paramcast[postgres]'")


def test_nobody_listens_or_nobody_answers(paramcast: Any) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        url = f"postgresql://u:secret@127.0.0.1:{port}/db?connect_timeout=2"
        silent = f"postgresql://u@127.0.0.1:{port}/db"
        ran = paramcast("study", "status", ".", "--store", url)
        refused(ran, f"{silent}?connect_timeout=2 cannot be reached (", "refused", "check the addr")
        assert "secret" not in ran.err
        listener.listen()
        ran = paramcast("study", "status", ".", "--store", url)
        refused(ran, "cannot be reached (", "timeout")


def test_what_the_server_refuses(postgres: Server, schema: str, paramcast: Any) -> None:
    def ran(url: str) -> Any:
        return paramcast("pilot", "digits", "--out", "out", "--store", url)

    locked = postgres.url(schema, "locked").replace("locked@", "locked:wrong@")
    refused(ran(locked), "cannot be reached (", "password authentication failed", "PGPASSWORD")
    refused(ran(postgres.url(database="nope")), 'database "nope" does not exist')
    refused(ran(postgres.url("nope")), "no schema has been selected to create in", "docs/store.md")
    postgres.sql(f"GRANT USAGE ON SCHEMA {schema} TO reader")
    refused(ran(postgres.url(schema, "reader")), "permission denied", "docs/store.md")
    postgres.sql("CREATE TABLE songs (title text)", schema=schema)
    refused(ran(postgres.url(schema)), "is a database of something else (tables songs)",
            "CREATE SCHEMA name")  # fmt: skip


def test_a_newer_or_no_store_is_left_alone(
    postgres: Server, schema: str, url: str, paramcast: Any
) -> None:
    refused(paramcast("study", "status", ".", "--store", url), "holds no study")
    assert postgres.sql(f"SELECT * FROM pg_tables WHERE schemaname = '{schema}'") == []
    with closing(Store(url)) as store:
        store.set_about("schema", 3)
    before = postgres.sql("SELECT * FROM about", schema=schema)
    for words in (("pilot", "digits", "--out", "out"), ("study", "status", ".")):
        refused(paramcast(*words, "--store", url), "schema version 3, this paramcast reads 2")
    assert postgres.sql("SELECT * FROM about", schema=schema) == before


def test_a_folder_has_one_store(paramcast: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    Store(tmp_path / "out" / "runs.db").close()
    there = "postgresql://u@127.0.0.1:1/db"
    refused(paramcast("study", "status", "out", "--store", there), "has a runs.db of its own")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "runs.url").write_text("nonsense")
    refused(paramcast("study", "status", "empty"), "runs.url does not hold the URL of a store")


def test_a_store_is_watched_from_anywhere(url: str, tmp_path: Path) -> None:
    """Also where no folder is: runs come from the store, and who is at work from its server."""
    spec = run_spec(method="plp")
    point = {"step": 5, "seconds": 1.0, "validation_loss": 0.5}
    outcome = {"status": "done", "reason": "", "validation": {"loss": 0.5}, "curve": [point]}
    board = Board(tmp_path / "none", url)
    with closing(Store(url)) as store:
        with pytest.raises(StoreError, match="is not of a pilot or study"):
            board.look()
        store.adopt(
            "specification", {"kind": "study", "name": "shared", "text": "", "device": "cpu"}
        )
        store.set_about("planned", {"tuning": 0, "final": 3})
        store.put(spec, outcome, {})
        look = board.look()
        assert look.state == "running"
        assert board.phases(look.planned) == [("final", 1, 3)]
        assert [*board.runs[0].curve] == [point]
    assert board.look().state == "stopped"
