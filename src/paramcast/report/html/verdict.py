"""The first screen: question, verdicts, facts, notes, and the data as it was read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...study.judging.sentences import advice, amount, caution, kind, note, sentence
from ...study.tasks.description import lines
from ...study.words import Words
from ..roi.lines import seeds_of
from . import study
from .comparison import Cell, bases, counts
from .load import Stored


def question(cell: Cell, words: Words) -> str:
    """The pilot's question."""
    methods, base = words("page.comma").join(cell.judged), cell.arms[0].name
    key = "page.question_pilot" if methods else "page.question_none"
    key = "page.question_table" if cell.result["question"] == "table" else key
    return words(key, methods=methods, base=base, task=cell.result["task"])


def verdicts(cell: Cell, words: Words) -> list[dict[str, Any]]:
    """A pilot's verdicts in words, and what to do next."""
    found = []
    for method in cell.judged:
        for question, verdict in cell.result["verdicts"][method].items():
            found.append(
                {
                    "method": method,
                    "about": words(f"page.{question}"),
                    "kind": verdict.kind,
                    "word": kind(verdict, words),
                    "sentence": sentence(verdict, cell.metric, words),
                    "caution": caution(verdict, cell.metric, words),
                    "next": advice(verdict, cell.metric, words),
                    "command": verdict.extension and verdict.extension.command,
                }
            )
    return found or [_none(words)]


def study_verdicts(cells: list[Cell], words: Words) -> list[dict[str, Any]]:
    """For each method of a study, how often each verdict was given, and the most frequent one."""
    found = []
    for method, kinds in counts(cell.result for cell in cells).items():
        usual = max(reversed(study.KINDS), key=lambda kind: kinds[kind])  # on a tie, the cautious
        names = ("adopt", "instead", "better", "same", "worse", "unclear", "harmful")
        short = dict(zip(study.KINDS, names, strict=True))
        sentence = words(
            "page.study_headline", method=method, n=kinds.total(),
            **{short[kind]: kinds[kind] for kind in study.KINDS},
        )  # fmt: skip
        next_ = words(f"page.study_next_{short[usual]}", base=bases(cells, words))
        found.append({"method": method, "about": words("page.quality"), "kind": usual,
                      "word": words(f"kind.{usual}"), "sentence": sentence, "caution": "",
                      "next": next_, "command": None})  # fmt: skip
    return found or [_none(words)]


def _none(words: Words) -> dict[str, Any]:
    empty = dict.fromkeys(("method", "about", "kind", "word"), "")
    told = {"sentence": words("page.no_verdict"), "next": words("page.none_judged_next")}
    return {**empty, **told, "caution": "", "command": None}


def facts(stored: Stored, cells: list[Cell], words: Words) -> list[tuple[str, str, str]]:
    """Facts, each with label, value, and the place on the page that it links to."""
    # how much was compared, then what it took
    n, many = _seeds(cells, words), stored.kind == "study"
    paired = "paired" if all(cell.metric.paired for cell in cells) else "unpaired"
    facts = [("comparisons", str(len(cells)), "table")] if many else []
    facts.append(("seeds", words(f"facts.{paired}", n=n), "table"))
    if not many:
        result, metric = cells[0].result, cells[0].metric
        if result["steps"] is not None:  # else only the training knows
            key = "steps_early" if result["early_steps"] else "steps_value"
            steps = words(f"facts.{key}", full=result["steps"], early=result["early_steps"])
            facts.append(("steps", steps, "how"))
        facts.append(("margin", amount(metric.margin, metric, words), "how"))
    if stored.kind == "table":  # nothing was trained here
        rows = cells[0].result["table"]
        facts.append(("rows", str(sum(len(row["values"]) for row in rows)), "runs"))
        facts.append(("diverged", str(sum(row["diverged"] for row in rows)), "failed"))
    else:
        phases = Counter(run.spec["phase"] for run in stored.runs)
        counts = {"all": phases.total(), "final": phases["final"], "tune": phases["tune"]}
        seconds = sum(run.outcome["seconds"] or 0.0 for run in stored.runs)
        diverged = sum(run.outcome["status"] != "done" for run in stored.runs)
        bad = words("facts.bad_value", diverged=diverged, failed=len(stored.failures))
        facts += [
            ("runs", words("facts.runs_value", **counts), "runs"),
            ("time", _time(seconds, words), "runs"),
            ("wall", _time(stored.result["wall_seconds"], words), "how"),
            ("bad", bad, "failed"),
        ]
    return [(words(f"facts.{name}"), value, place) for name, value, place in facts]


def _seeds(cells: list[Cell], words: Words) -> str:
    """How many seeds each question was judged with: one may be settled at an earlier look."""
    rows = [row for cell in cells for row in cell.result["table"]]
    found: dict[str, set[int]] = {}
    for answers in (own for cell in cells for own in cell.result["verdicts"].values()):
        for about, verdict in answers.items():
            found.setdefault(about, set()).update(p.comparison.n for p in verdict.comparisons[:1])
    said = {about: seeds_said(numbers, words) for about, numbers in found.items() if numbers}
    if not said:  # nothing was compared
        return seeds_said({len(row["values"]) for row in rows}, words)
    return seeds_of(said, words)


def seeds_said(numbers: set[int], words: Words) -> str:
    """A number of seeds, or the least and the most."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else words("page.range", low=low, high=high)


def _time(seconds: float, words: Words) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        # the largest unit of which there are at least two
        if seconds >= 2 * size:
            return words(f"facts.{unit}", n=f"{seconds / size:.1f}")
    return words("facts.seconds", n=f"{seconds:.3g}")


def notes(stored: Stored, cells: list[Cell], words: Words) -> list[tuple[str, bool]]:
    """The notes, each with whether the user wrote it."""
    own = [(text, True) for text in stored.result["notes"]]
    # cells repeat notes: each once
    ours = [note(n, cell.metric, words) for cell in cells for n in cell.result["notes"]]
    return own + [(each, False) for each in dict.fromkeys(ours)]


def description(cells: list[Cell], words: Words) -> list[tuple[str, list[str]]]:
    """Each task with what was read of its data."""
    found = {cell.result["task"]: cell.result["description"] for cell in cells}
    return [(task, lines(description, words.language)) for task, description in found.items()]
