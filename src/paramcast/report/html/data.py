"""Everything that a report shows, as a plain dictionary in one language."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ... import __version__
from ...study.judging.sentences import advice, amount, note, sentence
from ...study.reading import as_written
from ...study.tasks.description import lines
from ...study.words import Words
from ..roi import Inputs
from . import maps, numbers, payoff, tables
from .cells import CONTROL, Cell, cells_of
from .charts import charts_of, effect
from .load import AGAIN, Stored
from .rows import BAD_HEAD, RUN_HEAD, bad_of, behind_of, run_row

MOST_CELLS = 120
"""Comparisons whose own charts are in the page; a reader chooses one at a time."""


def build(stored: Stored, words: Words, inputs: Inputs | None = None) -> dict[str, Any]:
    """What the page, the Markdown and the LaTeX show.

    Args:
        stored: a folder's files.
        words: the language.
        inputs: what a return is counted with; None for the defaults.

    Raises:
        StudyError: the stored result lacks what a report needs, or the inputs do not fit it.
    """
    with as_written(f"{stored.folder / stored.kind}.json", AGAIN):
        return {**_build(stored, words), "payoff": payoff.section(stored, words, inputs)}


def _build(stored: Stored, words: Words) -> dict[str, Any]:
    study, result = stored.kind == "study", stored.result
    asked = None if study else words(f"question.{result['question']}")
    cells = cells_of(stored, lambda axis: words.either(f"axis.{axis}", axis))
    return {
        "language": words.language,
        "kind": stored.kind,
        "name": result["study"] if study else result["task"],
        "question": result["question"] if study else _question(cells[0], words),
        "asked": asked and words("page.asked", how=asked),
        "verdicts": _study_verdicts(cells, words) if study else _verdicts(cells[0], words),
        "notes": _notes(stored, cells, words),
        "description": _description(cells, words),
        "facts": _facts(stored, cells, words),
        "effect": effect(cells, words) if not study and result["verdicts"] else None,
        "whole": maps.charts_of(cells, words) if study else [],
        "cells": [
            {"label": f"{cell.index + 1}: {cell.label}", "charts": charts_of(cell, words)}
            for cell in cells[:MOST_CELLS]
        ],
        "count": len(cells),
        "table": numbers.table(cells, words),
        **run_tables(stored, cells, words),
        "arms": _arms(cells, words),
        "protocol": _protocol(cells, words),
        "environment": [
            [words.either(f"env.{k}", k), str(v)]
            for k, v in result["environment"].items() if v is not None
        ],
        "specification": _specification(stored),
        "study_text": result["text"] if study else None,
        "command": _command(stored),
        "downloads": _downloads(stored, cells, words),
        "made": words("page.made", version=__version__, folder=str(stored.folder)),
    }  # fmt: skip


def run_tables(stored: Stored, cells: list[Cell], words: Words) -> dict[str, Any]:
    """The runs that went wrong, and all runs."""
    heads, behind, study = words.section("head"), behind_of(cells), stored.kind == "study"
    rows = [run_row(run, behind.get(run.key, []), words, study=study) for run in stored.runs]
    return {
        "failed": {"head": [heads[k] for k in BAD_HEAD], "rows": bad_of(stored, cells, words)},
        "runs": {"head": [heads[k] for k in RUN_HEAD[0 if study else 1 :]], "rows": rows},
    }


# --- the first screen -----------------------------------------------------------------------------


def _question(cell: Cell, words: Words) -> str:
    methods, base = ", ".join(cell.judged), cell.arms[0].name
    key = "page.question_pilot" if methods else "page.question_none"
    return words(key, methods=methods, base=base, task=cell.result["task"])


def _verdicts(cell: Cell, words: Words) -> list[dict[str, Any]]:
    found = []
    for method in cell.judged:
        for question, verdict in cell.result["verdicts"][method].items():
            found.append(
                {
                    "method": method,
                    "about": words(f"page.{question}"),
                    "kind": verdict.kind,
                    "word": words(f"kind.{verdict.kind}"),
                    "sentence": sentence(verdict, cell.metric, words),
                    "next": advice(verdict, cell.metric, words),
                    "command": verdict.extension and verdict.extension.command,
                }
            )
    return found or [_none(words)]


def _study_verdicts(cells: list[Cell], words: Words) -> list[dict[str, Any]]:
    """A study is many comparisons: how often each verdict was given, and what is usual."""
    found = []
    for method, kinds in maps.counts(cells).items():
        usual = max(reversed(maps.KINDS), key=lambda kind: kinds[kind])  # of two, the cautious
        names = ("adopt", "instead", "same", "unclear", "harmful")
        short = dict(zip(maps.KINDS, names, strict=True))
        sentence = words(
            "page.study_headline", method=method, n=kinds.total(),
            **{short[kind]: kinds[kind] for kind in maps.KINDS},
        )  # fmt: skip
        next_ = words(f"page.study_next_{short[usual]}")
        found.append({"method": method, "about": words("page.quality"), "kind": usual,
                      "word": words(f"kind.{usual}"), "sentence": sentence, "next": next_,
                      "command": None})  # fmt: skip
    return found or [_none(words)]


def _none(words: Words) -> dict[str, Any]:
    empty = dict.fromkeys(("method", "about", "kind", "word"), "")
    told = {"sentence": words("page.no_verdict"), "next": words("page.none_judged_next")}
    return {**empty, **told, "command": None}


def _facts(stored: Stored, cells: list[Cell], words: Words) -> list[tuple[str, str, str]]:
    """Label, value, and the place in the page that it leads to."""
    phases = Counter(run.spec["phase"] for run in stored.runs)
    seconds = sum(run.outcome["seconds"] for run in stored.runs)
    diverged = sum(run.outcome["status"] != "done" for run in stored.runs)
    facts = [
        ("runs", words("facts.runs_value", final=phases["final"], tune=phases["tune"]), "runs"),
        ("time", _time(seconds, words), "runs"),
        ("wall", _time(stored.result["wall_seconds"], words), "how"),
        (
            "bad",
            words("facts.bad_value", diverged=diverged, failed=len(stored.failures)),
            "failed",
        ),
    ]
    seeds = sorted({cell.result["seeds"] for cell in cells})
    n = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
    facts.insert(0, ("seeds", words("facts.paired", n=n), "table"))
    if stored.kind == "study":
        facts.insert(0, ("comparisons", str(len(cells)), "table"))
    else:
        result, metric = stored.result, cells[0].metric
        key = "steps_early" if result["early_steps"] else "steps_value"
        steps = words(f"facts.{key}", full=result["steps"], early=result["early_steps"])
        facts.insert(1, ("steps", steps, "how"))
        facts.insert(2, ("margin", amount(metric.margin, metric, words), "how"))
    return [(words(f"facts.{name}"), value, place) for name, value, place in facts]


def _time(seconds: float, words: Words) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return words(f"facts.{unit}", n=f"{seconds / size:.1f}")
    return words("facts.seconds", n=f"{seconds:.3g}")


def _notes(stored: Stored, cells: list[Cell], words: Words) -> list[tuple[str, bool]]:
    """Each note, and whether it is the user's own words."""
    study = stored.kind == "study"
    own = [(text, True) for text in stored.result["notes"]] if study else []
    ours = [note(n, cell.metric, words) for cell in cells for n in cell.result["notes"]]
    return own + [(each, False) for each in dict.fromkeys(ours)]


def _description(cells: list[Cell], words: Words) -> list[tuple[str, list[str]]]:
    """Each task, and what was read of its data."""
    found = {cell.result["task"]: cell.result["description"] for cell in cells}
    return [(task, lines(description, words.language)) for task, description in found.items()]


# --- method, protocol, specification --------------------------------------------------------------


def _arms(cells: list[Cell], words: Words) -> list[tuple[str, str, str]]:
    """Name, role and description of every arm."""
    found: dict[str, tuple[str, str, str]] = {}
    for arm in (arm for cell in cells for arm in cell.arms):
        role, described = words(f"role.{arm.role}"), words(f"method.{arm.row['family']}")
        found[arm.name] = (arm.name, role, described)
    return list(found.values())


def _protocol(cells: list[Cell], words: Words) -> list[str]:
    tunings = [cell.result["specification"]["tuning"] for cell in cells]
    first = next((tuning for tuning in tunings if tuning is not None), None)
    keys = ["paired", "test", "interval", "diverged", "data"]
    if any(arm.role == CONTROL for cell in cells for arm in cell.arms):
        keys.insert(3, "controls")
    if any(arm.early for cell in cells for arm in cell.arms):
        keys.insert(3, "speed")
    how = words("protocol.given")
    if first is not None:
        how = words("protocol.tuned", points=first[2], seeds=first[3])
    level = f"{100 * min(cell.result['confidence'] for cell in cells):.4g}"
    return [how, *(words(f"protocol.{key}", level=level) for key in keys)]


def _specification(stored: Stored) -> str:
    if stored.kind == "pilot":
        return json.dumps(stored.result["specification"], indent=1, ensure_ascii=False)
    several = [{"comparison": i, **cell["specification"]}
               for i, cell in enumerate(stored.result["cells"], 1)]  # fmt: skip
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in several)


def _command(stored: Stored) -> str:
    if stored.kind == "pilot":
        return str(stored.result["command"])
    return f"paramcast study resume {stored.result['out']}"


def _downloads(stored: Stored, cells: list[Cell], words: Words) -> list[dict[str, str]]:
    curves = tables.curve_rows(cells)
    comparisons = tables.comparison_rows(cells)
    runs = [tables.run_row(run) for run in stored.runs]
    made = (
        ("comparisons", tables.COMPARISON, comparisons),
        ("runs", tables.run_head(), runs),
        ("curves", tables.CURVE, curves),
    )
    return [
        {"file": f"{name}.csv", "label": words(f"page.download_{name}", n=len(rows)),
         "csv": tables.to_csv(head, rows)}
        for name, head, rows in made
    ]  # fmt: skip
