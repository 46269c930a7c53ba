"""Images in parquet files, as on Hugging Face: a column of PNG files and one of labels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ....errors import TaskError
from .files import damaged, parquet_bytes, parquet_file, regular_file

SIDE = 32
PIXELS = 3 * SIDE * SIDE
# the most bytes of one image: 32x32 colours are 3,072 bytes, and PNG adds little
MOST_PNG_BYTES = 16_384
MOST_NAMED = 8  # files that a message names


class Part(NamedTuple):
    """Images as bytes, (examples, channels, height, width), and their labels."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def parquet_folder(folder: Path) -> Path | None:
    """The folder itself or one in it, as repositories have them, that holds parquet shards."""
    for place in (folder, *(folder / name for name in ("data", "plain_text", "cifar100"))):
        if any(place.glob("train-*.parquet")) or any(place.glob("test-*.parquet")):
            return place
    return None


def read_parquet(folder: Path, split: str, count: int, column: str, classes: int) -> Part:
    """Read the shards of a split: an `img` column of PNG files, and labels.

    They are called as in "train-00000-of-00003.parquet", and together hold `count` images; labels
    are in `column`, from 0 to `classes` - 1.
    """
    shards = {path: _promised_rows(path, column) for path in _shards(folder, split)}
    total = sum(shards.values())
    if total != count:
        raise damaged(folder, f"its {split} shards hold {total} images, not {count}")
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.int64)
    row = 0
    for path, rows in shards.items():
        for image, label in _examples(path, rows, column, classes):
            images[row], labels[row] = image, label
            row += 1
    return Part(images, labels)


def _shards(folder: Path, split: str) -> list[Path]:
    """All shards that the names promise, in order."""
    found = sorted(folder.glob(f"{split}-*.parquet"))
    promised = [f"{split}-{i:05d}-of-{len(found):05d}.parquet" for i in range(len(found))]
    if not found or [path.name for path in found] != promised:
        holds = ", ".join(path.name for path in found[:MOST_NAMED]) or "none"
        raise TaskError(
            f"{folder} must hold all of one set of {split}-NNNNN-of-NNNNN.parquet, it holds {holds}"
        )
    return found


def _promised_rows(path: Path, column: str) -> int:
    """The rows that a shard promises, by its footer alone."""
    try:
        with regular_file(path), parquet_file(path) as file:
            rows, size = int(file.metadata.num_rows), parquet_bytes(file)
            _check_columns(path, file.schema_arrow, column)
    except ValueError as error:
        raise damaged(path, f"it is not a parquet file ({error})") from None
    if rows < 0 or size > (rows + 1000) * MOST_PNG_BYTES:
        raise damaged(path, f"it says that {rows} small images fill {size} bytes")
    return rows


def _check_columns(path: Path, schema: Any, column: str) -> None:
    import pyarrow as pa

    image = schema.field("img").type if "img" in schema.names else None
    if (
        image is None
        or not pa.types.is_struct(image)
        or image.get_field_index("bytes") < 0
        or not pa.types.is_binary(image.field("bytes").type)
    ):
        raise damaged(path, "it has no column img with the bytes of images")
    if column not in schema.names or not pa.types.is_integer(schema.field(column).type):
        columns = ", ".join(schema.names)
        raise damaged(path, f"it has no column {column} of whole numbers, it has {columns}")


def _examples(
    path: Path, rows: int, column: str, classes: int
) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """Each image of a shard with its label."""
    row = -1
    try:
        # a row at a time: in a batch, a value of megabytes that many rows share is copied for each
        with parquet_file(path) as file:
            batches = file.iter_batches(1, columns=["img.bytes", column], use_threads=False)
            for row, batch in zip(range(rows), batches, strict=True):
                png = batch.column("img").field("bytes")[0].as_buffer()
                label = batch.column(column)[0].as_py()
                if png is None or label is None:
                    raise damaged(path, f"row {row} is empty")
                if not 0 <= label < classes:
                    raise damaged(path, f"row {row} has the label {label}, not 0 to {classes - 1}")
                try:
                    yield decode_png(memoryview(png).cast("B")), label
                except ValueError as error:
                    raise damaged(path, f"the image in row {row} {error}") from None
    except ValueError as error:
        raise damaged(path, f"it breaks off after {row + 1} of {rows} rows ({error})") from None


def decode_png(png: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """A PNG of 32x32 as (3, 32, 32) bytes.

    Raises:
        ValueError: it is something else; the text goes on from "the image".
    """
    from PIL import Image

    if len(png) > MOST_PNG_BYTES:
        raise ValueError(f"has {len(png)} bytes, more than any of 32x32")
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 33:
        raise ValueError("is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])  # before anything is unpacked
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"has {width}x{height} pixels, not 32x32")
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            planes: npt.NDArray[np.uint8] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    return planes
