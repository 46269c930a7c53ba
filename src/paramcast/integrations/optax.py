"""PLP for JAX: an optax gradient transformation around another one.

optax transformations return *updates* and never see the resulting parameters. So the points of a
cycle are read where they are known: theta_j is the `params` of the update after step j, and the
last point of a cycle is `params` plus the base's update. The last update of a cycle carries the
jump:

    jump = a theta_{k-2} + b theta_{k-1} - (a + b) theta_k

One buffer holds the sum so far, as an affine mean or a difference (`paramcast.tensors.functional`):
a sum of weighted parameters would move parameters that never moved. For PLP, (a, b) = (-1/2, 1/2):
copy theta_1, subtract theta_2, and add -1/2 * buffer to the third update.

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import ArgumentError, BaseOptimizerError
from ..running.second_points import SECOND_POINTS, second_point

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError(
        "paramcast.integrations.optax needs JAX and optax: pip install 'paramcast[jax]'"
    ) from error

__all__ = ["PLPState", "plp", "restart_cycle"]

# Weights of theta_{k-2} and theta_{k-1} in the start point, as in `predictors.Midline`.
STARTS = {"midpoint": (0.0, 0.5), "last": (0.0, 0.0), "mean": (1 / 3, 1 / 3)}
# The longest horizon, in steps.
FARTHEST = 1e6

# States of bases that cannot be wrapped, by the name of their type, with the reason.
#
# Those with a second point of their own are in `second_points`.
REFUSED = {
    "PLPState": "already predicts: wrap the plain transformation once",
    "MultiStepsState": "counts micro-batches as steps: MultiSteps(plp(base), ...)",
    "ApplyIfFiniteState": "counts skipped steps: apply_if_finite(plp(base), ...)",
    "ConditionallyMaskState": "counts skipped steps: conditionally_mask(plp(base), ...)",
    "LookaheadState": f"{SECOND_POINTS['Lookahead'].why}: lookahead(plp(base), ...)",
    "SAMState": "goes back to a point that it keeps: sam(..., opaque_mode=True) keeps none",
    "ScaleByLBFGSState": "collects curvature, which a predicted jump invalidates",
    "ScaleByBacktrackingLinesearchState": "keeps the loss of the point that it stepped to",
    "ScaleByZoomLinesearchState": "keeps the loss of the point that it stepped to",
}


class PLPState(NamedTuple):
    """The state of `plp`: a pytree of arrays, to be saved and restored like any other.

    Attributes:
        done: completed steps of the running cycle, 0 right after a prediction.
        buffer: one element per parameter, in the parameters' structure.
        base: the base's own state.
    """

    done: jax.Array
    buffer: Any
    base: Any


class _Plan(NamedTuple):
    """How the three points that count fold into the buffer.

    `second` is what theta_{k-1} does after theta_{k-2} was copied, `third` whether theta_k is
    subtracted, and the jump is scale * buffer. `share` and `keep` are the weights of an average.
    """

    second: str
    third: bool
    scale: float
    share: float = 0.0
    keep: float = 0.0


def plp(
    base: optax.GradientTransformation,
    horizon: float = 1.0,
    *,
    start: str = "midpoint",
    every: int = 3,
) -> optax.GradientTransformationExtraArgs:
    """Parameters Linear Prediction around an optax transformation.

        s          = (theta_k - theta_{k-2}) / 2                     slope per step
        theta_plus = start + horizon * s

    Every k = `every` updates the parameters become theta_plus: the k-th update is the base's plus
    the jump. It must be the last transformation before `optax.apply_updates`; clipping, weight
    decay and learning rates belong in `base`. Accumulation goes outside, `MultiSteps(plp(base))`.

    Args:
        base: the transformation that makes the steps, learning rate included.
        horizon: steps from the start point to the prediction, a finite number.
        start: "midpoint" (of the last two points), "last" or "mean" (of the last three).
        every: updates per cycle, at least 3.

    Returns:
        A transformation with the state `PLPState`. Its `update` needs `params`, passes extra
        arguments to the base, and can be compiled, scanned, mapped and sharded.

    Memory: one element per parameter, in its dtype with the default start and horizon 1, else in at
    least float32. A prediction with a non-finite value is not written. In bfloat16, a jump below
    half a unit in the last place of a parameter rounds away.

    Raises:
        BaseOptimizerError: base is not a gradient transformation or, on `init`, cannot be wrapped.
        ArgumentError: a horizon that is not finite, an unknown start, every < 3; on `update`, if
            `params` is missing.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = plp(optax.sgd(1.0))
        >>> weight = jnp.zeros(1)
        >>> state = optimizer.init(weight)
        >>> for gradient in (1.0, 2.0, 4.0):
        ...     updates, state = optimizer.update(jnp.array([gradient]), state, weight)
        ...     weight = optax.apply_updates(weight, updates)
        >>> weight.item()  # -1, -3, -7, and then the prediction
        -8.0

    Source: Ying et al., Scientific Reports 14:15197 (2024), doi 10.1038/s41598-024-65691-0.
    """
    _check_base(base)
    if isinstance(every, bool) or not isinstance(every, int) or every < 3:
        raise ArgumentError(
            f"every must be a whole number >= 3 (PLP reads 3 points), got {every!r}"
        )
    plan = _plan(_finite(horizon), start)
    inner = optax.with_extra_args_support(base)

    def init(params: Any) -> PLPState:
        state = inner.init(params)
        _check_state(state)
        buffer = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_dtype(p, plan)), params)
        return PLPState(jnp.zeros([], jnp.int32), buffer, state)

    def update(
        updates: Any, state: PLPState, params: Any = None, **extra: Any
    ) -> tuple[Any, PLPState]:
        if params is None:
            raise ArgumentError(
                "update() got no params, and predictions are made from the parameters: "
                "call update(gradients, state, params)"
            )
        updates, base_state = inner.update(updates, state.base, params, **extra)
        if plan is not None:
            # by phase: nothing yet, copy theta_{k-2}, close the cycle
            branches: list[Callable[[], tuple[Any, Any]]] = [
                lambda: (updates, state.buffer),
                lambda: (
                    updates,
                    jax.tree.map(lambda b, p: jnp.asarray(p, b.dtype), state.buffer, params),
                ),
                lambda: _close(plan, updates, state.buffer, params),
            ]
            phase = jnp.clip(state.done - (every - 3), 0, 2)  # theta_0 ... theta_{k-3}: nothing
            updates, buffer = jax.lax.switch(phase, branches)
        else:
            buffer = state.buffer
        return updates, PLPState((state.done + 1) % every, buffer, base_state)

    return optax.GradientTransformationExtraArgs(init, update)


def restart_cycle(state: PLPState) -> PLPState:
    """Forget the points of the running cycle; the next update starts a new one.

    Call it after changing the parameters from outside, for example by restoring an earlier
    checkpoint of the model: points of two different trajectories do not lie on one line.
    """
    return state._replace(done=jnp.zeros_like(state.done))


def _close(plan: _Plan, updates: Any, buffer: Any, params: Any) -> tuple[Any, Any]:
    """The last update of a cycle: take in the last two points, and add the jump."""
    last = optax.apply_updates(params, updates)  # theta_k, as the base leaves it
    buffer = jax.tree.map(lambda b, p: _second(plan, b, p), buffer, params)
    if plan.third:
        buffer = jax.tree.map(lambda b, p: b - p, buffer, last)
    # one non-finite element rejects the whole prediction
    sound = jnp.array(True)
    for leaf in jax.tree.leaves(buffer):
        sound &= jnp.all(jnp.isfinite(leaf))

    def add(update: Any, b: Any, end: Any) -> Any:
        jump = plan.scale * b
        # one that would overflow stays where the base put it
        there = (end + jump).astype(jnp.result_type(end))
        jump = jnp.where(sound & jnp.isfinite(there), jump, jnp.zeros_like(jump))
        return (update + jump).astype(jnp.result_type(update))

    return jax.tree.map(add, updates, buffer, last), buffer


def _second(plan: _Plan, b: Any, point: Any) -> Any:
    if plan.second == "copy":
        return jnp.asarray(point, b.dtype)
    if plan.second == "subtract":
        return b - point
    if plan.second == "average" and abs(plan.keep) < 0.5:  # 1 - share would be rounded
        return point + plan.keep * (b - point)
    if plan.second == "average":
        return b + plan.share * (point - b)
    return b


def _plan(horizon: float, start: str) -> _Plan | None:
    """Plan the three folds; None where the jump is always 0."""
    if start not in STARTS:
        raise ArgumentError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    # weights of theta_{k-2} and theta_{k-1} in the jump; that of theta_k is -(a + b)
    first, second = STARTS[start]
    # theta_plus - theta_k = (start - theta_k) + horizon (theta_k - theta_{k-2}) / 2
    a, b = first - horizon / 2, second
    # a weight that rounding alone keeps from 0, as 1/3 - horizon / 2 can: it needs no fold
    tiny = 1e-9 * max(abs(a), abs(b), abs(a + b))
    if tiny == 0.0:
        return None
    if abs(a) <= tiny:
        return _Plan("copy", True, b)
    if abs(b) <= tiny:
        return _Plan("skip", True, a)
    if abs(a + b) <= tiny:
        return _Plan("subtract", False, a)
    # jump = (a + b) (m - theta_k) with the mean m = (a theta_{k-2} + b theta_{k-1}) / (a + b)
    return _Plan("average", True, a + b, b / (a + b), a / (a + b))


def _dtype(parameter: Any, plan: _Plan | None) -> Any:
    """A difference keeps the parameter's dtype; a mean has at least float32."""
    own = jnp.result_type(parameter)
    mean = plan is not None and plan.second == "average"
    return jnp.promote_types(own, jnp.float32) if mean else own


def _finite(horizon: float) -> float:
    number = isinstance(horizon, (int, float)) and not isinstance(horizon, bool)
    if not number or not math.isfinite(horizon) or abs(horizon) > FARTHEST:
        raise ArgumentError(
            f"horizon must be a finite number in [-{FARTHEST:g}, {FARTHEST:g}], got {horizon!r}"
        )
    return float(horizon)


def _check_base(base: object) -> None:
    if not isinstance(base, optax.GradientTransformation):
        hint = (
            "put it outside: optax.MultiSteps(plp(base), ...)"
            if isinstance(base, optax.MultiSteps)
            else "construct one first: plp(optax.sgd(0.1))"
        )
        raise BaseOptimizerError(
            f"base must be an optax gradient transformation, got {type(base).__name__}; {hint}"
        )


def _check_state(state: Any) -> None:
    """Refuse a base by the state that it keeps, however deep in a chain."""
    for node in jax.tree.leaves(state, is_leaf=lambda node: _reason(node) is not None):
        if (reason := _reason(node)) is not None:
            raise BaseOptimizerError(f"base keeps a {type(node).__name__}; it {reason}")


def _reason(node: Any) -> str | None:
    """Why a base with this state cannot be wrapped; None for all others."""
    name = type(node).__name__
    if name == "SAMState" and node.cache is None:  # opaque: both of its steps are one update
        return None
    found = second_point(name)
    return REFUSED.get(name) or (found and found.why)
