"""Every cell and judged method: base, difference, difference to the larger step, verdict."""

from __future__ import annotations

from paramcast.study.judging.stats import Comparison
from paramcast.study.judging.verdict import Metric
from paramcast.study.stored import Judged, Result

from .maps import rows_of, short
from .page import Page, made_by


def analyse(result: Result) -> Page:
    """The comparisons as a Markdown table, and the rows of every cell's arms."""
    page, cells = Page(), result["cells"]
    axes = [n for n in cells[0]["settings"] if n == "task" or varies(cells, n)]
    page.say(f"{result['question']}\n\n{made_by(result)}")
    rows = []
    for cell in cells:
        metric, table = cell["metric"], rows_of(cell)
        for row in cell["table"]:
            verdict = cell["verdicts"].get(row["method"], {}).get("quality")
            rows.append(
                [
                    *(short(cell["settings"][axis]) for axis in axes),
                    row["method"],
                    short(row["lr"]),
                    cell["seeds"],
                    metric.value(row["mean"]),
                    *(_percent(row[name]) for name in ("top1_error", "top5_error")),
                    _difference(metric, table[row["method"]]["to_base"]),
                    _difference(metric, row["to_lr_matched"]),
                    verdict.kind if verdict else "",
                ]
            )
    header = (*axes, "method", "lr", "n", cells[0]["metric"].name, "top-1 error", "top-5 error",
              "minus base", "minus lr x G", "verdict")  # fmt: skip
    empty = [i for i in range(len(header)) if all(row[i] == "" for row in rows)]
    page.table(
        [h for i, h in enumerate(header) if i not in empty],
        [[v for i, v in enumerate(row) if i not in empty] for row in rows],
    )
    return page


def varies(cells: list[Judged], name: str) -> bool:
    """Whether the cells differ in this setting."""
    return len({cell["settings"][name] for cell in cells}) > 1


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _difference(metric: Metric, found: Comparison | None) -> str:
    if found is None:
        return ""
    mean, low, high = map(metric.signed, (found.mean, found.low, found.high))
    return f"{mean} ({low} to {high})"
