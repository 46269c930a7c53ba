"""Charts of a whole study: verdicts, and all differences."""

from __future__ import annotations

from typing import Any

from ...study.words import Words
from . import tuning
from .comparison import Cell, bases, counts
from .plotting import (
    Behind,
    Chart,
    between,
    chart,
    intervals_of,
    numbered,
    pair_of,
    plain,
    unit_of,
)

# kinds of a verdict, the best first, with the colour and the pattern of each
KINDS = (
    "adopt", "use the control instead", "slightly better", "no difference", "slightly worse",
    "inconclusive", "harmful",
)  # fmt: skip
FILLS = ("$c0", "$c4", "$c0/66", "$base", "$c1/66", "$faint", "$c1")
SHAPES = ("", "/", "", "", "", ".", "x")
PATTERN = {"fillmode": "overlay", "fgcolor": "$bg", "size": 7, "solidity": 0.2}


def charts_of(cells: list[Cell], words: Words) -> list[Chart]:
    """The charts that show every comparison at once."""
    rates = tuning.rates(cells, words)
    return [_verdicts(cells, words), *_forests(cells, words), *([rates] if rates else [])]


def _verdicts(cells: list[Cell], words: Words) -> Chart:
    found = counts(cell.result for cell in cells)
    methods = list(found)
    data = [
        {
            "type": "bar", "orientation": "h", "name": words(f"kind.{kind}"),
            "y": [plain(m) for m in methods], "x": [found[m][kind] for m in methods],
            "text": [str(found[m][kind] or "") for m in methods], "textposition": "inside",
            "insidetextfont": {"color": "$bg"}, "insidetextanchor": "middle",
            "marker": {"color": fill, "pattern": {"shape": shape, **PATTERN}},
            "hovertemplate": "%{y}: %{x}<extra>" + plain(words(f"kind.{kind}")) + "</extra>",
        }
        for kind, fill, shape in zip(KINDS, FILLS, SHAPES, strict=True)
    ]  # fmt: skip
    layout = {
        "barmode": "stack",
        "height": 150 + 38 * len(methods),
        "xaxis": {"title": {"text": words("chart.comparisons")}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
    }
    rows = [[m, *(str(found[m][kind]) for kind in KINDS)] for m in methods]
    made = chart(
        "verdicts", words, [{"label": "", "data": data, "layout": layout}], ("method",), rows
    )
    # the verdicts are columns, under their names in words
    made["table"]["head"] += [words(f"kind.{kind}") for kind in KINDS]
    return made


def _forests(cells: list[Cell], words: Words) -> list[Chart]:
    """A chart per task: each comparison and judged method, against the base and lr x G."""
    made = []
    for k, task in enumerate(dict.fromkeys(cell.result["task"] for cell in cells)):
        own = [cell for cell in cells if cell.result["task"] == task]
        unit, scale = unit_of(own[0], words), own[0].scale
        views: list[dict[str, Any]] = []
        rows: list[list[str]] = []
        behind: list[Behind] = []
        # a view against the base, and one against the larger step where that ran
        for against in ("to_base", "to_lr_matched"):
            name = words(f"view.{against}", base=bases(own, words))
            lines = [
                (cell, arm, c)
                for cell in own
                for arm in cell.arms
                if arm.name in cell.result["verdicts"] and (c := arm.difference(against))
            ]
            if not lines:
                continue
            behind += [
                {"cell": cell.index, "method": pair_of(cell, arm, against)}
                for cell, arm, _ in lines
            ]
            rows += [
                [numbered(cell, words), arm.name, name, cell.signed(scale * c.mean),
                 between(cell.signed, scale * c.low, scale * c.high),
                 words(f"relation.{c.relation}")]
                for cell, arm, c in lines
            ]  # fmt: skip
            trace = intervals_of(
                [f"{cell.index + 1} {plain(arm.name)}" for cell, arm, _ in lines],
                [c for *_, c in lines], scale,
                # the interval is above 0, below it, or holds it
                ["$c0" if c.low > 0 else "$c1" if c.high < 0 else "$base" for *_, c in lines],
            )  # fmt: skip
            trace["customdata"] = [plain(cell.label) for cell, _, _ in lines]
            trace["hovertemplate"] = "%{customdata}<br>%{x}" + f" {plain(unit)}<extra></extra>"
            # enough pixels a line that hundreds can be read
            title = plain(words("chart.difference", unit=unit))
            layout = {
                "xaxis": {"title": {"text": title}, "zeroline": True},
                "yaxis": {"type": "category", "range": [len(lines) - 0.5, -0.5],
                          "automargin": True, "dtick": 1},
                "height": 90 + 17 * len(lines),
            }  # fmt: skip
            views.append({"label": name, "data": [trace], "layout": layout})
        if views:
            columns = ("comparison", "method", "against", "mean", "interval", "relation")
            title = words("charts.all", task=task)
            one = chart("all", words, views, columns, rows, behind, title=title)
            made.append({**one, "id": f"all-{k}"})
    return made
