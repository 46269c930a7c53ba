"""What the runs measured beside their result: per method, and against the base."""

from __future__ import annotations

from paramcast.errors import StudyError
from paramcast.study.judging.verdict import PERCENT
from paramcast.study.stored import ArmResult, Judged, Measure, Result

from .maps import differences, short
from .page import Page, made_by, spread
from .table import varies


def analyse(result: Result) -> Page:
    """A table per cell: result, generalisation gap, and every measure of the whole run.

    Measures of a quarter or of one layer (with @ or : in their names) are only in the export.
    """
    page, cells = Page(), result["cells"]
    axes = [n for n in cells[0]["settings"] if n == "task" or varies(cells, n)]
    names = list(
        dict.fromkeys(
            name
            for cell in cells
            for row in cell["table"]
            for name in row["measures"]
            if "@" not in name and ":" not in name
        )
    )
    if not names:
        raise StudyError("no run of this study measured anything; give its grids `probes = [...]`")
    page.say(f"{result['question']}\n\n{made_by(result)}")
    for cell in cells:
        where = ", ".join(f"{axis} {short(cell['settings'][axis])}" for axis in axes)
        page.say(f"**{where}**, n = {cell['seeds']} seeds; means, in brackets 95 % intervals of "
                 "the paired differences to the base")  # fmt: skip
        here = [n for n in names if any(n in row["measures"] for row in cell["table"])]
        page.table(
            ("method", "lr", cell["metric"].name, "minus base", "gap", *here, "diverged"),
            [_row(cell, row, here) for row in cell["table"]],
        )
    return page


def _row(cell: Judged, row: ArmResult, names: list[str]) -> list[str]:
    is_base = row is cell["table"][0]
    percent = cell["metric"].name in PERCENT
    mean = f"{100 * row['mean']:.2f} %" if percent else f"{row['mean']:.4g}"
    return [
        row["method"],
        short(row["lr"]),
        mean,
        "" if is_base else spread(differences(cell, row["method"])),
        "" if row["gap"] is None else f"{row['gap']:.4f}",
        *(_measure(row["measures"].get(name), base=is_base) for name in names),
        str(row["diverged"] or ""),
    ]


def _measure(found: Measure | None, *, base: bool) -> str:
    if found is None or found["mean"] is None:
        return ""
    if base or found["to_base"] is None:
        return f"{found['mean']:.4g}"
    low, high = found["to_base"]["low"], found["to_base"]["high"]
    return f"{found['mean']:.4g} ({low:+.3g} to {high:+.3g})"
