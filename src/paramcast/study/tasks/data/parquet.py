"""Images in parquet files, as Hugging Face has them: a column of PNG files and one of labels."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ....errors import TaskError
from .files import damaged, regular_file
from .pages import sizes

SIDE = 32
PIXELS = 3 * SIDE * SIDE
MOST_PNG_BYTES = 16_384
"""Of one image: 32x32 colours are 3,072 bytes, and PNG adds little."""
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
BATCH = 1000
MOST_BATCH_BYTES = 128 * 2**20
"""Of what is unpacked at once; a page of all images of a split has as many."""
BROKEN = (OSError, KeyError, ValueError, OverflowError, RuntimeError)
"""What pyarrow raises of a damaged file, beside its own exceptions."""


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

    Args:
        folder: that holds them.
        split: the beginning of their names, as in "train-00000-of-00003.parquet".
        count: the images that all of them together must hold.
        column: of the labels.
        classes: labels go from 0 to this number less 1.

    Raises:
        TaskError: a shard is missing or damaged, or holds something else.
    """
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.int64)
    opened = [_Shard(path, column, classes) for path in _shards(folder, split)]
    total = sum(shard.rows for shard in opened)
    if total != count:
        raise damaged(folder, f"its {split} shards hold {total} images, needed are {count}")
    row = 0
    for shard in opened:
        for png, label in shard.examples():
            images[row], labels[row] = png, label
            row += 1
    return Part(images, labels)


def _shards(folder: Path, split: str) -> list[Path]:
    """All shards that the names promise, in order."""
    matches = [SHARD.search(path.name) for path in folder.glob(f"{split}-*.parquet")]
    promised = {int(match.group(2)) for match in matches if match}
    if len(promised) != 1:
        found = "none" if not promised else f"shards of {' and of '.join(map(str, promised))}"
        raise TaskError(
            f"{folder} must hold one set of {split}-NNNNN-of-NNNNN.parquet, it holds {found}"
        )
    (number,) = promised
    if number > 1000:
        raise TaskError(f"{folder} promises {number} {split} shards; at most 1000 can be read")
    return [
        regular_file(folder / f"{split}-{i:05d}-of-{number:05d}.parquet") for i in range(number)
    ]


class _Shard:
    """One parquet file whose description was checked; its rows come in batches."""

    def __init__(self, path: Path, column: str, classes: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.column, self.classes = path, column, classes
        try:
            with path.open("rb") as opened:
                claimed = sizes(opened, ("img.bytes", column))
            self.file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
            self.rows: int = self.file.metadata.num_rows
            self._check(pa, self.file.schema_arrow, claimed.rows)
        except (pa.ArrowException, *BROKEN) as error:
            raise damaged(path, f"it is no parquet file ({_first_line(error)})") from None
        if claimed.page > MOST_BATCH_BYTES:
            raise damaged(path, f"it has a page of {claimed.page} bytes")
        # a page's largest value may be repeated by every row
        self.batch = max(1, min(BATCH, MOST_BATCH_BYTES // max(1, claimed.page)))

    def _check(self, pa: Any, schema: Any, size: int) -> None:
        image = schema.field("img").type if "img" in schema.names else None
        if (
            image is None
            or not pa.types.is_struct(image)
            or image.get_field_index("bytes") < 0
            or not pa.types.is_binary(image.field("bytes").type)
        ):
            raise damaged(self.path, "it has no column img with the bytes of images")
        if self.column not in schema.names or not pa.types.is_integer(
            schema.field(self.column).type
        ):
            columns = ", ".join(schema.names)
            raise damaged(
                self.path, f"it has no column {self.column} of whole numbers, it has {columns}"
            )
        if self.rows < 0 or size > (self.rows + BATCH) * MOST_PNG_BYTES:
            raise damaged(self.path, f"it says that {self.rows} small images fill {size} bytes")

    def examples(self) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
        import pyarrow as pa

        seen = 0
        try:
            columns = ["img.bytes", self.column]
            for batch in self.file.iter_batches(self.batch, columns=columns, use_threads=False):
                if batch.nbytes > (BATCH + 1) * MOST_PNG_BYTES:
                    raise damaged(self.path, "it holds images far larger than 32x32")
                pngs = batch.column("img").field("bytes").to_pylist()
                for png, label in zip(pngs, batch.column(self.column).to_pylist(), strict=True):
                    if png is None or label is None:
                        raise damaged(self.path, f"row {seen} is empty")
                    if not 0 <= label < self.classes:
                        last = self.classes - 1
                        raise damaged(
                            self.path, f"row {seen} has the label {label}, not 0 to {last}"
                        )
                    yield self._decode(png, seen), label
                    seen += 1
        except (pa.ArrowException, *BROKEN) as error:
            raise damaged(self.path, f"it breaks off ({_first_line(error)})") from None
        if seen != self.rows:
            raise damaged(self.path, f"it holds {seen} of the {self.rows} rows it promises")

    def _decode(self, png: bytes, row: int) -> npt.NDArray[np.uint8]:
        try:
            return decode_png(png)
        except ValueError as error:
            raise damaged(self.path, f"the image in row {row} {error}") from None


def decode_png(png: bytes) -> npt.NDArray[np.uint8]:
    """A PNG of 32x32 as (3, 32, 32) bytes.

    Raises:
        ValueError: it is something else; the text goes on from "the image".
    """
    from PIL import Image

    if len(png) > MOST_PNG_BYTES:
        raise ValueError(f"has {len(png)} bytes, more than any of 32x32")
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 33:
        raise ValueError("is no PNG file")
    width, height = struct.unpack(">II", png[16:24])  # before anything is unpacked
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"has {width}x{height} pixels, not 32x32")
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            content = (image if image.mode == "RGB" else image.convert("RGB")).tobytes()
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    pixels: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8).reshape(SIDE, SIDE, 3)
    planes: npt.NDArray[np.uint8] = pixels.transpose(2, 0, 1)
    return planes


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
