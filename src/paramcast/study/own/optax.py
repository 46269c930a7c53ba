"""PLP and the controls derived from it, on an optax transformation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ...errors import StudyError
from ...integrations.optax import plp
from ..judging.table import RANDOM_JUMP
from ..training.wrapping import chosen


def wrap_optax(base: Any, method: str, noise_seed: int) -> Any:
    """The transformation with a method on it.

    Raises:
        StudyError: JAX does not have the method.
    """
    derived, found, _ = chosen(method)
    if found is None or found.name != "plp":
        raise StudyError(f"for JAX there is only plp, got {method}; choose --methods plp")
    knobs = dict(found.own)
    if unknown := set(knobs) - {"horizon", "start", "every"}:
        raise StudyError(f"for JAX plp has no {min(unknown)}; leave it out")
    if not derived:
        return plp(base, **knobs)
    return _with_other_jump(base, plp(optax.identity(), **knobs), derived, noise_seed)


def _with_other_jump(base: Any, predicting: Any, derived: str, seed: int) -> Any:
    """A control: the base, and PLP's jump backward or, tensor by tensor, in a random direction."""
    # the same update with PLP's jump replaced
    base = optax.with_extra_args_support(base)

    def init(params: Any) -> Any:
        return base.init(params), predicting.init(params), jnp.zeros([], jnp.int32)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        of_base, of_jump, steps = state
        updates, of_base = base.update(updates, of_base, params, **extra)
        # around the identity, PLP adds nothing but its jump
        ahead, of_jump = predicting.update(updates, of_jump, params)
        jump = jax.tree.map(jnp.subtract, ahead, updates)
        if derived == RANDOM_JUMP:
            jump = _redirected(jump, jax.random.fold_in(jax.random.key(seed % 2**32), steps))
        else:
            jump = jax.tree.map(jnp.negative, jump)
        return jax.tree.map(jnp.add, updates, jump), (of_base, of_jump, steps + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _redirected(jump: Any, key: Any) -> Any:
    def turn(leaf: Any, key: Any) -> Any:
        z = jax.random.normal(key, leaf.shape, leaf.dtype)
        return z * jnp.linalg.norm(leaf.ravel()) / jnp.linalg.norm(z.ravel())

    leaves, structure = jax.tree.flatten(jump)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, map(turn, leaves, keys))
