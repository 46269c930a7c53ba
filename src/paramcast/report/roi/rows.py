"""A pilot's folder as rows: its result, with the runs by seed behind each row of its table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ...study.judging.table import AVERAGE, CONTROL, LR_MATCHED, PREDICTOR, RANDOM_JUMP
from ...study.judging.table import REFERENCE as REFERENCE
from ...study.judging.verdict import ADOPT, FASTER
from ...study.reading import as_written
from ...study.store.folder import RESULT, reading
from ...study.stored import AGAIN, Judged, Result, read_result
from ...study.tables.saving import runs_of
from ...study.words import Words

Row = dict[str, Any]


class UncountableError(StudyError):
    """A pilot whose return cannot be counted; the report says why in its own language."""

    def __init__(self, key: str, **facts: Any) -> None:
        self._key, self._facts = f"payoff.{key}", facts
        super().__init__(self.said(Words("en")))

    def said(self, words: Words) -> str:
        return words(self._key, **self._facts)


def read(folder: Path) -> dict[str, Any]:
    """Read a pilot's result and the runs of its store, or a judged table; nothing is changed.

    Args:
        folder: of a finished pilot or of a judged table.

    Returns:
        The comparison; each row of its table also has `runs`: lists by seed of `seconds`,
        `early_seconds` (empty if 0.8 T did not run), `peak_memory` (empty if they are not known)
        and `class_counts` (None if none are stored). `pilot_hours` is the training time of all its
        runs; `command` and `out` are the result's.

    Raises:
        StudyError: the folder has no finished pilot, or one of another version or with one seed;
            or runs are missing.
        StoreError: its runs cannot be read.
    """
    # a pilot with two seeds and a verdict, or there is nothing to count
    result, path = read_result(folder, "pilot", "table"), folder / RESULT
    (judged,) = result["cells"]
    if judged["seeds"] < 2:
        raise StudyError(
            f"{path} has {judged['seeds']} seed; without a spread there is no interval: "
            "run the pilot with --seeds 8 or more"
        )
    if not judged["verdicts"]:
        raise StudyError(
            f"{path} judges no method; run the pilot with a predictor, such as --methods plp"
        )
    if result["kind"] == "table":
        outcomes = {key: outcome for key, _, outcome in runs_of(judged)}
        return joined(result, outcomes, folder)
    with reading(folder) as store:
        return joined(result, store.outcomes(keys_of(judged)), folder)


def keys_of(judged: Judged) -> list[str]:
    """The keys of all runs of a comparison, each once."""
    final = (key for row in judged["table"] for key in row["keys"] + row["early_keys"])
    tuned = judged["learning_rates"]["keys"].values()
    return [*dict.fromkeys([*final, *(key for rates in tuned for keys in rates for key in keys)])]


def joined(result: Result, outcomes: Mapping[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Join a result with the stored runs behind it, as `read` returns it.

    Args:
        result: of a pilot.
        outcomes: by key, of its runs.
        folder: for messages.

    Raises:
        UncountableError: runs are missing.
        StudyError: what is stored does not have the form that this paramcast writes.
    """
    with as_written(f"what {folder} holds", AGAIN):
        (judged,), table = result["cells"], []
        for row in judged["table"]:
            # a figure over some of the seeds would be another figure
            lacking = [key for key in row["keys"] + row["early_keys"] if key not in outcomes]
            if lacking:
                raise UncountableError(
                    "no_runs", folder=folder, n=len(lacking), method=row["method"]
                )
            # the runs in the order of their seeds, as the values of the row
            whole = [outcomes[key] for key in row["keys"]]
            runs = {
                "seconds": _known(whole, "seconds"),
                "early_seconds": [outcomes[key]["seconds"] for key in row["early_keys"]],
                "peak_memory": _known(whole, "peak_memory"),
                "class_counts": [run.get("class_counts") for run in whole],
            }
            table.append({**row, "runs": runs})
        # what the pilot cost is the time of all its runs, tuning too
        known = [outcomes[key] for key in keys_of(judged) if key in outcomes]
        hours = sum(_known(known, "seconds")) / 3600
        about = {"command": result["command"], "out": result["out"], "pilot_hours": hours}
        return {**judged, "table": table, **about}


def _known(outcomes: list[dict[str, Any]], name: str) -> list[float]:
    """A number by run; empty unless every run has it, for a table may not tell."""
    values = [outcome[name] for outcome in outcomes]
    return [] if None in values else values


def alternatives(result: dict[str, Any], name: str) -> list[Row]:
    """A method's free alternatives that ran: the base, its controls and, for a predictor, averages.

    Raises:
        UncountableError: the predictor has a gain to count, and a control of it is missing.
    """
    table: list[Row] = result["table"]
    own = [r for r in table if r["role"] == CONTROL and r["control_of"] in ("", name)]
    if row_of(result, name)["role"] == PREDICTOR and result["question"] != "table":
        # without these two a gain may be a larger step or noise; without a gain they need not run
        counted = {v.kind for v in result["verdicts"][name].values()} & {ADOPT, FASTER}
        for family in (LR_MATCHED, RANDOM_JUMP):
            if counted and not any((r["family"], r["control_of"]) == (family, name) for r in own):
                control = f"{table[0]['method']}-{family}" if family == LR_MATCHED else family
                raise UncountableError("no_control", control=control, method=name)
        own += [r for r in table if r["role"] == AVERAGE]
    return [table[0], *own]


def row_of(result: dict[str, Any], name: str) -> Row:
    """A method's row in the table."""
    return next(row for row in result["table"] if row["method"] == name)
