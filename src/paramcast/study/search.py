"""Settings that are tuned beside the learning rate, such as --search weight_decay=1e-5:1e-2.

They are shared among the points of the learning rate's grid, so that a search costs as much as one
without them: each setting has as many values as there are points, each value at one point, in an
order that is fixed by its name and nearly uncorrelated with the rates (a Latin hypercube; McKay,
Beckman and Conover, Technometrics 21, 1979).
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StudyError
from .judging.tune import learning_rates
from .reading import is_text, shown

Value = float | str
Settings = tuple[tuple[str, Value], ...]
"""Values by name, in the order in which they were given."""
NAME = r"[A-Za-z_][A-Za-z0-9_]{0,39}"
ORDERS = 200
"""Orders of a setting's values that are tried for one that follows no other column."""


@dataclass(frozen=True)
class Searched:
    """A setting that is searched: from low to high on a logarithmic scale, or listed values."""

    name: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Value, ...] = ()

    @property
    def text(self) -> str:
        """As it was given."""
        given = map(str, self.values) if self.values else (f"{self.low!r}:{self.high!r}",)
        return f"{self.name}={','.join(given)}"

    def points(self, n: int) -> tuple[Value, ...]:
        """n values: a geometric grid, or the listed ones in turn."""
        if self.values:
            return tuple(self.values[i % len(self.values)] for i in range(n))
        return learning_rates(self.low, self.high, n)


class Rate(float):
    """A learning rate with the other settings that are tried at it."""

    settings: Settings

    def __new__(cls, lr: float, settings: Settings = ()) -> Rate:
        made = super().__new__(cls, lr)
        made.settings = settings
        return made

    def __reduce__(self) -> Any:
        return Rate, (float(self), self.settings)


def settings_at(lr: float) -> Settings:
    """The settings that are tried at a learning rate; none if only rates are searched."""
    return lr.settings if isinstance(lr, Rate) else ()


def named(settings: Mapping[str, Value], between: str = ", ") -> str:
    """Settings for a table, such as "weight_decay=0.001, beta=0.9"."""
    shown = {n: f"{v:.4g}" if isinstance(v, float) else v for n, v in settings.items()}
    return between.join(f"{name}={value}" for name, value in shown.items())


def described(lr: float) -> str:
    """A learning rate with the settings that are tried at it."""
    settings = dict(settings_at(lr))
    return f"{lr:.4g} ({named(settings)})" if settings else f"{lr:.4g}"


def settings_of(base: str) -> tuple[str, ...]:
    """What can be searched of a task's base."""
    if base == "own":
        return ()
    if base in ("sgd", "nesterov", "lookahead", "ema"):
        return ("momentum", "weight_decay")
    return ("beta2", "weight_decay") if base in ("adamw", "muon") else ("weight_decay",)


def parse_search(text: str) -> Searched:
    """Read a setting that is to be searched, written NAME=LOW:HIGH or NAME=A,B,C.

    Raises:
        StudyError: it is written otherwise, or its range is empty or reversed.
    """
    name, equals, given = text.partition("=")
    if not equals or not re.fullmatch(NAME, name) or not is_text(given):
        raise StudyError(f"--search must be NAME=LOW:HIGH or NAME=A,B, got {shown(text)}")
    if name in ("lr", "learning_rate"):
        raise StudyError("--search is for what is tuned beside the learning rate; use --lr-range")
    low, colon, high = given.partition(":")
    if colon:
        ends = _number(low), _number(high)
        if not all(isinstance(end, float) for end in ends) or not 0 < ends[0] < ends[1]:  # type: ignore[operator]
            raise StudyError(
                f"--search {name} must satisfy 0 < LOW < HIGH < infinity, got {shown(given)}; "
                "list other values with commas"
            )
        return Searched(name, float(low), float(high))
    values = tuple(_number(each.strip()) for each in given.split(","))
    if "" in values or len(set(values)) < 2 or len(set(values)) < len(values):
        raise StudyError(
            f"--search {name} needs two or more different values, or LOW:HIGH, got {shown(given)}"
        )
    return Searched(name, values=values)


def _number(text: str) -> Value:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def shared(searched: Sequence[Searched], rates: Sequence[float]) -> tuple[Rate, ...]:
    """The learning rates, each with its values of the settings.

    >>> [rate.settings for rate in shared([Searched("beta", values=(0.6, 0.9))], [0.1, 1.0])]
    [(('beta', 0.9),), (('beta', 0.6),)]
    """
    n = len(rates)
    columns = [[*range(n)]]
    found: list[list[Value]] = []
    # the rates are the first column, which no setting should follow
    for each in searched:
        values = each.points(n)
        order = _order(each.name, n, columns)
        columns.append(order)
        found.append([values[i] for i in order])
    names = [each.name for each in searched]
    return tuple(
        Rate(rate, tuple((name, column[i]) for name, column in zip(names, found, strict=True)))
        for i, rate in enumerate(rates)
    )


def _order(name: str, n: int, columns: Sequence[list[int]]) -> list[int]:
    """Of many orders drawn for a name, the one that follows the other columns least."""
    if n < 2:
        return [0] * n

    # hashes instead of a generator: the same on every machine and in every version
    def drawn(attempt: int) -> list[int]:
        keys = [
            hashlib.sha256(f"paramcast/search/{name}/{n}/{attempt}/{i}".encode()).digest()
            for i in range(n)
        ]
        return sorted(range(n), key=keys.__getitem__)

    def followed(order: list[int]) -> float:
        return max(abs(statistics.correlation(order, column)) for column in columns)

    return min((drawn(attempt) for attempt in range(ORDERS)), key=followed)
