"""The verdict on a table of results: the same judge, for trainings that are not ours."""

from __future__ import annotations

import contextlib
import math
import statistics
from dataclasses import asdict, replace
from typing import Any

from ..._directions import known_direction
from ...errors import StudyError
from ..judging.margin import margin_of
from ..judging.stats import FULL_CONFIDENCE
from ..judging.table import (
    CONTROL,
    JUDGED,
    LR_MATCHED,
    RANDOM_JUMP,
    controls_of,
    judge,
    measured,
    numbers,
)
from ..judging.verdict import ADOPT, Arm, Metric, Verdict
from ..reading import shown
from ..stored import Judged, Note
from .arms import Arms, arms_of
from .columns import Columns, find_columns, plain
from .options import JudgeOptions

QUESTION = "table"
"""The question that such a result answers, besides "tuned" and "today"."""
ADVICE = {
    "adopt_next": "adopt_table",
    "adopt_alone_next": "adopt_table",
    "keep_or_lower": "keep",
    "lower": "lower_table",
}
CAUTIONS = {"no_control": "no_control_table"}
RULES = {"unstable": "unstable_table"}
"""The sentences for results whose learning rate and optimizer we did not choose."""


def judge_results(frame: Any, given: JudgeOptions, name: str = "results") -> Judged:
    """Judge a table of results.

    Args:
        frame: a pandas frame with a row per training, or with a column per method.
        given: what its columns hold, and what is compared.
        name: the table's, shown in the result.

    Raises:
        StudyError: the table cannot be judged; the message says what to do.
    """
    frame = frame.copy() if frame.index.is_unique else frame.reset_index(drop=True)

    def read_as(given: JudgeOptions) -> tuple[Columns, bool, Arms]:
        found = find_columns(frame, given)
        higher = given.higher
        higher = known_direction(found.value or "") if higher is None else higher
        if higher is None:
            raise StudyError(
                f"the name {shown(found.value)} does not tell whether higher is better; "
                "say --lower-is-better or --higher-is-better"
            )
        return found, higher, arms_of(frame, found, given, higher=higher)

    # read the table
    found, higher, read = read_as(given)
    pairing = None
    if given.unpaired:  # what pairs would have been worth, where a column has them
        with contextlib.suppress(StudyError):
            pairing = read_as(replace(given, unpaired=False))[2]
    # judge it
    metric = _metric(read, given, higher=higher)
    k = sum(arm.role in JUDGED for arm in read.arms)
    confidence = 1.0 - (1.0 - FULL_CONFIDENCE) / k
    verdicts = {
        method: {
            question: as_of_a_table(v, tells_step=tells_step(method, read))
            for question, v in answers.items()
        }
        for method, answers in judge(read.arms, metric, confidence)[0].items()
    }
    # the result, in the form of a pilot's
    seeds = min(len(arm.values) for arm in read.arms)
    return {
        "task": name,
        "question": QUESTION,
        "description": _description(name, read, found, metric),
        "metric": metric,
        "steps": None,
        "early_steps": None,
        "seeds": seeds,
        "confidence": confidence,
        "looks": [{"seeds": seeds, "confidence": confidence}],
        "trainings": sum(len(arm.values) for arm in read.arms),
        "planned_seeds": seeds,
        "lazy": False,
        "table": _table(read, metric, confidence),
        "verdicts": verdicts,
        "notes": _notes(read, metric, pairing if pairing and pairing.pairs else None),
        "learning_rates": {"tried": [], "settings": [], "chosen": {}, "keys": {}, "seeds": 0},
        "specification": {
            "columns": {key: value for key, value in asdict(found).items() if value},
            "base": read.arms[0].name,
            "margin": metric.margin,
            "higher_is_better": higher,
            "tuning": None,
            "pairs": [*read.pairs],
        },
        "settings": {},
        "label": "",
    }


def _metric(read: Arms, given: JudgeOptions, *, higher: bool) -> Metric:
    # a relative margin is a share of the base's level
    level = statistics.median(read.arms[0].values)
    asked, relative = given.margin or (None, False)
    margin = margin_of(read.metric, level, asked, relative=relative, percent=read.in_percent)
    half = 0.0
    if given.test_examples is not None:
        if not read.in_percent:
            raise StudyError(
                f"--test-examples says what one example is worth in per cent, and {read.metric} is "
                "not in per cent; leave it out"
            )
        half = 0.5 / given.test_examples
    return Metric(
        read.metric, higher, margin, half, None, read.overlap, read.in_percent, bool(read.pairs)
    )


def _table(read: Arms, metric: Metric, confidence: float) -> list[Any]:
    """A row for each arm; what only our own trainings measure is None."""
    base, lines = read.arms[0], []
    its = read.seconds[base.name]
    # keys and names are those of a pilot's rows, so that every page reads both
    for arm in read.arms:
        own = controls_of(arm, read.arms) if arm.role in JUDGED else []
        matched = next((c for c in own if family_of(c) == LR_MATCHED), None)
        seconds = read.seconds[arm.name]
        lines.append(
            {
                "method": arm.name,
                "role": arm.role,
                "family": family_of(arm),
                "control_of": arm.control_of,
                "run": arm.name,
                "lr": arm.lr or None,
                "settings": {},
                "keys": read.places[arm.name],
                "early_keys": [],
                **numbers(arm, base, matched, metric, confidence),
                "loss": None,
                "gap": None,
                "seconds": statistics.median(seconds) if seconds else None,
                "peak_memory": None,
                "divergences": [
                    {"how": "missing", "place": i} for i, lost in enumerate(arm.diverged) if lost
                ],
                "top1_error": None,
                "top5_error": None,
                "measures": {"seconds": measured(seconds, its if metric.paired else [])}
                if seconds
                else {},
            }
        )
    return lines


def tells_step(method: str, read: Arms) -> bool:
    """Whether a control tells a better method from a larger step."""
    arm = next(arm for arm in read.arms if arm.name == method)
    return any(family_of(c) == LR_MATCHED for c in controls_of(arm, read.arms))


def as_of_a_table(verdict: Verdict, *, tells_step: bool = True) -> Verdict:
    """The verdict with the sentences that fit results from elsewhere."""
    cautions = tuple(CAUTIONS.get(key, key) for key in verdict.cautions)
    if verdict.kind == ADOPT and not cautions and not tells_step:
        cautions = ("no_step_table",)
    return replace(
        verdict,
        cautions=cautions,
        rule=RULES.get(verdict.rule, verdict.rule),
        advice=tuple(ADVICE.get(key, key) for key in verdict.advice),
    )


def _description(
    name: str, read: Arms, columns: Columns, metric: Metric
) -> dict[str, dict[str, Any]]:
    """What was read, as facts of the catalogue's section "data"."""
    facts = {**read.facts}
    head = facts.pop("results")
    told: dict[str, dict[str, Any]] = {}
    if columns.wide:
        told["results_wide"] = {**head, "file": name, "columns": [*columns.wide]}
    else:
        told["results"] = {
            **head, "file": name, "column": [*columns.method], "value": columns.value,
        }  # fmt: skip
    told["results_higher" if metric.higher_is_better else "results_lower"] = {
        "value": columns.value
    }
    if read.pairs:
        by = {"column": [*columns.seed], "n": len(read.pairs)}
        told["results_pairs" if columns.seed else "results_rows"] = by
    return {**told, **facts}


def _notes(read: Arms, metric: Metric, pairing: Arms | None) -> list[Note]:
    """What the table cannot show, and what a diverged run counts as.

    Args:
        read, metric: the arms, and how values compare.
        pairing: the arms as a column would pair them, if they are compared as groups.
    """
    notes: list[Note] = [{"note": "data"}]
    diverged = {arm.name: sum(arm.diverged) for arm in read.arms if any(arm.diverged)}
    if diverged:
        notes.append(
            {"note": "table_diverged", "runs": sum(diverged.values()), "arms": [*diverged],
             "worst": metric.value(read.worst)}
        )  # fmt: skip
    if read.overlap:
        notes.append({"note": "table_folds", "overlap": f"{read.overlap:.2g}"})
    if not metric.paired and pairing is None:
        notes.append({"note": "table_unpaired"})
    elif pairing is not None:
        base = pairing.arms[0].values
        ratios = {}
        for arm in (arm for arm in pairing.arms if arm.role in JUDGED):
            # the spread of differences over what independent groups would have: below 1 pairs pay
            apart = math.sqrt(statistics.variance(arm.values) + statistics.variance(base))
            together = statistics.stdev(a - b for a, b in zip(arm.values, base, strict=True))
            if apart:
                ratios[arm.name] = together / apart
        by = ", ".join(pairing.columns.seed) or "row"
        notes.append({"note": "table_pairing", "column": by, "ratios": ratios})
    return notes


def family_of(arm: Arm) -> str:
    """What kind of control it is, by its name; the name itself if that does not tell."""
    name = plain(arm.name).replace("_", "-")
    known = (family for family in (LR_MATCHED, RANDOM_JUMP) if family in name)
    return next(known, arm.name) if arm.role == CONTROL else arm.name
