"""A pilot's folder as rows: its result, and behind each row of its table the runs by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...errors import StoreError, StudyError
from ...study.judging.verdict import EARLY
from ...study.reading import (
    MOST_JSON,
    as_written,
    count_of_seeds,
    object_from_json,
    read_text,
    shown,
)
from ...study.store.folder import RESULTS, reading

RESULT, SCHEMA = RESULTS["pilot"], 1
PREDICTOR, AVERAGE, CONTROL, REFERENCE = "predictor", "average", "control", "reference"
MATCHED, RANDOM_JUMP = "-lr-matched", "random-jump"
AGAIN = "run the pilot again"

Row = dict[str, Any]


def read(folder: Path, store_url: str | None = None) -> dict[str, Any]:
    """What pilot.json holds, with the runs of its store; nothing is changed.

    Args:
        folder: of a finished pilot.
        store_url: of the PostgreSQL database that holds its runs; None for the one that the folder
            names, else runs.db in it.

    Returns:
        The result; each row of its table also has `runs`: lists by seed of `seconds`,
        `early_seconds` (empty if 0.8 T did not run), `peak_memory` and `class_counts` (None where
        none are stored). `pilot_hours` is the training time of all stored runs.

    Raises:
        StudyError: no finished pilot in the folder, of a newer version, or with one seed.
        StoreError: its runs cannot be read, or are not those of the result.
    """
    result = _result(folder)
    with reading(folder, store_url) as store:
        return joined(result, store.runs(), folder)


def joined(result: dict[str, Any], runs: Sequence[tuple[Row, Row]], folder: Path) -> dict[str, Any]:
    """A result with the stored runs behind it, as `read` returns it.

    Args:
        result: what pilot.json holds; it is changed.
        runs: specification and outcome of every stored run.
        folder: for messages.

    Raises:
        StoreError: runs are missing.
        StudyError: what is stored has another form than this paramcast gives it.
    """
    with as_written(f"what {folder} holds", AGAIN):
        found = {
            (spec["method"], spec["lr"], spec["share"], spec["seed"]): outcome
            for spec, outcome in runs
            if spec["phase"] == "final"
        }
        for row in result["table"]:
            row["runs"] = _runs(folder, result, row, found)
        result["pilot_hours"] = sum(outcome["seconds"] for _, outcome in runs) / 3600
    return result


def alternatives(result: dict[str, Any], name: str) -> list[Row]:
    """The rows that a method is counted over: the base, its controls, for a predictor averages.

    Raises:
        StudyError: a control of the predictor is missing.
    """
    table = result["table"]
    judged = row_of(result, name)
    own = [r for r in table if r["role"] == CONTROL and r["of"] in ("", name)]
    if judged["role"] == PREDICTOR:
        for needed in (MATCHED, RANDOM_JUMP):
            if not any(needed in r["method"] and r["of"] == name for r in own):
                raise StudyError(
                    f"the control {_control_name(table, needed)} of {name} is missing in {RESULT}; "
                    "without it a gain cannot be told from one that is free: run the pilot again"
                )
        own += [r for r in table if r["role"] == AVERAGE]
    return [table[0], *own]


def row_of(result: dict[str, Any], name: str) -> Row:
    """A method's row in the table.

    Raises:
        StudyError: there is none.
    """
    for row in result["table"]:
        if row["method"] == name:
            found: Row = row
            return found
    raise StudyError(f"{RESULT} has a verdict on {name} and no row of it; run the pilot again")


def _control_name(table: list[Row], needed: str) -> str:
    return f"{table[0]['method']}{needed}" if needed == MATCHED else needed


def _result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT
    if not path.is_file():
        raise StudyError(
            f"{folder} has no {RESULT}: no pilot has finished there; give the folder that "
            "`paramcast pilot` names in its last line"
        )
    try:
        result = object_from_json(read_text(path, MOST_JSON))
        schema, seeds = result["schema"], count_of_seeds(result["seeds"])
        known = isinstance(result["table"], list) and isinstance(result["verdicts"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{path} is not what a pilot writes ({type(error).__name__}: {error}); {AGAIN}"
        ) from None
    if schema != SCHEMA:
        raise StudyError(
            f"{path} has schema {shown(schema)}, this paramcast reads {SCHEMA}; "
            "use the paramcast that wrote it"
        )
    if seeds < 2:
        raise StudyError(
            f"{path} has {seeds} seed; without a spread there is no interval: "
            "run the pilot with --seeds 8 or more"
        )
    if not known or not result["table"] or not result["verdicts"]:
        raise StudyError(
            f"{path} judges no method; run the pilot with a predictor, such as --methods plp"
        )
    return result


def _runs(folder: Path, result: dict[str, Any], row: Row, found: dict[Any, Row]) -> dict[str, Any]:
    seeds = range(result["seeds"])
    method = _method(result["table"][0], row)

    def outcomes(share: float) -> list[Row]:
        keys = [(method, row["lr"], share, seed) for seed in seeds]
        missing = [key for key in keys if key not in found]
        if missing:
            raise StoreError(
                f"the store of {folder} lacks {len(missing)} of the runs behind {row['method']} in "
                f"{RESULT}; run the pilot's command again"
            )
        return [found[key] for key in keys]

    whole, early = outcomes(1.0), outcomes(EARLY) if row["early_values"] else []
    return {
        "seconds": _each("seconds", whole),
        "early_seconds": _each("seconds", early),
        "peak_memory": _each("peak_memory", whole),
        "class_counts": [outcome.get("class_counts") for outcome in whole],
    }


def _method(base: Row, row: Row) -> str:
    """What a row's runs are called in the store."""
    if row is base or (row["of"] and MATCHED in row["method"]):
        return "base"
    if row["role"] == CONTROL and row["of"]:
        return f"{row['method'].partition(' of ')[0]}:{row['of']}"
    return str(row["method"])


def _each(name: str, outcomes: Iterable[Row]) -> list[float]:
    return [outcome[name] for outcome in outcomes]
