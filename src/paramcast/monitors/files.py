"""Monitors that append to a file."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from ..errors import ArgumentError
from ..events import ForecastEvent
from .base import Monitor


class _File(Monitor):
    """Append to a text file, flushed at each event; a context manager that closes it."""

    def __init__(self, path: str | os.PathLike[str], **requests: Any) -> None:
        super().__init__(**requests)
        self.path = Path(path)
        self._open()

    def _open(self) -> None:
        try:
            self.file: TextIO = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise ArgumentError(f"{self.path} cannot be written: {error.strerror}") from None

    def __deepcopy__(self, memo: dict[int, Any]) -> _File:
        return self  # one file: a copied optimizer writes to it too

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class JSONLines(_File):
    """Append each event as one line of JSON.

    Args:
        path: the file; created where missing.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: it cannot be written.
    """

    def look(self, event: ForecastEvent) -> None:
        row: dict[str, Any] = {k: _finite_or_none(v) for k, v in event._asdict().items()}
        self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()


class CSV(_File):
    """Append each event as one row of a table; a new file starts with the names.

    Args:
        path: the file; created where missing.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: it cannot be written.
    """

    def look(self, event: ForecastEvent) -> None:
        writer = csv.writer(self.file)
        if self.file.tell() == 0:  # a new file; a resumed run goes on in the old one
            writer.writerow(ForecastEvent._fields)
        fired = ", ".join(f"{rule}: {action}" for rule, action in event.fired)
        writer.writerow(event._replace(fired=fired))  # type: ignore[arg-type]
        self.file.flush()


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
