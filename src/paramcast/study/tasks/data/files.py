"""Reading files that may be damaged: every problem ends in one sentence that names the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ....errors import TaskError


def damaged(path: Path, why: str) -> TaskError:
    """An error that names the file, what is wrong with it and what to do."""
    return TaskError(f"{path} cannot be used: {why}; replace it by an undamaged copy")


def regular_file(path: Path) -> Path:
    """The path, after checking that it is a file that can be opened.

    Raises:
        TaskError: it is absent, a folder, a pipe or a device.
    """
    if not path.exists():
        raise TaskError(f"{path} is missing; the data folder needs it")
    if not path.is_file():
        raise TaskError(f"{path} is no regular file; the data folder needs one of that name")
    return path


def read_exactly(path: Path, size: int) -> bytes:
    """The content of a file that must have `size` bytes; no more is ever read.

    Raises:
        TaskError: it is missing, cannot be read or has another size.
    """
    try:
        with regular_file(path).open("rb") as file:
            content = file.read(size + 1)
    except OSError as error:
        raise damaged(path, f"it cannot be read ({error.strerror})") from None
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else f"{len(content)} of {size}"
        raise damaged(path, f"it holds {found} bytes")
    return content


def check_sha256(path: Path, sha256: str) -> None:
    """Compare a file's checksum with the known one.

    Raises:
        TaskError: it is missing, cannot be read or is another file.
    """
    digest = hashlib.sha256()
    try:
        with regular_file(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise damaged(path, f"it cannot be read ({error.strerror})") from None
    if digest.hexdigest() != sha256:
        raise damaged(path, f"its sha256 is {digest.hexdigest()}, needed is {sha256}")
