"""A run on a node of a Ray cluster: within its time, with the files of its task sent along."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ... import __version__
from ...errors import TaskError
from ..spec import RunSpec
from ..tasks.own_file import code_files
from ..tasks.source import CODE, Source
from . import worker

# seconds after its timeout at which a run that cannot be interrupted ends with its process
GRACE = 15.0
LARGEST = 200 * 2**20  # bytes sent to a node
# the files of a task that a node may lack, by their paths beside its own file
Parcel = tuple[tuple[str, bytes], ...]


def pack(source: Source) -> Parcel:
    """Read a task's file and the modules beside it, a table, or the file with images' pixels.

    What is too large to send is left out; nodes may find it in a folder that they share.
    """
    paths = [_file(source)]
    if source.kind in CODE:
        paths = [Path(file) for file in code_files(source.where)]
    elif source.kind not in ("table", "images"):
        return ()
    if sum(path.stat().st_size for path in paths) > LARGEST:
        return ()
    folder = _file(source).parent
    return tuple((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)


@lru_cache(maxsize=8)
def unpack(source: Source, parcel: Parcel) -> Source:
    """The task as this node can load it: from its own path if the same files are there.

    Raises:
        TaskError: a file leaves its folder, or files too large to send are not on this node.
    """
    path = _file(source)
    if source.kind in (*CODE, "table", "images") and not parcel and not path.is_file():
        raise TaskError(
            f"this node has no {path}, and more than {LARGEST // 2**20} MiB are not sent; put it "
            "where all nodes see it at the same path (of images: set TMPDIR to such a folder)"
        )
    for name, _ in parcel:  # of another machine's making: it must not leave the folder
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise TaskError(f"a task's file may not lie outside its folder, got {name!r}")
    here = [(path.parent / name, content) for name, content in parcel]
    if all(file.is_file() and file.read_bytes() == content for file, content in here):
        return source
    # a folder of this process's own, removed when it ends
    folder = Path(tempfile.mkdtemp(prefix="paramcast-task-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in parcel:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    moved = str(folder / path.name)
    images = source.kind == "images"
    return replace(source, data=moved) if images else replace(source, where=moved)


def _file(source: Source) -> Path:
    return Path(source.data if source.kind == "images" else source.where)


def execute(spec: RunSpec, source: Source, parcel: Parcel, timeout: float | None) -> dict[str, Any]:
    """Run one specification on this node, within that many seconds; an error becomes the reason."""
    try:
        worker.use_one_thread()
        here = f"paramcast {__version__}, torch {torch.__version__}"
        if spec.versions and spec.versions != here:
            raise RuntimeError(
                f"this node has {here}, the run needs {spec.versions}; install the same on every "
                "node"
            )
        with _limited(timeout):
            return worker.execute(spec, unpack(source, parcel))
    except _TookTooLong:
        return {"status": "timeout", "reason": f"took longer than {timeout:g} s"}
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


class _TookTooLong(BaseException):
    """Raised by the alarm; a task's `except Exception` does not catch it."""


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """End what takes longer: by an exception or, if nothing receives it, with the process."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TookTooLong

    # an alarm raises in Python code; code that never returns ends with the process
    last = threading.Timer(seconds + GRACE, os._exit, [1])
    last.daemon = True
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    last.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        last.cancel()
