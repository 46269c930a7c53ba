"""IDX, the format of MNIST and its relatives: a short header, then bytes, usually gzipped."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....errors import TaskError
from .files import damaged, regular_file

UNSIGNED_BYTE = 0x08  # the format's code for the type of its values


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped (".gz") or not, which must have that shape.

    The header is four bytes (0, 0, type, number of dimensions), then one big-endian 32-bit length
    per dimension. No more than the expected size is ever decompressed, whatever the file says.
    """
    header_size = 4 + 4 * len(shape)
    size = header_size + math.prod(shape)
    with regular_file(path), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read(size + 1)
    if len(content) < header_size:
        raise damaged(path, f"it holds {len(content)} bytes, its header alone has {header_size}")
    # the header, then the length that it promises
    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != UNSIGNED_BYTE or dimensions != len(shape):
        raise damaged(
            path, f"its header starts with {content[:4].hex()}, not with 000008{len(shape):02x}"
        )
    found = struct.unpack(f">{len(shape)}I", content[4:header_size])
    if found != shape:
        raise damaged(path, f"it says it has the shape {found}, not {shape}")
    if len(content) != size:
        more = "more than " if len(content) > size else f"{len(content)} of "
        raise damaged(path, f"it holds {more}the {size} bytes of its header's shape")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def read_labels(path: Path, count: int, classes: int) -> npt.NDArray[np.int64]:
    """Read an IDX file of `count` labels from 0 to `classes` - 1."""
    labels = read_idx(path, (count,)).astype(np.int64)
    if labels.max() >= classes:
        raise damaged(path, f"it holds the label {labels.max()}, the last class is {classes - 1}")
    return labels


def either(folder: Path, name: str) -> Path:
    """The file `name`.gz or, where there is none, `name`."""
    zipped, plain = folder / f"{name}.gz", folder / name
    if not zipped.exists() and not plain.exists():
        raise TaskError(f"{zipped} is missing (so is {name}); the data folder needs one of them")
    return zipped if zipped.exists() else plain
