"""Watching predictions: functions of a `ForecastEvent`, called once for each prediction.

Any function of an event is a monitor. Those here take `every=n` to look at every n-th prediction
only, and two requests, which cost only where they look: `scored=True` compares the prediction with
the step that follows it (`error` and `cosine` of the event, which then comes one step later; two
more elements of memory per parameter), `per_tensor=True` adds the numbers of each parameter.

On an accelerator an event comes one cycle later, when its numbers have arrived, so that nobody
waits; events that are scored or hold the numbers of each parameter do wait. `optimizer.flush()` at
the end of a run tells what still waits.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from .errors import ArgumentError
from .events import ForecastEvent, TensorMetrics
from .predictors.base import whole


class Monitor(ABC):
    """Looks at every n-th prediction.

    Args:
        every: n, at least 1.
        scored: ask for `error` and `cosine`.
        per_tensor: ask for `tensors`.
    """

    def __init__(self, *, every: int = 1, scored: bool = False, per_tensor: bool = False) -> None:
        self.every, self.scored = whole("every", every, 1), scored
        self.per_tensor = per_tensor

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

    def __init__(self, *, every: int = 1, scored: bool = False, per_tensor: bool = False) -> None:
        super().__init__(every=every, scored=scored, per_tensor=per_tensor)
        self.rows: list[ForecastEvent] = []

    def look(self, event: ForecastEvent) -> None:
        self.rows.append(event)

    @property
    def accepted(self) -> float:
        """Share of the predictions that were written; NaN before the first."""
        return sum(row.applied for row in self.rows) / len(self.rows) if self.rows else math.nan

    def to_pandas(self) -> Any:
        """The events as a pandas DataFrame, one row each (needs pandas)."""
        return _frame(
            [row._replace(tensors=None) for row in self.rows], ForecastEvent._fields
        ).drop(columns="tensors")

    def tensors_to_pandas(self) -> Any:
        """The numbers of each parameter, one row per event and parameter (needs pandas)."""
        rows = [
            (event.step, event.cycle, name, *numbers)
            for event in self.rows
            for name, numbers in (event.tensors or {}).items()
        ]
        return _frame(rows, ("step", "cycle", "parameter", *TensorMetrics._fields))


def _frame(rows: Sequence[Any], columns: Sequence[str]) -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise ArgumentError("a table of events needs pandas: pip install pandas") from None
    return pd.DataFrame(rows, columns=columns)


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
            "step %d: prediction %s (%s), jump %.3g%s%s",
            event.step,
            done,
            event.reason,
            event.jump_norm,
            "" if event.relative_jump is None else f" ({event.relative_jump:.2%} of the weights)",
            error,
        )


class _File(Monitor):
    """Append to a text file, flushed at each event; a context manager that closes it."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        scored: bool = False,
        per_tensor: bool = False,
    ) -> None:
        super().__init__(every=every, scored=scored, per_tensor=per_tensor)
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
        row: dict[str, Any] = {k: _finite_or_none(v) for k, v in event._asdict().items()}
        if event.tensors is not None:
            row["tensors"] = {
                name: {k: _finite_or_none(v) for k, v in numbers._asdict().items()}
                for name, numbers in event.tensors.items()
            }
        self.file.write(json.dumps(row, allow_nan=False) + "\n")
        self.file.flush()


class CSV(_File):
    """Append each event as one row of a table; a new file starts with the names.

    The numbers of each parameter have no place in it: use `JSONLines` for them.

    Args:
        path: the file; created where missing.

    Raises:
        ArgumentError: it cannot be written.
    """

    FIELDS = tuple(name for name in ForecastEvent._fields if name != "tensors")

    def __init__(
        self, path: str | os.PathLike[str], *, every: int = 1, scored: bool = False
    ) -> None:
        super().__init__(path, every=every, scored=scored)

    def look(self, event: ForecastEvent) -> None:
        writer = csv.writer(self.file)
        if self.file.tell() == 0:
            writer.writerow(self.FIELDS)
        writer.writerow(event[: len(self.FIELDS)])
        self.file.flush()


class TensorBoard(Monitor):
    """Write the numbers of each event to TensorBoard, under "paramcast/".

    Anomalies appear as text; the numbers of each parameter under "paramcast/NAME/".

    Args:
        logdir: TensorBoard's folder.

    Raises:
        ArgumentError: TensorBoard is not installed (pip install 'paramcast[tensorboard]').
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        *,
        every: int = 1,
        scored: bool = False,
        per_tensor: bool = False,
    ) -> None:
        super().__init__(every=every, scored=scored, per_tensor=per_tensor)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ArgumentError(
                "TensorBoard is not installed: pip install 'paramcast[tensorboard]'"
            ) from None
        self.writer = SummaryWriter(str(logdir))  # type: ignore[no-untyped-call]

    def look(self, event: ForecastEvent) -> None:
        self._scalars("paramcast", event._asdict(), event.step)
        for name, numbers in (event.tensors or {}).items():
            self._scalars(f"paramcast/{name}", numbers._asdict(), event.step)
        if event.anomaly:
            self.writer.add_text("paramcast/anomaly", event.reason, event.step)  # type: ignore[no-untyped-call]

    def _scalars(self, tag: str, numbers: dict[str, Any], step: int) -> None:
        for name, value in numbers.items():
            if isinstance(value, (bool, float)):
                self.writer.add_scalar(f"{tag}/{name}", float(value), step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write what is left and close."""
        self.writer.close()  # type: ignore[no-untyped-call]


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
