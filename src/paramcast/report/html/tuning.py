"""Charts of learning rates: the losses of tuning, and a study's results by rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...study.search import named
from ...study.words import Words
from .comparison import Arm, Cell, band, bases, labels_of
from .plotting import (
    NONE,
    Behind,
    Chart,
    arm_of,
    between,
    chart,
    metric_name,
    number,
    plain,
    short,
    style,
)

MOST = 24
"""At most that many settings are drawn; the table has all of them."""


class Place(NamedTuple):
    """An arm of a comparison, with its mean validation value at the end."""

    cell: Cell
    arm: Arm
    value: float


def tuning(cell: Cell, words: Words) -> Chart | None:
    """The validation losses of tuning by learning rate, with the chosen rate marked."""
    if not cell.tuning:
        return None
    tried, base = cell.result["learning_rates"], cell.arms[0].name
    # what was searched beside each rate, if anything was
    pairs = zip(tried["tried"], tried["settings"], strict=False)
    beside = {lr: words("page.bracketed", x=named(settings)) for lr, settings in pairs}
    data, rows = [], []
    lost = words("status.diverged")
    for method, by_lr in cell.tuning.items():
        name, chosen = base if method == "base" else method, tried["chosen"].get(method)
        losses = {lr: [run.outcome["validation"]["loss"] for run in runs]
                  for lr, runs in by_lr.items() if runs}  # fmt: skip
        if not losses:  # the user has tuned it
            continue
        # no mean where a seed diverged: the search takes such a rate for the worst
        means = {lr: None if None in values else short(statistics.fmean(values))
                 for lr, values in losses.items()}  # fmt: skip
        # rates that were left on the way were tried on fewer seeds
        most = max(map(len, losses.values()))
        left = [lr for lr, values in losses.items() if len(values) < most]
        own = style(arm_of(cell, name), cell)
        data.append(_line(name, own, means, chosen, hollow=left))
        rows += [[name, f"{lr:.4g}{beside.get(lr, '')}", NONE if mean is None else number(mean),
                  ", ".join(lost if v is None else number(v) for v in losses[lr]),
                  words("chart.chosen") if lr == chosen else ""]
                 for lr, mean in means.items()]  # fmt: skip
    layout = _by_rate(tried["tried"], words("chart.tuning_loss"), words)
    columns = ("method", "lr", "mean", "by_seed", "chosen")
    return chart(
        "tuning", words, [{"label": "", "data": data, "layout": layout}], columns, rows,
        [{"method": row[0], "phase": "tune"} for row in rows],
        text=f"tuning{cell.made}", base=base,
    )  # fmt: skip


def _line(
    name: str,
    own: tuple[str, str, str],
    values: Mapping[float, float | None],
    chosen: float | None,
    hollow: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A value by learning rate, with a star at the chosen one."""
    colour, symbol, dash = own
    full = symbol if hollow is None else symbol.removesuffix("-open")
    symbols = {lr: f"{full}-open" if lr in (hollow or ()) else full for lr in values}
    symbols |= {lr: "star" for lr in values if lr == chosen}
    return {
        "type": "scatter", "mode": "lines+markers", "name": plain(name),
        "x": list(values), "y": list(values.values()), "line": {"color": colour, "dash": dash},
        "marker": {"color": colour, "size": [15 if lr == chosen else 7 for lr in values],
                   "symbol": list(symbols.values())},
        "hovertemplate": "%{x:.4g}: %{y:.4g}<extra>" + plain(name) + "</extra>",
    }  # fmt: skip


def _by_rate(rates: Iterable[float], what: str, words: Words) -> dict[str, Any]:
    """A layout along learning rates, with a tick at every one that ran."""
    ticks = sorted({*rates})
    return {
        "xaxis": {"type": "log", "title": {"text": words("chart.lr")}, "tickvals": ticks,
                  "ticktext": [f"{lr:.2g}" for lr in ticks]},
        "yaxis": {"title": {"text": plain(what)}}, "height": 420,
    }  # fmt: skip


def rates(cells: Sequence[Cell], words: Words) -> Chart | None:
    """Validation results by learning rate, for each setting that ran at several rates."""
    views: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    behind: list[Behind] = []
    groups = _groups(cells, words)
    for label, own in groups:
        # every arm at every rate, by its validation value
        by_name: dict[str, list[Place]] = {}
        for cell in own:
            for arm in cell.arms:
                values = _ends(arm)
                if values:
                    place = Place(cell, arm, statistics.fmean(values))
                    by_name.setdefault(arm.name, []).append(place)
        if not by_name:
            continue
        # the rate of each method is chosen on validation; the table then shows test values
        best = {name: max(places, key=lambda p: p.cell.sign * p.value)
                for name, places in by_name.items()}  # fmt: skip
        # the page has room for so many views; the table has all
        if len(views) < MOST:
            views.append(_view(label, by_name, best, words))
        rows += _rows(label, best, own[0].arms[0].name)
        behind += [{"cell": p.cell.index, "method": name} for name, p in best.items()]
    if not views:
        return None
    columns = ("setting", "method", "best_lr", "validation", "value", "best_minus_base", "interval")
    made = chart("rates", words, views, columns, rows, behind, base=bases(cells, words))
    if len(groups) > MOST:
        made["read"] += " " + words("read.rates_limit", n=MOST)
    return made


def _groups(cells: Sequence[Cell], words: Words) -> list[tuple[str, list[Cell]]]:
    """Comparisons that differ only in the learning rate, by the settings in which groups differ."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.result["settings"]["lr"] is not None:
            others = {name: v for name, v in cell.result["settings"].items() if name != "lr"}
            found.setdefault(repr(others), []).append(cell)
    groups = [own for own in found.values() if len({c.result["settings"]["lr"] for c in own}) > 1]
    # a group's rates differ
    settings = [{**own[0].result["settings"], "lr": None} for own in groups]
    labels = labels_of(settings, words, ["task"]) if groups else []
    return list(zip(labels, groups, strict=True))


def _ends(arm: Arm) -> list[float]:
    """Validation values at the end by seed; a diverged run has a constant prediction's."""
    values = [run.outcome["validation"].get("metric") for run in arm.final if run is not None]
    return [value for value in values if value is not None]


def _view(
    label: str, by_name: dict[str, list[Place]], best: dict[str, Place], words: Words
) -> dict[str, Any]:
    data, rates = [], []
    for name, places in by_name.items():
        places = sorted(places, key=lambda place: place.arm.row["lr"] or 0.0)
        cell = places[0].cell
        # means with their intervals over seeds, in the unit shown
        bands = [[cell.scale * v for v in band(_ends(place.arm))] for place in places]
        lrs = [short(place.arm.row["lr"] or 0.0) for place in places]
        means = dict(zip(lrs, (short(mean) for mean, _, _ in bands), strict=True))
        own = style(places[0].arm, cell)
        line = _line(name, own, means, short(best[name].arm.row["lr"] or 0.0))
        line["error_y"] = {"array": [short(high - mean) for mean, _, high in bands],
                           "color": own[0], "thickness": 1, "width": 3}  # fmt: skip
        data.append(line)
        rates += [place.cell.result["settings"]["lr"] for place in places]
    what = metric_name(next(iter(best.values())).cell, words)
    return {"label": label, "data": data, "layout": _by_rate(rates, what, words)}


def _rows(label: str, best: dict[str, Place], base: str) -> list[list[str]]:
    """Each method at its best rate by validation, and its difference from the base at its best."""
    rows, b = [], best.get(base)
    for name, place in best.items():
        cell, row = place.cell, place.arm.row
        # the difference is paired by seed, on the test split, each method at its own rate
        shown = [label, name, f"{row['lr']:.4g}", cell.metric.value(place.value),
                 cell.metric.value(row["mean"])]  # fmt: skip
        difference = [NONE, NONE]
        if b is not None and name != base and len(row["values"]) == len(b.arm.row["values"]):
            pairs = zip(row["values"], b.arm.row["values"], strict=True)
            mean, low, high = band([cell.sign * cell.scale * (x - y) for x, y in pairs])
            difference = [cell.signed(mean), between(cell.signed, low, high)]
        rows.append([*shown, *difference])
    return rows
