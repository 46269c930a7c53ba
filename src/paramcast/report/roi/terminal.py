"""Key figures and return on investment in the terminal."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...study.reading import printable

WIDTH, BAR = 110, 30
TERMS = (
    ("investment", "I0, once"),
    ("benefit", "benefit a month, as in the pilot"),
    ("transferred", "x transfer"),
    ("monitoring", "- monitoring"),
    ("added", "- added time and memory"),
    ("failures", "- failed trainings"),
    ("net", "= N, monthly net"),
    ("npv", "NPV"),
    ("roi", "ROI"),
    ("payback", "pay-back, months"),
)


def render(found: dict[str, Any]) -> str:
    """A summary as text for standard output, in colour on a terminal."""
    found = _printable(found)
    console = Console(file=sys.__stdout__)
    if not console.is_terminal:
        console = Console(file=sys.__stdout__, width=WIDTH + 10)
    with console.capture() as captured:
        show(found, console)
    return captured.get()


def _printable(value: Any) -> Any:
    """The summary without characters that a terminal acts on: names come from a file."""
    if isinstance(value, dict):
        return {key: _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def show(found: dict[str, Any], console: Console) -> None:
    """Print a summary: per method the sentence first, then figures, cases, and the formulas."""
    for method in found["methods"].values():
        _say(console, method["sentence"], style="bold")
        console.print()
        console.print(_kpis(method["kpis"]))
        for case in method["cases"].values():
            _case(console, case, found["currency"])
        for note in method["notes"]:
            _say(console, note)
        console.print()
    _footer(console, found)


def _kpis(rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        (
            row["label"],
            row["reason"] or number(row["value"]),
            "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            row["unit"],
        )
        for row in rows
    ]
    return _table(("key figure", "value", "interval", "unit"), cells)


def _case(console: Console, case: dict[str, Any], currency: str) -> None:
    e = case["effect"]
    console.print()
    head = f"{case['question'].capitalize()}, over {case['alternative']}"
    _say(console, f"{head} (verdict: {case['verdict']})", style="bold")
    factor, unit = e["factor"], e["unit"]
    _say(
        console,
        f"Effect measured: {_interval(e, factor)} {unit}, n = {e['n']}; "
        f"counted: {number(factor * case['counted_effect'])}.",
    )
    console.print(_terms(case, currency))
    if not case["applies"]:
        free = case["free_alternative"]
        _say(
            console,
            f"Beside it, free: {free['name']}, NPV {number(free['npv'])} {currency}"
            + (
                f", from its effect of {_interval(free['effect'], factor)} {unit}."
                if free["effect"]
                else "."
            ),
        )
    else:
        _say(console, f"Probability that it pays (NPV > 0): {100 * case['probability']:.0f} %.")
    _say(console, _break_even(case))
    if case["applies"]:
        console.print(_tornado(case["tornado"], factor, currency))


def _terms(case: dict[str, Any], currency: str) -> Table:
    at, spread = case["at_value"], case.get("distribution")
    if spread is None:
        lines = [(label, number(at[key])) for key, label in TERMS]
        return _table((currency, "at effect 0"), lines)
    wide = [(label, number(at[key]), *_range(spread.get(key))) for key, label in TERMS]
    return _table((currency, "at value", "median", "95 % of draws"), wide)


def _range(spread: dict[str, Any] | None) -> tuple[str, str]:
    if spread is None:
        return "", ""
    return number(spread["median"]), f"{number(spread['low'])} to {number(spread['high'])}"


def _interval(effect: dict[str, Any], factor: int) -> str:
    mean, low, high = (number(factor * effect[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _break_even(case: dict[str, Any]) -> str:
    needed, volume = case["break_even"]["effect"], case["break_even"]["volume"]
    if needed is None:
        return "No effect breaks even: the transfer or the value is 0."
    effect = case["effect"]
    text = f"Break-even (NPV 0): an effect of {number(effect['factor'] * needed)} {effect['unit']}"
    if volume is not None:
        text += f", or {volume['side']} {number(volume['trainings_per_month'])} trainings a month"
    return f"{text}."


def _tornado(bars: Sequence[dict[str, Any]], factor: int, currency: str) -> Table:
    """One line per input that matters; `factor` turns the effect into its unit."""
    widest = bars[0]["swing"]
    cells = []
    for bar in bars:
        unit = factor if bar["input"] == "effect" else 1
        ends = f"{number(unit * bar['low'])} to {number(unit * bar['high'])}"
        values = number(bar["npv_at_low"]), number(bar["npv_at_high"])
        if bar["swing"] > 0:
            cells.append((bar["input"], ends, *values, "█" * round(BAR * bar["swing"] / widest)))
    table = _table(("input", "low to high", "NPV at low", "NPV at high", "swing"), cells)
    table.columns[-1].justify = "left"
    table.title = escape(f"What matters most (NPV, {currency})")
    table.title_justify = "left"
    return table


def _footer(console: Console, found: dict[str, Any]) -> None:
    cells = [
        (key, number(i["value"]), f"{number(i['low'])} to {number(i['high'])}", i["unit"])
        for key, i in found["inputs"].items()
    ]
    console.print(_table(("input", "value", "range", "unit"), cells))
    draws, pilot = found["draws"], found["pilot"]
    console.print()
    for name, formula in found["formulas"].items():
        _say(console, f"{name} = {formula}")
    _say(
        console,
        f"{draws['count']} draws, seed {draws['seed']}. Inputs: {draws['inputs']}. Effect: "
        f"{draws['effect']}. The pilot took {number(pilot['hours'])} compute hours.",
    )
    for note in found["notes"]:
        _say(console, note)


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(headings):
        table.add_column(escape(heading), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _say(console: Console, text: str, style: str | None = None) -> None:
    width = min(console.width, WIDTH)
    wrapped = textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)
    console.print(wrapped, style=style, highlight=False, markup=False, soft_wrap=True)


def number(value: Any) -> str:
    """Four digits, thousands apart."""
    if value is None:
        return "not defined"
    if isinstance(value, str):
        return value
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-12 else "0"
