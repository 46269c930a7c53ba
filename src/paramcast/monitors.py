"""Watching predictions: functions of a `ForecastEvent`, called once for each prediction.

Any function of an event is a monitor. Those here take `scored=True` to have every prediction
compared with the step that follows it (`error` and `cosine` of the event); the event then comes one
step later, and scoring keeps two elements per parameter. They take `every=n` to look at every n-th
prediction only. Reading an event waits for an accelerator.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from .errors import ArgumentError
from .events import ForecastEvent
from .predictors.base import whole


class Monitor(ABC):
    """Looks at every n-th prediction.

    Args:
        every: n, at least 1.
        scored: ask for `error` and `cosine`.
    """

    def __init__(self, *, every: int = 1, scored: bool = False) -> None:
        self.every, self.scored = whole("every", every, 1), scored

    def __call__(self, event: ForecastEvent) -> None:
        if event.cycle % self.every == 0:
            self.look(event)

    @abstractmethod
    def look(self, event: ForecastEvent) -> None:
        """Take in one event."""


class History(Monitor):
    """Keep the events in memory.

    Attributes:
        rows: the events, oldest first.

    Example:
        >>> history = History()
        >>> history(ForecastEvent(3, 1, True, "predicted", 0.5, 1.0))
        >>> history.rows[0].jump_norm, history.accepted
        (0.5, 1.0)
    """

    def __init__(self, *, every: int = 1, scored: bool = False) -> None:
        super().__init__(every=every, scored=scored)
        self.rows: list[ForecastEvent] = []

    def look(self, event: ForecastEvent) -> None:
        self.rows.append(event)

    @property
    def accepted(self) -> float:
        """Share of the predictions that were written; NaN before the first."""
        return sum(row.applied for row in self.rows) / len(self.rows) if self.rows else math.nan

    def to_pandas(self) -> Any:
        """The events as a pandas DataFrame, one row each (needs pandas)."""
        try:
            import pandas as pd
        except ImportError:
            raise ArgumentError("to_pandas needs pandas: pip install pandas") from None
        return pd.DataFrame(self.rows, columns=ForecastEvent._fields)


class Logger(Monitor):
    """Write a line per event with Python's standard logging.

    Args:
        logger: where to; the logger "paramcast" if not given.
        level: of the lines.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        level: int = logging.INFO,
        every: int = 1,
        scored: bool = False,
    ) -> None:
        super().__init__(every=every, scored=scored)
        self.logger, self.level = logger or logging.getLogger("paramcast"), level

    def look(self, event: ForecastEvent) -> None:
        done = "written" if event.applied else "not written"
        error = "" if event.error is None else f", error {event.error:.3g}"
        self.logger.log(
            self.level,
            "step %d: prediction %s (%s), jump %.3g%s",
            event.step,
            done,
            event.reason,
            event.jump_norm,
            error,
        )


class _File(Monitor):
    """Append to a text file, flushed at each event; a context manager that closes it."""

    def __init__(
        self, path: str | os.PathLike[str], *, every: int = 1, scored: bool = False
    ) -> None:
        super().__init__(every=every, scored=scored)
        self.path = Path(path)
        try:
            self.file: TextIO = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise ArgumentError(f"{self.path} cannot be written: {error.strerror}") from None

    def __deepcopy__(self, memo: dict[int, Any]) -> _File:
        return self  # one file: a copied optimizer writes to it too

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> _File:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JSONLines(_File):
    """Append each event as one line of JSON.

    Args:
        path: the file; created where missing.

    Raises:
        ArgumentError: it cannot be written.
    """

    def look(self, event: ForecastEvent) -> None:
        row = {k: _finite_or_none(v) for k, v in event._asdict().items()}
        self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()


class CSV(_File):
    """Append each event as one row of a table; a new file starts with the names.

    Args:
        path: the file; created where missing.

    Raises:
        ArgumentError: it cannot be written.
    """

    def look(self, event: ForecastEvent) -> None:
        writer = csv.writer(self.file)
        if self.file.tell() == 0:
            writer.writerow(ForecastEvent._fields)
        writer.writerow(event)
        self.file.flush()


class TensorBoard(Monitor):
    """Write the numbers of each event to TensorBoard, under "paramcast/".

    Args:
        logdir: TensorBoard's folder.

    Raises:
        ArgumentError: TensorBoard is not installed (pip install 'paramcast[tensorboard]').
    """

    def __init__(
        self, logdir: str | os.PathLike[str], *, every: int = 1, scored: bool = False
    ) -> None:
        super().__init__(every=every, scored=scored)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ArgumentError(
                "TensorBoard is not installed: pip install 'paramcast[tensorboard]'"
            ) from None
        self.writer = SummaryWriter(str(logdir))  # type: ignore[no-untyped-call]

    def look(self, event: ForecastEvent) -> None:
        numbers = {"applied": float(event.applied), **event._asdict()}
        for name in ("jump_norm", "horizon", "agreement", "error", "cosine"):
            value = numbers[name]
            if value is not None:
                self.writer.add_scalar(f"paramcast/{name}", value, event.step)  # type: ignore[no-untyped-call]
        self.writer.add_scalar("paramcast/applied", float(event.applied), event.step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write what is left and close."""
        self.writer.close()  # type: ignore[no-untyped-call]


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
