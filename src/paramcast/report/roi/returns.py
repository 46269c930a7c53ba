"""From a pilot and the user's inputs to key figures, return and break-even, as strict JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ...errors import StudyError
from ...study.judging.verdict import ADOPT, EARLY, FASTER, Metric, Verdict
from ...study.reading import as_written
from ...study.store.folder import RESULT
from ...study.stored import AGAIN
from . import money
from .effects import (
    Effect,
    added_share,
    best_quality,
    cheapest_speed,
    gain,
    saved_share,
    too_short,
)
from .inputs import Inputs
from .kpis import kpis
from .rows import Row, alternatives, row_of

NOTHING = Effect(0.0, 0.0, 0.0, 0)


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
        metric, hours = result["metric"], result["pilot_hours"]
        # an error is one wrong prediction, which only accuracy counts
        if "cost_per_error" in inputs.estimates and not metric.counts_errors:
            raise StudyError(
                f"cost_per_error needs the metric accuracy, this pilot's is {metric.name}; "
                "give value_per_point, the value of one unit of it"
            )
        return {
            "schema": 3,
            "task": result["task"],
            "metric": metric,
            "seeds": result["seeds"],
            "currency": inputs.currency,
            "positive_class": inputs.positive_class,
            "inputs": {
                key: {**e._asdict(), "unit": inputs.unit(key), "default": key not in inputs.given}
                for key, e in inputs.estimates.items()
            },
            "pilot": {
                "hours": hours,
                "cost": hours * money.hour_price(inputs.at_value()),
                "command": result["command"],
                "out": result["out"],
            },
            "formulas": money.FORMULAS,
            "methods": {name: _method(result, name, inputs) for name in result["verdicts"]},
        }


def _method(result: dict[str, Any], name: str, inputs: Inputs) -> dict[str, Any]:
    metric, row, free = result["metric"], row_of(result, name), alternatives(result, name)
    best, base = best_quality(free, metric), free[0]
    cases = {"quality": _quality(result, row, best, base, inputs)}
    if "speed" in result["verdicts"][name] and row["early_values"]:
        cases["speed"] = _speed(result, row, free, inputs)
    return {
        "base": base["method"],
        "alternative": best["method"],
        "seeds": {
            key: len(row["values"] if key == "quality" else row["early_values"]) for key in cases
        },
        "kpis": kpis(row, base, best, metric, inputs),
        "cases": cases,
    }


def _quality(
    result: dict[str, Any], row: Row, best: Row, base: Row, inputs: Inputs
) -> dict[str, Any]:
    """Same steps, better model: over the free alternative with the best mean."""
    metric: Metric = result["metric"]
    verdict = result["verdicts"][row["method"]]["quality"]
    paired, percent, x = metric.paired, metric.percent, inputs.at_value()
    # the alternative's own worth over the base: no integration and no monitoring, only its seconds
    worth = 0.0
    if best is not base:
        over_base = gain(best["values"], base["values"], metric).shown
        seconds = max(0.0, added_share(best, base, base, paired=paired).shown)
        benefit = x["transfer"] * over_base * money.unit_value(x, percent=percent)
        worth = benefit - x["training_hours"] * seconds * money.delay_price(x)
    # seconds that may as well be none are the noise of a clock, or of the start of a training
    added = added_share(row, best, base, paired=paired)
    short = too_short(base)
    counted = NOTHING if short or not added.shown else added

    def terms(x: money.Values) -> money.Terms:
        return money.quality(x, result["pilot_hours"], percent=percent)

    judged = _judged(verdict, ADOPT, best, worth, x)
    return {
        **judged,
        "added_share": added._asdict(),
        "too_short": short,
        **_counted(
            gain(row["values"], best["values"], metric), judged["applies"],
            ("points", 100) if percent else (metric.name, 1), counted, terms, inputs,
        ),
    }  # fmt: skip


def _speed(result: dict[str, Any], row: Row, rows: list[Row], inputs: Inputs) -> dict[str, Any]:
    """Fewer steps, same model: over the cheapest free way to the base's result."""
    verdict, base = result["verdicts"][row["method"]]["speed"], rows[0]
    best, shortened = cheapest_speed(rows, result["metric"], result["confidence"])
    # 0.8, or what that came to in whole steps
    told = result["early_steps"] and result["steps"]  # some trainings do not tell
    steps = result["early_steps"] / result["steps"] if told else EARLY
    worth, x = 0.0, inputs.at_value()
    if shortened:
        saved = saved_share(best, base, False, base, steps).shown
        worth = x["transfer"] * x["training_hours"] * saved * money.delay_price(x)

    def terms(x: money.Values) -> money.Terms:
        return money.speed(x, result["pilot_hours"])

    judged = _judged(verdict, FASTER, best, worth, x, shortened=shortened)
    return {
        **judged,
        "added_share": NOTHING._asdict(),
        "too_short": False,
        **_counted(
            saved_share(row, best, shortened, base, steps), judged["applies"],
            ("% of the training time", 100), NOTHING, terms, inputs,
        ),
    }  # fmt: skip


def _judged(
    verdict: Verdict,
    pays: str,
    best: Row,
    worth: float,
    x: money.Values,
    *,
    shortened: bool = False,
) -> dict[str, Any]:
    """The answer, which applies if it is the one that pays, and what the free alternative is worth
    over the base as it is."""
    return {
        "verdict": verdict.kind,
        "answer": verdict,
        "applies": verdict.kind == pays,
        "alternative": {"name": best["method"], "shortened": shortened},
        "free_alternative": {"npv": worth * money.annuity(x)},
    }


def _counted(
    measured: Effect,
    applies: bool,
    unit: tuple[str, int],
    added: Effect,
    terms: Callable[[money.Values], money.Terms],
    inputs: Inputs,
) -> dict[str, Any]:
    """The effect and its terms: at the inputs' values, and at the worst and the best ends.

    Args:
        measured: over the alternative.
        applies: whether the verdict allows a return to be counted; else the effect counts as 0.
        unit: in which the effect is shown, and how many such units are 1.
        added: further seconds over the alternative, as a share.
        terms: of the case.
        inputs: costs and values.
    """
    effect = measured if applies else NOTHING
    x = {**inputs.at_value(), "effect": effect.mean, "added": added.mean}

    def npv(x: money.Values) -> float:
        return terms(x).npv

    # the measured interval joins the inputs' ranges: low effect with high cost, and the reverse
    worse = {**x, "effect": effect.low, "added": added.high}
    better = {**x, "effect": effect.high, "added": added.low}
    at = {
        "at_value": x,
        "at_low": money.end(npv, worse, inputs.ranges(), min),
        "at_high": money.end(npv, better, inputs.ranges(), max),
    }
    return {
        "effect": {"unit": unit[0], "factor": unit[1], **measured._asdict()},
        "counted_effect": effect.mean,
        **{key: {**asdict(t := terms(own)), "running": t.running} for key, own in at.items()},
        "break_even": money.zero(lambda effect: npv({**x, "effect": effect})),
    }
