"""Schedules that act on an optimizer's settings step by step."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from .errors import ArgumentError


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
    left = momentum * max(0.0, 1.0 - step / total_steps)
    return left / ((1.0 - momentum) + left)


class Demon:
    """Set an optimizer's momentum (or its first Adam beta) by `demon`, once per step.

    It changes nothing but the momentum, so it runs beside any learning-rate scheduler that leaves
    the momentum alone. Call `step()` after each `optimizer.step()`.

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
        self.steps += 1
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            momentum = demon(self.steps, self.total_steps, initial)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "total_steps": self.total_steps, "initial": list(self.initial)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]
        self.total_steps = state_dict["total_steps"]
        self.initial = list(state_dict["initial"])


def _momentum(group: dict[str, Any]) -> float:
    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
    if not 0.0 < momentum < 1.0:
        raise ArgumentError(
            f"Demon needs a momentum between 0 and 1 in every group, got {momentum}; "
            "construct the optimizer with momentum=0.9"
        )
    return float(momentum)
