"""CIFAR in its two forms: parquet and the official archive; and what is refused."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paramcast.errors import TaskError
from paramcast.study.tasks.data.cifar import Cifar
from paramcast.study.tasks.data.download import Remote
from paramcast.study.tasks.data.parquet import decode_png, read_parquet
from paramcast.study.tasks.vision import CIFAR10, CIFAR100

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COUNT = 12
COUNTS = {"train": COUNT, "test": 4}
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
LABELS = np.arange(COUNT) * 7 % 100
SMALL100 = replace(CIFAR100, counts=COUNTS)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(out, "PNG")
    return out.getvalue()


PNGS = [png(image) for image in IMAGES]


def write_parquet(
    path: Path, pngs: list[Any], labels: Any, column: str = "fine_label", **more: Any
) -> None:
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": p, "path": "x.png"} for p in pngs], struct_type)
    pq.write_table(pa.table({"img": images, column: labels}), path, **more)


def write_shards(folder: Path, shards: int = 3) -> None:
    cuts = np.array_split(np.arange(COUNT), shards)
    for i, cut in enumerate(cuts):
        name = f"train-{i:05d}-of-{shards:05d}.parquet"
        write_parquet(folder / name, [PNGS[j] for j in cut], LABELS[cut], row_group_size=3)
    write_parquet(folder / "test-00000-of-00001.parquet", PNGS[:4], LABELS[:4])


def binary(label_bytes: int, rows: Any) -> bytes:
    """The official record: (coarse label,) fine label, red, green and blue planes."""
    coarse = b"\x13" * (label_bytes - 1)
    return b"".join(
        coarse + bytes([LABELS[i] % 10**label_bytes]) + IMAGES[i].tobytes() for i in rows
    )


def write_archive(folder: Path, kind: Cifar, members: dict[str, bytes]) -> Cifar:
    """An archive like the official one, and the Cifar whose checksum it has."""
    (remote,) = kind.data.remotes
    path = folder / remote.file
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{kind.folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = path.read_bytes()
    known = Remote(f"https://x/{path.name}", hashlib.sha256(content).hexdigest(), len(content))
    return replace(kind, data=replace(kind.data, remotes=(known,)))


# --- the two forms hold the same ----------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "data"])
def test_parquet_comes_back_in_the_order_of_its_shards(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    write_shards(tmp_path / inside)
    images, labels = SMALL100.read(tmp_path, "train")
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.tolist() == LABELS.tolist()
    assert SMALL100.read(tmp_path, "test").labels.tolist() == LABELS[:4].tolist()


def test_cifar_100_as_the_official_archive(tmp_path: Path) -> None:
    members = {"train.bin": binary(2, range(COUNT)), "test.bin": binary(2, range(4))}
    kind = write_archive(tmp_path, SMALL100, members)
    images, labels = kind.read(tmp_path, "train")
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.tolist() == LABELS.tolist()
    assert len(kind.read(tmp_path, "test").images) == 4


def test_cifar_10_has_five_batches_and_one_label_byte(tmp_path: Path) -> None:
    counts = {"train": 10, "test": 4}
    members = {f"data_batch_{i + 1}.bin": binary(1, range(2 * i, 2 * i + 2)) for i in range(5)}
    small = replace(CIFAR10, counts=counts)
    kind = write_archive(tmp_path, small, members | {"test_batch.bin": binary(1, range(4))})
    images, labels = kind.read(tmp_path, "train")
    np.testing.assert_array_equal(images, IMAGES[:10])
    assert labels.tolist() == (LABELS[:10] % 10).tolist()


def test_another_archive_is_not_opened(tmp_path: Path) -> None:
    write_archive(tmp_path, SMALL100, {"train.bin": binary(2, range(COUNT))})
    with pytest.raises(TaskError, match=r"binary.tar.gz cannot be used: its sha256 is .*, not "):
        SMALL100.read(tmp_path, "train")


# --- damaged parquet ----------------------------------------------------------------------------


def test_every_promised_shard_is_needed(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(TaskError, match=r"all of one set of train-.*-of-NNNNN.parquet, it holds t"):
        SMALL100.read(tmp_path, "train")
    write_shards(tmp_path, shards=2)
    with pytest.raises(TaskError, match=r"train-00000-of-00002.parquet, train-00000-of-00003"):
        SMALL100.read(tmp_path, "train")
    for path in tmp_path.glob("train*"):
        path.unlink()
    with pytest.raises(TaskError, match=r"must hold all of one set of train-.*it holds none"):
        SMALL100.read(tmp_path, "train")


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


BAD_ROWS = {
    "jpeg": (b"\xff\xd8\xff" + b"x" * 40, 1, r"the image in row 2 is not a PNG file"),
    "bomb": (png_of(60_000, 60_000), 1, r"the image in row 2 has 60000x60000 pixels, not 32x32"),
    "cut": (PNGS[2][:1500], 1, r"the image in row 2 cannot be decoded"),
    "bits": (PNGS[2][:900] + b"\0" * 300 + PNGS[2][1200:], 1, r"row 2 cannot be decoded"),
    "heavy": (PNGS[2] + b"x" * 20_000, 1, r"row 2 has 2\d{4} bytes, more than any of 32x32"),
    "none": (None, 1, r"row 2 is empty"),
    "no label": (PNGS[2], None, r"row 2 is empty"),
    "label": (PNGS[2], 100, r"row 2 has the label 100, not 0 to 99"),
    "negative": (PNGS[2], -1, r"row 2 has the label -1"),
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_are_damaged(tmp_path: Path, row: tuple[Any, Any, str]) -> None:
    image, label, message = row
    labels = pa.array([0, 1, label, 3], pa.int64())
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, [*PNGS[:2], image, PNGS[3]], labels)
    with pytest.raises(TaskError, match=message) as caught:
        read_parquet(tmp_path, "train", 4, "fine_label", 100)
    assert str(caught.value).startswith(f"{path} cannot be used: ")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"fine_label": [1]}, r"it has no column img with the bytes of images"),
        ({"img": [b"abc"], "fine_label": [1]}, r"it has no column img"),
        ({"img": [{"bytes": "text"}], "fine_label": [1]}, r"it has no column img"),
        ({"img": [{"bytes": b"x"}], "label": [1]},
         r"it has no column fine_label of whole numbers, it has img, label"),
        ({"img": [{"bytes": b"x"}], "fine_label": ["wolf"]}, r"no column fine_label of whole"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(TaskError, match=message):
        read_parquet(tmp_path, "train", 1, "fine_label", 100)


def test_the_number_of_images_is_checked_before_they_are_read(tmp_path: Path) -> None:
    write_shards(tmp_path)
    with pytest.raises(TaskError, match=r"its train shards hold 12 images, not 50000"):
        CIFAR100.read(tmp_path, "train")


def test_no_flipped_byte_gets_past_with_another_error(tmp_path: Path) -> None:
    """Wherever a shard is damaged, the answer is a TaskError, or what was written."""
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, PNGS, LABELS, write_page_checksum=False)
    good, random = path.read_bytes(), np.random.RandomState(1)
    refused = 0
    tail = len(good) - 1200  # where the description is
    for where in [*random.randint(0, len(good), 150), *random.randint(tail, len(good), 250)]:
        content = bytearray(good)
        content[where] ^= 1 << random.randint(8)
        path.write_bytes(content)
        try:
            read_parquet(tmp_path, "train", COUNT, "fine_label", 100)
        except TaskError:
            refused += 1
    assert refused > 100
    for size in (0, 3, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(TaskError, match=r"it is not a parquet file \("):
            read_parquet(tmp_path, "train", COUNT, "fine_label", 100)


def test_pictures_in_grey_and_with_a_palette_become_colours() -> None:
    grey = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
    for mode in ("L", "P"):
        out = io.BytesIO()
        Image.fromarray(grey).convert(mode).save(out, "PNG")
        np.testing.assert_array_equal(decode_png(out.getvalue()), np.stack([grey] * 3))


def test_a_text_chunk_that_unpacks_to_megabytes_is_refused() -> None:
    chunk = b"zTXtkey\0\0" + zlib.compress(bytes(80 << 20), 9)[:12_000]
    bomb = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_png(PNGS[0][:33] + bomb + PNGS[0][33:1000])
