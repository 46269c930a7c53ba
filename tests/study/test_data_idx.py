"""IDX files: what is read, and one sentence for each kind of damage."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from paramcast.errors import TaskError
from paramcast.study.tasks.data.idx import either, read_idx, read_labels

PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_an_array_comes_back_as_it_was_written(tmp_path: Path, zipped: bool) -> None:
    content = idx(PIXELS)
    (tmp_path / ("a.gz" if zipped else "a")).write_bytes(
        gzip.compress(content) if zipped else content
    )
    found = read_idx(either(tmp_path, "a"), PIXELS.shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS)


GOOD = gzip.compress(idx(PIXELS))
FLIPPED = bytearray(GOOD)
FLIPPED[-6] ^= 1  # in the check sum


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it holds 0 bytes, its header alone has 16"),
        (b"not gzip at all", r"cannot be read \(Not a gzipped file"),
        (GOOD[:-12], r"cannot be read \(Compressed file ended"),
        (bytes(FLIPPED), r"cannot be read \(CRC check failed"),
        (gzip.compress(idx(PIXELS)[:-1]), r"it holds 75 of the 76 bytes of its header's shape"),
        (gzip.compress(idx(PIXELS) + b"x"), r"it holds more than the 76 bytes"),
        (gzip.compress(idx(PIXELS[:2])), r"it says it has the shape \(2, 4, 5\), not"),
        (gzip.compress(idx(PIXELS[0])), r"its header starts with 00000802, not with 00000803"),
        (gzip.compress(b"PK" + idx(PIXELS)[2:]), r"its header starts with 504b0803"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)  # fmt: skip
def test_each_kind_of_damage_has_its_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(TaskError, match=message) as caught:
        read_idx(tmp_path / "a.gz", PIXELS.shape)
    assert "a.gz cannot be used: " in str(caught.value)
    assert str(caught.value).endswith("; replace it with an undamaged copy")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"a\.gz is missing \(so is a\)"):
        either(tmp_path, "a")
    with pytest.raises(TaskError, match=r"b is missing"):
        read_idx(tmp_path / "b", (1,))
    (tmp_path / "folder").mkdir()
    with pytest.raises(TaskError, match="folder is not a regular file"):
        read_idx(tmp_path / "folder", (1,))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
        with pytest.raises(TaskError, match="pipe is not a regular file"):
            read_idx(tmp_path / "pipe", (1,))


def test_labels_stay_below_the_number_of_classes(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(idx(np.array([0, 9, 4])))
    assert read_labels(tmp_path / "labels", 3, 10).tolist() == [0, 9, 4]
    with pytest.raises(TaskError, match="it holds the label 9, the last class is 8"):
        read_labels(tmp_path / "labels", 3, 9)
