"""The types of a comparison's result, and how to read it back from its folder.

A result is strict JSON of facts: numbers, names, keys of runs, and keys of the catalogue. It holds
no sentence except those that users wrote. In memory its leaves are the dataclasses of `judging`; on
disk each becomes an object of its fields.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs these before Python 3.12

from ..errors import StudyError
from .judging.stats import Comparison
from .judging.verdict import Metric, Verdict
from .reading import MOST_JSON, MOST_SEEDS, object_from_json, read_text, shown
from .store.folder import RESULT, remembers, write_json

SCHEMA = 4
AGAIN = "start the command that made it once more, which rewrites it"
NAME = r"^[a-z0-9][a-z0-9-]{0,40}$"
"""The form of a study's name; files and folders are named after the study."""
Note = dict[str, Any]
"""A note on a comparison: {"note": key of the catalogue, ...facts}."""


NOT_LEARNED = "not_learned"
"""What a finished run is called that is no better than a constant prediction."""


class Measure(TypedDict):
    """A number that runs measured beside their result: by seed, its mean, and its differences from
    the base's (mean and 95 % interval)."""

    values: list[float | None]
    mean: float | None
    to_base: dict[str, float] | None


class ArmResult(TypedDict):
    """A line of the table.

    Attributes:
        method: its name in the table; `role`, `family` and `control_of` are those of `plan.Row`.
        settings: what was searched beside the learning rate, at their chosen values.
        run: the method of its runs; `keys` and `early_keys` are the keys of these runs by seed,
            with a schedule of T and of 0.8 T steps.
        mean, low, high: of `values`, with a 95 % interval.
        to_base, to_lr_matched: the arm minus the base, and minus the base at its lr times its gain.
    """

    method: str
    role: str
    family: str
    control_of: str
    run: str
    lr: float | None
    settings: dict[str, float | str]
    keys: list[str]
    early_keys: list[str]
    mean: float
    low: float
    high: float
    values: list[float]
    early_mean: float | None
    early_values: list[float]
    loss: float | None
    gap: float | None
    seconds: float | None
    peak_memory: float | None
    diverged: int
    divergences: list[dict[str, Any]]
    top1_error: float | None
    top5_error: float | None
    measures: dict[str, Measure]
    to_base: Comparison | None
    to_lr_matched: Comparison | None


class LearningRates(TypedDict):
    """The rates tried, each with what was searched beside it, on at most `seeds` seeds; by method,
    the rate chosen and the keys of tuning runs by rate and seed."""

    tried: list[float]
    settings: list[dict[str, float | str]]
    chosen: dict[str, float]
    keys: dict[str, list[list[str]]]
    seeds: int


class Judged(TypedDict):
    """One judged comparison: its table (the base first), and its verdicts by method and question.

    Attributes:
        question: "tuned", "today", of commands that tell their own rates "commands" or, of a table
            of results, "table".
        steps: None where only the training knows.
        early_steps: None where 0.8 T was not run, too.
        settings, label: what a study varies, and in words; empty for a pilot.
        seeds, confidence: of the last look; `looks` has these of every look that was taken.
        trainings: runs that it took, tuning included.
        planned_seeds: at most, if nothing had been decided before.
        lazy: whether only those arms ran that could change a verdict.
    """

    task: str
    question: str
    description: Mapping[str, Mapping[str, Any]]
    metric: Metric
    steps: int | None
    early_steps: int | None
    seeds: Annotated[int, Field(ge=0, le=MOST_SEEDS)]
    confidence: float
    looks: list[dict[str, float]]
    trainings: int
    planned_seeds: int
    lazy: bool
    table: Annotated[list[ArmResult], Field(min_length=1)]
    verdicts: dict[str, dict[str, Verdict]]
    notes: list[Note]
    learning_rates: LearningRates
    specification: dict[str, Any]
    settings: dict[str, Any]
    label: str


class Result(TypedDict):
    """The content of result.json; a pilot and a table of results have one cell.

    Attributes:
        name: of the task or the study.
        question, notes, text: a study's own words, and the file that says them; empty for a pilot.
        command: what goes on with it.
    """

    schema: int
    kind: Literal["pilot", "study", "table"]
    identity: str
    name: str
    question: str
    notes: list[str]
    cells: Annotated[list[Judged], Field(min_length=1)]
    command: str
    out: str
    environment: dict[str, Any]
    reused_runs: int
    wall_seconds: float
    text: str


def status_of(outcome: Mapping[str, Any]) -> str:
    """What became of a run: its stored status, or NOT_LEARNED.

    A training of the user's does not tell whether it has learned.
    """
    done, learned = outcome["status"] == "done", outcome.get("learned", True)
    return NOT_LEARNED if done and not learned else str(outcome["status"])


def write_result(out: Path, begun: float, **content: Any) -> Result:
    """Write a comparison's result.json, and return its content.

    Args:
        out: its folder.
        begun: when it began, by `time.perf_counter`.
        content: the other fields of `Result`; a study's own words may be left out.

    Raises:
        StoreError: it cannot be written.
    """
    last = {"schema": SCHEMA, "out": str(out), "wall_seconds": time.perf_counter() - begun}
    result: Any = {"question": "", "notes": [], "text": "", **content, **last}
    write_json(out / RESULT, result)
    return result  # type: ignore[no-any-return]


def read_result(folder: Path, *kinds: str) -> Result:
    """Read the result that a comparison left in its folder.

    Args:
        folder: of a finished pilot or study.
        kinds: those that the caller can use; all if none is given.

    Raises:
        StudyError: nothing has finished there, it cannot be read, or it is of another kind or
            version.
    """
    path = folder / RESULT
    if not path.is_file():
        if not folder.is_dir():
            raise StudyError(f"{folder} is not a folder; give the folder of a pilot or study")
        why = "; give the folder of a pilot or study"
        if remembers(folder):
            why = (
                ": nothing has finished there; start the command that made it again, and it goes on"
            )
        raise StudyError(f"{folder} has no {RESULT}{why}")
    try:
        content = object_from_json(read_text(path, MOST_JSON))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); {AGAIN}") from None
    # before the types, which belong to a version
    if content.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has schema {shown(content.get('schema'))}, this paramcast reads {SCHEMA}; "
            "use the paramcast that wrote it"
        )
    try:
        result: Result = _reader().validate_python(content)
        # what the types cannot say
        if result["kind"] == "study" and not re.fullmatch(NAME, result["name"]):
            raise ValueError(f"the study is called {shown(result['name'])}")
        if result["kind"] != "study" and len(result["cells"]) > 1:
            raise ValueError(f"it has {len(result['cells'])} cells")
        for judged in result["cells"]:
            _check_arms(judged)
    except ValueError as error:
        found = str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            found = f"{place}: {first['msg']}, got {shown(first['input'], 40)}"
        raise StudyError(f"{path} is not as this paramcast writes it ({found}); {AGAIN}") from None
    if kinds and result["kind"] not in kinds:
        raise StudyError(
            f"{folder} holds the result of a {result['kind']}; give the folder of a "
            f"{' or '.join(kinds)}"
        )
    return result


def _check_arms(judged: Judged) -> None:
    # groups that no seed pairs may be larger than the smallest of them
    most = judged["seeds"] if judged["metric"].paired else MOST_SEEDS
    for row in judged["table"]:
        if max(len(row["values"]), len(row["early_values"])) > most:
            raise ValueError(f"{shown(row['method'])} has more than {most} values")
    if unknown := judged["verdicts"].keys() - {row["method"] for row in judged["table"]}:
        raise ValueError(f"there is a verdict on {shown(min(unknown))}, but no row")


@functools.cache
def _reader() -> Any:
    return TypeAdapter(Result)
