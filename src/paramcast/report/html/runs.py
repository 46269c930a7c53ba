"""The runs behind the numbers: a table to filter, failures, and the downloads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ...study.grid.export import comparison_rows, run_row
from ...study.judging.sentences import divergence
from ...study.sheets import harmless
from ...study.stored import status_of
from ...study.words import Words
from .comparison import Cell
from .load import Run, Stored
from .plotting import NONE, number

# columns of the page's tables, by their names in the catalogue: all runs, those that went wrong
RUN_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "result", "loss",
            "seconds", "key")  # fmt: skip
BAD_HEAD = ("comparison", "method", "phase", "seed", "steps", "lr", "status", "reason")
LONG = ("fingerprint", "versions", "probes", "settings")
"""What of a run's specification is not in the CSV files."""


def run_tables(stored: Stored, cells: list[Cell], words: Words) -> dict[str, Any]:
    """The table of runs that diverged or failed, and the table of all runs."""
    heads, behind = words.section("head"), behind_of(cells)
    rows = [_shown(run, behind.get(run.key, []), words) for run in stored.runs]
    # the comparison is left out where there is one, and what a table of results does not tell
    kept = [*range(0 if stored.kind == "study" else 1, len(RUN_HEAD))]
    if stored.kind == "table":
        kept = [i for i in kept if any(row["shown"][i] != "" for row in rows)]
    for row in rows:
        row["shown"] = [row["shown"][i] for i in kept]
    return {
        "failed": {"head": [heads[k] for k in BAD_HEAD], "rows": bad_of(stored, behind, words)},
        "runs": {"head": [heads[RUN_HEAD[i]] for i in kept], "rows": rows},
    }


Behind = dict[str, list[tuple[int, str]]]
"""The comparisons and methods that a run belongs to, by its key."""


def behind_of(cells: list[Cell]) -> Behind:
    """Which numbers each run is behind."""
    found: Behind = {}
    for cell in cells:
        own = [(arm.name, run) for arm in cell.arms for run in (*arm.final, *arm.early)]
        for method, by_lr in cell.tuning.items():
            name = cell.arms[0].name if method == "base" else method  # runs call every base "base"
            own += [(name, run) for runs in by_lr.values() for run in runs]
        for name, run in own:
            if run is not None:
                found.setdefault(run.key, []).append((cell.index, name))
    return found


def _shown(run: Run, behind: list[tuple[int, str]], words: Words) -> dict[str, Any]:
    """A row of the table of runs: the cells shown, and the values to filter by."""
    outcome, spec, status = run.outcome, run.spec, status_of(run.outcome)
    # tuning runs have no test values
    values = outcome.get("test") or outcome.get("validation") or {}
    comma = words("page.comma")
    # a run may stand behind several comparisons of a study
    methods = list(dict.fromkeys(name for _, name in behind)) or [spec["method"]]
    cells = list(dict.fromkeys(i for i, _ in behind))
    shown = [
        comma.join(str(i + 1) for i in cells), comma.join(methods),
        words.either(f"phase.{spec['phase']}", spec["phase"]), spec["seed"],
        "" if outcome["steps"] is None else f"{outcome['steps']}", _rate(spec),
        words.either(f"status.{status}", status),
        *("" if values.get(k) is None else number(values[k]) for k in ("metric", "loss")),
        "" if outcome["seconds"] is None else f"{outcome['seconds']:.3g}",
        run.key if run.finished_at == "" else run.key[:12],
    ]  # fmt: skip
    return {
        "shown": shown, "cells": cells, "methods": methods, "phase": spec["phase"],
        "share": f"{spec['share']:g}", "status": status,
    }  # fmt: skip


def bad_of(stored: Stored, behind: Behind, words: Words) -> list[list[str]]:
    """Runs that diverged and attempts that failed, each with its reason."""
    rows = []
    for run in stored.runs:
        if run.outcome["status"] != "done":
            where, method, *place = _shown(run, behind.get(run.key, []), words)["shown"][:4]
            length = f"{100 * run.spec['share']:g} %"
            reason = divergence(run.outcome, words)
            rows.append([where, method, place[0], str(place[1]), length, _rate(run.spec),
                         words("status.diverged"), reason])  # fmt: skip
    for failure in stored.failures:
        spec = failure.spec
        status = words.either(f"status.{failure.status}", failure.status)
        phase = words.either(f"phase.{spec['phase']}", spec["phase"])
        rows.append([NONE, spec["method"], phase, str(spec["seed"]), f"{100 * spec['share']:g} %",
                     _rate(spec), status, failure.reason])  # fmt: skip
    return rows


def _rate(spec: dict[str, Any]) -> str:
    return "" if spec["lr"] is None else f"{spec['lr']:.4g}"


# --- downloads ------------------------------------------------------------------------------------


def downloads(stored: Stored, cells: list[Cell], words: Words) -> list[dict[str, str]]:
    """The files that the page offers: comparisons, runs and curves as CSV."""
    arms = [(cell, arm) for cell in cells for arm in cell.arms]
    judged = [
        {"comparison": cell.index + 1, "task": cell.result["task"], **row}
        for (cell, _), row in zip(arms, comparison_rows(stored.result), strict=True)
    ]
    # a row per run, as `paramcast study export --runs` writes it
    finished = [
        {"key": run.key, "finished_at": run.finished_at, **run_row(run.spec, run.outcome)}
        for run in stored.runs
    ]
    # the mean curves with their 95 % bands, also of predictions
    points = [
        {"comparison": cell.index + 1, "method": arm.name, "quantity": name, "step": point.step}
        | {key: f"{value:.5g}" for key, value in point._asdict().items() if key != "step"}
        for cell, arm in arms
        for name, curve in (*arm.curves.items(), *arm.forecasts.items())
        for point in curve
    ]
    # at most three files, each inside the page as a link; a table of results has no curves
    made = {"comparisons": judged, "runs": finished, "curves": points}
    return [
        {"file": f"{name}.csv", "label": words(f"page.download_{name}", n=len(rows)),
         "csv": to_csv(rows)}
        for name, rows in made.items() if rows
    ]  # fmt: skip


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV, with an apostrophe before text that a spreadsheet would take for a formula."""
    out = io.StringIO()
    head = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in LONG]
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(map(harmless, head))
    writer.writerows([harmless(row.get(name)) for name in head] for row in rows)
    return out.getvalue()
