"""A study as a TOML file: what to compare, over which settings, with how many seeds."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ...errors import StudyError
from ..reading import MOST_TOML, from_toml, read_text, shown
from ..spec import Base, Precision, Schedule
from ..stored import NAME
from ..tasks.frames import Kind, Missing

AXES = (
    "task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay", "beta2", "lr",
)  # fmt: skip
"""The settings that a grid crosses, the slowest axis first."""
MOST_CELLS = 10_000  # of one grid

T = TypeVar("T")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _each_once(values: list[T]) -> list[T]:
    known = set()
    for value in values:
        if value in known:
            raise ValueError(f"{shown(value)} is there twice; name each value once")
        known.add(value)
    return values


def _metric(value: str) -> str:
    from ..tasks.scores import SCORES

    if value not in SCORES:
        raise ValueError(f"must be one of {', '.join(SCORES)}, got {shown(value)}")
    return value


def _in_double_brackets(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("write [[grid]], in double brackets, because there may be several")
    return value


Axis = Annotated[list[T], BeforeValidator(_listed), AfterValidator(_each_once), Field(min_length=1)]
"""One value, or a list of different values."""
Whole = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[str, Field(pattern=r"^[0-9]*\.?[0-9]+%$")]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
MetricName = Annotated[str, AfterValidator(_metric)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tune(_Strict):
    """How learning rates are searched: the points of the grid (a power of two), and seeds each.

    The rule "vertex" tries every point on every seed and takes the vertex of a parabola through the
    judged metric on validation, for all arms alike; "halving" is the protocol's.
    """

    trials: Literal[1, 2, 4, 8, 16, 32, 64] = 8
    seeds: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    range: tuple[Rate, Rate] | None = None
    rule: Literal["halving", "vertex"] = "halving"


class Grid(_Strict):
    """A block of cells: every combination of its axes, with the same methods in each cell.

    Without `lr` the learning rate is tuned. An axis that is left out has the task's own value.
    `target`, `kind`, `missing` and `read` say how to read tables, as for `paramcast pilot`.
    """

    task: Axis[str]
    methods: Annotated[list[str], BeforeValidator(_listed), AfterValidator(_each_once)]
    seeds: Annotated[int, Field(ge=2, le=10_000, strict=True)]
    base: Axis[Literal["own", Base]] | None = None
    schedule: Axis[Schedule] | None = None
    epochs: Axis[Whole] | None = None
    batch_size: Axis[Whole] | None = None
    momentum: Axis[Momentum] | None = None
    weight_decay: Axis[Decay] | None = None
    beta2: Axis[Momentum] | None = None
    lr: Axis[Rate] | None = None
    tune: Tune | None = None
    speed: Switch = False
    random_jump: Switch = True
    margin: Rate | Share | None = None
    metric: MetricName | None = None
    probes: list[str] = []
    target: str | None = None
    kind: Kind | None = None
    missing: Missing | None = None
    read: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_way_to_a_rate(self) -> Grid:
        if self.lr is not None and self.tune is not None:
            raise ValueError("give lr or tune, not both")
        return self

    @model_validator(mode="after")
    def _not_too_many(self) -> Grid:
        count = math.prod(len(getattr(self, name) or [None]) for name in AXES)
        if count > MOST_CELLS:
            raise ValueError(f"its axes make {count} cells, more than {MOST_CELLS}; name fewer")
        return self

    def cells(self) -> Iterator[dict[str, Any]]:
        """Every combination of the axes, as settings; None leaves a setting to the task."""
        axes = [getattr(self, name) or [None] for name in AXES]
        for values in itertools.product(*axes):
            yield dict(zip(AXES, values, strict=True))


class StudyFile(_Strict):
    """A whole study. If it leaves out numerics, the device's usual ones hold (docs/gpu.md)."""

    name: Annotated[str, Field(pattern=NAME)]
    question: Annotated[str, Field(min_length=1)]
    notes: list[str] = []
    grid: Annotated[list[Grid], BeforeValidator(_in_double_brackets), Field(min_length=1)]
    precision: Precision | None = None
    compile: Switch | None = None
    channels_last: Switch | None = None


def read(text: str, where: str) -> StudyFile:
    """Parse and check a study's text.

    Args:
        text: TOML.
        where: its file, for messages.

    Raises:
        StudyError: not TOML, an unknown key, a value of the wrong type or range, an empty grid.
    """
    try:
        values = from_toml(text)
    except ValueError as error:
        raise StudyError(f"{where} is not valid TOML: {error}") from None
    try:
        return StudyFile.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{where}: {_explain(error)}") from None


def open_study(name: str) -> tuple[StudyFile, str]:
    """Open a study by its file or by the name of a ready-made one; the study and its text.

    Raises:
        StudyError: there is no such study, or it cannot be read.
    """
    if text := ready_made().get(name):
        return read(text, f"study {name}"), text
    # names of ready-made studies come first
    path = Path(name)
    if path.suffix != ".toml":
        raise StudyError(
            f"no study {shown(name)}; give a file ending in .toml, or one of "
            f"{', '.join(ready_made())}"
        )
    try:
        text = read_text(path, MOST_TOML)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{name[:200]} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    return read(text, path.name), text


@functools.cache
def ready_made() -> dict[str, str]:
    """The texts of the ready-made studies in the package, by name."""
    found = files("paramcast.study.grid").joinpath("ready").iterdir()
    # a file browser may leave files of its own there
    texts = {f.name[:-5]: f.read_text("utf-8") for f in found if f.name.endswith(".toml")}
    return dict(sorted(texts.items()))


def _explain(error: ValidationError) -> str:
    """The first three problems in words: the key, what is wrong, and what is possible."""
    lines = []
    # a misspelt key first, because it may be why another one is missing
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    for problem in problems[:3]:
        # such as grid[1].lr[1]; indices count from 1
        parts = (f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in problem["loc"])
        where = "".join(parts).lstrip(".") or "the file"
        if problem["type"] == "extra_forbidden":
            blocks = [p for p in problem["loc"][:-1] if isinstance(p, str)]
            known: dict[str, type[BaseModel]] = {"grid": Grid, "tune": Tune}
            model = known.get(blocks[-1], StudyFile) if blocks else StudyFile
            lines.append(f"unknown key {where}; choose from {', '.join(model.model_fields)}")
        elif problem["type"] == "missing":
            lines.append(f"{where} is missing")
        elif problem["type"] == "too_short":
            lines.append(f"{where} is empty")
        elif problem["type"] == "value_error":
            lines.append(f"{where}: {problem['ctx']['error']}")
        else:
            text = problem["msg"].replace("Input should be", "must be")
            lines.append(f"{where} {text}, got {shown(problem['input'])}")
    return "; ".join(lines)
