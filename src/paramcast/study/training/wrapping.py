"""What a method adds to an optimizer that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ...averaging import EMA, Average
from ...forecast import Forecast
from ...predictors import Predictor, RandomDirection, SignFlipped
from ...schedules import Demon
from ..judging.table import RANDOM_JUMP
from . import own
from .methods import (
    BASE,
    SIGN_FLIPPED,
    Kind,
    Method,
    OwnOptimizer,
    derived_from,
    parse_methods,
)
from .predictions import Predictions


def chosen(method: str) -> tuple[str, Method | None, Kind]:
    """A run's method in parts: what is derived from it ("" if nothing is), itself, and its kind.

    >>> chosen("random-jump:plp")[:2]
    ('random-jump', Method(name='plp', knobs=()))
    """
    if method == "base":
        return "", None, BASE
    derived, source = derived_from(method)
    (found,) = parse_methods(source)
    return derived, found, found.kind


def wrap(
    optimizer: Optimizer,
    method: str,
    steps: int | None,
    noise_seed: int,
    *,
    base: str = "",
    watch: Predictions | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Put a method on an optimizer.

    Args:
        optimizer: the base's, or what takes its place.
        method: "base", a label of `parse_methods`, or a derived control such as "random-jump:plp".
        steps: the run's total number of steps, if it is known.
        noise_seed: of random-jump and gradient-noise.
        base: the name of the base, some of which come with an average or a schedule.
        watch: the monitor that receives each prediction.
        settings: what is searched, for an optimizer of the user's that takes it.
    """
    derived, found, kind = chosen(method)
    name, knobs = (found.name, found.own) if found else ("", {})
    if isinstance(found, OwnOptimizer):  # in the base's place, or around it
        # the user's function gets the trained parameters, and the base in case it wraps one
        searched = {n: v for n, v in (settings or {}).items() if own.takes(name, knobs, n)}
        knobs, lr = {**knobs, **searched}, optimizer.param_groups[0]["lr"]
        return own.make(name, knobs, _learnable(optimizer), lr, lambda: optimizer)
    # what acts inside its steps
    if kind.noise is not None:
        kind.noise(**knobs).attach(optimizer, noise_seed)
    # what wraps it: a predictor or a control derived from one, and an average
    predictor: Predictor | None = kind.predictor(**knobs) if kind.predictor is not None else None
    if predictor is not None and derived == RANDOM_JUMP:
        predictor = RandomDirection(predictor, seed=noise_seed)
    elif predictor is not None and derived == SIGN_FLIPPED:
        predictor = SignFlipped(predictor)
    average: Average | None = EMA(share=0.05) if base == "ema" else None
    if kind.average is not None:
        average = kind.average(**knobs)
    wrapped = optimizer
    if predictor is not None or average is not None:
        watching = []
        if watch is not None and predictor is not None:
            watching = [watch.begin(_learnable(optimizer), (steps or 0) // predictor.every)]
        wrapped = Forecast(
            optimizer, predictor, average=average, total_steps=steps, monitors=watching
        )
    # what follows each of its steps
    if "demon" in (name, base):
        momentum = Demon(optimizer, steps or 0)
        wrapped.register_step_post_hook(lambda *_: momentum.step())
    return wrapped


def _learnable(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
