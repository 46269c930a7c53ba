"""From a comparison's outcomes to its result: the table and the verdicts, as they are stored."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .judging.cautions import cautions
from .judging.margin import margin_of
from .judging.stats import interval
from .judging.table import LR_MATCHED, judge, mean_or_none, numbers
from .judging.tune import edge
from .judging.verdict import EARLY, PERCENT, Arm, Extension, Metric, Verdict
from .own.checks import check_acts, check_names, check_seeds, with_values
from .own.training import OWN
from .plan import Plan, Row
from .stored import ArmResult, Judged, Measure, Note

Outcome = dict[str, Any]


def summarise(
    plan: Plan,
    rows: Sequence[Row],
    chosen: dict[str, float],
    outcomes: dict[str, Outcome],
    confidence: float,
    first_look: int,
    workers: int | None,
) -> Judged:
    """Judge a comparison: every number of its table and every verdict.

    Args:
        plan, rows, chosen: what was compared, and the learning rates that were chosen.
        outcomes: of all final runs, by key.
        confidence: of the intervals that the verdicts use.
        first_look: the number of seeds at which a verdict was first read.
        workers: how many runs go on at once, to tell how long more seeds would take; None where
            the comparison cannot be extended.
    """
    o, speed = plan.options, plan.options.speed
    if o.source.kind in OWN:
        check_names(outcomes.values())
        check_seeds(plan.final_specs(rows), outcomes)
        outcomes = with_values(outcomes, higher_is_better=plan.subject.higher_is_better)
    # arms: each row's runs by seed, with T and with 0.8 T steps
    keys = [_keys(plan, row, 1.0) for row in rows]
    early_keys = [_keys(plan, row, EARLY) if speed else [] for row in rows]
    runs = [[outcomes[key] for key in own] for own in keys]
    early = [[outcomes[key] for key in own] for own in early_keys]
    for row, own in zip(rows, runs, strict=True):
        if o.source.kind in OWN and row.method != "base" and row.lr == rows[0].lr:
            check_acts(row.name, own, runs[0])
    arms = [_arm(*each) for each in zip(rows, runs, early, strict=True)]
    base, metric = arms[0], _metric(plan, arms[0])

    # the table, each arm beside the base and its own lr-matched control
    table: list[ArmResult] = []
    for i, (row, arm) in enumerate(zip(rows, arms, strict=True)):
        matched = next(
            (a for a, r in zip(arms, rows, strict=True)
             if r.family == LR_MATCHED and r.control_of == row.name), None,
        )  # fmt: skip
        line: Any = {
            "method": row.name,
            "role": row.role,
            "family": row.family,
            "control_of": row.control_of,
            "run": row.method,
            "lr": row.lr or None,
            "keys": keys[i],
            "early_keys": early_keys[i],
            **numbers(arm, base, matched, metric, confidence),
            **_of_runs(runs[i], runs[0]),
        }
        table.append(line)

    # the verdicts; where they stay open and a pilot may still grow, the command for more seeds
    verdicts = judge(arms, metric, confidence)
    if workers is not None:
        seconds = sum(
            statistics.fmean(run["seconds"] for run in own) for own in runs + early if own
        )
        verdicts = _extended(plan, verdicts, first_look, seconds / workers)
    subject, sizes = plan.subject, (o.epochs, o.batch_size)
    return {
        "task": subject.name,
        "question": "tuned" if o.tuned else "today" if o.lr else "commands",
        "description": subject.description,
        "metric": metric,
        # as planned, else as a training of the user's told them
        "steps": subject.steps(*sizes) or runs[0][0]["steps"],
        "early_steps": (subject.steps(*sizes, EARLY) or early[0][0]["steps"]) if speed else None,
        "seeds": o.seeds,
        "confidence": confidence,
        "table": table,
        "verdicts": verdicts,
        "notes": [*cautions(plan), *_widened(verdicts, metric), *_notes(plan, chosen)],
        "learning_rates": {
            "tried": list(plan.rates()) if o.tuned else [],
            "chosen": chosen,
            "keys": _tuning_keys(plan),
        },
        "specification": plan.specification(),
        "settings": {},
        "label": "",
    }


def _keys(plan: Plan, row: Row, share: float) -> list[str]:
    seeds = range(plan.options.seeds)
    return [plan.spec(row.method, row.lr, "final", seed, share).key for seed in seeds]


def _tuning_keys(plan: Plan) -> dict[str, list[list[str]]]:
    """By method and learning rate, the tuning runs by seed."""
    found: dict[str, dict[float, list[str]]] = {}
    for spec in plan.tuning_specs():
        found.setdefault(spec.method, {}).setdefault(spec.lr, []).append(spec.key)
    return {method: list(by_lr.values()) for method, by_lr in found.items()}


def _arm(row: Row, runs: list[Outcome], early: list[Outcome]) -> Arm:
    return Arm(
        row.name,
        row.role,
        row.lr,
        tuple(run["test"]["metric"] for run in runs),
        tuple(run["test"]["metric"] for run in early),
        tuple(run["status"] == "diverged" for run in runs),
        tuple(run["status"] == "diverged" for run in early),
        row.control_of,
        row.advice,
    )


def _metric(plan: Plan, base: Arm) -> Metric:
    subject, o = plan.subject, plan.options
    name, level = subject.metric_name, statistics.median(base.values)
    percent = name in PERCENT
    margin = margin_of(name, level, o.margin, relative=o.relative_margin, percent=percent)
    # what half a test example is worth; of a mean, a share of the base's error
    error = 1.0 if percent else abs(1.0 - level) if name == "r2" else abs(level)
    half = 0.5 * subject.example_share / plan.pooled * error
    constant = mean_or_none(plan.constants)
    return Metric(name, subject.higher_is_better, margin, half, constant, plan.overlap)


def _of_runs(runs: list[Outcome], base_runs: list[Outcome]) -> dict[str, Any]:
    """The table's columns about an arm's runs, beside the values that are judged."""
    return {
        "loss": mean_or_none([run["test"]["loss"] for run in runs]),
        "gap": mean_or_none([run["gap"] for run in runs]),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "peak_memory": statistics.median(run["peak_memory"] for run in runs),
        "divergences": [run["divergence"] for run in runs if run.get("divergence")],
        **{
            name: mean_or_none([run["test"].get(name) for run in runs])
            for name in ("top1_error", "top5_error")
        },
        "measures": _measures(runs, base_runs),
    }


def _measures(runs: list[Outcome], base_runs: list[Outcome]) -> dict[str, Measure]:
    """By name: the values by seed, None where a run has none, and their difference from the base's.

    Sorted by name, because a store does not keep an order.
    """
    found: dict[str, Measure] = {}
    for name in sorted({name for run in runs for name in run["measures"]}):
        values = [run["measures"].get(name) for run in runs]
        pairs = zip(values, (run["measures"].get(name) for run in base_runs), strict=True)
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        to_base = None
        if len(differences) > 1:
            to_base = dict(zip(("mean", "low", "high"), interval(differences), strict=True))
        found[name] = {"values": values, "mean": mean_or_none(values), "to_base": to_base}
    return found


def _extended(
    plan: Plan,
    verdicts: dict[str, dict[str, Verdict]],
    first: int,
    seconds_per_seed: float,
) -> dict[str, dict[str, Verdict]]:
    """Give each verdict that needs more seeds its extension: to 2 n or 4 n seeds.

    One extension serves all verdicts; the verdict that needs most seeds sets it.
    """
    needed = max((v.needed for own in verdicts.values() for v in own.values()), default=0)
    now = plan.options.seeds
    # the looks that are left; the smallest with enough seeds, else the largest
    left = [seeds for seeds in (2 * first, 4 * first) if seeds > now]
    seeds = next((n for n in left if n >= needed), left[-1] if left else 0)
    advice = "extend" if seeds >= needed else "extend_even" if left else "used"
    more = Extension(seeds, seconds_per_seed * (seeds - now), plan.command(seeds)) if left else None
    return {
        method: {
            question: replace(v, advice=(*v.advice, advice), extension=more) if v.needed else v
            for question, v in own.items()
        }
        for method, own in verdicts.items()
    }


def _widened(verdicts: dict[str, dict[str, Verdict]], metric: Metric) -> list[Note]:
    """Note if any interval was widened to what half a test example is worth."""
    made = [p.comparison for own in verdicts.values() for v in own.values() for p in v.comparisons]
    if metric.half_example == 0 or all(c.high - c.mean > metric.half_example for c in made):
        return []
    return [{"note": "widened", "half": metric.half_example}]


def _notes(plan: Plan, chosen: dict[str, float]) -> list[Note]:
    notes: list[Note] = [{"note": "splits" if plan.options.splits else "data"}]
    commands = [arm for arm, _ in plan.options.source.commands[1:]]
    if commands:
        notes.append({"note": "candidates", "arms": commands})
    if not plan.options.tuned:
        return notes
    low, high = plan.options.lr_range
    for end, wider in (("lowest", [low / 10, high]), ("highest", [low, 10 * high])):
        at_end = [name for name, lr in chosen.items() if edge(lr, plan.rates()) == end]
        if at_end:
            arms = [plan.base_name if name == "base" else name for name in at_end]
            notes.append({"note": end, "arms": arms, "range": wider})
    return notes
