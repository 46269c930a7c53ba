"""The curves of stored runs, read when one is first looked at: they are most of a large store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

Points = list[dict[str, Any]]
Read = Callable[[list[str]], dict[str, Points]]
BATCH = 500
"""Runs whose curves are read together."""


class Curve(Sequence[dict[str, Any]]):
    """One run's points by epoch."""

    def __init__(self, key: str, batch: list[Curve], read: Read) -> None:
        self._key, self._batch, self._read = key, batch, read
        self._points: Points | None = None

    def _all(self) -> Points:
        if self._points is None:
            found = self._read([curve._key for curve in self._batch])
            for curve in self._batch:
                curve._points = found.get(curve._key, [])
        return self._points or []

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Points: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Points:
        return self._all()[index]


def later(keys: Sequence[str], read: Read) -> list[Curve]:
    """One curve per key; `read` is asked for a batch of them when the first is looked at."""
    curves: list[Curve] = []
    for start in range(0, len(keys), BATCH):
        batch: list[Curve] = []
        batch += [Curve(key, batch, read) for key in keys[start : start + BATCH]]
        curves += batch
    return curves
