"""From a comparison's outcomes to its result: the table and the verdicts, as they are stored."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..anomalies import FEW
from .course import Course, Outcomes, metric_of
from .judging.looks import shared
from .judging.margin import POINTS_MARGIN, RELATIVE_MARGIN
from .judging.table import LR_MATCHED, SPEED_ASKED, Verdicts, mean_or_none, measured, numbers
from .judging.tune import edge
from .judging.verdict import EARLY, INCONCLUSIVE, PERCENT, Extension, Metric
from .own.naming import with_base
from .own.training import OWN
from .plan import Options, Plan
from .search import settings_at
from .spec import NEVER, OPEN
from .stored import NOT_LEARNED, ArmResult, Judged, Measure, Note, status_of

Outcome = dict[str, Any]
UNEVEN_FROM = 0.9
"""From this accuracy of a constant prediction, accuracy says little."""


def summarise(
    plan: Plan,
    course: Course,
    outcomes: Mapping[str, Outcome],
    more: Sequence[int] = (),
    workers: int | None = None,
) -> Judged:
    """Put a judged comparison together: every number of its table and every verdict.

    Args:
        plan, course: what was compared, and how it went.
        outcomes: of all its runs, by key.
        more: the numbers of seeds to which it may be extended, one after another.
        workers: how many runs go on at once, to tell how long that would take; None where nothing
            can be extended.
    """
    o, looks = plan.options, course.taken
    level = {look.seeds: shared(look, plan.judged) for look in looks}
    # the arms that ran: each row's runs by seed, with T and with 0.8 T steps
    rows = [row for row in course.rows if course.keys(row, 1.0) or course.keys(row, EARLY)]
    arms = {arm.name: arm for arm in course.arms(outcomes)}
    base = arms[rows[0].name]
    metric = metric_of(plan, base)
    base_runs = [outcomes[key] for key in course.keys(rows[0], 1.0)]

    # the table, each arm beside the base and its own lr-matched control
    table: list[ArmResult] = []
    for row in rows:
        keys, early_keys = course.keys(row, 1.0), course.keys(row, EARLY)
        runs = [outcomes[key] for key in keys]
        matched = next(
            (r for r in rows if r.family == LR_MATCHED and r.control_of == row.name), None
        )
        other = None if matched is None else arms[matched.name]
        line: Any = {
            "method": row.name,
            "role": row.role,
            "family": row.family,
            "control_of": row.control_of,
            "run": row.method,
            "lr": row.lr or None,
            "settings": dict(settings_at(row.lr)),
            "keys": keys,
            "early_keys": early_keys,
            **numbers(arms[row.name], base, other, metric, level[len(keys)]),
            **_of_runs(runs, base_runs),
        }
        table.append(line)

    # verdicts that stay open, and what more seeds would take
    verdicts = course.verdicts
    if workers is not None and looks[-1].seeds == o.seeds:
        # a seed more costs what one has cost so far, shared by the workers that run at once
        ran = [outcomes[key] for row in rows for s in (1.0, EARLY) for key in course.keys(row, s)]
        seconds = sum(run["seconds"] for run in ran) / looks[-1].seeds / workers
        verdicts = _extended(plan, verdicts, more, seconds)
    early = [outcomes[key] for key in table[0]["early_keys"] or table[-1]["early_keys"]]
    subject, sizes = plan.subject, (o.epochs, o.batch_size)
    found: Judged = {
        "task": subject.name,
        "question": "tuned" if o.tuned else "today" if o.lr else "commands",
        "description": subject.description,
        "metric": metric,
        # as planned, else as a training of the user's told them
        "steps": subject.steps(*sizes) or base_runs[0]["steps"],
        "early_steps": (subject.steps(*sizes, EARLY) or early[0]["steps"]) if early else None,
        "seeds": looks[-1].seeds,
        "confidence": level[looks[-1].seeds],
        "looks": [{"seeds": n, "confidence": level[n]} for n, _ in looks],
        "trainings": course.trainings,
        "planned_seeds": o.seeds,
        "lazy": o.lazy,
        "table": table,
        "verdicts": verdicts,
        "notes": [
            *cautions(plan),
            *_widened(verdicts, metric),
            *_not_learned(course, outcomes),
            *_refused(course, outcomes),
            *_notes(plan, course),
        ],
        "learning_rates": {
            "tried": list(course.rates) if o.tuned else [],
            "settings": [dict(settings_at(lr)) for lr in course.rates] if o.search else [],
            "chosen": course.chosen,
            "keys": course.tuning_keys(outcomes),
            "seeds": course.tuning_seeds,
        },
        "specification": plan.specification(),
        "settings": {},
        "label": "",
    }
    return with_base(found, str(base_runs[0].get("optimizer", "")))


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
    """What runs measured, sorted by name, because a store does not keep an order."""

    def by_seed(name: str, of: list[Outcome]) -> list[float | None]:
        return [run["measures"].get(name) for run in of]

    names = sorted({name for run in runs for name in run["measures"]})
    return {name: measured(by_seed(name, runs), by_seed(name, base_runs)) for name in names}


def _extended(plan: Plan, verdicts: Verdicts, more: Sequence[int], seconds: float) -> Verdicts:
    """Give each verdict that needs more seeds its extension, which serves all of them.

    Args:
        plan, verdicts, more: as in `summarise`.
        seconds: that one more seed takes.
    """
    # the largest need decides, because seeds are added for all
    needed = max((v.needed for own in verdicts.values() for v in own.values()), default=0)
    advice, extension = "used", None
    if more:
        enough = [seeds for seeds in more if seeds >= needed]
        advice = "beyond" if not enough else "extend" if enough == more else "extend_even"
        added = more[0] - plan.options.seeds
        extension = Extension(more[0], seconds * added, plan.command(more[0]))
    return {
        method: {
            question: replace(v, advice=(*v.advice, advice), extension=extension) if v.needed else v
            for question, v in own.items()
        }
        for method, own in verdicts.items()
    }


def cautions(plan: Plan) -> list[Note]:
    """Notes on what the test split cannot show, and on a metric that suits it better."""
    subject, o = plan.subject, plan.options
    name, found = subject.metric_name, []
    share = subject.example_share / plan.pooled
    # the margin in the unit of `share`; not known if given in the unit of a mean
    margin: float | None
    if o.margin is None:
        margin = POINTS_MARGIN if name in PERCENT else RELATIVE_MARGIN
    else:
        margin = o.margin / 100 if o.relative_margin or name in PERCENT else None
    relative = o.relative_margin or name not in PERCENT
    # half an example, the least width of an interval, is not less than the margin
    if margin is not None and share / 2 >= margin:
        ready = o.splits or "images_splits" in subject.description  # or the folders are the splits
        splits = o.source.kind in ("table", "images") and not ready
        facts = {"n": subject.sizes.test, "share": share, "margin": margin, "relative": relative}
        found.append({"note": "coarse_splits", **facts, "splits": 12} if splits
                     else {"note": "coarse", **facts})  # fmt: skip
    # almost all examples are of one class
    constant = subject.constant_value if name == "accuracy" else None
    if constant is not None and constant >= UNEVEN_FROM:
        found.append({"note": "uneven", "constant": constant})
    # a training of the user's that is judged by what chose its learning rates
    chooses = subject.description.get("own_tunes", {}).get("tune_by")
    if o.tuned and chooses and chooses == subject.description["own_results"]["metric"]:
        found.append({"note": "judged_tunes", "metric": chooses})
    return found


def _widened(verdicts: Verdicts, metric: Metric) -> list[Note]:
    """Note if any interval was widened to what half a test example is worth."""
    made = [p.comparison for own in verdicts.values() for v in own.values() for p in v.comparisons]
    if not any(map(metric.floors, made)):
        return []
    return [{"note": "widened", "half": metric.half_example}]


def _not_learned(course: Course, outcomes: Outcomes) -> list[Note]:
    """Note which arms have final runs that are no better than a constant prediction."""
    counts = {
        row.name: sum(status_of(outcomes[key]) == NOT_LEARNED for key in course.keys(row, 1.0))
        for row in course.rows
    }
    by_arm = {name: n for name, n in counts.items() if n}
    return [{"note": "not_learned", "by_arm": by_arm}] if by_arm else []


def _refused(course: Course, outcomes: Outcomes) -> list[Note]:
    """Note which arms wrote hardly any of their predictions, because a gate refused the others."""
    notes: list[Note] = []
    for row in course.rows:
        counts = [outcomes[key].get("predictions") for key in course.keys(row, 1.0)]
        known = [each for each in counts if each is not None]
        made, written = (sum(each[what] for each in known) for what in ("made", "written"))
        if made and written <= FEW * made:
            notes.append({"note": "refused", "arms": [row.name], "made": made, "written": written})
    return notes


def _notes(plan: Plan, course: Course) -> list[Note]:
    o = plan.options
    own = o.source.kind in OWN
    notes: list[Note] = [{"note": "splits" if o.splits else "data_own" if own else "data"}]
    # arms that did not run, and questions that were not asked
    ran = {name for name, _ in course.seeds}
    # the verdict itself names those that the budget left out
    unpaid = {
        name
        for own in course.verdicts.values()
        for v in own.values()
        if v.rule in ("unchecked", "speed_unchecked")
        for name in v.facts["controls"]
    }
    if skipped := [row.name for row in course.rows if row.name not in ran | unpaid]:
        notes.append({"note": "not_run", "arms": skipped})
    unasked = [
        name
        for name, own in course.verdicts.items()
        if "speed" not in own and own["quality"].kind not in (INCONCLUSIVE, *SPEED_ASKED)
    ]
    if course.fixed and o.speed != NEVER:
        notes.append({"note": "fixed_steps"})
    elif unasked and o.speed == OPEN:
        notes.append({"note": "speed_not_asked", "arms": unasked})
    if course.stopped:
        notes.append({"note": "budget", "runs": course.trainings})
    return notes + (_at_an_end(plan, course) if o.tuned else [])


def _at_an_end(plan: Plan, course: Course) -> list[Note]:
    """Note learning rates that were chosen at an end of those tried, and what would find others."""
    rates, notes = course.rates, list[Note]()
    for end, wider in (
        ("lowest", [rates[0] / 10, rates[-1]]),
        ("highest", [rates[0], 10 * rates[-1]]),
    ):
        at_end = [name for name, lr in course.chosen.items() if edge(lr, rates) == end]
        if not at_end:
            continue
        note: Note = {"note": end, "arms": [plan.base_name if n == "base" else n for n in at_end]}
        if plan.options.tuned_base is not None:  # the range is not the user's choice
            note["note"] += "_around"
        elif len(rates) < Options.trials:  # the next rate is so far that the best may lie between
            factor = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
            facts = {"n": len(rates), "factor": round(factor, 1), "trials": Options.trials}
            note |= {"note": f"{end}_few", **facts}
        else:
            note["range"] = wider
        notes.append(note)
    return notes
