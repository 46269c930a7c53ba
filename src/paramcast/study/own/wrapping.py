"""Put a method on the user's optimizer, torch's or optax's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import StudyError
from ..training import own
from ..training.methods import ON_DRIFT, Method, OwnOptimizer

MAKES_ITS_BASE = ("nesterov", "no-momentum", "schedule-free", "state-reset", "perturbed")
"""Methods that need another base or a model; a user's training makes its own."""


def check_own_methods(methods: Iterable[Method]) -> None:
    """Refuse a method that cannot be put on an existing optimizer.

    Raises:
        StudyError: a method that would have to make the optimizer itself.
    """
    # a user's optimizer is tried out, the rest is known
    for method in methods:
        if isinstance(method, OwnOptimizer):
            own.check(method.name, method.own)
        if method.name in MAKES_ITS_BASE:
            raise StudyError(
                f"method {method.name} makes an optimizer of its own, and this training makes "
                "its optimizer itself; leave it out with --methods"
            )
        if ON_DRIFT in dict(method.knobs):
            raise StudyError(
                f"method {method.label} reacts to drift, and only a task with a stream has any; "
                f"leave out {ON_DRIFT}"
            )


def wrap(optimizer: Any, method: str, steps: int | None, noise_seed: int) -> Any:
    """The optimizer with a method on it.

    Args:
        optimizer: a torch optimizer or an optax transformation.
        method: a label of `parse_methods`, or a derived control such as "random-jump:plp".
        steps: the run's total number of steps, if it is known.
        noise_seed: seeds what the method draws.

    Raises:
        StudyError: it is neither of the two, or does not support the method.
    """
    if any(kind.__module__.startswith("optax.") for kind in type(optimizer).__mro__):
        from .optax import wrap_optax

        return wrap_optax(optimizer, method, noise_seed)
    from torch.optim import Optimizer

    from ..training import wrapping

    if not isinstance(optimizer, Optimizer):
        raise StudyError(
            f"trial.wrap takes a torch optimizer or an optax transformation, "
            f"got {type(optimizer).__name__}; give it what makes the steps"
        )
    _, found, kind = wrapping.chosen(method)
    own = {} if found is None else found.own
    # some averages and DEMON depend on the share of the steps that are done
    progress = kind.average is not None and kind.average(**own).progress
    if steps is None and (progress or (found is not None and found.name == "demon")):
        raise StudyError(
            "it needs the number of steps: call trial.steps(TOTAL) before trial.wrap(optimizer)"
        )
    return wrapping.wrap(optimizer, method, steps, noise_seed)


def steps_of(optimizer: Any) -> int | None:
    """The steps that a wrapped optimizer has made; None if it does not count them (optax)."""
    cycle = getattr(optimizer, "_cycle", None)
    return None if cycle is None else int(cycle.steps)
