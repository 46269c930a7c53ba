"""Maps of PLP minus SGD and of PLP minus the larger step, learning rate against another setting."""

from __future__ import annotations

from functools import partial
from typing import Any

from paramcast.errors import StudyError
from paramcast.study.judging.verdict import PERCENT
from paramcast.study.stored import Result

from .maps import Map, maps
from .page import Page, made_by


def analyse(result: Result) -> Page:
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
    unit = "points" if result["cells"][0]["metric"].name in PERCENT else "the metric's unit"
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
