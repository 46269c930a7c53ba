"""Charts of learning rates: the losses of tuning, and a study's results by rate."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...study.search import named
from ...study.words import Words
from .comparison import Arm, Cell, band, bases
from .comparison import short as setting
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
    rates_tried, base = cell.result["learning_rates"], cell.arms[0].name
    chosen = rates_tried["chosen"]
    # what was searched beside each rate, if anything was
    pairs = zip(rates_tried["tried"], rates_tried["settings"], strict=False)
    beside = {lr: words("page.bracketed", x=named(settings)) for lr, settings in pairs}
    data, rows = [], []
    # a line per method, with a star at its chosen rate
    for method, by_lr in cell.tuning.items():
        name = base if method == "base" else method
        losses = {lr: [run.outcome["validation"]["loss"] for run in runs]
                  for lr, runs in by_lr.items() if runs}  # fmt: skip
        if not losses:  # the user has tuned it
            continue
        means = {lr: short(statistics.fmean(values)) for lr, values in losses.items()}
        picked = [lr == chosen.get(method) for lr in means]
        # rates that were left on the way were tried on fewer seeds
        most = max(map(len, losses.values()))
        colour, symbol, dash = style(arm_of(cell, name), cell)
        full = symbol.removesuffix("-open")
        symbols = ["star" if p else full if len(values) == most else f"{full}-open"
                   for p, values in zip(picked, losses.values(), strict=True)]  # fmt: skip
        data.append(
            {"type": "scatter", "mode": "lines+markers", "name": plain(name),
             "x": list(means), "y": list(means.values()), "line": {"color": colour, "dash": dash},
             "marker": {"color": colour, "size": [15 if p else 7 for p in picked],
                        "symbol": symbols},
             "hovertemplate": "%{x:.4g}: %{y:.4g}<extra>" + plain(name) + "</extra>"}
        )  # fmt: skip
        rows += [[name, f"{lr:.4g}{beside.get(lr, '')}", number(mean),
                  ", ".join(map(number, losses[lr])),
                  words("chart.chosen") if lr == chosen.get(method) else ""]
                 for lr, mean in means.items()]  # fmt: skip
    rates = sorted(rates_tried["tried"])
    layout = {"xaxis": {"type": "log", "title": {"text": words("chart.lr")}, "tickvals": rates,
                        "ticktext": [f"{lr:.2g}" for lr in rates]},
              "yaxis": {"title": {"text": words("chart.tuning_loss")}}, "height": 400}  # fmt: skip
    views = [{"label": "", "data": data, "layout": layout}]
    columns = ("method", "lr", "mean", "by_seed", "chosen")
    behind = [{"method": row[0], "phase": "tune"} for row in rows]
    return chart(
        "tuning", words, views, columns, rows, behind, text=f"tuning{cell.made}", base=base
    )


def rates(cells: Sequence[Cell], words: Words) -> Chart | None:
    """Validation results by learning rate, for each setting that ran at several rates."""
    views: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    behind: list[Behind] = []
    groups = _groups(cells)
    for label, own in _labelled(groups, words):
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
        if len(views) < MOST:
            views.append(_view(label, by_name, best, words))
        rows += _rows(label, best, own[0].arms[0].name)
        behind += [{"cell": p.cell.index, "method": name} for name, p in best.items()]
    if not views:
        return None
    columns = ("setting", "method", "best_lr", "validation", "value", "best_minus_base", "interval")
    made = chart("rates", words, views, columns, rows, behind, base=bases(cells))
    if len(groups) > MOST:
        made["read"] += " " + words("read.rates_limit", n=MOST)
    return made


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Groups of comparisons that differ only in the learning rate, with at least two rates."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        settings = cell.result["settings"]
        if settings["lr"] is not None:
            others = {name: value for name, value in settings.items() if name != "lr"}
            found.setdefault(repr(others), []).append(cell)
    return [own for own in found.values() if len({c.result["settings"]["lr"] for c in own}) > 1]


def _labelled(groups: list[list[Cell]], words: Words) -> list[tuple[str, list[Cell]]]:
    """The groups, each labelled with the settings in which groups differ."""
    settings = [own[0].result["settings"] for own in groups]
    names = [name for name in (settings[0] if settings else ()) if name != "lr"]
    axes = [n for n in names if len({str(each[n]) for each in settings}) > 1] or ["task"]
    labels = [
        words("page.comma").join(f"{words.either(f'axis.{n}', n)} {setting(each[n])}"
                  for n in axes if each[n] is not None)
        for each in settings
    ]  # fmt: skip
    return list(zip(labels, groups, strict=True))


def _ends(arm: Arm) -> list[float]:
    """Validation values at the end by seed; a diverged run has a constant prediction's."""
    values = [run.outcome["validation"].get("metric") for run in arm.final if run is not None]
    return [value for value in values if value is not None]


def _view(
    label: str, by_name: dict[str, list[Place]], best: dict[str, Place], words: Words
) -> dict[str, Any]:
    data = []
    for name, places in by_name.items():
        places = sorted(places, key=lambda p: p.arm.row["lr"] or 0.0)
        cell = places[0].cell
        bands = [[cell.scale * v for v in band(_ends(p.arm))] for p in places]
        picked = [p is best[name] for p in places]
        colour, symbol, dash = style(places[0].arm, cell)
        data.append(
            {"type": "scatter", "mode": "lines+markers", "name": plain(name),
             "x": [short(p.arm.row["lr"] or 0.0) for p in places],
             "y": [short(mean) for mean, _, _ in bands],
             "error_y": {"array": [short(high - mean) for mean, _, high in bands],
                         "color": colour, "thickness": 1, "width": 3},
             "line": {"color": colour, "dash": dash},
             "marker": {"color": colour, "size": [15 if p else 7 for p in picked],
                        "symbol": ["star" if p else symbol for p in picked]},
             "hovertemplate": "%{x:.4g}: %{y:.4g}<extra>" + plain(name) + "</extra>"}
        )  # fmt: skip
    first = next(iter(best.values())).cell
    # a tick at every rate that ran
    rates = sorted({p.cell.result["settings"]["lr"] for own in by_name.values() for p in own})
    layout = {
        "xaxis": {"type": "log", "title": {"text": words("chart.lr")}, "tickvals": rates,
                  "ticktext": [f"{lr:.2g}" for lr in rates]},
        "yaxis": {"title": {"text": plain(metric_name(first, words))}}, "height": 420,
    }  # fmt: skip
    return {"label": label, "data": data, "layout": layout}


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
