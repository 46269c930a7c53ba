"""Checkpoints on the disk: whatever is cut, changed or killed, a whole one is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paramcast as pc
from paramcast._files import replacing
from paramcast.checkpoints import load, save
from paramcast.errors import CheckpointError
from reference import parameters, same_bits, train, values


def state(size: int = 6000) -> dict[str, Any]:
    """Weights and an optimizer in mid-cycle."""
    ps = [*parameters(), torch.nn.Parameter(torch.randn(size))]
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1, momentum=0.9))
    train(optimizer, ps, 5)
    return {"weights": values(ps), "optimizer": optimizer.state_dict(), "epoch": 3}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return same_bits([a], [b]) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


def test_what_is_saved_comes_back_to_the_bit(path: Path) -> None:
    for saved in (state(), state(10)):
        save(path, saved)
        assert same(load(path), saved)
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_checkpoint_cut_at_any_thousandth_byte_is_refused(path: Path) -> None:
    save(path, state())
    whole = path.read_bytes()
    assert len(whole) > 60_000
    for size in range(0, len(whole), 1000):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"is not a whole checkpoint .*earlier one"):
            load(path)


def test_a_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    saved, refused = state(500), 0
    save(path, saved)
    whole = path.read_bytes()
    places = range(0, len(whole), 61)
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        try:
            assert same(load(path), saved), place  # of the archive's dates, for instance
        except CheckpointError:
            refused += 1
    assert refused > 0.8 * len(places)


WRITER = """
import json, os, resource, signal, sys
import torch
from pathlib import Path
from test_checkpoint_files import CheckpointError, load, same, save, state

torch.set_num_threads(1)
path, big, endings = Path(sys.argv[1]), state(), []
size, step = int(sys.argv[2]), 2000
earlier = load(path)
for limit in range(0, size, step):
    for action in (signal.SIG_DFL, signal.SIG_IGN):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGXFSZ, action)  # killed by it, or told EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                save(path, big)
                os._exit(0)
            except CheckpointError as error:
                os._exit(7 if "an earlier one is unchanged: make room" in str(error) else 8)
        endings.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert same(load(path), earlier), limit
print(json.dumps(endings))
"""


def test_a_writer_stopped_anywhere_leaves_the_earlier_checkpoint(path: Path) -> None:
    """The limit on a file's size ends the process at that byte, or fails its write there."""
    save(path, state())
    size, earlier = path.stat().st_size, state(7)
    save(path, earlier)
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", WRITER, path, str(size)], env={**os.environ, "PYTHONPATH": search},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    endings = json.loads(done.stdout)
    assert len(endings) == 2 * len(range(0, size, 2000))
    assert set(endings[::2]) == {-signal.SIGXFSZ}
    assert set(endings[1::2]) == {7}
    assert same(load(path), earlier)
    partial = list(path.parent.glob(".last.pt.*.partial"))
    assert len(partial) == len(endings) / 2  # of those that were killed
    save(path, state())
    assert sorted(path.parent.glob(".*")) == sorted(partial)  # they might still be written to
    for file in partial:
        os.utime(file, (time.time() - 3700,) * 2)
    save(path, state())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "thing", [np.float64(1), lambda: 0, Path("x")], ids=["numpy", "code", "path"]
)
def test_what_could_not_be_loaded_is_not_saved(path: Path, thing: Any) -> None:
    save(path, {"epoch": 1})
    with pytest.raises(
        CheckpointError, match=r"was not written: it may hold only tensors and plain val"
    ):
        save(path, {"epoch": thing})
    assert load(path) == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_with_code_is_refused(path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("exit 1",)

    torch.save({"epoch": Evil()}, path)
    with pytest.raises(
        CheckpointError, match=r"cannot be loaded: it may hold only tensors.* posix\.sys"
    ):
        load(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", b"x" * 5000, "folder", None])
def test_what_is_no_checkpoint(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(CheckpointError, match=r"is not a whole checkpoint|there is no checkpoint"):
        load(path)


def test_where_nothing_can_be_written(path: Path) -> None:
    for bad in (path / "x.pt", path.parent):
        path.touch()
        with pytest.raises(CheckpointError, match="cannot be written"):
            save(bad, state(1))
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(path: Path) -> None:
    (path.parent / "store").mkdir()
    path.symlink_to("store/real.pt")
    save(path, {"epoch": 1})
    assert path.is_symlink()
    assert load(path.parent / "store" / "real.pt") == {"epoch": 1}


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
