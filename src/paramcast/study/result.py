"""From a pilot's outcomes to its result: the table, the verdicts, and what goes into pilot.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..errors import StudyError
from .judging.cautions import POINTS_MARGIN, RELATIVE_MARGIN, cautions, example_share
from .judging.stats import interval
from .judging.tune import edge
from .judging.verdict import (
    EARLY,
    PERCENT,
    Arm,
    Metric,
    Verdict,
    difference,
    judge_quality,
    judge_speed,
)
from .plan import Plan, Row
from .training.loop import total_steps
from .training.methods import AVERAGE, CONTROL, JUDGED, PREDICTOR


def summarise(
    plan: Plan,
    rows: Sequence[Row],
    chosen: dict[str, float],
    outcomes: dict[str, dict[str, Any]],
    confidence: float,
    first_look: int,
    workers: int | None,
) -> dict[str, Any]:
    """What pilot.json holds: strict JSON, every number of the table and every verdict.

    Args:
        plan, rows, chosen: what was compared, at which learning rates.
        outcomes: of all final runs, by key.
        confidence: of the intervals that the verdicts use.
        first_look: the number of seeds at which a verdict was first read.
        workers: for the time that more seeds would take; None where no more can be asked for.
    """
    runs = {row.name: _runs(plan, row, outcomes, 1.0) for row in rows}
    speed = plan.options.speed
    early = {row.name: _runs(plan, row, outcomes, EARLY) if speed else [] for row in rows}
    arms = [_arm(row, runs[row.name], early[row.name]) for row in rows]
    base, metric = arms[0], _metric(plan, arms[0])
    seconds = _seconds_per_seed(runs, early) / workers if workers else None
    judged = {}
    for predictor in (arm for arm in arms if arm.role in JUDGED):
        controls = _controls(predictor, arms)
        answers = {"quality": judge_quality(base, predictor, controls, metric, confidence)}
        if speed:
            answers["speed"] = judge_speed(base, predictor, controls, metric, confidence)
        judged[predictor.name] = answers
    needed = max((v.needed for answers in judged.values() for v in answers.values()), default=0)
    verdicts = {
        method: {name: _stored(plan, v, needed, first_look, seconds) for name, v in answers.items()}
        for method, answers in judged.items()
    }
    o, examples = plan.options, len(plan.prepared.train)
    return {
        "schema": 1,
        "question": "at its best (everything tuned)" if o.tuned else "as I train today",
        "task": plan.prepared.task.name,
        "description": plan.prepared.description,
        "metric": asdict(metric),
        "steps": total_steps(examples, o.batch_size, o.epochs),
        "early_steps": total_steps(examples, o.batch_size, o.epochs, EARLY) if speed else None,
        "seeds": o.seeds,
        "confidence": confidence,
        "fingerprints": plan.fingerprints,
        "table": [
            _table_row(
                arm,
                runs[arm.name],
                early[arm.name],
                base,
                runs[base.name],
                _matched(arm, arms),
                metric,
                confidence,
            )
            for arm in arms
        ],
        "verdicts": verdicts,
        "notes": [*cautions(plan), *_widened(judged, metric), *_notes(plan, chosen)],
        "learning_rates": {"tried": list(plan.rates()) if o.tuned else [], "chosen": chosen},
        "specification": plan.specification(),
        "identity": plan.identity,
        "command": plan.command(o.seeds),
        "out": str(plan.out),
    }


def _runs(
    plan: Plan, row: Row, outcomes: dict[str, dict[str, Any]], share: float
) -> list[dict[str, Any]]:
    specs = (
        plan.spec(row.method, row.lr, "final", seed, share) for seed in range(plan.options.seeds)
    )
    return [outcomes[spec.key] for spec in specs]


def _controls(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """What an arm must beat: controls made for it or for all, and averages if it predicts."""
    own = [a for a in arms if a.role == CONTROL and a.of in ("", arm.name)]
    averages = [a for a in arms if a.role == AVERAGE and arm.role == PREDICTOR]
    return [*own, *averages]


def _matched(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The base at the predictor's learning rate times its gain."""
    found = [a for a in arms if a.of == arm.name and "-lr-matched" in a.name]
    return found[0] if found else None


def _metric(plan: Plan, base: Arm) -> Metric:
    prepared, o = plan.prepared, plan.options
    name, level = prepared.metric_name, statistics.median(base.values)
    percent = name in PERCENT
    if o.margin is None:
        margin = POINTS_MARGIN if percent else RELATIVE_MARGIN * abs(level)
    elif o.relative_margin:
        margin = o.margin / 100 * abs(level)
    else:
        margin = o.margin / 100 if percent else o.margin
    if margin == 0.0:
        raise StudyError(
            f"the base's median {name} is 0, and a share of it is not a margin; "
            "say which difference matters with --margin"
        )
    error = 1.0 if percent else abs(1.0 - level) if name == "r2" else abs(level)
    half = 0.5 * example_share(prepared) / plan.pooled * error
    constant = statistics.fmean(plan.constants)
    # a stream is judged while it learns, not on the test split
    known = prepared.task.stream is None and math.isfinite(constant)
    return Metric(
        name, prepared.higher_is_better, margin, half, constant if known else None, plan.overlap
    )


def _table_row(
    arm: Arm,
    runs: list[dict[str, Any]],
    early: list[dict[str, Any]],
    base: Arm,
    base_runs: list[dict[str, Any]],
    matched: Arm | None,
    metric: Metric,
    confidence: float,
) -> dict[str, Any]:
    mean, low, high = interval(arm.values)
    row: dict[str, Any] = {
        "method": arm.name,
        "role": arm.role,
        "of": arm.of,
        "lr": arm.lr,
        "mean": mean,
        "low": low,
        "high": high,
        "values": arm.values,
        "early_mean": _mean_or_none(arm.early),
        "early_values": arm.early,
        "loss": statistics.fmean(run["test"]["loss"] for run in runs),
        "gap": _mean_or_none([run["gap"] for run in runs]),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "peak_memory": statistics.median(run["peak_memory"] for run in runs),
        "diverged": sum(arm.diverged),
        "diverged_reasons": [run["reason"] for run in runs if run["reason"]],
        "to_base": None,
        "to_lr_matched": None,
    }
    for name in ("top1_error", "top5_error"):
        row[name] = _mean_or_none([run["test"].get(name) for run in runs])
    row["measures"] = _measures(runs, base_runs)
    if arm is not base:
        row["to_base"] = asdict(difference(arm.values, base.values, metric, confidence))
    if matched is not None:
        row["to_lr_matched"] = asdict(difference(arm.values, matched.values, metric, confidence))
    return row


def _measures(
    runs: list[dict[str, Any]], base_runs: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What the runs measured beside their result: per name the values by seed, None where a run
    has none, their mean, and the mean and 95 % interval of the differences to the base."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for run in runs for name in run["measures"]):
        values = [run["measures"].get(name) for run in runs]
        pairs = zip(values, (run["measures"].get(name) for run in base_runs), strict=True)
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        found[name] = {
            "values": values,
            "mean": _mean_or_none(values),
            "to_base": dict(zip(("mean", "low", "high"), interval(differences), strict=True))
            if len(differences) > 1
            else None,
        }
    return found


def _seconds_per_seed(*groups: dict[str, list[dict[str, Any]]]) -> float:
    """Training seconds that one more seed costs, over all arms."""
    lists = [runs for group in groups for runs in group.values()]
    return sum(statistics.fmean(run["seconds"] for run in runs) for runs in lists if runs)


def _stored(
    plan: Plan, verdict: Verdict, needed: int, first: int, seconds_per_seed: float | None
) -> dict[str, Any]:
    """The verdict as stored; one that needs more seeds names the time and command of an extension.

    One extension serves all verdicts: that to the number needed by the one that needs most.
    """
    stored = asdict(verdict)
    if not verdict.needed or seconds_per_seed is None:
        return stored
    now = plan.options.seeds
    left = [seeds for seeds in (2 * first, 4 * first) if seeds > now]
    if not left:
        stored["next"] += " Both extensions are used: widen --margin, or accept not knowing."
        return stored
    seeds = next((n for n in left if n >= needed), left[-1])
    cost = seconds_per_seed * (seeds - now)
    stored["next"] += (
        f" Extend this pilot to {seeds} seeds (about {cost:.0f} s) with the command below"
    )
    stored["next"] += (
        "." if seeds >= needed else ("; even that may not be enough, a wider --margin needs fewer.")
    )
    stored["extend_to"], stored["command"] = seeds, plan.command(seeds)
    return stored


def _widened(judged: dict[str, dict[str, Verdict]], metric: Metric) -> list[str]:
    """That intervals were widened to what a test example is worth, if some were."""
    shown = [c for v in judged.values() for one in v.values() for c in one.comparisons.values()]
    if metric.half_example == 0 or all(c.high - c.mean > metric.half_example for c in shown):
        return []
    return [
        "An interval of differences is never narrower than half a test example each way, "
        f"{metric.amount(metric.half_example)}; some here would be."
    ]


def _notes(plan: Plan, chosen: dict[str, float]) -> list[str]:
    notes = ["The intervals cover other seeds, not other data."]
    if plan.options.splits:
        notes = ["The intervals cover other seeds and other random splits of these data."]
    if not plan.options.tuned:
        return notes
    low, high = plan.options.lr_range
    for end, side, wider in (
        ("lowest", "below", (low / 10, high)),
        ("highest", "above", (low, 10 * high)),
    ):
        at_end = [name for name, lr in chosen.items() if edge(lr, plan.rates()) == end]
        if at_end:
            names = ", ".join(plan.base_name if name == "base" else name for name in at_end)
            notes.append(
                f"The best learning rate of {names} is the {end} tried; a better one may lie "
                f"{side}: --lr-range {wider[0]:.4g} {wider[1]:.4g}."
            )
    return notes


def _arm(row: Row, runs: list[dict[str, Any]], early: list[dict[str, Any]]) -> Arm:
    return Arm(
        row.name,
        row.role,
        row.lr,
        tuple(run["test"]["metric"] for run in runs),
        tuple(run["test"]["metric"] for run in early),
        tuple(run["status"] == "diverged" for run in runs),
        tuple(run["status"] == "diverged" for run in early),
        row.of,
        row.advice,
    )


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
