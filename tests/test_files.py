"""Files on the disk: whatever is stopped, killed or full, a whole one is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paramcast._files import replacing

WRITER = """
import os, resource, signal, sys
from pathlib import Path
from paramcast._files import replacing

path = Path(sys.argv[1])
for limit in range(0, 60_000, 2000):
    for action in (signal.SIG_DFL, signal.SIG_IGN):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGXFSZ, action)  # killed by it, or told EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                with replacing(path) as file:
                    file.write(b"new" * 20_000)
                os._exit(0)
            except OSError:
                os._exit(7)
        ending = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ending == (-signal.SIGXFSZ if action == signal.SIG_DFL else 7), ending
        assert path.read_bytes() == b"earlier", limit
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def test_a_new_file_has_the_usual_rights(path: Path) -> None:
    write(path, b"content")
    mask = os.umask(0)
    os.umask(mask)
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_writer_stopped_anywhere_leaves_the_earlier_file(path: Path) -> None:
    """The limit on a file's size ends the process at that byte, or fails its write there."""
    write(path, b"earlier")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    partial = list(path.parent.glob(".last.pt.*.partial"))
    assert len(partial) == 30  # of those that were killed
    write(path, b"new")
    assert sorted(path.parent.glob(".*")) == sorted(partial)  # they might still be written to
    for file in partial:
        os.utime(file, (time.time() - 3700,) * 2)
    write(path, b"new")
    assert list(path.parent.iterdir()) == [path]


def test_where_nothing_can_be_written(path: Path) -> None:
    path.touch()
    for bad in (path / "x.pt", path.parent):
        with pytest.raises(OSError, match=r"Not a directory|Is a directory"):
            write(bad, b"content")
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(path: Path) -> None:
    (path.parent / "store").mkdir()
    path.symlink_to("store/real.pt")
    write(path, b"content")
    assert path.is_symlink()
    assert (path.parent / "store" / "real.pt").read_bytes() == b"content"


def test_the_content_reaches_the_disk_before_the_name_and_then_the_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(handle: int) -> None:
        order.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).suffix}")
        fsync(handle)

    def note_replace(old: Any, new: Any) -> None:
        order.append(f"replace {Path(new).name} of {Path(old).stat().st_size}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    with replacing(path) as file:
        file.write(b"content")
    assert order == ["sync .partial", "replace last.pt of 7", "sync "]
