"""From arms to the verdicts and the lines of the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .stats import interval
from .verdict import Arm, Metric, Verdict, difference, judge_quality, judge_speed

BASE, PREDICTOR, AVERAGE, METHOD = "base", "predictor", "average", "method"
CONTROL, REFERENCE = "control", "reference"
JUDGED = (PREDICTOR, AVERAGE, METHOD)
"""The roles that get a verdict; a "method" is neither ours nor on top of the base."""
LR_MATCHED = "lr-matched"
"""The control that is the base at a predictor's learning rate times its velocity gain."""
RANDOM_JUMP = "random-jump"
"""The control that jumps as far as a predictor, in a random direction."""


def judge(arms: Sequence[Arm], metric: Metric, confidence: float) -> dict[str, dict[str, Verdict]]:
    """The verdicts by method: on "quality" and, if the arms ran with 0.8 T steps, on "speed".

    Args:
        arms: the base first.
        metric: how values compare.
        confidence: of the intervals.
    """
    base, found = arms[0], {}
    for arm in (arm for arm in arms if arm.role in JUDGED):
        controls = controls_of(arm, arms)
        found[arm.name] = {"quality": judge_quality(base, arm, controls, metric, confidence)}
        if arm.early:
            answer = judge_speed(base, arm, controls, metric, confidence)
            found[arm.name]["speed"] = answer
    return found


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
        return difference(arm.values, other.values, metric, confidence)

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


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
