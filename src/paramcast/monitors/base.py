"""Monitors in memory and in the log, and what all monitors share."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from typing import Any

from .._checks import whole
from ..errors import ArgumentError
from ..events import ForecastEvent


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

    Args:
        requests: every and scored, as in `Monitor`.

    Attributes:
        rows: the events, oldest first.

    Example:
        >>> history = History()
        >>> history(ForecastEvent(3, 1, True, "predicted", 0.5, 1.0))
        >>> history.rows[0].jump_norm, history.accepted
        (0.5, 1.0)
    """

    def __init__(self, **requests: Any) -> None:
        super().__init__(**requests)
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
            raise ArgumentError("a table of events needs pandas: pip install pandas") from None
        return pd.DataFrame(self.rows, columns=ForecastEvent._fields)


class Logger(Monitor):
    """Write a line per event to Python's logger "paramcast", at level INFO.

    Takes every and scored, as `Monitor` does.
    """

    def look(self, event: ForecastEvent) -> None:
        done = "written" if event.applied else "not written"
        error = "" if event.error is None else f", error {event.error:.3g}"
        logging.getLogger("paramcast").info(
            "step %d: prediction %s (%s), jump %.3g%s%s",
            event.step,
            done,
            event.reason,
            event.jump_norm,
            "" if event.relative_jump is None else f" ({event.relative_jump:.2%} of the weights)",
            error,
        )
