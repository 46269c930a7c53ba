"""Runs and what is stored of them, as many tests need them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.study.course import Course
from paramcast.study.plan import Plan
from paramcast.study.spec import RunSpec
from paramcast.study.stored import SCHEMA
from paramcast.study.tasks.task import Prepared

TUNED = (
    "digits/mlp",
    "--methods",
    "demon, plp",
    "--trials",
    4,
    "--trial-seeds",
    2,
    "--seeds",
    6,
    "--all-arms",
)
PAPER = (
    "digits/mlp",
    "--methods",
    "demon, plp",
    "--lr",
    0.001,
    "--schedule",
    "constant",
    "--seeds",
    6,
    "--all-arms",
)
"""Small pilots that the tests of a session share: everything tuned, and at the paper's rate."""
MEASURED = {"seconds", "peak_memory", "seconds_per_run", "wall_seconds", "reused_runs"}
MEASURED |= {"environment"}


def run_spec(prepared: Prepared | None = None, **changes: Any) -> RunSpec:
    """A final run of SGD, of a task's epochs and batch size where one is given."""
    settings: dict[str, Any] = {
        "task": "blobs", "fingerprint": "", "method": "base", "base": "sgd", "lr": 0.1,
        "schedule": "cosine", "epochs": 2, "batch_size": 8, "share": 1.0, "phase": "final",
        "seed": 0, "device": "cpu", "versions": "",
    }  # fmt: skip
    if prepared is not None:
        settings |= {"epochs": prepared.task.epochs, "batch_size": prepared.task.batch_size}
    return RunSpec(**(settings | changes))


def stored_spec(fields: dict[str, Any]) -> RunSpec:
    """The specification that a store keeps as JSON, which has no tuples."""
    settings = tuple((name, value) for name, value in fields.get("settings", ()))
    return RunSpec(**{**fields, "probes": tuple(fields["probes"]), "settings": settings})


def timeless(value: Any) -> Any:
    """What does not depend on the clock, the machine and what was there before."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in MEASURED}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def rows(database: Path, query: str) -> list[Any]:
    """What a store of SQLite answers."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def kept(database: Path) -> int:
    """Finished runs in a store, 0 before there is one."""
    try:
        return int(rows(database, "SELECT count(*) FROM runs")[0][0])
    except sqlite3.OperationalError:
        return 0


def follow(plan: Plan, run: Callable[[list[RunSpec]], dict[str, Any]], **given: Any) -> Any:
    """A comparison's course to its end, and the outcomes of its runs by key.

    Args:
        plan: what is compared.
        run: gives the outcomes of runs, by key.
        given: to `Course`.
    """
    course = Course(plan, given.pop("looks", plan.options.looks), **given)
    outcomes: dict[str, Any] = {}
    while (wanted := course.next(outcomes)) is not None:
        outcomes |= run(wanted.specs)
    return course, outcomes


def drawn(effects: dict[str, float], spread: float = 0.001) -> Any:
    """Draws outcomes of runs for `follow`: accuracy 0.8, more by the effect of the method.

    Args:
        effects: by the method of the runs.
        spread: sd of the noise of a run.
    """

    def run(specs: list[RunSpec]) -> dict[str, Any]:
        found = {}
        for spec in specs:
            rng = np.random.default_rng(int(spec.key[:8], 16))
            value = 0.8 + effects.get(spec.method, 0.0) + spread * rng.normal()
            scores = {"metric": value, "loss": 1 - value, "top1_error": 1 - value}
            found[spec.key] = {
                "status": "done", "divergence": None, "seconds": 1.0, "peak_memory": 1,
                "validation": scores, "test": scores, "gap": 0.0, "measures": {},
            }  # fmt: skip
        return found

    return run


def cell(result: Any) -> Any:
    """The one comparison of a pilot's result."""
    (judged,) = result["cells"]
    return judged


def whole(*cells: dict[str, Any], **header: Any) -> dict[str, Any]:
    """A result of these cells: a pilot's, unless the header says otherwise."""
    usual = {
        "schema": SCHEMA, "kind": "pilot", "identity": "", "name": cells[0].get("task", ""),
        "question": "", "notes": [], "cells": list(cells), "command": "", "out": "",
        "environment": {}, "reused_runs": 0, "wall_seconds": 1.0, "text": "",
    }  # fmt: skip
    return usual | header


def told(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """What a pilot's verdicts read like: by method and question, the answer and what to do next."""
    from paramcast.study.judging.sentences import advice, sentence
    from paramcast.study.stored import read_result
    from paramcast.study.words import Words

    judged, words = cell(read_result(folder)), Words("en")
    return {
        (method, question): tuple(say(v, judged["metric"], words) for say in (sentence, advice))
        for method, answers in judged["verdicts"].items()
        for question, v in answers.items()
    }


def compared(verdict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The stored comparisons of a verdict by what is compared with what."""
    return {f"{p['a']} - {p['b']}": p["comparison"] for p in verdict["comparisons"]}
