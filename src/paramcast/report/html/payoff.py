"""The section on key figures and return on investment: what `paramcast roi` counts, on the page."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ...errors import ParamcastError, StudyError
from ..roi import Inputs, defaults, summary
from ..roi.rows import joined
from .load import Stored
from .marks import NONE
from .payoff_charts import distribution, figure, tornado, value_of
from .words import Words

TERMS = ("investment", "benefit", "transferred", "monitoring", "added", "failures", "net", "npv",
         "roi", "payback")  # fmt: skip


def section(stored: Stored, words: Words, inputs: Inputs | None) -> dict[str, Any] | None:
    """What the page shows of money; None for a study, or where no method was judged.

    Args:
        stored: a folder's files.
        words: the language.
        inputs: the user's; None for the defaults, with which a mistake is told in the page.

    Raises:
        StudyError: inputs of the user's that do not fit.
    """
    if stored.kind == "study" or not stored.result["verdicts"]:
        if inputs is not None:
            raise StudyError(
                f"--inputs counts the return of a judged method, and {stored.folder} judges none; "
                "give the folder of a pilot with a predictor, or leave --inputs out"
            )
        return None
    try:
        result = copy.deepcopy(stored.result)
        runs = [(run.spec, run.outcome) for run in stored.runs]
        found = summary(joined(result, runs, stored.folder), inputs or defaults())
    except ParamcastError as error:
        if inputs is not None:
            raise
        return {"reason": words.said(str(error)), "methods": [], "charts": []}
    methods = [
        _method(i, name, method, found, words)
        for i, (name, method) in enumerate(found["methods"].items())
    ]
    draws = found["draws"]
    cases = [case for method in methods for case in method["cases"]]
    return {
        "reason": "",
        "methods": methods,
        "charts": [each for case in cases for each in case["charts"]],
        "inputs": _inputs(found, words),
        "formulas": [
            (words.either(f"formula_name.{name}", name), words(f"formula.{name}"))
            for name in found["formulas"]
        ],
        "notes": [
            words("payoff.draws", count=figure(draws["count"]), seed=draws["seed"],
                  hours=figure(found["pilot"]["hours"])),
            *(words.said(note) for note in found["notes"]),
        ],
    }  # fmt: skip


def _method(
    i: int, name: str, method: Mapping[str, Any], found: Mapping[str, Any], words: Words
) -> dict[str, Any]:
    return {
        "name": name,
        "sentence": sentence(name, method, words),
        "kpis": {
            "head": [words(f"payoff.{key}") for key in ("figure", "value", "interval", "unit")],
            "rows": [_kpi(row, name, method, found, words) for row in method["kpis"]],
        },
        "cases": [
            _case(f"{key}-{i}", key, case, found["currency"], words)
            for key, case in method["cases"].items()
        ],
        "notes": [words.said(note) for note in method["notes"]],
    }


def sentence(name: str, method: Mapping[str, Any], words: Words) -> str:
    """The pilot's verdict and what is counted of it, first of all."""
    cases = method["cases"]
    kinds = words("payoff.and").join(
        words("payoff.kind", verdict=words.either(f"kind.{case['verdict']}", case["verdict"]),
              about=words(f"page.{key}"))
        for key, case in cases.items()
    )  # fmt: skip
    paid = [words(f"payoff.{key}") for key, case in cases.items() if case["applies"]]
    if not paid:
        return words("payoff.no_return", method=name, kinds=kinds)
    both = words("payoff.never_added") if len(paid) > 1 else ""
    counted = words("payoff.and").join(paid)
    return words("payoff.counted", method=name, kinds=kinds, counted=counted, both=both)


def _kpi(
    row: Mapping[str, Any],
    name: str,
    method: Mapping[str, Any],
    found: Mapping[str, Any],
    words: Words,
) -> list[str]:
    label = words(
        f"kpi.{row['key']}", method=name, base=method["base"], alternative=method["alternative"],
        positive=found["positive_class"],
    )  # fmt: skip
    if row["reason"]:
        return [label, words.said(row["reason"]), NONE, _unit(row["unit"], words)]
    between = words("payoff.range", low=figure(row["low"]), high=figure(row["high"]))
    return [label, figure(row["value"]), between, _unit(row["unit"], words)]


def _unit(unit: str, words: Words) -> str:
    """A unit such as "EUR/month": each part in the language, as far as it is a word."""
    whole = words.either(f"unit.{unit}", "")
    return whole or "/".join(words.either(f"unit.{part}", part) for part in unit.split("/"))


def _case(
    place: str, key: str, case: Mapping[str, Any], currency: str, words: Words
) -> dict[str, Any]:
    e, unit = case["effect"], _unit(case["effect"]["unit"], words)
    verdict = words.either(f"kind.{case['verdict']}", case["verdict"])
    question, over = words(f"payoff.{key}").capitalize(), words.said(case["alternative"])
    lines = [
        words("payoff.effect", effect=_interval(e, e["factor"], words), unit=unit, n=e["n"],
              counted=figure(e["factor"] * case["counted_effect"])),
        _pays(case, unit, currency, words),
        _break_even(case, unit, words),
    ]  # fmt: skip
    return {
        "title": words("payoff.case", question=question, over=over, verdict=verdict),
        "lines": lines,
        "terms": _terms(case, currency, words),
        "charts": [
            distribution(f"distribution-{place}", case, currency, words),
            tornado(f"tornado-{place}", case, currency, words),
        ] if case["applies"] else [],
    }  # fmt: skip


def _interval(effect: Mapping[str, Any], factor: float, words: Words) -> str:
    mean, low, high = (figure(factor * effect[part]) for part in ("mean", "low", "high"))
    return f"{mean} ({words('payoff.range', low=low, high=high)})"


def _pays(case: Mapping[str, Any], unit: str, currency: str, words: Words) -> str:
    if case["applies"]:
        return words("payoff.probability", share=f"{100 * case['probability']:.0f}")
    free = case["free_alternative"]
    told = words("payoff.free", name=words.said(free["name"]), npv=figure(free["npv"]),
                 currency=currency)  # fmt: skip
    if free["effect"]:
        effect = _interval(free["effect"], case["effect"]["factor"], words)
        told += words("payoff.free_effect", effect=effect, unit=unit)
    return told


def _break_even(case: Mapping[str, Any], unit: str, words: Words) -> str:
    needed, volume = case["break_even"]["effect"], case["break_even"]["volume"]
    if needed is None:
        return words("payoff.never_even")
    effect = f"{figure(case['effect']['factor'] * needed)} {unit}"
    if volume is None:
        return words("payoff.break_even", effect=effect)
    key = f"payoff.{volume['side'].replace(' ', '_')}"
    trainings = words(key, n=figure(volume["trainings_per_month"]))
    return words("payoff.break_even_volume", effect=effect, volume=trainings)


def _terms(case: Mapping[str, Any], currency: str, words: Words) -> dict[str, Any]:
    """I0, what N consists of, and what follows; with ranges where a return is counted."""
    spread, rows = case.get("distribution"), []
    for key in TERMS:
        row = [words(f"term.{key}"), value_of(case["at_value"][key], words)]
        of = (spread or {}).get(key)
        if of is not None:
            low, high = (value_of(of[end], words) for end in ("low", "high"))
            row += [value_of(of["median"], words), words("payoff.range", low=low, high=high)]
        elif spread is not None:
            row += ["", ""]
        rows.append(row)
    if spread is None:
        return {"head": [currency, words("payoff.at_zero")], "rows": rows}
    heads = [words(f"payoff.{key}") for key in ("at_value", "median", "draws_range")]
    return {"head": [currency, *heads], "rows": rows}


def _inputs(found: Mapping[str, Any], words: Words) -> dict[str, Any]:
    heads = ("key", "input", "value", "interval", "unit", "source")
    rows = [
        [key, words(f"input.{key}"), figure(each["value"]),
         words("payoff.range", low=figure(each["low"]), high=figure(each["high"])),
         _unit(each["unit"], words),
         words("payoff.default" if each["default"] else "payoff.yours")]
        for key, each in found["inputs"].items()
    ]  # fmt: skip
    return {"head": [words(f"payoff.{key}") for key in heads], "rows": rows}
