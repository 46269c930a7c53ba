"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Seconds after which a partial file that nobody writes to belongs to a process that died.
FORGOTTEN = 3600.0


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside `path`, and put it in its place once it has reached the disk.

    A reader sees the old file or the new one, whatever else is written and whatever ends this
    process or the machine. An exception leaves the old file. A process that is killed leaves a
    hidden file ".NAME.*.partial", which a later write to the same path removes. A device or a pipe
    is written to directly.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link stays; its target is replaced
    if path.exists() and not path.is_file():
        with path.open("wb") as file:  # fails on a folder, as it should
            yield file
        return
    _remove_forgotten(path)
    partial = path.with_name(f".{_short(path)}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the name may reach the disk before the content
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(path.parent)


def _short(path: Path) -> str:
    """A name that leaves room for an ending: most file systems allow 255 bytes."""
    return path.name[:50]


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk too."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not support it
            raise
    finally:
        os.close(handle)


def _remove_forgotten(path: Path) -> None:
    for partial in path.parent.glob(f".{glob.escape(_short(path))}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > FORGOTTEN:
                partial.unlink()
