"""Checkpoints on disk: written whole or not at all, and refused when they are damaged.

`torch.save` to the path of the last checkpoint destroys it first: a job that is killed meanwhile,
or a disk that fills up, leaves none. `torch.load` notices that the end of a file is missing, but
not that something in it has changed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ._files import replacing
from .errors import CheckpointError


def save(path: str | os.PathLike[str], state: Any) -> None:
    """Write a checkpoint with `torch.save`, in place of an earlier one.

    The file is written beside `path`, flushed to disk (`fsync`), and only then renamed: at every
    moment `path` is the old checkpoint or the new one. The disk needs room for both.

    Args:
        path: the file; its folder must exist.
        state: tensors and plain values, in dicts and lists: state dicts.

    Raises:
        CheckpointError: it cannot be written, or `load` would refuse it; the earlier one is
            unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/last.pt", {"step": 3, "weight": torch.ones(2)})
        ...     load(f"{folder}/last.pt")
        {'step': 3, 'weight': tensor([1., 1.])}
    """
    handled = sys.exc_info()[1]
    try:
        with replacing(Path(path)) as file:
            torch.save(state, file)
            file.flush()
            # reads the structure but no tensors: a file that cannot be loaded replaces nothing
            torch.load(file.name, map_location="meta", mmap=True, weights_only=True)
    except (pickle.PickleError, AttributeError) as error:
        raise CheckpointError(
            f"{path} was not written: {_foreign(error)}; an earlier one is unchanged"
        ) from error
    except (OSError, RuntimeError) as error:
        inner = error.__context__  # torch's writer wraps any other error in its own
        cause = error if inner is None or inner is handled else inner
        if not isinstance(cause, RuntimeError) and not getattr(cause, "errno", None):
            raise cause from None  # from a signal handler, such as Ctrl-C's
        raise CheckpointError(
            f"{path} cannot be written ({_first_line(cause)}); an earlier one is unchanged: make "
            "room or access"
        ) from error


def load(path: str | os.PathLike[str], *, map_location: Any = None) -> Any:
    """Read a checkpoint: tensors and plain values, no code (`weights_only=True`).

    Every byte is checked against the checksums in the file, so the file is read twice.

    Args:
        path: the file.
        map_location: as in `torch.load`.

    Raises:
        CheckpointError: it is missing, damaged, not from torch, or holds anything else.
    """
    with _refusing(path):
        _check(Path(path))
        return torch.load(path, map_location=map_location, weights_only=True)


def load_mapped(path: str | os.PathLike[str]) -> Any:
    """`load` onto the CPU without taking up memory: a tensor is read when it is used.

    The file must stay as it is meanwhile. One in the format before torch 1.6, which has no
    checksums, is read as a whole.
    """
    with _refusing(path):
        with open(path, "rb") as file:
            mapped = file.read(2) == b"PK"
        if mapped:
            _check(Path(path))
        return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)


@contextlib.contextmanager
def _refusing(path: str | os.PathLike[str]) -> Iterator[None]:
    """What reading the file raises becomes one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except pickle.PickleError as error:
        raise CheckpointError(f"{path} cannot be loaded: {_foreign(error)}") from error
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({_first_line(error)}); load an earlier one"
        ) from error


def _check(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:  # a zip archive with a checksum per entry
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch.save does not do")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the content of {damaged} has changed")


def _foreign(error: BaseException) -> str:
    """What the file holds that does not belong there."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    what = named[1] if named else _first_line(error)
    return f"it may hold only tensors and plain values, such as state dicts, got {what}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
