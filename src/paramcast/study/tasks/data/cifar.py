"""CIFAR-10 and CIFAR-100: the official binary archive, or Hugging Face's parquet.

Never the "python version", whose files are pickles: reading a pickle runs it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .parquet import PIXELS, SIDE, Part, parquet_folder, read_parquet
from .places import DataSet


@dataclass(frozen=True)
class Cifar:
    """CIFAR-10 or CIFAR-100."""

    data: DataSet  # where it is found, and the archive at its public home
    classes: int
    label_bytes: int  # in front of each image of a binary file; the last one is the label
    column: str  # holds the labels in parquet
    folder: str  # inside the archive
    files: dict[str, tuple[str, ...]]  # each split's, in the archive
    more_bytes: int = 0  # between the label and the image
    # images of each split
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 50_000, "test": 10_000})

    def read(self, folder: Path, split: str) -> Part:
        """The images and labels of "train" or "test"."""
        inside = parquet_folder(folder)
        if inside is not None:
            return read_parquet(inside, split, self.counts[split], self.column, self.classes)
        # a file with the known checksum holds what is known of it
        with tarfile.open(self.data.only_file(folder), "r:gz") as archive:
            content = b"".join(
                archive.extractfile(f"{self.folder}/{name}").read()  # type: ignore[union-attr]
                for name in self.files[split]
            )
        before = self.label_bytes + self.more_bytes
        # records: labels, then red, green and blue planes
        table = np.frombuffer(content, np.uint8).reshape(-1, before + PIXELS)
        labels = table[:, self.label_bytes - 1].astype(np.int64)
        return Part(table[:, before:].reshape(-1, 3, SIDE, SIDE), labels)
