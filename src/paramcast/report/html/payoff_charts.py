"""The charts of a return: what it may be, and what it depends on most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ..roi.terminal import number
from .marks import NONE, Chart, chart, filled, plain, short
from .words import Words

SHOWN = ("npv", "net", "roi", "payback")
BELOW, ABOVE = "$c1", "$c0"


def figure(value: float) -> str:
    """A number in three digits; the JSON of `paramcast roi` has all."""
    return number(value if abs(value) >= 999.5 else float(f"{value:.3g}"))


def value_of(value: Any, words: Words) -> str:
    """A figure in words: a number, "never" or, for None, "not defined"."""
    if value is None:
        return words("payoff.undefined")
    return words("payoff.never") if value == "never" else figure(value)


def distribution(place: str, case: Mapping[str, Any], currency: str, words: Words) -> Chart:
    """Histograms of the draws, what is lost in another colour than what is won."""
    views, rows = [], []
    for key in SHOWN:
        of = case["distribution"][key]
        if of is None or not of["histogram"]["edges"]:
            continue
        edges, shares = of["histogram"]["edges"], of["histogram"]["shares"]
        middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        name, unit = words(f"quantity.{key}"), _unit_of(key, currency, words)
        bars = list(zip(middles, shares, strict=True))
        below = [bar for bar in bars if key != "payback" and bar[0] < 0]
        above = bars[len(below) :]
        data = [
            {"type": "bar", "x": [short(x) for x, _ in part],
             "y": [round(100 * y, 3) for _, y in part], "width": short(edges[1] - edges[0]),
             "marker": filled(colour, shape), "showlegend": False,
             "hovertemplate": "%{x:.4g}: %{y:.2f} %<extra></extra>"}
            for part, colour, shape in ((below, BELOW, "/"), (above, ABOVE, ""))
        ]  # fmt: skip
        layout = {
            "xaxis": {"title": {"text": plain(f"{name}{unit}")}, "zeroline": key != "payback"},
            "yaxis": {"title": {"text": words("payoff.share")}},
            "barmode": "overlay", "height": 320,
        }  # fmt: skip
        views.append({"label": name, "data": data, "layout": layout})
        low, median, high = (value_of(of[end], words) for end in ("low", "median", "high"))
        rows.append([f"{name}{unit}", median, words("payoff.range", low=low, high=high),
                     f"{100 * of['never']:.1f} %" if key == "payback" else NONE])  # fmt: skip
    share = f"{100 * case['probability']:.0f}"
    made = chart("distribution", words, views, (), rows, share=share)
    heads = ("what", "median", "draws_range", "share_never")
    made["table"]["head"] = [words(f"payoff.{key}") for key in heads]
    return {**made, "id": place}


def _unit_of(key: str, currency: str, words: Words) -> str:
    return {"npv": f", {currency}", "net": f", {currency}", "roi": ""}.get(
        key, f", {words('unit.months')}"
    )


def tornado(place: str, case: Mapping[str, Any], currency: str, words: Words) -> Chart:
    """For each input, the NPV with it at low and at high; the widest on top."""
    bars = [bar for bar in case["tornado"] if bar["swing"] > 0]
    middle, factor = case["at_value"]["npv"], case["effect"]["factor"]
    names = [words(f"input.{bar['input']}") for bar in bars]
    ends = [
        [figure((factor if bar["input"] == "effect" else 1) * bar[end]) for end in ("low", "high")]
        for bar in bars
    ]
    data = [
        {
            "type": "bar", "orientation": "h", "name": words(f"payoff.at_{end}"),
            "y": [plain(name) for name in names], "base": short(middle),
            "x": [short(bar[f"npv_at_{end}"] - middle) for bar in bars],
            "customdata": [[own[k], figure(bar[f"npv_at_{end}"])]
                           for own, bar in zip(ends, bars, strict=True)],
            "marker": filled(colour, shape),
            "hovertemplate": "%{y} = %{customdata[0]}: %{customdata[1]}<extra></extra>",
        }
        for k, (end, colour, shape) in enumerate((("low", BELOW, "/"), ("high", ABOVE, "")))
    ]  # fmt: skip
    axis = plain(f"{words('term.npv')}, {currency}")
    layout = {
        "barmode": "overlay", "height": 120 + 24 * len(bars),
        "xaxis": {"title": {"text": axis}, "zeroline": True},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
    }  # fmt: skip
    rows = [
        [name, *own, figure(bar["npv_at_low"]), figure(bar["npv_at_high"]), figure(bar["swing"])]
        for name, own, bar in zip(names, ends, bars, strict=True)
    ]
    views = [{"label": "", "data": data, "layout": layout}]
    made = chart("tornado", words, views, (), rows, npv=f"{figure(middle)} {currency}")
    heads = ("input", "at_low", "at_high", "npv_low", "npv_high", "swing")
    made["table"]["head"] = [words(f"payoff.{key}") for key in heads]
    return {**made, "id": place}
