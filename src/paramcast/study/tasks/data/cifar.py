"""CIFAR-10 and CIFAR-100: the official binary archive, its files, or Hugging Face's parquet.

Never the "python version", whose files are pickles: reading a pickle runs it.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import check_sha256, damaged, read_exactly
from .parquet import PIXELS, SIDE, Part, parquet_folder, read_parquet
from .places import DataSet


@dataclass(frozen=True)
class Cifar:
    """CIFAR-10 or CIFAR-100.

    Args:
        data: where it is found, and the archive at its public home.
        classes: 10 or 100.
        label_bytes: in front of each image of a binary file; the last one is the label.
        more_bytes: between the label and the image.
        column: holds the labels in parquet.
        folder: inside the archive.
        files: each split's, in the archive.
        counts: images of each split.
    """

    data: DataSet
    classes: int
    label_bytes: int
    column: str
    folder: str
    files: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    more_bytes: int = 0

    def read(self, folder: Path, split: str) -> Part:
        """The images and labels of "train" or "test".

        Raises:
            TaskError: files are missing or damaged.
        """
        inside = parquet_folder(folder)
        if inside is not None:
            return read_parquet(inside, split, self.counts[split], self.column, self.classes)
        (remote,) = self.data.remotes
        archive = folder / remote.file
        if archive.exists():
            contents = _from_archive(archive, remote.sha256, self._sizes(split))
        else:
            base = folder / self.folder if (folder / self.folder).is_dir() else folder
            contents = _from_files(base, self._sizes(split))
        part = records(b"".join(contents), self.label_bytes, self.more_bytes)
        if part.labels.max() >= self.classes:
            wrong, last = part.labels.max(), self.classes - 1
            raise damaged(folder, f"its {split} split holds the label {wrong}, not 0 to {last}")
        return part

    def _sizes(self, split: str) -> dict[str, int]:
        """The split's files and how many bytes each must have."""
        names = self.files[split]
        size = self.counts[split] // len(names) * (self.label_bytes + self.more_bytes + PIXELS)
        return {f"{self.folder}/{name}": size for name in names}


def records(content: bytes, label_bytes: int, more_bytes: int = 0) -> Part:
    """Split the records of a binary file: labels, then red, green and blue planes."""
    table = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + more_bytes + PIXELS)
    labels = table[:, label_bytes - 1].astype(np.int64)
    return Part(table[:, label_bytes + more_bytes :].reshape(-1, 3, SIDE, SIDE), labels)


def _from_files(base: Path, sizes: dict[str, int]) -> Iterator[bytes]:
    for name, size in sizes.items():
        yield read_exactly(base / Path(name).name, size)


def _from_archive(path: Path, sha256: str, sizes: dict[str, int]) -> Iterator[bytes]:
    """Members of the official archive, whose checksum is verified before it is opened."""
    check_sha256(path, sha256)
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name, size in sizes.items():
                member = archive.getmember(name)
                opened = archive.extractfile(member) if member.isreg() else None
                if opened is None or member.size != size:
                    raise damaged(path, f"{name} in it is not a file of {size} bytes")
                yield opened.read(size)
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError) as error:
        raise damaged(path, f"it cannot be unpacked ({error})") from None
