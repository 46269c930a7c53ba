"""A small network, its optimizers, and the plain loop that every framework must agree with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import paramcast as pc
from paramcast.averaging import EMA
from paramcast.predictors import Midline, PrimalAveraging

Make = Callable[[Any], torch.optim.Optimizer]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01)


def averaged(parameters: Any) -> pc.Forecast:
    return pc.Forecast(sgd(parameters), Midline(), average=EMA(decay=0.9))


def primal(parameters: Any) -> pc.Forecast:
    return pc.Forecast(torch.optim.SGD(parameters, lr=0.1), PrimalAveraging(beta=0.9, eta=2.0))


def ema_of(points: Sequence[Tensor]) -> Tensor:
    """The average of `averaged`, by its definition."""
    weights = [0.9**age for age in range(len(points))]
    return sum(w * p for w, p in zip(weights, reversed(points), strict=True)) / sum(weights)


def primal_of(points: Sequence[Tensor]) -> Tensor:
    """The average x of `primal`: each point is 0.1 z + 0.9 x, and x takes in a share of z."""
    x = points[0]
    for t, point in enumerate(points, 1):
        share = 3.0 / (t + 2.0)
        z = (point - 0.9 * (1.0 - share) * x) / (0.1 + 0.9 * share)
        x = x + share * (z - x)
    return x


class Averaging(NamedTuple):
    """One of the two kinds: an optimizer, and its average of the points after each step."""

    make: Make
    of: Callable[[Sequence[Tensor]], Tensor]


each_average = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Averaging(averaged, ema_of), id="EMA"),
        pytest.param(Averaging(primal, primal_of), id="PrimalAveraging"),
    ],
)
"""An average that the user gave, and one that the predictor keeps."""


def plp(base: Make) -> Make:
    return lambda parameters: pc.PLP(base(parameters))


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def loss_of(net: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(net(batch[0]), batch[1])


def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Any]) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether parameters and buffers are bitwise equal."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def spoiled(net: Any) -> Any:
    """The network with all weights zero: what resumes from a checkpoint must overwrite them."""
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    return net
