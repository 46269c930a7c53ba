"""From a pilot and the user's inputs to key figures, return and break-even, as strict JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ...errors import StudyError
from ...study.judging.verdict import ADOPT, EARLY, FASTER, Metric, Verdict
from ...study.reading import as_written
from ...study.store.folder import RESULT
from ...study.stored import AGAIN
from . import money
from .effects import Effect, added_share, best_quality, cheapest_speed, gain, saved_share
from .inputs import Inputs
from .kpis import kpis
from .rows import REFERENCE, Row, alternatives, row_of

NOTHING = Effect(0.0, 0.0, 0.0, 0)
SHORTEST = 1.0
"""Seconds of a training below which its time says nothing about one of hours: what a method adds to
a step of microseconds is not what it adds to one of a real model."""


@dataclass(frozen=True)
class Case:
    """One of the two ways in which a method may pay, for one method.

    Attributes:
        verdict: the pilot's verdict on it.
        applies: whether that verdict allows a return to be counted.
        alternative: the best free alternative.
        shortened: whether the alternative has a schedule of 0.8 T.
        effect: over the alternative; a gain of the metric, or the share of training time saved.
        unit, factor: the unit in which the effect is shown, and how many such units are 1.
        added: further seconds over the alternative, as a share; 0 if the effect includes them.
        too_short: whether the base's trainings are over so soon that `added` says nothing about
            longer ones, and counts as 0.
        over_base: the alternative's own gain over the base as it is, in the effect's unit.
        terms: from inputs, `effect` and `added` to the terms.
        free: from inputs to the alternative's monthly worth over the base as it is.
    """

    verdict: Verdict
    applies: bool
    alternative: str
    shortened: bool
    effect: Effect
    unit: str
    factor: int
    added: Effect
    over_base: Effect | None
    terms: Callable[[money.Values], money.Terms]
    free: Callable[[money.Values], float]
    too_short: bool = False


def summary(result: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Key figures and return on investment of every method that the pilot judged.

    Args:
        result: of `read`.
        inputs: of `defaults` or `open_inputs`.

    Returns:
        What `to_json` writes: for each method the key figures and the two cases, each with its
        terms at the inputs' values, and at the worst and the best ends of all ranges. A case that
        does not apply has an effect of 0.

    Raises:
        StudyError: inputs do not fit the task, a control is missing, or the result has no runs.
    """
    if "pilot_hours" not in result:
        raise StudyError("the result has no runs; open the folder with paramcast.report.roi.read")
    with as_written(RESULT, AGAIN):
        return _summary(result, inputs)


def _summary(result: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    metric = result["metric"]
    # an error is one wrong prediction, which only accuracy counts
    if "cost_per_error" in inputs.estimates and not metric.counts_errors:
        raise StudyError(
            f"cost_per_error needs the metric accuracy, this pilot's is {metric.name}; "
            "give value_per_point, the value of one unit of it"
        )
    hours = result["pilot_hours"]
    return {
        "schema": 2,
        "task": result["task"],
        "metric": metric,
        "seeds": result["seeds"],
        "currency": inputs.currency,
        "positive_class": inputs.positive_class,
        "inputs": {
            key: {**e.model_dump(), "unit": inputs.unit(key), "default": key not in inputs.given}
            for key, e in inputs.estimates.items()
        },
        "pilot": {
            "hours": hours,
            "cost": hours * money.hour_price(inputs.at_value()),
            "command": result["command"],
            "out": result["out"],
        },
        "formulas": money.FORMULAS,
        "methods": {name: _method(result, name, metric, inputs) for name in result["verdicts"]},
    }


def _method(result: dict[str, Any], name: str, metric: Metric, inputs: Inputs) -> dict[str, Any]:
    row, free = row_of(result, name), alternatives(result, name)
    best, base = best_quality(free, metric), free[0]
    cases = {"quality": _quality_case(result, row, best, base, metric)}
    if "speed" in result["verdicts"][name] and row["early_values"]:
        cases["speed"] = _speed_case(result, row, free, metric)
    return {
        "base": base["method"],
        "alternative": best["method"],
        "seeds": {
            key: len(row["values"] if key == "quality" else row["early_values"]) for key in cases
        },
        "kpis": kpis(row, base, best, metric, inputs),
        "cases": {key: _case(case, inputs) for key, case in cases.items()},
        "better_references": _better_references(result, best, metric),
    }


def _quality_case(result: dict[str, Any], row: Row, best: Row, base: Row, metric: Metric) -> Case:
    verdict = result["verdicts"][row["method"]]["quality"]
    # quality: the alternative with the best mean, which may be the base itself
    hours, percent = result["pilot_hours"], metric.percent
    # the alternative's own gain, if it is not the base
    over_base = gain(best["values"], base["values"], metric) if best is not base else None
    own = added_share(best, base, base, paired=metric.paired).shown

    def free(x: money.Values) -> float:
        """No integration and no monitoring; only its own seconds are charged."""
        if over_base is None:
            return 0.0
        benefit = x["transfer"] * over_base.shown * money.unit_value(x, percent=percent)
        return benefit - x["training_hours"] * max(0.0, own) * money.delay_price(x)

    return Case(
        verdict, verdict.kind == ADOPT, best["method"], False,
        gain(row["values"], best["values"], metric),
        "points" if percent else metric.name, 100 if percent else 1,
        added_share(row, best, base, paired=metric.paired), over_base,
        lambda x: money.quality(x, hours, percent=percent), free,
        0 < fmean(base["runs"]["seconds"] or [0.0]) < SHORTEST,
    )  # fmt: skip


def _speed_case(result: dict[str, Any], row: Row, rows: list[Row], metric: Metric) -> Case:
    verdict = result["verdicts"][row["method"]]["speed"]
    base, hours = rows[0], result["pilot_hours"]
    # what reaches the base's result without the method, and with which schedule
    best, shortened = cheapest_speed(rows, metric, result["confidence"])
    told = result["early_steps"] and result["steps"]  # some trainings do not tell
    steps = result["early_steps"] / result["steps"] if told else EARLY
    over_base = saved_share(best, base, False, base, steps) if shortened else None

    def free(x: money.Values) -> float:
        if over_base is None:
            return 0.0
        return x["transfer"] * x["training_hours"] * over_base.shown * money.delay_price(x)

    return Case(
        verdict, verdict.kind == FASTER, best["method"], shortened,
        saved_share(row, best, shortened, base, steps), "% of the training time", 100,
        NOTHING, over_base, lambda x: money.speed(x, hours), free,
    )  # fmt: skip


def _case(case: Case, inputs: Inputs) -> dict[str, Any]:
    # without its verdict a measured effect counts as 0
    effect = case.effect if case.applies else NOTHING
    # seconds that may as well be none are the noise of a clock, or of the start of a training
    added = case.added if case.added.shown and not case.too_short else NOTHING
    x = {**inputs.at_value(), "effect": effect.mean, "added": added.mean}
    # the measured interval joins the inputs' ranges: low effect with high cost, and the reverse
    worse = {"effect": effect.low, "added": added.high}
    better = {"effect": effect.high, "added": added.low}

    def npv(x: money.Values) -> float:
        return case.terms(x).npv

    low = money.end(npv, x | worse, inputs.ranges(), min)
    high = money.end(npv, x | better, inputs.ranges(), max)
    volume = money.break_even_volume(npv, x) if case.applies else None
    return {
        "verdict": case.verdict.kind,
        "answer": case.verdict,
        "applies": case.applies,
        "alternative": {"name": case.alternative, "shortened": case.shortened},
        "effect": {"unit": case.unit, "factor": case.factor, **asdict(case.effect)},
        "counted_effect": effect.mean,
        "added_share": asdict(case.added),
        "too_short": case.too_short,
        "at_value": _stored(case.terms(x)),
        "at_low": _stored(case.terms(low)),
        "at_high": _stored(case.terms(high)),
        "free_alternative": {
            "npv": case.free(x) * money.annuity(x),
            "effect": asdict(case.over_base) if case.over_base else None,
        },
        "break_even": {
            "effect": money.zero(lambda effect: npv({**x, "effect": effect})),
            "volume": volume and {"side": volume[0], "trainings_per_month": volume[1]},
        },
    }


def _stored(terms: money.Terms) -> dict[str, Any]:
    return {**asdict(terms), "running": terms.running}


def _better_references(result: dict[str, Any], best: Row, metric: Metric) -> list[dict[str, str]]:
    """References with a better mean: by the protocol not free alternatives, but worth a look."""
    sign = 1 if metric.higher_is_better else -1
    return [
        {
            "name": row["method"],
            "mean": metric.value(row["mean"]),
            "than": metric.value(best["mean"]),
        }
        for row in result["table"]
        if row["role"] == REFERENCE and sign * (row["mean"] - best["mean"]) > 0
    ]
