"""PLP written out by hand around a bare optimizer, and small models to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ByHand:
    """What a user would write: keep the points of three completed steps, then jump."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters, self.points = list(parameters), []

    @torch.no_grad()
    def completed(self) -> None:
        """Call it after each completed step of the bare optimizer."""
        self.points.append([p.clone() for p in self.parameters])
        if len(self.points) == 3:
            for first, second, p in zip(*self.points[:2], self.parameters, strict=True):
                p.add_(first - second, alpha=-0.5)
            self.points = []


def network() -> nn.Module:
    """Two layers with batch norm between them; the same weights on every call."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def batch(t: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(t)
    return torch.randn(16, 6, generator=draw), torch.randint(3, (16,), generator=draw)


BASES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
    "momentum fused": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, fused=True),
    "AdamW foreach": lambda ps: torch.optim.AdamW(ps, lr=0.01, foreach=True),
    "AdamW fused": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True),
    "AdamW capturable": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True, capturable=True),
}
