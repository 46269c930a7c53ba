"""The output of a run, in a file that stays small."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path
from typing import Any

LOG = "output.log"
"""The name of the file, in the folder of a run."""
HEAD, TAIL = 512 * 2**10, 512 * 2**10
"""Bytes kept of an output's beginning, and of its end."""


class Log(io.RawIOBase):
    """A file that takes any amount of output and keeps its beginning and its end.

    Args:
        path: the file, which is overwritten.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb", buffering=0)
        self._room = HEAD
        self._late: deque[bytes] = deque()
        self._held, self._left_out = 0, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        given = bytes(data)
        now, later = given[: self._room], given[self._room :]
        if now:
            self._file.write(now)
            self._room -= len(now)
        if later:
            self._late.append(later[-TAIL:])
            self._held += len(self._late[-1])
            self._left_out += len(later) - len(self._late[-1])
        while len(self._late) > 1 and self._held - len(self._late[0]) >= TAIL:
            dropped = len(self._late.popleft())
            self._held -= dropped
            self._left_out += dropped
        return len(given)

    def close(self) -> None:
        if not self.closed:
            if self._left_out:
                self._file.write(f"\n... {self._left_out} bytes left out ...\n".encode())
            self._file.writelines(self._late)
            self._file.close()
        super().close()
