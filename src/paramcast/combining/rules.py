"""What is tried: averages and predictors of the library, as weights of the checkpoints.

Each rule becomes weights (w_1, ..., w_n) of the n checkpoints, oldest first, which sum to 1:

    mean    the last k alike                         averaging.LAWA
    ema     w_i ~ d^(n-i)                            averaging.EMA
    rre     the displacements that cancel best       predictors.RRE, from their inner products
    line    a least-squares line, read ahead         predictors.LeastSquares; PLP is Midline

A step of these rules is the distance between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from .._checks import as_constructed
from ..averaging import EMA, LAWA, Average
from ..errors import ArgumentError, CheckpointError
from ..predictors import RRE, Affine, LeastSquares, Midline

Rule = Average | Affine | RRE
PREDICTORS = ("mean", "ema", "rre", "line")
# Which predictors read a knob.
READERS = {"last": {"mean", "rre", "line"}, "decay": {"ema"}, "horizon": {"line"}}
# Checkpoints past the last at which lines are read.
HORIZONS = (0.0, 1.0, 2.0)


class Candidate(NamedTuple):
    """A rule and what to call it."""

    name: str
    rule: Rule


class Knobs(NamedTuple):
    """The values that the user wants to try, as `combine` explains them; empty: the usual ones."""

    last: Sequence[int] = ()
    decay: Sequence[float] = ()
    horizon: Sequence[float] = ()


def candidates(
    predictors: Sequence[str | Rule], count: int, knobs: Knobs, *, many: bool
) -> list[Candidate]:
    """What is tried on `count` checkpoints: of each name in `PREDICTORS` one value, or `many`.

    A knob that fits no predictor or is out of its range is an `ArgumentError`.
    """
    # names that there are, with knobs that they read
    kinds = [each for each in predictors if isinstance(each, str)]
    for kind in kinds:
        if kind not in PREDICTORS:
            raise ArgumentError(f"predictor must be one of {', '.join(PREDICTORS)}, got {kind!r}")
    for name, readers in READERS.items():
        if getattr(knobs, name) and not readers & set(kinds):
            raise ArgumentError(
                f"{name} is for {' and '.join(sorted(readers))}, got {', '.join(kinds) or 'none'}"
            )
    for last in knobs.last:
        if not 2 <= last <= count:
            raise ArgumentError(f"last must be from 2 to the {count} checkpoints, got {last}")
    # one grid for each name; an object of the library stands for itself
    found: list[Candidate] = []
    if many or len(predictors) == 1:
        for each in dict.fromkeys(predictors):
            if isinstance(each, str):
                found += _grid(each, count, knobs, many)
            elif isinstance(each, Rule):
                found.append(Candidate(as_constructed(each), each))
            else:
                raise ArgumentError(
                    f"{as_constructed(each)} has no fixed weights; give a name of "
                    f"{', '.join(PREDICTORS)}, an average, an affine predictor or RRE"
                )
    if not many and len(found) != 1:
        raise ArgumentError(
            f"without an evaluation one combination can be made, got {len(found) or 'several'}; "
            "name one predictor with one value of each knob, or give an evaluation that chooses"
        )
    return found


def lengths(most: int, least: int = 2) -> list[int]:
    """Numbers of checkpoints to try: each about 1.6 times the one before, and all of them.

    >>> lengths(10)
    [2, 3, 5, 8, 10]
    """
    tried, a, b = [], 2, 3
    while a < most:
        tried.append(a)
        a, b = b, a + b
    return [length for length in [*tried, most] if length >= least]


def _grid(kind: str, count: int, knobs: Knobs, many: bool) -> Iterator[Candidate]:
    """The candidates of one name: the user's values of each knob, or the usual ones."""
    if kind == "mean":
        for last in knobs.last or (lengths(count) if many else [count]):
            yield Candidate(f"mean of the last {last}", LAWA(last, every=1))
    elif kind == "ema":
        if not knobs.decay and not many:
            raise ArgumentError("ema needs a decay, such as 0.7 per checkpoint, or an evaluation")
        for decay in knobs.decay:
            yield Candidate(f"ema, decay {decay:g}", EMA(decay))
        half_life = 0.5
        while not knobs.decay and half_life <= max(1.0, count / 2):
            rule = EMA(half_life=half_life)
            yield Candidate(f"ema, decay {rule.decay:.3g} (half-life {half_life:g})", rule)
            half_life *= 2
    elif kind == "rre":
        if count < 3:
            raise CheckpointError(
                f"rre reads at least 3 checkpoints, got {count}; add earlier ones"
            )
        for last in knobs.last or (lengths(count, 3) if many else [count]):
            if last < 3:
                raise ArgumentError(f"rre reads at least 3 checkpoints, got last={last}")
            yield Candidate(f"rre over the last {last}", RRE(last - 1))
    else:  # a line
        if many and not knobs.last and not knobs.horizon and count > 2:
            yield Candidate("line of plp", Midline())
        for last in knobs.last or (lengths(count, min(3, count)) if many else [count]):
            for horizon in knobs.horizon or (HORIZONS if many else [1.0]):
                line = LeastSquares(last, horizon)
                if any(line.weights[:-1]):  # else it is the last checkpoint itself
                    yield Candidate(f"line through the last {last}, {horizon:g} ahead", line)


def weights_of(rule: Rule, count: int, products: Callable[[], Tensor]) -> tuple[float, ...]:
    """The weights of `count` checkpoints, oldest first.

    `products` returns the inner products of the steps between them, which RRE alone needs.

    Example:
        >>> weights_of(LAWA(2, every=1), 3, lambda: None)
        (0.0, 0.5, 0.5)
    """
    if isinstance(rule, RRE):
        found = _weights_of_rre(rule, count, products)
    elif isinstance(rule, Average):
        found = _weights_of_average(rule, count)
    else:
        # a leading 0 is a point that the rule passes over, such as the one before the first step
        first = next(i for i, weight in enumerate(rule.weights) if weight)
        found = list(rule.weights[first:])
    if len(found) > count:
        raise CheckpointError(
            f"{as_constructed(rule)} reads {len(found)} checkpoints, got {count}; add earlier ones"
        )
    return (*[0.0] * (count - len(found)), *found)


def _weights_of_average(rule: Average, count: int) -> list[float]:
    weights, updates = [0.0] * count, 0
    for step in range(1, count + 1):
        share = rule.weight(step, updates, count)
        if share is not None:
            weights = [weight * (1.0 - share) for weight in weights]
            weights[step - 1] = share
            updates += 1
    if not updates:
        raise CheckpointError(f"{as_constructed(rule)} reads none of the {count} checkpoints")
    if rule.slower is None:
        return weights
    slow = _weights_of_average(rule.slower, count)
    return [w + rule.ahead * (w - s) for w, s in zip(weights, slow, strict=True)]


def _weights_of_rre(rule: RRE, count: int, products: Callable[[], Tensor]) -> list[float]:
    n = rule.window
    if count <= n:
        return [0.0] * (n + 1)  # too few, as the caller says
    amounts, shrink = rule.amounts(products()[-n:, -n:])
    if shrink != shrink:
        raise CheckpointError(
            "a checkpoint holds NaN or infinity, which rre cannot read; leave that checkpoint out"
        )
    # jump = sum_i a_i (theta_{i+1} - theta_i), added to the last point
    jump = [shrink * float(amount) for amount in amounts]
    return [a - b for a, b in zip([0.0, *jump], [*jump, -1.0], strict=True)]
