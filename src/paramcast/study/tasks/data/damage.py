"""The sentence that every decoder ends in when it meets a file it cannot use."""

from __future__ import annotations

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
