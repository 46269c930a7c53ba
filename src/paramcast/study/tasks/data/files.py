"""Reading files that may be damaged: every problem ends in one sentence that names the file."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....errors import TaskError


def damaged(path: Path, why: str) -> TaskError:
    """An error that names the file, what is wrong with it and what to do."""
    return TaskError(f"{path} cannot be used: {why}; replace it with an undamaged copy")


@contextlib.contextmanager
def regular_file(path: Path) -> Iterator[Path]:
    """A context for reading a file, after checking that it is one: opening a pipe would block.

    Raises:
        TaskError: it is absent, a folder, a pipe or a device, or it cannot be read.
    """
    if not path.exists():
        raise TaskError(f"{path} is missing; the data folder needs it")
    if not path.is_file():
        raise TaskError(f"{path} is not a regular file; the data folder needs one of that name")
    try:
        yield path
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise damaged(path, f"it cannot be read ({reason or type(error).__name__})") from None


def checked(path: Path, sha256: str) -> Path:
    """The path, after comparing the file's checksum with the known one."""
    with regular_file(path):
        found = sha256_of(path)
    if found != sha256:
        raise damaged(path, f"its sha256 is {found}, not {sha256}")
    return path


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def parquet_file(path: Path, **options: Any) -> Iterator[Any]:
    """An open `pyarrow.parquet.ParquetFile`, of which only the footer has been read.

    Raises:
        ValueError: it is damaged; also if that shows only while it is read in the context.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False, **options) as file:
            yield file
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError, RuntimeError,
            MemoryError) as error:  # fmt: skip
        said = str(error).splitlines() or [type(error).__name__]
        raise ValueError(said[0].rstrip(".")) from None


def parquet_bytes(file: Any) -> int:
    """Bytes that all rows have once unpacked, as the footer of a parquet file says.

    Whole row groups only: pyarrow 26 aborts the process where a damaged footer is asked for a
    column.
    """
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    return sum(abs(group.total_byte_size) for group in groups)  # a negative one must hide no other
