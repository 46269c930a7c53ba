"""A pilot and the user's inputs, put together: key figures, return, break-even, as strict JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import StudyError
from ...study.reading import as_written
from ...study.verdict import ADOPT, EARLY, FASTER, Metric
from . import money
from .effects import Effect, added_share, best_quality, cheapest_speed, gain, saved_share
from .inputs import Inputs
from .kpis import kpis
from .rows import AGAIN, REFERENCE, RESULT, Row, alternatives, row_of

DRAWS, SEED, BINS = 10_000, 0, 40
SHOWN = ("net", "npv", "roi", "payback")
DISTRIBUTIONS = {
    "inputs": "independent triangles from low to high with the peak at value; horizon_months "
    "rounded to whole months; critical trainings never more than trainings",
    "effect": "mean + t(n - 1) x standard error of the paired differences",
    "interval": "95 %: quantiles 2.5 % and 97.5 % of the draws, and the median",
}


@dataclass(frozen=True)
class Case:
    """One of the two ways in which a method may pay, for one method.

    Attributes:
        question: "same steps, better model" or "fewer steps, same model".
        verdict: the pilot's kind of answer to it.
        applies: whether that answer lets a return be counted.
        alternative: the best free one, in words.
        effect: over it; a gain of the metric, or the share of training time saved.
        unit, factor: the unit in which the effect is shown, and how many of it are 1.
        added: further seconds over it, as a share; None where they are in the effect.
        terms: inputs, effect, added share -> what follows.
        free: what the free alternative itself is worth, over the base as it is.
    """

    question: str
    verdict: str
    applies: bool
    alternative: str
    effect: Effect
    unit: str
    factor: int
    added: Effect | None
    terms: Callable[[money.Values, Any, Any], money.Terms]
    free: dict[str, Any]


def summary(result: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Key figures and return on investment of every method that the pilot judged.

    Args:
        result: of `read`.
        inputs: of `defaults` or `open_inputs`.

    Returns:
        Strict JSON. Per method a sentence, the key figures, and the two cases; a case that applies
        has distributions, a probability and a tornado, one that does not has the value at effect 0
        beside that of the free alternative.

    Raises:
        StudyError: inputs that do not fit the task, a missing control, a result without runs.
    """
    if "pilot_hours" not in result:
        raise StudyError("the result has no runs; open the folder with paramcast.report.roi.read")
    with as_written(RESULT, AGAIN):
        return _summary(result, inputs)


def _summary(result: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    metric = Metric(**result["metric"])
    if "cost_per_error" in inputs.estimates and not metric.counts_errors:
        raise StudyError(
            f"cost_per_error needs the metric accuracy, this pilot's is {metric.name}; "
            "give value_per_point, the value of one unit of it"
        )
    hours = result["pilot_hours"]
    return {
        "schema": 1,
        "task": result["task"],
        "metric": result["metric"],
        "seeds": result["seeds"],
        "currency": inputs.currency,
        "positive_class": inputs.positive_class,
        "inputs": {
            key: {**e.model_dump(), "unit": inputs.unit(key), "default": key not in inputs.given}
            for key, e in inputs.estimates.items()
        },
        "pilot": {
            "hours": hours,
            "cost": hours * float(money.hour_price(inputs.at_value())),
            "command": result["command"],
            "out": result["out"],
        },
        "draws": {"count": DRAWS, "seed": SEED, **DISTRIBUTIONS},
        "formulas": money.FORMULAS,
        "methods": {name: _method(result, name, metric, inputs) for name in result["verdicts"]},
        "notes": _notes(inputs),
    }


def _method(result: dict[str, Any], name: str, metric: Metric, inputs: Inputs) -> dict[str, Any]:
    row, free = row_of(result, name), alternatives(result, name)
    best, base = best_quality(free, metric), free[0]
    cases = {"quality": _quality_case(result, row, best, base, metric)}
    if "speed" in result["verdicts"][name] and row["early_values"]:
        cases["speed"] = _speed_case(result, row, free, metric)
    return {
        "sentence": _sentence(name, cases),
        "pays_possible": any(case.applies for case in cases.values()),
        "base": base["method"],
        "alternative": best["method"],
        "kpis": kpis(row, base, best, metric, inputs),
        "cases": {key: _case(case, inputs) for key, case in cases.items()},
        "notes": _reference_note(result, best, metric),
    }


def _quality_case(result: dict[str, Any], row: Row, best: Row, base: Row, metric: Metric) -> Case:
    verdict = result["verdicts"][row["method"]]["quality"]["kind"]
    hours, percent = result["pilot_hours"], metric.percent
    over_base = gain(best, base, metric) if best is not base else None
    own = added_share(best, base, base).shown if best is not base else 0.0

    def free(x: money.Values) -> Any:
        """The alternative over the base, as far as it is shown: nothing to build or to watch, its
        own seconds charged."""
        if over_base is None:
            return 0.0
        benefit = x["transfer"] * over_base.shown * money.unit_value(x, percent=percent)
        added = x["training_hours"] * max(0.0, own) * money.delay_price(x)
        return (benefit - added) * money.annuity(x["discount_rate"], x["horizon_months"])

    return Case(
        "same steps, better model",
        verdict,
        verdict == ADOPT,
        best["method"] if best is not base else f"{base['method']} as it is",
        gain(row, best, metric),
        "points" if percent else metric.name,
        100 if percent else 1,
        added_share(row, best, base),
        lambda x, effect, added: money.quality(x, effect, added, hours, percent=percent),
        {"npv": free, "effect": over_base},
    )


def _speed_case(result: dict[str, Any], row: Row, rows: list[Row], metric: Metric) -> Case:
    verdict = result["verdicts"][row["method"]]["speed"]["kind"]
    base, hours = rows[0], result["pilot_hours"]
    best, shortened = cheapest_speed(rows, metric, result["confidence"])
    steps = result["early_steps"] / result["steps"]
    over_base = saved_share(best, base, False, base, steps) if shortened else None

    def free(x: money.Values) -> Any:
        if over_base is None:
            return 0.0
        saved = x["training_hours"] * over_base.shown * money.delay_price(x)
        return x["transfer"] * saved * money.annuity(x["discount_rate"], x["horizon_months"])

    return Case(
        "fewer steps, same model",
        verdict,
        verdict == FASTER,
        f"{best['method']} with {EARLY} T" if shortened else f"{base['method']} with T",
        saved_share(row, best, shortened, base, steps),
        "% of the training time",
        100,
        None,
        lambda x, effect, _: money.speed(x, effect, hours),
        {"npv": free, "effect": over_base},
    )


def _case(case: Case, inputs: Inputs) -> dict[str, Any]:
    x = inputs.at_value()
    added = case.added.mean if case.added else 0.0
    mean = case.effect.mean if case.applies else 0.0
    found: dict[str, Any] = {
        "question": case.question,
        "verdict": case.verdict,
        "applies": case.applies,
        "alternative": case.alternative,
        "effect": {"unit": case.unit, "factor": case.factor, **case.effect.stored()},
        "added_share": case.added.stored() if case.added else None,
        "counted_effect": mean,
        "at_value": _plain(case.terms(x, mean, added)),
        "free_alternative": {
            "name": case.alternative,
            "npv": float(case.free["npv"](x)),
            "effect": case.free["effect"].stored() if case.free["effect"] else None,
        },
        "break_even": _break_even(case, x, mean, added),
    }
    if case.applies:
        drawn = draw(case, inputs)
        found["distribution"] = {
            name: _spread(getattr(drawn, name), endless=name == "payback") for name in SHOWN
        }
        found["probability"] = float(np.mean(drawn.npv > 0))
        found["tornado"] = _tornado(case, inputs)
    return found


def draw(case: Case, inputs: Inputs, count: int = DRAWS, seed: int = SEED) -> money.Terms:
    """The terms of a case with its effect and all inputs drawn."""
    generator = np.random.default_rng(seed)
    effect = case.effect.draw(generator, count)
    added = case.added.draw(generator, count) if case.added else 0.0
    x = {
        key: generator.triangular(e.low, e.value, e.high, count)
        if e.low < e.high
        else np.full(count, e.value)
        for key, e in inputs.estimates.items()
    }
    x["horizon_months"] = np.round(x["horizon_months"])
    return case.terms(x, effect, added)


def _tornado(case: Case, inputs: Inputs) -> list[dict[str, Any]]:
    """The NPV with one input at low and at high, the others at value; the widest first."""
    x = inputs.at_value()
    added = case.added.mean if case.added else 0.0
    effect = case.effect

    def npv(key: str, value: float) -> float:
        changed = (x, value) if key == "effect" else ({**x, key: value}, effect.mean)
        return float(case.terms(*changed, added).npv)

    ranges = {key: (e.low, e.high) for key, e in inputs.estimates.items() if e.low < e.high}
    bars = []
    for key, (low, high) in {"effect": (effect.low, effect.high), **ranges}.items():
        at_low, at_high = npv(key, low), npv(key, high)
        ends = {"low": low, "high": high, "npv_at_low": at_low, "npv_at_high": at_high}
        bars.append({"input": key, **ends, "swing": abs(at_high - at_low)})
    return sorted(bars, key=lambda bar: -bar["swing"])


def _break_even(case: Case, x: money.Values, mean: float, added: float) -> dict[str, Any]:
    """The effect, and the trainings a month, that would make the NPV 0; the rest at value."""
    volume = None
    if case.applies:
        volume = money.break_even_volume(lambda values: case.terms(values, mean, added).npv, x)
    return {
        "effect": money.zero(lambda effect: case.terms(x, effect, added).npv),
        "volume": None if volume is None else {"side": volume[0], "trainings_per_month": volume[1]},
    }


def _plain(terms: money.Terms) -> dict[str, Any]:
    """Numbers as strict JSON: no pay-back is "never", a return on nothing None."""
    found = {name: float(value) for name, value in asdict(terms).items()}
    return {
        **found,
        "roi": found["roi"] if math.isfinite(found["roi"]) else None,
        "payback": found["payback"] if found["net"] > 0 else "never",
    }


def _spread(values: Any, *, endless: bool) -> dict[str, Any] | None:
    """Mean, median, 95 % range and histogram of draws; None where one is not defined.

    Args:
        values: the draws.
        endless: infinity means never, as for a pay-back; a quantile may be that, a mean not.
    """
    infinite = ~np.isfinite(values)
    if infinite.any() and not endless:
        return None
    low, median, high = np.quantile(values, (0.025, 0.5, 0.975), method="inverted_cdf")
    shown = {"low": low, "median": median, "high": high}
    found: dict[str, Any] = {k: float(v) if np.isfinite(v) else "never" for k, v in shown.items()}
    found["histogram"] = _histogram(values[~infinite], len(values))
    if endless:
        return {**found, "never": float(np.mean(infinite))}
    return {**found, "mean": float(np.mean(values))}


def _histogram(values: Any, count: int) -> dict[str, list[float]]:
    """The middle 99 % of the finite draws in bins, as shares of all draws."""
    if not len(values):
        return {"edges": [], "shares": []}
    ends = np.quantile(values, (0.005, 0.995), method="inverted_cdf")
    counts, edges = np.histogram(values, BINS, (float(ends[0]), float(ends[1])))
    return {"edges": edges.tolist(), "shares": (counts / count).tolist()}


def _sentence(name: str, cases: Mapping[str, Case]) -> str:
    kinds = " and ".join(f'"{case.verdict}" on {key}' for key, case in cases.items())
    paid = [case.question for case in cases.values() if case.applies]
    if not paid:
        return (
            f"{name}: the pilot's verdict is {kinds}, so there is no return to count. Below is "
            "what it would cost with no effect, beside what is free."
        )
    both = "; the two are never added" if len(paid) > 1 else ""
    return f"{name}: the pilot's verdict is {kinds}. Counted: {' and '.join(paid)}{both}."


def _reference_note(result: dict[str, Any], best: Row, metric: Metric) -> list[str]:
    """References are no free alternative by the protocol, but a better one is worth a look."""
    sign = 1 if metric.higher_is_better else -1
    return [
        f"{row['method']}, a reference, ended better than {best['method']} on average "
        f"({metric.value(row['mean'])} against {metric.value(best['mean'])}); it is not counted."
        for row in result["table"]
        if row["role"] == REFERENCE and sign * (row["mean"] - best["mean"]) > 0
    ]


def _notes(inputs: Inputs) -> list[str]:
    notes = [
        "The intervals cover other seeds, not other data; the pilot's effect is taken to "
        "production by the input transfer alone."
    ]
    left = [key for key in inputs.estimates if key not in inputs.given]
    if not inputs.given:
        notes.append(
            "All inputs are defaults, which know nothing of you: paramcast roi --template > "
            "roi.toml, fill it in, and give it with --inputs roi.toml."
        )
    elif left:
        notes.append(f"Left at their defaults: {', '.join(left)}.")
    return notes
