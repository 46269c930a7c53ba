"""The return in words, for the terminal and the report: five lines and a table per method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...study.judging.sentences import advice
from ...study.judging.verdict import INSTEAD
from ...study.words import Words

Found = Mapping[str, Any]
FIRST = "training_hours", "trainings_per_month", "price_per_compute_hour", "value_per_point"
"""The inputs that move a return most."""
NO_USE = {"noise", "backward"}
"""Advice on a control that nobody would use: it shows that a gain is noise."""
SHORTEN = {"shorten_base", "save_control", "save"}
"""Advice that counts on a schedule of 0.8 T."""
TERMS = (
    "investment", "transferred", "monitoring", "added", "failures", "net", "npv", "roi", "payback",
)  # fmt: skip


def number(value: float) -> str:
    """Format with three digits and thousands separators; the JSON of `paramcast roi` has all."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-12 else "0"


def lines(name: str, found: Found, words: Words) -> list[str]:
    """Five lines for a manager: verdict, free alternative, inputs, the pilot's cost, break-even.

    Args:
        name: the method.
        found: of `summary`.
        words: the language.
    """
    method, currency = found["methods"][name], found["currency"]
    cases, base = method["cases"], method["base"]
    paid = {key: case for key, case in cases.items() if case["applies"]}
    kinds = [_kind(key, case, base, words) for key, case in cases.items()]
    # of an alternative only what agrees with the verdict
    named = {key: case for key, case in cases.items() if _agrees(case)}
    if named:
        free = _joined(lambda case: words(
            "payoff.free_npv", name=_over(case, base, words),
            npv=f"{number(case['free_alternative']['npv'])} {currency}",
        ), named, words)  # fmt: skip
    else:
        free = words("payoff.free_none", base=base)
    # small pilots in minutes and without cents
    hours, cost = found["pilot"]["hours"], found["pilot"]["cost"]
    took = ("hours", hours) if hours >= 1 else ("minutes", 60 * hours)
    price = f"{number(cost)} {currency}" if cost >= 1 else words("payoff.little", currency=currency)
    return [
        words(
            "payoff.compared" if paid else "payoff.no_return", method=name, base=base,
            task=found["task"], n=seeds_of(method["seeds"], words),
            kinds=words("payoff.and").join(kinds),
        ),
        words("payoff.free", said=free, next=_next(name, cases, found, words)),
        _defaults(found, words),  # before what they decide
        words(
            "payoff.pilot", took=words(f"payoff.took_{took[0]}", n=number(took[1])),
            cost=price,
        ),
        _value_over(found, paid, words) if paid else _needed(name, found, words),
    ]  # fmt: skip


def seeds_of(questions: Mapping[str, Any], words: Words) -> str:
    """How many seeds each question was judged with, or one number where that is the same."""
    if len({*questions.values()}) == 1:
        return str(next(iter(questions.values())))
    return words("page.comma").join(
        words("facts.seeds_for", n=n, about=words(f"page.{key}")) for key, n in questions.items()
    )


def _agrees(case: Found) -> bool:
    """Whether the verdict counts on the alternative, too, so that its worth does not contradict."""
    answer = case["answer"]
    instead = answer.kind == INSTEAD and not NO_USE & {*answer.advice}
    return case["applies"] or instead or bool(SHORTEN & {*answer.advice})


def _joined(say: Callable[[Found], str], of: Found, words: Words) -> str:
    """Say something of each case, with its name if there are two: they are never added."""
    if len(of) == 1:
        return say(*of.values())
    named = [words("payoff.of", said=say(c), about=words(f"page.{k}")) for k, c in of.items()]
    return words("payoff.and").join(named)


def _value_over(found: Found, paid: Found, words: Words) -> str:
    """The net present value of each case that pays, its pay-back, and the gain that breaks even."""
    said = _joined(lambda case: words(
        "payoff.npv", npv=_between(case, found, words),
        payback=_months(case["at_value"]["payback"], words), even=_even(case, words),
    ), paid, words)  # fmt: skip
    months = number(found["inputs"]["horizon_months"]["value"])
    return words("payoff.value_over", months=months, said=said)


def _even(case: Found, words: Words) -> str:
    """The gain at which a case breaks even, beside the one that was measured."""
    effect, needed = case["effect"], case["break_even"]
    if needed is None:
        return words("payoff.pays_never")
    measured = _gain(effect, effect["mean"], words)
    return words("payoff.pays_from", needed=_gain(effect, needed, words), measured=measured)


def _gain(effect: Found, value: float, words: Words) -> str:
    """An effect in the unit in which it is shown."""
    return f"{number(effect['factor'] * value)} {unit(effect['unit'], words)}"


def _needed(name: str, found: Found, words: Words) -> str:
    """Without a return: what the method would cost, and the gain that would pay for it."""
    case, currency = found["methods"][name]["cases"]["quality"], found["currency"]
    cost = {
        "method": name,
        "once": f"{number(case['at_value']['investment'])} {currency}",
        "running": f"{number(case['at_value']['running'])} {currency}",
    }
    needed = case["break_even"]
    if needed is None:
        return words("payoff.never_even", **cost)
    return words("payoff.would_need", needed=_gain(case["effect"], needed, words), **cost)


def _between(case: Found, found: Found, words: Words) -> str:
    value, low, high = (number(case[at]["npv"]) for at in ("at_value", "at_low", "at_high"))
    return words("payoff.between", value=f"{value} {found['currency']}", low=low, high=high)


def _defaults(found: Found, words: Words) -> str:
    """How many inputs are defaults, and which of the four that matter most."""
    inputs = found["inputs"]
    # the four that matter most are named in words, others by their keys
    left = [key for key, each in inputs.items() if each["default"]]
    if not left:
        return words("payoff.all_yours")
    first = [words(f"payoff.{key}") for key in FIRST if key in left]
    names = words("page.comma").join(first or left)
    key = "payoff.defaults" if first else "payoff.defaults_left"
    return words(key, n=len(left), all=len(inputs), names=names)


def _kind(key: str, case: Found, base: str, words: Words) -> str:
    verdict = words(f"kind.{case['verdict']}")
    kind = words("payoff.kind", about=words(f"page.{key}"), verdict=verdict)
    return (
        words("payoff.over", kind=kind, over=_over(case, base, words)) if case["applies"] else kind
    )


def _over(case: Found, base: str, words: Words) -> str:
    """The name of the best free alternative, and whether it has 0.8 T."""
    name, shortened = case["alternative"]["name"], case["alternative"]["shortened"]
    if shortened:
        return words("payoff.early", name=name)
    return words("payoff.as_it_is", name=name) if name == base else str(name)


def _months(payback: float | str, words: Words) -> str:
    if isinstance(payback, str):
        return words("payoff.never")
    return words("payoff.months", n=number(payback))


def _next(name: str, cases: Found, found: Found, words: Words) -> str:
    """The pilot's advice on each case that applies, or else on both; each command once.

    What is better but costs more than it brings is not advised.
    """
    paid = [case for case in cases.values() if case["applies"]]
    if paid and all(case["at_value"]["npv"] < 0 for case in paid):
        return words("payoff.not_worth", method=name, base=found["methods"][name]["base"])
    answers = [case["answer"] for case in paid or cases.values()]
    said = [advice(answer, found["metric"], words) for answer in answers]
    said += [answer.extension.command for answer in answers if answer.extension is not None]
    return words("page.space").join(dict.fromkeys(said))


def table(name: str, found: Found, words: Words) -> dict[str, list[Any]]:
    """The head and rows: the key figures, then each case's terms and where it breaks even."""
    method = found["methods"][name]
    rows = [_kpi(row, name, method, found, words) for row in method["kpis"]]
    for key, case in method["cases"].items():
        rows += _case(key, case, method["base"], found["currency"], words)
    heads = ("figure", "value", "low", "high", "unit")
    return {"head": [words(f"payoff.{key}") for key in heads], "rows": rows}


def _kpi(row: Found, name: str, method: Found, found: Found, words: Words) -> list[str]:
    label = words(
        f"kpi.{row['key']}", method=name, base=method["base"], alternative=method["alternative"],
        positive=found["positive_class"],
    )  # fmt: skip
    if row["reason"]:
        values = [words(f"no_kpi.{row['reason']}", base=method["base"]), "", ""]
    else:
        values = [number(row[at]) for at in ("value", "low", "high")]
    return [label, *values, unit(row["unit"], words)]


def _case(key: str, case: Found, base: str, currency: str, words: Words) -> list[list[str]]:
    effect, measured = case["effect"], unit(case["effect"]["unit"], words)
    verdict = words(f"kind.{case['verdict']}")
    question, over = words(f"payoff.{key}"), _over(case, base, words)
    title = words("payoff.case", question=question, over=over, verdict=verdict)
    # title, measured effect, then each term at the inputs, the worst and the best ends
    values = [number(effect["factor"] * effect[at]) for at in ("mean", "low", "high")]
    units = {
        "roi": "",
        "payback": words("unit.months"),
        **dict.fromkeys(("investment", "npv"), currency),
    }
    monthly, even = unit(f"{currency}/month", words), case["break_even"]
    even = "never" if even is None else effect["factor"] * even
    return [
        [title, "", words("payoff.worse"), words("payoff.better"), ""],
        [words(f"payoff.{'measured' if case['applies'] else 'measured_zero'}"), *values, measured],
        *(
            [words(f"term.{term}"),
             *(_value(case[at][term], words) for at in ("at_value", "at_low", "at_high")),
             units.get(term, monthly)]
            for term in TERMS
        ),
        [words("payoff.even_effect"), _value(even, words), "", "", measured],
    ]  # fmt: skip


def _value(value: float | str | None, words: Words) -> str:
    if value is None:
        return words("payoff.undefined")
    return words("payoff.never") if isinstance(value, str) else number(value)


def notes(found: Found, words: Words) -> list[str]:
    """Notes on what the figures do not cover."""
    left = [key for key, each in found["inputs"].items() if each["default"]]
    told = [words("payoff.transfer")]
    if 0 < len(left) < len(found["inputs"]):  # all at their defaults is the fifth line
        told.append(words("payoff.left", names=words("page.comma").join(left)))
    for name, method in found["methods"].items():
        case = method["cases"]["quality"]
        # an interval that holds 0 was counted as 0
        low, high = (100 * case["added_share"][end] for end in ("low", "high"))
        if case["too_short"]:
            told.append(words("payoff.too_short", method=name, base=method["base"]))
        elif low <= 0 <= high and low < high:
            over = case["alternative"]["name"]
            told.append(words(
                "payoff.no_time", method=name, over=over, low=f"{low:+.3g}", high=f"{high:+.3g}"
            ))  # fmt: skip
    return list(dict.fromkeys(told))


def unit(text: str, words: Words) -> str:
    """A unit such as "EUR/month", with the parts that the catalogue knows translated."""
    whole = words.either(f"unit.{text}", "")
    return whole or "/".join(words.either(f"unit.{part}", part) for part in text.split("/"))
