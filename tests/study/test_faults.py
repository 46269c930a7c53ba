"""What breaks around a pilot: its file system, its database, its memory; and it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_engine import SPECS, at_seeds, ends, run_specs

from command import call
from runs import kept, rows, timeless

PILOT = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 6, "--methods", "plp", "--out", "disk/out")
RUNS = 48
SLOW = """
import time

def wait(inputs, generator):
    time.sleep(0.005)
    return inputs

def changes():
    return dict(augment=wait)
"""


def stored(folder: Path) -> dict[str, Any]:
    """Every run, by its key."""
    found = rows(folder / "disk/out/runs.db", "SELECT key, outcome, curve FROM runs")
    return {key: timeless([json.loads(o), json.loads(c)]) for key, o, c in found}


def write_task(folder: Path) -> None:
    from blobs import BLOBS

    (folder / "blobs.py").write_text(BLOBS + SLOW)
    (folder / "disk").mkdir()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The runs of the pilot, left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_task(folder)
    assert call(folder, *PILOT).code == 0
    return stored(folder)


@pytest.fixture
def pilot(tmp_path: Path, paramcast: Any) -> Callable[..., Any]:
    """pilot(strike): run it; when some runs are kept, strike."""
    write_task(tmp_path)

    def run(strike: Callable[[], Any] = lambda: None, after: int = 5) -> Any:
        ended = threading.Event()

        def wait_and_strike() -> None:
            while kept(tmp_path / "disk/out/runs.db") < after:
                if ended.wait(0.005):
                    return
            strike()

        thread = threading.Thread(target=wait_and_strike)
        thread.start()
        try:
            return paramcast(*PILOT, "--json")
        finally:
            ended.set()
            thread.join()

    return run


def goes_on(pilot: Any, folder: Path, undisturbed: dict[str, Any]) -> Any:
    """The same command, once the fault is mended, ends as if nothing had been."""
    before = kept(folder / "disk/out/runs.db")
    ran = pilot(after=0)
    assert ran.code == 0, ran.err
    assert ran.result["reused_runs"] == before
    assert stored(folder) == undisturbed
    left = {file.name for file in (folder / "disk/out").iterdir()} - {"report.html"}
    assert left - {"runs.db-wal", "runs.db-shm"} == {".lock", "runs.db", "result.json"}
    return ran


def one_sentence(ran: Any, said: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(rf"paramcast: [^\n]*{said}[^\n]*\n", ran.said), ran.err


# --- file systems -------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(folder: Path, *options: Any) -> Iterator[None]:
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path, room: int) -> Path:
    """A file that leaves so many bytes."""
    file = folder / "filler"
    free = os.statvfs(folder)
    file.write_bytes(b"x" * (free.f_bavail * free.f_frsize - room))
    return file


@pytest.mark.mount
def test_a_disk_without_space(pilot: Any, tmp_path: Path, undisturbed: Any) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        filler = fill(disk, 0)
        one_sentence(pilot(after=0), "(No space left|disk is full)")
        filler.unlink()
        filler = fill(disk, 220_000)
        said = r"disk/out/runs.db cannot be written \(database or disk is full\); .*make room"
        one_sentence(pilot(), said)
        assert not list((disk / "out").glob("*.json"))
        assert 0 < kept(tmp_path / "disk/out/runs.db") < RUNS
        filler.unlink()
        ran = goes_on(pilot, tmp_path, undisturbed)  # the page is larger than this disk
        assert re.fullmatch(r"paramcast: no report was written: .*No space left.*\n", ran.said)


@pytest.mark.mount
def test_a_file_system_that_turns_read_only(pilot: Any, tmp_path: Path, undisturbed: Any) -> None:
    """As Linux does it when a disk fails: with files open, in mid-transaction."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mkfs.ext4 makes no file system here")
    mount = ("-o", "loop,errors=remount-ro", image)

    def fail() -> None:
        find = ["findmnt", "-n", "-o", "SOURCE", disk]
        device = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        trigger.write_text("by a test")

    with mounted(disk, *mount):
        one_sentence(pilot(fail), r"disk/out/runs\.db cannot be written .*make room or access")
        one_sentence(pilot(after=0), r"--out disk/out cannot be locked \(Read-only file system\)")
    subprocess.run(["e2fsck", "-p", "-f", image], capture_output=True, check=False)
    with mounted(disk, *mount):
        assert kept(tmp_path / "disk/out/runs.db") < RUNS
        goes_on(pilot, tmp_path, undisturbed)


# --- memory -------------------------------------------------------------------------------------

ENTER = """(Path({group!r}) / "cgroup.procs").write_text(str(os.getpid()))
food = bytearray(256 * 2**20)"""


@contextlib.contextmanager
def small_group() -> Iterator[Path]:
    """A control group of this machine's that holds 64 MiB."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {
        tuple(names.split(",")): path for _, names, path in (line.split(":", 2) for line in lines)
    }
    first = own.get(("memory",))
    root, limit = ("memory", "memory.limit_in_bytes") if first else ("", "memory.max")
    group = Path(
        "/sys/fs/cgroup", root, (first or own[("",)]).lstrip("/"), f"paramcast{os.getpid()}"
    )
    try:
        group.mkdir()
        (group / limit).write_text(str(64 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    try:
        yield group
    finally:
        group.rmdir()


@pytest.mark.mount
def test_a_worker_that_the_system_kills_for_its_memory(task_file: Callable[..., Path]) -> None:
    with small_group() as group:
        what = ENTER.format(group=str(group))
        finished = run_specs(task_file(more=at_seeds({1: what})), SPECS)
        oom = (group / "memory.oom_control" if (group / "memory.oom_control").exists()
               else group / "memory.events").read_text()  # fmt: skip
    assert ends(finished) == {
        (s.method, s.seed): ["failed", "failed"] if s.seed == 1 else ["done"] for s in SPECS
    }
    reasons = {done.outcome["reason"] for done in finished if done.outcome["status"] == "failed"}
    assert reasons == {"killed, probably because memory ran out (exit code -9)"}
    assert "oom_kill 6" in oom
