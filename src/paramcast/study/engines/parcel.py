"""The files of a user's task, for nodes of a cluster that do not have the same ones."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from ...errors import StudyError, TaskError
from ..tasks.own_file import code_files
from ..tasks.source import CODE, Source

LARGEST = 200 * 2**20  # bytes sent to a node


@dataclass(frozen=True)
class Parcel:
    """The files of a task by their paths beside its own file; empty for built-in tasks.

    For a folder of images it is the file with their pixels, so that no node decodes them again.
    """

    files: tuple[tuple[str, bytes], ...] = ()


def pack(source: Source) -> Parcel:
    """Read what a node may lack: a task's file and the modules beside it, a table, or images.

    Raises:
        StudyError: the files are too large to send.
    """
    if source.kind == "table":
        paths = [Path(source.where)]
    elif source.kind == "images":
        paths = [Path(source.data)]
    elif source.kind in CODE:
        paths = [Path(file) for file in code_files(source.where)]
    else:
        return Parcel()
    size = sum(path.stat().st_size for path in paths)
    # a node may find them in a shared folder (see `unpack`)
    if size > LARGEST and source.kind == "images":
        return Parcel()
    if size > LARGEST:
        raise StudyError(
            f"{source.label} has {size / 2**20:.0f} MiB, too much to send to every node (limit "
            f"{LARGEST // 2**20} MiB); put it where all nodes see it at the same path"
        )
    folder = Path(source.data if source.kind == "images" else source.where).parent
    files = [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths]
    return Parcel(tuple(files))


def unpack(source: Source, parcel: Parcel) -> Source:
    """The task as this node can load it: from its own path if the same files are there.

    Raises:
        TaskError: a parcel leaves its folder, or images too large to send are not on this node.
    """
    if source.kind == "images" and not parcel.files and not Path(source.data).is_file():
        raise TaskError(
            f"this node has no {source.data}, and more than {LARGEST // 2**20} MiB of images are "
            "not sent; set TMPDIR to a folder that all nodes share"
        )
    images = source.kind == "images"
    path = Path(source.data if images else source.where)
    if not parcel.files or all(_same(path.parent / name, data) for name, data in parcel.files):
        return source
    moved = str(_write(parcel) / path.name)
    return replace(source, data=moved) if images else replace(source, where=moved)


def _same(path: Path, data: bytes) -> bool:
    try:
        found = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


@lru_cache(maxsize=8)
def _write(parcel: Parcel) -> Path:
    """Write the files to a new folder, which is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="paramcast-task-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in parcel.files:
        place = PurePosixPath(name)
        # a parcel comes from another machine: its names must not leave the folder
        if place.is_absolute() or ".." in place.parts:
            raise TaskError(f"a task's file may not lie outside its folder, got {name!r}")
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    return folder
