"""Schedules: of a predictor's horizon over the run, and of an optimizer's momentum.

A horizon schedule is any function of progress (completed steps / total steps, 0 to 1) that returns
a horizon; those here are functions with a name. It is read once, at the start of each cycle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch.optim import Optimizer

from ._checks import finite
from .errors import ArgumentError, CheckpointError

Horizon = Callable[[float], float]
"""A horizon as a function of progress."""


class Constant:
    """The same horizon throughout."""

    def __init__(self, horizon: float) -> None:
        self.horizon = finite("a horizon", horizon)

    def __call__(self, progress: float) -> float:
        return self.horizon

    def __repr__(self) -> str:
        return f"Constant({self.horizon!r})"


class Linear:
    """From one horizon to another in a straight line.

    Example:
        >>> Linear(1.0, -0.5)(0.5)
        0.25
    """

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = finite("a horizon", first), finite("a horizon", last)

    def __call__(self, progress: float) -> float:
        return self.first + (self.last - self.first) * progress

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.first!r}, {self.last!r})"


class Cosine(Linear):
    """From one horizon to another along half a cosine, flat at both ends.

    Example:
        >>> round(Cosine(1.0, 0.0)(0.5), 4)
        0.5
    """

    def __call__(self, progress: float) -> float:
        return self.last + (self.first - self.last) * (1.0 + math.cos(math.pi * progress)) / 2.0


class Piecewise:
    """One horizon until a share of the run, then the next.

    Args:
        pieces: (until, horizon) pairs, `until` ascending in (0, 1], the last one 1.

    Raises:
        ArgumentError: pieces out of order, or the last one does not end at 1.

    Example:
        >>> forward_then_backward = Piecewise((0.6, 1.0), (1.0, -0.5))
        >>> forward_then_backward(0.5), forward_then_backward(0.6)
        (1.0, -0.5)
    """

    def __init__(self, *pieces: Sequence[float]) -> None:
        try:
            ends = [0.0, *(float(end) for end, _ in pieces)]
        except (TypeError, ValueError):
            ends = [0.0]
        if ends[-1] != 1.0 or not all(b > a for a, b in pairwise(ends)):
            raise ArgumentError(
                "pieces must be (until, horizon) with until ascending from above 0 to 1, "
                f"got {pieces}"
            )
        self.pieces = tuple((float(end), finite("a horizon", value)) for end, value in pieces)

    def __call__(self, progress: float) -> float:
        for end, value in self.pieces:
            if progress < end:
                return value
        return self.pieces[-1][1]

    def __repr__(self) -> str:
        return f"Piecewise{self.pieces!r}"


def demon(step: int, total_steps: int, momentum: float) -> float:
    """Decaying momentum.

        beta_t = beta_0 (1 - t/T) / ((1 - beta_0) + beta_0 (1 - t/T)),   t = step, T = total_steps

    beta_0 at step 0, 0 at the end.

    Example:
        >>> demon(0, 100, 0.9), demon(100, 100, 0.9)
        (0.9, 0.0)

    Source: Chen et al., Demon: Improved Neural Network Training with Momentum Decay (2019),
    arXiv 1910.04952.
    """
    # beta_0 (1 - t/T); beyond T it stays 0
    left = momentum * max(0.0, 1.0 - step / total_steps)
    return left / ((1.0 - momentum) + left)


class Demon:
    """Set an optimizer's momentum (or its first Adam beta) by `demon`, once per step.

    It changes nothing but the momentum, so it works alongside any learning-rate scheduler that
    leaves the momentum alone. Call `step()` after each `optimizer.step()`.

    Args:
        optimizer: one whose groups have "momentum" or "betas".
        total_steps: T, at least 1.

    Raises:
        ArgumentError: total_steps < 1, or a group without momentum.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
        >>> demon = Demon(optimizer, total_steps=2)
        >>> demon.step(); round(optimizer.param_groups[0]["momentum"], 4)
        0.8182
    """

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        if total_steps < 1:
            raise ArgumentError(f"total_steps must be >= 1, got {total_steps}")
        self.optimizer, self.total_steps, self.steps = optimizer, total_steps, 0
        self.initial = [_momentum(group) for group in optimizer.param_groups]

    def step(self) -> None:
        # groups added later start from their own momentum
        added = self.optimizer.param_groups[len(self.initial) :]
        self.initial += [_momentum(group) for group in added]
        self.steps += 1
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            momentum = demon(self.steps, self.total_steps, initial)
            # Adam's first beta is its momentum
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "total_steps": self.total_steps, "initial": list(self.initial)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        try:
            steps, total, initial = (state_dict[k] for k in ("steps", "total_steps", "initial"))
            right = type(steps) is type(total) is int and steps >= 0 and total >= 1
            right &= len(initial) <= len(self.optimizer.param_groups)
            right &= all(type(momentum) is float and 0 < momentum < 1 for momentum in initial)
        except (KeyError, TypeError):
            right = False
        if not right:
            raise CheckpointError(
                "the state dict of Demon is damaged or belongs to another optimizer; "
                "load what its state_dict() returned"
            )
        self.steps, self.total_steps, self.initial = steps, total, list(initial)


def _momentum(group: dict[str, Any]) -> float:
    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
    if not 0.0 < momentum < 1.0:
        raise ArgumentError(
            f"Demon needs a momentum between 0 and 1 in every group, got {momentum}; construct "
            f"the optimizer with {'betas=(0.9, 0.999)' if 'betas' in group else 'momentum=0.9'}"
        )
    return float(momentum)
