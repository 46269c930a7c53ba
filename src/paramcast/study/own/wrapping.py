"""Put a method on an optimizer of the user's: torch's, or optax's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import StudyError
from ..training import own
from ..training.methods import ON_DRIFT, Method, OwnOptimizer

MAKES_ITS_BASE = ("nesterov", "no-momentum", "schedule-free", "state-reset", "perturbed")
"""Methods that need another base, or a model: a training of the user's makes its own."""


def check_own_methods(methods: Iterable[Method]) -> None:
    """Refuse a method that cannot be put on an optimizer that is made already.

    Raises:
        StudyError: a method that would have to make the optimizer itself.
    """
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
                f"method {method.label} reacts to drift, and only a task with a stream has some; "
                f"leave out {ON_DRIFT}"
            )


def wrap(optimizer: Any, method: str, steps: int | None, noise_seed: int) -> Any:
    """The optimizer with a method on it.

    Args:
        optimizer: a torch optimizer or an optax transformation.
        method: a label of `parse_methods`, or a derived control such as "random-jump:plp".
        steps: the run's total number of steps, if it is known.
        noise_seed: of what the method draws.

    Raises:
        StudyError: neither of the two, or the method is not there for it.
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
    progress = kind.average is not None and kind.average(**own).progress
    if steps is None and (progress or (found is not None and found.name == "demon")):
        raise StudyError(
            "it needs the number of steps: call trial.steps(TOTAL) before trial.wrap(optimizer)"
        )
    wrapped, followers = wrapping.wrap(optimizer, method, steps, noise_seed)
    for follower in followers:  # they step after each step of what the training holds
        wrapped.register_step_post_hook(lambda *_, each=follower: each.step())
    return wrapped


def steps_of(optimizer: Any) -> int | None:
    """The steps that a wrapped optimizer made; None if it does not count them (optax)."""
    cycle = getattr(optimizer, "_cycle", None)
    return None if cycle is None else int(cycle.steps)
