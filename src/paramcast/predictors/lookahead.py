"""Lookahead: part of the way back, and what becomes of the base's momentum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._checks import finite, whole
from ..errors import ArgumentError, BaseOptimizerError
from ..tensors import functional as F
from .affine import Affine
from .base import Workspace

MOMENTA = ("momentum_buffer", "exp_avg", "momentum")
"""What optimizers call a momentum or first moment in their state."""
NO_MOMENTA = {
    "step", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_var", "max_exp_avg_var", "square_avg",
    "grad_avg", "acc_delta", "sum", "exp_inf", "variance", "row_var", "col_var", "prev",
    "step_size", "eta", "mu", "mu_product", "ax", "s", "p0",
}  # fmt: skip
"""Other state that may be as large as a parameter: scales, and Prodigy's start and distance."""


class Interpolate(Affine):
    """Lookahead: go part of the way back to where the cycle started.

        theta_plus = theta_0 + alpha * (theta_k - theta_0)

    What becomes of the base's momentum m is a choice:

        momentum="keep"       m stays
        momentum="reset"      m <- 0
        momentum="pullback"   m <- m_0 + alpha * (m - m_0), m_0 that of the cycle's start

    alpha = 1 is the base optimizer; with "reset", one whose momentum restarts every k steps.
    m is what the base's state holds as momentum_buffer, exp_avg or momentum. A base without
    any is left alone; one whose state holds it under another name, or quantised, causes an error at
    the end of the first cycle, before anything is written.

    Args:
        every: k, optimizer steps per cycle, at least 1.
        alpha: share of the way that is kept, 0 < alpha <= 1.
        momentum: "keep", "reset" or "pullback".

    Memory: one element per parameter, a second one for "pullback".

    Raises:
        ArgumentError: every < 1, alpha outside (0, 1], an unknown momentum.
        BaseOptimizerError: in a step, if "reset" or "pullback" does not know the base's state.

    Example:
        >>> Interpolate(5, 0.5).weights
        (0.5, 0.0, 0.0, 0.0, 0.0, 0.5)

    Source: Zhang et al., Lookahead Optimizer (2019), arXiv 1907.08610.
    """

    knobs = ("every", "alpha", "momentum")
    MOMENTUM = ("keep", "reset", "pullback")

    def __init__(self, every: int = 5, alpha: float = 0.5, *, momentum: str = "keep") -> None:
        every = whole("every", every, 1, "Interpolate")
        self.alpha = finite("alpha", alpha)
        if not 0.0 < self.alpha <= 1.0:
            raise ArgumentError(
                f"alpha must be above 0 and at most 1, got {alpha!r}; to go forward use Secant"
            )
        if momentum not in self.MOMENTUM:
            raise ArgumentError(
                f"momentum must be one of {', '.join(self.MOMENTUM)}, got {momentum!r}"
            )
        self.momentum = momentum
        super().__init__((1 - self.alpha, *(0.0,) * (every - 1), self.alpha))
        self.buffers = 2 if momentum == "pullback" else 1
        self.adjusts_base = momentum != "keep"

    def first_point(self, horizon: float | None) -> int | None:
        first = super().first_point(horizon)
        # with alpha = 1 there is no jump, and the momentum is reset all the same
        return self.every if first is None and self.momentum == "reset" else first

    def observe_(self, point: int, work: Workspace) -> None:
        super().observe_(point, work)
        if point == 0 and self.momentum == "pullback":
            for segment in work.segments:
                segment.flats[-1].zero_()  # where the base has no state yet
            for momentum, kept in _momenta(work, self):
                kept.copy_(momentum)

    def finish_(self, work: Workspace) -> float:
        if self.momentum != "keep":
            for _ in _momenta(work, self):  # raises here, before anything is written
                pass
        return super().finish_(work)

    def written_(self, work: Workspace) -> None:
        if self.momentum == "keep":
            return
        for momentum, kept in _momenta(work, self):
            if self.momentum == "reset":
                momentum.zero_()
            else:
                momentum.lerp_(kept.to(momentum.dtype), 1.0 - self.alpha)


def _momenta(work: Workspace, rule: Interpolate) -> Iterator[tuple[Tensor, Tensor]]:
    """Each momentum of the base, and the one kept for its parameter (in the last buffer).

    State that might be a momentum of an unknown name is an error, never skipped.
    """
    for segment in work.segments:
        rows = zip(segment.parameters, segment.points, segment.buffers[-1], strict=True)
        for p, point, kept in rows:
            # `get`: the state is a defaultdict, and asking for a parameter would create its entry
            for name, value in work.state.get(p, {}).items():
                if name in MOMENTA and value is not None:
                    yield _usable(name, value, point, rule), kept
                elif name not in NO_MOMENTA and _is_like(value, point):
                    raise _unknown(rule, f"has the unknown {name!r}")


def _is_like(value: Any, point: Tensor) -> bool:
    like = isinstance(value, Tensor) and F.local(value).shape == point.shape
    return like and value.dtype != torch.bool


def _usable(name: str, value: Any, point: Tensor, rule: Interpolate) -> Tensor:
    plain = isinstance(value, Tensor) and type(value) in (Tensor, torch.nn.Parameter)
    if not plain and not hasattr(value, "_local_tensor"):
        raise _unknown(rule, f"holds {name!r} as {type(value).__name__}")
    shard = F.local(value)
    if not shard.is_floating_point():
        raise _unknown(rule, f"holds {name!r} as {value.dtype}")
    if rule.momentum == "pullback" and shard.shape != point.shape:
        raise _unknown(rule, f"holds {name!r} in the shape {tuple(value.shape)}")
    return shard


def _unknown(rule: Interpolate, what: str) -> BaseOptimizerError:
    return BaseOptimizerError(
        f"momentum={rule.momentum!r} changes what the base's state holds as {', '.join(MOMENTA)} "
        f'in plain floating-point tensors, but this state {what}; use momentum="keep" or another '
        "base"
    )
