"""What was tried, what was chosen, and how that is said."""

from __future__ import annotations

import math
import textwrap
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from .series import Series

LAST = "last checkpoint"
COLUMNS = 100


@dataclass(frozen=True)
class Metric:
    """The result that decides, by its name, and its direction."""

    name: str
    higher_is_better: bool

    def better(self, a: float | None, b: float | None) -> bool:
        """Whether a is better than b; what is not finite is better than nothing."""
        if a is None or not math.isfinite(a):
            return False
        if b is None or not math.isfinite(b):
            return True
        return a > b if self.higher_is_better else a < b


@dataclass(frozen=True)
class Row:
    """A candidate and its value.

    Attributes:
        name: what it is called.
        weights: of the checkpoints, oldest first.
        results: what the evaluation returned, by name.
        value: the result that decides; None without an evaluation, or where it failed.
        reason: why there is no value.
        statistics: of batch norm, estimated again for it.
    """

    name: str
    weights: tuple[float, ...]
    results: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    reason: str = ""
    statistics: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, repr=False)
class Combination:
    """Combinations of checkpoints, and the one that was chosen.

    Attributes:
        rows: the last checkpoint, and everything that was tried.
        chosen: the best of them, or the only one without an evaluation; the last checkpoint itself
            if nothing was better.
        metric: what decided; None without an evaluation.
        test: the test function's value of the last checkpoint and of the chosen one.
        test_name: what that value is: the metric, or the only result of the test function.
        notes: what else the user should know, a sentence each.
        out: the file that was written; None if none was.
    """

    series: Series
    rows: Sequence[Row]
    chosen: Row
    metric: Metric | None = None
    test: tuple[float, float] | None = None
    test_name: str = ""
    notes: Sequence[str] = ()
    out: Path | None = None

    @property
    def base(self) -> Row:
        """The last checkpoint as it is."""
        return self.rows[0]

    @property
    def gained(self) -> bool:
        """Whether the evaluation chose another one than the last checkpoint."""
        return self.metric is not None and self.chosen is not self.base

    def state_dict(self, row: Row | None = None) -> OrderedDict[str, Any]:
        """The weights of a row, of the chosen one unless another is given; the caller's own."""
        return state_of(self.series, row or self.chosen)

    def record(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        made: dict[str, Any] = {
            "paramcast": __version__,
            "torch": str(torch.__version__),
            "checkpoints": [each.name for each in self.series.checkpoints],
            "order": self.series.order,
            "steps": self.series.steps or None,
            "chosen": self.chosen.name,
            "weights": list(self.chosen.weights),
            "notes": list(self.notes),
        }
        if self.metric is None:
            return made
        made |= {
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "tried": [
                {
                    "name": row.name,
                    "value": _finite(row.value),
                    "results": {name: _finite(value) for name, value in row.results.items()},
                    "reason": row.reason or None,
                }
                for row in self.rows
            ],
        }
        if self.test is not None:
            last, chosen = map(_finite, self.test)
            made["test"] = {"name": self.test_name, "last": last, "chosen": chosen}
        return made

    def __str__(self) -> str:
        # the checkpoints, the table, the choice, the notes, the file
        lines = [str(self.series), ""]
        if self.metric is None:
            lines = [f"{self.series}; {self.chosen.name}"]
        else:
            lines += [*self._table(self.metric), "", *map(_wrapped, self._choice(self.metric))]
        lines += [_wrapped(f"{note[0].upper()}{note[1:]}.") for note in self.notes]
        if self.out is not None:
            lines.append(f"Wrote {self.out} and {record_of(self.out)}.")
        return "\n".join(lines)

    __repr__ = __str__

    def _table(self, metric: Metric) -> list[str]:
        """A line for each candidate: its value, the difference to the last, or what failed."""
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'':{width}}  {metric.name:>12}  minus last"]
        for row in self.rows:
            if row.value is None:
                lines.append(f"{row.name:{width}}  {row.reason}")
                continue
            value, base = row.value, self.base.value
            shown = "" if row is self.base or base is None else f"{value - base:+.3g}"
            best = "  best" if row is self.chosen and self.gained else ""
            lines.append(f"{row.name:{width}}  {value:12.6g}  {shown:>10}{best}".rstrip())
        return lines

    def _choice(self, metric: Metric) -> list[str]:
        tried = sum(row.value is not None for row in self.rows) - 1
        if not self.gained:
            return [f"None of {tried} is better than the last checkpoint."]
        # the best of many flatters itself, and only a test function says how much
        best = (
            f"Best: {self.chosen.name}. It is the best of {tried}, so its {metric.name} above "
            "flatters it: part of the difference is the luck of the choice"
        )
        if self.test is None:
            return [f"{best}. No test function was given that could say how much."]
        last, chosen = self.test
        return [
            f"{best}.",
            f"On the test function, which chose nothing: {self.test_name} {chosen:.6g}, the last "
            f"checkpoint {last:.6g} ({chosen - last:+.3g}).",
        ]


def state_of(series: Series, row: Row) -> OrderedDict[str, Any]:
    """The weights of a row, with its own statistics of batch norm."""
    state = series.state(row.weights)
    for name, value in row.statistics.items():
        state[name] = value.clone()
    return state


def record_of(out: Path) -> Path:
    """The path of the record beside a checkpoint."""
    return out.with_name(f"{out.name}.json")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
