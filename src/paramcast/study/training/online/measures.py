"""The measures of a run on a stream: pure functions of accuracies and step numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

WINDOW = 10  # the running accuracy is the mean over that many steps
REGAINED = 0.95  # a drift is recovered from at this share of the level before it


def forgetting(accuracy: Sequence[Sequence[float]]) -> float:
    """How much of the best accuracy on earlier segments is lost at the end.

    With a[i][j] the accuracy on segment j after learning segment i, of n,

        the mean over j < n of  max over i < n of a[i][j]  minus  a[n][j].

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018 (arXiv
    1801.10112).

    Example:
        >>> forgetting([[0.9, 0.0], [0.4, 0.8]])
        0.5
    """
    *earlier, final = accuracy
    return fmean(max(row[j] for row in earlier) - final[j] for j in range(len(final) - 1))


def learning(accuracy: Sequence[Sequence[float]]) -> float:
    """The mean accuracy on each segment just after learning it: the diagonal."""
    return fmean(row[i] for i, row in enumerate(accuracy))


class Recovery(NamedTuple):
    """The effect of a drift on the running accuracy."""

    before: float  # the level, the mean of the last steps before the drift
    lowest: float  # the lowest running accuracy until the next drift
    steps: int  # until 95 % of the level are regained; 0 if they were never lost
    recovered: bool  # False: never regained; `steps` are then all until the next drift


def recovery(before: Sequence[float], after: Sequence[float], window: int = WINDOW) -> Recovery:
    """Measure the fall and the recovery of an accuracy around one drift.

    Args:
        before: the accuracy at each step from the previous drift to this one.
        after: the accuracy at each step from this drift to the next.
        window: steps in the running mean.

    Example:
        >>> recovery([0.8, 0.8], [0.0, 0.4, 0.8, 0.8], window=2)
        Recovery(before=0.8, lowest=0.0, steps=4, recovered=True)
    """
    level = fmean(before[-window:])
    # the running mean starts again at the drift
    curve = [fmean(after[max(0, t + 1 - window) : t + 1]) for t in range(len(after))]
    # the recovery follows the lowest point: with a gradual drift the fall comes some time later
    lowest = min(range(len(curve)), key=curve.__getitem__)
    regained = [t + 1 for t in range(lowest, len(curve)) if curve[t] >= REGAINED * level]
    steps = regained[0] if regained else len(curve)
    never_lost = curve[lowest] >= REGAINED * level
    return Recovery(level, curve[lowest], 0 if never_lost else steps, bool(regained))


class Detection(NamedTuple):
    """How well the alarms match the drifts."""

    delay: float  # mean steps from a drift to its alarm; for a missed drift, to the next drift
    missed: int  # drifts without an alarm before the next drift
    false: int  # alarms before the first drift, and all but the first after each


def detection(alarms: Sequence[int], drifts: Sequence[int], steps: int) -> Detection:
    """Compare the steps of the alarms with those of the drifts, both counted from 0.

    Example:
        >>> detection([3, 12, 15], [10, 20], 30)  # 3 and 15 are false, the drift at 20 is missed
        Detection(delay=6.0, missed=1, false=2)
    """
    ends = [*drifts[1:], steps]
    false, missed, delays = sum(a < drifts[0] for a in alarms), 0, []
    for start, end in zip(drifts, ends, strict=True):
        # from a drift to the next the first alarm counts
        inside = [a for a in alarms if start <= a < end]
        missed += not inside
        false += max(0, len(inside) - 1)
        delays.append((min(inside) if inside else end) - start)
    return Detection(fmean(delays), missed, false)


def drift_measures(
    accuracy: Sequence[float], drifts: Sequence[int], gradual: Sequence[bool], alarms: Sequence[int]
) -> dict[str, float]:
    """All numbers about the drifts of a run, by name (docs/online.md).

    Args:
        accuracy: of each step, on held-out examples.
        drifts: the steps at which segments start, except for the first.
        gradual: for each drift, whether it has a ramp.
        alarms: the steps at which a drift was detected.
    """
    starts, ends = [0, *drifts[:-1]], [*drifts[1:], len(accuracy)]
    found = [
        recovery(accuracy[a:b], accuracy[b:c]) for a, b, c in zip(starts, drifts, ends, strict=True)
    ]
    # a drift that is not recovered from counts with all its steps
    kinds = {"recovery": found}
    if any(gradual) and not all(gradual):
        kinds["recovery_abrupt"] = [r for r, g in zip(found, gradual, strict=True) if not g]
        kinds["recovery_gradual"] = [r for r, g in zip(found, gradual, strict=True) if g]
    met = detection(alarms, drifts, len(accuracy))
    return {
        "prequential": fmean(accuracy),
        **{name: fmean(r.steps for r in of) for name, of in kinds.items()},
        "unrecovered": float(sum(not r.recovered for r in found)),
        "level_before": fmean(r.before for r in found),
        "level_lowest": fmean(r.lowest for r in found),
        "detection_delay": met.delay,
        "missed_drifts": float(met.missed),
        "false_alarms": float(met.false),
    }
