"""The report's page before the verdict: how far it is, curves and means on the validation split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ... import __version__
from ...errors import StudyError
from ...study.judging.table import LR_MATCHED
from ...study.judging.verdict import EARLY, Metric
from ...study.reading import as_written
from ...study.stored import AGAIN
from ...study.words import Words
from ..html.comparison import BASE, CONTROL, PREDICTOR, Arm, Cell
from ..html.load import Run, Stored
from ..html.page import render
from ..html.plotting import numbered
from ..html.report import MOST_CELLS, before_verdict, reads
from ..html.runs import run_tables
from ..html.write import content
from .board import (
    Arms,
    Board,
    Key,
    arm_name,
    is_matched,
    labels,
    metric_name,
    settings_at_rates,
)
from .watching import Watching

LATER: dict[str, Any] = {
    "asked": None, "notes": [], "description": [], "effect": None, "whole": [], "payoff": None,
}  # fmt: skip
"""What the page has only when all runs are there."""


class Progress(NamedTuple):
    """What the page depends on: it is built again when this changes.

    Attributes:
        kind, name, folder: of what.
        state: "waiting" (nothing can be read, for this reason), "running", "stopped", "finished".
        phases: name, runs done and runs asked for so far (None: not known).
        price: the least, usual and most runs in all; None where that is not known.
    """

    kind: str
    name: str
    folder: str
    state: str
    phases: tuple[tuple[str, int, int | None], ...] = ()
    diverged: int = 0
    failed: int = 0
    reason: str = ""
    price: tuple[int, int, int] | None = None


def progress(watching: Watching) -> Progress:
    """Look at the store."""
    try:
        view = watching.view()
    except StudyError as error:
        return Progress("pilot", "paramcast", "", "waiting", reason=str(error))
    phases = tuple((p["name"], p["done"], p["total"]) for p in view["phases"])
    known = {name: view[name] for name in Progress._fields if name in view}
    price = None if view["price"] is None else tuple(view["price"])
    return Progress(**{**known, "phases": phases, "price": price})


def build(watching: Watching, now: Progress, words: Words, live: dict[str, Any]) -> str:
    """The page: the report itself when all has finished, else what may be seen before.

    Args:
        live: "every", the seconds after which the page asks for its "tag" again.
    """
    try:
        if now.state == "finished":
            return content(Path(now.folder), words.language, "html").decode()
        with as_written(now.folder, AGAIN):
            board = Board() if now.state == "waiting" else watching.board
            return render(_data(now, board, words), words, live=live)
    except StudyError as error:
        now = now._replace(state="waiting", reason=str(error))
        return render(_data(now, Board(), words), words, live=live)


def _data(now: Progress, board: Board, words: Words) -> dict[str, Any]:
    """What the template shows; see `html.report.build`."""
    none: Any = {}
    stored = Stored(now.kind, Path(now.folder), none, board.runs(), board.failures)
    names = labels(
        board.cells, lambda axis: words.either(f"axis.{axis}", axis), words("page.comma")
    )
    cells = [
        _cell(i, label, arms)
        for i, (label, arms) in enumerate(zip(names, board.cells.values(), strict=True))
    ]
    heading = "watch.waiting" if now.state == "waiting" else "watch.heading"
    return {
        **LATER,
        "language": words.language,
        "kind": now.kind,
        "reads": reads(now.kind, words),
        "name": now.name,
        "question": words(heading, name=now.name),
        "verdicts": [_no_verdict(now, words)],
        "facts": _facts(now, words),
        "cells": [
            {"label": numbered(cell, words), "charts": before_verdict(cell, words)}
            for cell in cells[:MOST_CELLS]
        ],
        "count": len(cells),
        **run_tables(stored, cells, words),
        "made": words("page.made", version=__version__, folder=now.folder),
    }  # fmt: skip


def _no_verdict(now: Progress, words: Words) -> dict[str, Any]:
    empty = dict.fromkeys(("method", "about", "kind", "word", "caution"), "")
    planned = [total for _, _, total in now.phases if total is not None]
    known = len(planned) == len(now.phases)
    runs = _of(sum(n for _, n, _ in now.phases), sum(planned) if known else None, words)
    sentence = words("watch.none", runs=runs)
    if now.price is not None:
        sentence += words("page.space") + words(
            "watch.price", usual=now.price[1], most=now.price[2]
        )
    if now.state == "waiting":
        sentence = words("watch.waiting_for", reason=now.reason)
    return {**empty, "sentence": sentence, "next": words(f"watch.{now.state}_next"),
            "command": None}  # fmt: skip


def _facts(now: Progress, words: Words) -> list[tuple[str, str, str]]:
    bad = words("facts.bad_value", diverged=now.diverged, failed=now.failed)
    return [
        (words("watch.state"), words(f"watch.{now.state}"), "summary"),
        *((words(f"watch.{name}"), _of(n, total, words), "runs") for name, n, total in now.phases),
        (words("facts.bad"), bad, "failed"),
    ]


def _of(done: int, planned: int | None, words: Words) -> str:
    """Runs done, of how many where that is known."""
    return str(done) if planned is None else words("watch.of", done=done, planned=planned)


# --- which runs belong to which arm, before a result says so --------------------------------------


def _cell(index: int, label: str, runs: Arms) -> Cell:
    final = {key._replace(share=1.0) for key in runs if key.phase == "final"}
    names = Counter(arm_name(key, runs) for key in final)
    arms = {}
    for key in final:
        name = arm_name(key, runs)
        shown = name if names[name] == 1 else f"{name}, lr {key.lr:.4g}"
        early = runs.get(key._replace(share=EARLY), [])
        arms[shown] = _arm(shown, key, is_matched(key, runs), runs.get(key, []), early)
    tuning: dict[str, dict[float, list[Run]]] = {}
    for key in sorted(key for key in runs if key.phase == "tune"):
        tuning.setdefault(key.method, {})[key.lr] = runs[key]
        name = arm_name(key, runs)  # its line has the colour that its curve will have
        arms.setdefault(name, _arm(name, key, False, [], []))
    tried = sorted({lr for by_lr in tuning.values() for lr in by_lr})
    beside = settings_at_rates(runs)
    rates = {
        "tried": tried,
        "settings": [beside[lr] for lr in tried] if beside else [],
        "chosen": {key.method: key.lr for key in final if not is_matched(key, runs)},
    }
    metric = Metric(metric_name(runs), True, 0.0)  # only its name is read
    order = sorted(arms.values(), key=_place)
    # what is not known before the end is left open
    result: Any = {"metric": metric, "verdicts": {}, "learning_rates": rates}
    result |= {"question": "", "description": {}}
    return Cell(index, label, result, order, tuning)


def _arm(name: str, key: Key, matched: bool, final: list[Run], early: list[Run]) -> Arm:
    role = CONTROL if matched or ":" in key.method else PREDICTOR
    role = BASE if key.method == "base" and not matched else role
    family = LR_MATCHED if matched else key.method
    row: Any = {"method": name, "role": role, "family": family, "control_of": "", "lr": key.lr,
                "run": key.method}  # fmt: skip
    return Arm(row, [*final], [*early])


def _place(arm: Arm) -> tuple[bool, bool, int, str, float]:
    """The base first, its controls, predictors, their controls."""
    rest = arm.method != "base", arm.role == CONTROL, len(arm.method), arm.method
    return *rest, arm.row["lr"] or 0.0
