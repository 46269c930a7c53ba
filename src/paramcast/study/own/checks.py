"""Checks of a user's training that need several runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import StudyError
from ..spec import RunSpec

Outcome = dict[str, Any]
IGNORES_SEED = (
    "runs with different seeds are exactly the same, so more of them would tell nothing; "
    "seed what is random in the training with trial.seed, or {seed} in the command (if they only "
    "end alike, trial.report a loss on the way)"
)


def check_seeds(specs: Iterable[RunSpec], outcomes: Mapping[str, Outcome]) -> None:
    """Refuse a training that ignores its seed.

    Args:
        specs: runs that have outcomes.
        outcomes: theirs, by key.

    Raises:
        StudyError: all runs that differ only in the seed gave the same values.
    """
    found: dict[tuple[Any, ...], list[Any]] = {}
    for spec in specs:
        if outcomes[spec.key]["status"] == "done":
            same = spec.method, spec.lr, spec.share, spec.phase
            found.setdefault(same, []).append(_values(outcomes[spec.key]))
    several = [values for values in found.values() if len(values) > 1]
    if several and all(value == values[0] for values in several for value in values):
        raise StudyError(IGNORES_SEED)


def check_acts(method: str, runs: Sequence[Outcome], base: Sequence[Outcome]) -> None:
    """Refuse a method whose runs equal the base's; a torch run itself tells whether it acted.

    Args:
        method: its name.
        runs, base: the method's and the base's, at the same learning rate, by seed.

    Raises:
        StudyError: they are the same in every value.
    """
    if not any(run["acted"] for run in runs) and same(runs, base):
        raise StudyError(
            f"the runs of {method} are exactly those of the base, so the training steps an "
            "optimizer that trial.wrap did not return; keep what it returns: "
            "`optimizer = trial.wrap(optimizer)`"
        )


def with_values(outcomes: Mapping[str, Outcome], *, higher_is_better: bool) -> dict[str, Outcome]:
    """The outcomes, each diverged run with the worst value of those that did not diverge.

    In a task it would score as a constant prediction does; that value is not known here.

    Raises:
        StudyError: every run diverged.
    """
    known = [o["test"]["metric"] for o in outcomes.values() if o["status"] == "done"]
    if not known:
        raise StudyError("every run diverged, so there is nothing to judge; try lower rates")
    worst = min(known) if higher_is_better else max(known)
    return {
        key: o if o["status"] == "done" else {**o, "test": {**o["test"], "metric": worst}}
        for key, o in outcomes.items()
    }


def same(some: Sequence[Outcome], others: Sequence[Outcome]) -> bool:
    """Whether runs are, seed by seed, the same in every value; one pair alone shows nothing."""
    pairs = [(_values(a), _values(b)) for a, b in zip(some, others, strict=False)]
    return len(pairs) > 1 and all(a == b for a, b in pairs)


def _values(outcome: Outcome) -> Any:
    """What a run returned, and what it reported along the way."""
    told = outcome["test"]["metric"], outcome["validation"]["loss"], outcome["trace"]
    return *told, outcome["measures"]
