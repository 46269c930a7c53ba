"""What a comparison costs in trainings, and how to fit it into a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..errors import StudyError
from .judging.table import CONTROL, JUDGED, PREDICTOR, REFERENCE
from .judging.tune import VERTEX, largest_search, rates_around
from .spec import NEVER
from .training.methods import SIGN_FLIPPED

if TYPE_CHECKING:
    from .judging.looks import Look
    from .plan import Options

CHEAPER = 4, 2
"""Learning rates and tuning seeds of a search for a small budget."""


class Price(NamedTuple):
    """Numbers of trainings.

    Attributes:
        least: if everything is decided at the first look.
        usual: if a method is as good as the base, and the second look shows it.
        most: if all looks and all arms are needed.
    """

    least: int
    usual: int
    most: int


def price(o: Options) -> Price:
    """The trainings that a comparison takes."""
    methods, controls, looks = _methods(o), _controls(o), [n for n, _ in o.looks]
    shares = 1 if o.speed == NEVER else 2
    least_tuning, most_tuning = _tuning(o)
    most = most_tuning + (1 + methods + controls) * shares * looks[-1]
    if not o.lazy:  # all arms at every look
        return Price(least_tuning + (1 + methods + controls) * shares * looks[0], most, most)
    # usually the base and the methods, and the methods once more with 0.8 T steps
    # looks[:2][-1] is the second look, or the only one; its seeds include the first's
    usual = (1 + methods + methods * (shares - 1)) * looks[:2][-1]
    return Price(
        least_tuning + (1 + methods) * looks[0], (least_tuning + most_tuning) // 2 + usual, most
    )


def affordable(o: Options, runs: int) -> tuple[int, int]:
    """How many learning rates and tuning seeds that many trainings allow.

    A first look with its controls takes precedence over a finer search. If not even the cheapest
    search leaves enough for the controls, what is left may not pay for them.

    Raises:
        StudyError: the trainings are not enough for the cheapest search and a first look.
    """
    first, searches = o.looks[0].seeds, [(o.trials, o.trial_seeds)]
    if o.tuned and o.trials > CHEAPER[0]:
        searches.append(CHEAPER)
    # the fine search with all arms, the cheap one with all, then both without the controls
    for arms in (1 + _methods(o) + _controls(o), 1 + _methods(o)):
        for trials, seeds in searches:
            needed = _tuning(o, trials, seeds)[1] + arms * first
            if needed <= runs:
                return trials, seeds
    advice = "--lr X tunes nothing and takes fewer" if o.tuned else "name fewer methods"
    raise StudyError(
        f"the budget allows {runs} trainings, and the smallest comparison may take {needed}: allow "
        f"that many, or {advice}"
    )


def within(o: Options, runs: int) -> tuple[Price, list[Look]]:
    """The price of a comparison that may take that many trainings, and the looks it can reach.

    Raises:
        StudyError: as from `affordable`.
    """
    trials, seeds = affordable(o, runs)
    whole = price(replace(o, trials=trials, trial_seeds=seeds))
    first, tuning = o.looks[0].seeds, _tuning(o, trials, seeds)[0]
    each = (whole.least - tuning) // first  # trainings of a seed, where no control is needed
    reached = [look for look in o.looks if tuning + each * look.seeds <= runs]
    return Price(*(min(n, runs) for n in whole)), reached


def _tuning(o: Options, trials: int | None = None, seeds: int | None = None) -> tuple[int, int]:
    """The least and the most tuning runs."""
    if not o.tuned:
        return 0, 0
    trials, seeds = trials or o.trials, seeds or o.trial_seeds
    if o.tune_rule == VERTEX:
        controls = sum(m.kind.role == CONTROL for m in o.methods)
        least, most = (1 + _methods(o) + n for n in (0 if o.lazy else controls, controls))
        return trials * seeds * least, trials * seeds * most
    known = o.tuned_base is not None
    points = len(rates_around(1.0, trials)) if known else trials
    base = 0 if known else largest_search(points, seeds, base=True)
    # a control is tuned only if it is needed
    methods, named = _methods(o), sum(m.kind.role == CONTROL for m in o.methods)
    most = largest_search(points, seeds, base=False) * (methods + named)
    return base + points * methods, base + most


def _methods(o: Options) -> int:
    """How many methods run beside the base at every look: those judged, and references."""
    return sum(m.kind.role in (*JUDGED, REFERENCE) for m in o.methods)


def _controls(o: Options) -> int:
    """How many arms run only where a predictor is better than the base."""
    predictors = sum(m.kind.role == PREDICTOR for m in o.methods)
    derived = 1 + o.random_jump + any(m.name == SIGN_FLIPPED for m in o.methods)
    return predictors * derived + sum(m.kind.role == CONTROL for m in o.methods)
