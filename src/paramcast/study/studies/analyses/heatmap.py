"""Maps of PLP minus SGD and of PLP minus the larger step, learning rate against another setting."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

from ....errors import StudyError
from ...stats import interval
from ...verdict import PERCENT
from .page import Page, differences, made_by, matched_of, short


class Map(NamedTuple):
    """One map: values and intervals by (row, learning rate)."""

    task: str
    axis: str
    rows: list[str]
    lrs: list[float]
    to_base: dict[tuple[str, float], tuple[float, float, float]]
    to_matched: dict[tuple[str, float], tuple[float, float, float]]


def analyse(result: dict[str, Any]) -> Page:
    """For each task and each axis that varies: a map against the learning rate.

    The other settings are the study's most frequent ones. An interval that crosses 0 is in grey
    in the figure and in brackets in the table.

    Raises:
        StudyError: nothing varies beside the learning rate.
    """
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    several = [m for m in maps(result["cells"]) if len(m.rows) > 1]
    if not several:
        raise StudyError("a heat map needs cells that differ in the learning rate and one setting")
    unit = "points" if result["cells"][0]["metric"]["name"] in PERCENT else "the metric's unit"
    seeds = result["cells"][0]["seeds"]
    page.say(
        f"Mean differences in {unit}, n = {seeds} seeds; in brackets where the 95 % interval of "
        "that cell crosses 0. With so many cells one in twenty differs by chance."
    )
    for each in several:
        page.say(f"**{each.task}: learning rate against {each.axis}**")
        for name, values in (("minus SGD", each.to_base), ("minus SGD at lr x G", each.to_matched)):
            header = (f"{name}, {each.axis}", *(f"lr {lr:.4g}" for lr in each.lrs))
            page.table(header, [_line(row, each.lrs, values) for row in each.rows])
        label = f"{each.task}-{each.axis}".replace("/", "-").replace("@", "-").replace("_", "-")
        caption = f"{each.task}, learning rate against {each.axis}"
        page.figure(label, caption, partial(_draw, each))
    return page


def _line(row: str, lrs: list[float], values: dict[Any, tuple[float, float, float]]) -> list[str]:
    texts = [row]
    for lr in lrs:
        if (row, lr) not in values:
            texts.append("")
            continue
        mean, low, high = values[row, lr]
        texts.append(f"({mean:+.2f})" if low <= 0 <= high else f"{mean:+.2f}")
    return texts


def maps(cells: list[dict[str, Any]]) -> list[Map]:
    """A map per task and axis, and one of the methods; those of one row are no maps."""
    found = []
    for task in dict.fromkeys(cell["settings"]["task"] for cell in cells):
        own = [cell for cell in cells if cell["settings"]["task"] == task]
        axes = [name for name in own[0]["settings"] if name not in ("task", "lr")]
        usual = {a: Counter(cell["settings"][a] for cell in own).most_common(1)[0][0] for a in axes}
        for axis in axes:
            others = {name: value for name, value in usual.items() if name != axis}
            chosen = [c for c in own if all(c["settings"][n] == v for n, v in others.items())]
            if len({cell["settings"][axis] for cell in chosen}) > 2:
                # the task's own value is then among the others
                chosen = [cell for cell in chosen if cell["settings"][axis] is not None]
            found.append(_map(task, axis, [(short(c["settings"][axis]), c, "plp") for c in chosen]))
        plain = [c for c in own if all(c["settings"][n] == v for n, v in usual.items())]
        methods = [(name, cell, name) for cell in plain for name in cell["verdicts"]]
        found.append(_map(task, "method", methods))
    return found


def _map(task: str, axis: str, entries: list[tuple[str, dict[str, Any], str]]) -> Map:
    to_base, to_matched = {}, {}
    rows: dict[str, None] = {}
    lrs: set[float] = set()
    for row, cell, method in entries:
        lr = cell["settings"]["lr"]
        if lr is None or method not in cell["verdicts"]:
            continue
        rows[row] = None
        lrs.add(lr)
        to_base[row, lr] = interval(differences(cell, method))
        matched = matched_of(cell, method)
        if matched is not None:
            to_matched[row, lr] = interval(differences(cell, method, matched))
    return Map(task, axis, sorted(rows, key=_natural), sorted(lrs), to_base, to_matched)


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _draw(each: Map) -> Any:
    """Two maps side by side on one colour scale; values are written into the cells."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 + 1.5 * len(each.lrs), 1.6 + 0.42 * len(each.rows)))
    panels = figure.subplots(1, 2, sharey=True)
    limit = max((min(2.0, abs(v[0])) for v in each.to_base.values()), default=1.0) or 1.0
    titles = ("PLP minus SGD", "PLP minus SGD at lr x G")
    for panel, title, values in zip(panels, titles, (each.to_base, each.to_matched), strict=True):
        grid = np.full((len(each.rows), len(each.lrs)), np.nan)
        for (row, lr), (mean, low, high) in values.items():
            i, j = each.rows.index(row), each.lrs.index(lr)
            grid[i, j] = mean
            clear, dark = not low <= 0 <= high, abs(mean) > 0.7 * limit
            style = {"color": "white" if dark else "black" if clear else "dimgray",
                     "fontweight": "bold" if clear else "normal"}  # fmt: skip
            panel.text(j, i, f"{mean:+.2f}", ha="center", va="center", fontsize=8, **style)
        panel.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", alpha=0.75)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(each.lrs)), [f"{lr:.4g}" for lr in each.lrs], fontsize=8)
        panel.set_yticks(range(len(each.rows)), each.rows, fontsize=8)
        panel.set_xlabel("learning rate", fontsize=8)
    panels[0].set_ylabel(each.axis.replace("_", " "), fontsize=8)
    return figure
