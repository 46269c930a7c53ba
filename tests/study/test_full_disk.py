"""A file system without space: one sentence, nothing half-written, and it goes on."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mount

PILOT = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 6, "--methods", "plp", "--out", "small/out")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path, room: int) -> Path:
    """A file that leaves so many bytes."""
    file = folder / "filler"
    free = os.statvfs(folder)
    file.write_bytes(b"x" * (free.f_bavail * free.f_frsize - room))
    return file


def test_a_pilot_without_space_goes_on_once_there_is_some(
    paramcast: Callable[..., Any], task_file: Callable[..., Path], small: Path
) -> None:
    task_file()
    filler = fill(small, 0)
    ran = paramcast(*PILOT)
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(r"paramcast: [^\n]*(No space left|disk is full)[^\n]*\n", ran.err), ran.err

    filler.unlink()
    filler = fill(small, 220_000)
    ran = paramcast(*PILOT)
    assert (ran.code, ran.out) == (2, "")
    said = r"paramcast: small/out/pilot.db cannot be written \(database or disk is full\); [^\n]*\n"
    assert re.fullmatch(said, ran.err), ran.err
    assert not list((small / "out").glob("*.json"))
    with closing(sqlite3.connect(small / "out" / "pilot.db")) as connection:
        ((kept,),) = connection.execute("SELECT count(*) FROM runs")
    assert 0 < kept < 48

    filler.unlink()
    ran = paramcast(*PILOT, "--json")
    assert ran.code == 0, ran.err
    assert ran.result["reused_runs"] == kept
