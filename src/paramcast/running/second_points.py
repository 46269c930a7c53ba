"""Bases that keep a second point of their own, which a jump does not move. No torch, no JAX here.

How they were found: two copies get the same gradients, and one is displaced between two steps. A
base that can be wrapped keeps the displacement; these lose part or all of it.
"""

from __future__ import annotations

from typing import NamedTuple


class SecondPoint(NamedTuple):
    """Why a jump does not work, and what torch users can do instead."""

    why: str
    instead: str


_SLOW = SecondPoint(
    "holds two sets of parameters, and a jump moves only one of them",
    "wrap the optimizer inside: Forecast(inner, predictors.Interpolate()) is Lookahead",
)
_SUMS = SecondPoint(
    "computes each point from sums of its own, so that a jump is undone",
    "wrap an optimizer that adds its steps to the parameters, such as SGD or AdamW",
)
# Keyed by part of the name of an optimizer's class or, for optax, of its state's class.
SECOND_POINTS: dict[str, SecondPoint] = {
    "ScheduleFree": SecondPoint(
        "trains between two sequences of its own, which a jump tears apart",
        "use predictors.PrimalAveraging() over the plain optimizer, which averages likewise",
    ),
    **dict.fromkeys(("Lookahead", "Ranger"), _SLOW),
    **dict.fromkeys(
        ("MADGRAD", "Madgrad", "DAdaptAdaGrad", "DAdaptSGD", "FTRL", "A2Grad", "SRMM"), _SUMS
    ),
    **dict.fromkeys(("TRAC", "COCOB", "Mechanic"), _SUMS),
}


def second_point(name: str) -> SecondPoint | None:
    """What is known of the base with this class name; None for those that can be wrapped."""
    return next((why for part, why in SECOND_POINTS.items() if part in name), None)
