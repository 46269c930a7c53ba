"""From arms to the verdicts and the lines of the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ..spec import ALWAYS, OPEN
from .stats import interval
from .verdict import (
    METHOD as METHOD,
)
from .verdict import (
    SAME,
    SLIGHTLY_BETTER,
    Arm,
    Lacking,
    Metric,
    Verdict,
    difference,
    judge_quality,
    judge_speed,
    settled,
)

BASE, PREDICTOR, AVERAGE = "base", "predictor", "average"
CONTROL, REFERENCE = "control", "reference"
JUDGED = (PREDICTOR, AVERAGE, METHOD)
"""The roles that get a verdict; a "method" is neither ours nor on top of the base."""
LR_MATCHED = "lr-matched"
"""The control that is the base at a predictor's learning rate times its velocity gain."""
RANDOM_JUMP = "random-jump"
"""The control that jumps as far as a predictor, in a random direction."""


Verdicts = dict[str, dict[str, Verdict]]
"""By method and question, which is "quality" or "speed"."""
SPEED_ASKED = (SAME, SLIGHTLY_BETTER)
"""Verdicts on quality that leave open whether to adopt: saving steps may decide it."""


def judge(
    arms: Sequence[Arm],
    metric: Metric,
    confidence: float,
    *,
    seeds: int | None = None,
    speed: str = ALWAYS,
    before: Verdicts | None = None,
    closed: bool = False,
) -> tuple[Verdicts, list[Lacking]]:
    """The verdicts by method and question, and the runs that are missing for further ones.

    Args:
        arms: the base first.
        metric: how values compare.
        confidence: of the intervals.
        seeds: how many to judge; None for those of the base.
        speed: whether to ask if a method is faster: ALWAYS, NEVER, or OPEN for only those methods
            whose verdict on quality leaves open whether to adopt them.
        before: the verdicts at an earlier look, of which the settled ones stay.
        closed: no more runs can be had: a gain whose controls are missing stays unexplained.
    """
    found, lacking = Verdicts(), list[Lacking]()
    for arm in (arm for arm in arms if arm.role in JUDGED):
        earlier, own = (before or {}).get(arm.name, {}), found.setdefault(arm.name, {})
        try:
            for question, ask in (("quality", judge_quality), ("speed", judge_speed)):
                if question == "speed" and not _asked(own["quality"], speed):
                    break
                # looking again at a settled answer would add chances of error
                if question in earlier and settled(earlier[question]):
                    own[question] = earlier[question]
                    continue
                controls = controls_of(arm, arms)
                own[question] = ask(arms[0], arm, controls, metric, confidence, seeds, closed)
        except Lacking as error:
            lacking.append(error)
    return found, lacking


def _asked(quality: Verdict, speed: str) -> bool:
    return speed == ALWAYS or (speed == OPEN and quality.kind in SPEED_ASKED)


def controls_of(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """The arms that an arm must beat: its own and common controls, and averages if it predicts."""
    own = [a for a in arms if a.role == CONTROL and a.control_of in ("", arm.name)]
    averages = [a for a in arms if a.role == AVERAGE and arm.role == PREDICTOR]
    return [*own, *averages]


def numbers(
    arm: Arm, base: Arm, matched: Arm | None, metric: Metric, confidence: float
) -> dict[str, Any]:
    """The numbers that the table shows for an arm's values.

    Args:
        arm, base: the arm and what it is compared with.
        matched: the base at the arm's learning rate times its gain, if that ran.
        metric, confidence: as in `judge`.
    """
    mean, low, high = interval(arm.values)

    def minus(other: Arm | None) -> Any:
        if other is None or other is arm:
            return None
        # a group is compared whole; pairs at the seeds that both have
        seeds = min(len(arm.values), len(other.values)) if metric.paired else None
        return difference(arm.values[:seeds], other.values[:seeds], metric, confidence)

    return {
        "mean": mean,
        "low": low,
        "high": high,
        "values": [*arm.values],
        "early_mean": mean_or_none(arm.early),
        "early_values": [*arm.early],
        "diverged": sum(arm.diverged),
        "to_base": minus(base),
        "to_lr_matched": minus(matched),
    }


def measured(values: Sequence[float | None], base: Sequence[float | None]) -> Any:
    """A number beside the result, by seed: a `stored.Measure`, at the seeds that both have."""
    pairs = zip(values, base, strict=False)
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    to_base = None
    if len(differences) > 1:
        to_base = dict(zip(("mean", "low", "high"), interval(differences), strict=True))
    return {"values": [*values], "mean": mean_or_none(values), "to_base": to_base}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
