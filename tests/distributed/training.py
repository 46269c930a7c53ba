"""What the distributed tests train: a small network, its batches, gates and predictors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import paramcast as pc
from paramcast import anomalies, gates
from paramcast import predictors as P
from paramcast.tensors import functional as F

BATCH = 8
JOINT = (0, 1)
"""Rank and world of a process that takes whole batches."""


class Net(nn.Module):
    """Five rows over two processes are uneven shards, one row leaves the second one empty."""

    def __init__(self, dtype: torch.dtype = torch.float32, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.up = nn.Linear(3, width, dtype=dtype)
        self.down = nn.Linear(width, 1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 * self.down(torch.tanh(self.up(x)))  # fully_shard warns of views


def batch(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, 3, generator=g, dtype=torch.float64)
    y = torch.sin(2 * x.sum(1, keepdim=True)) + 0.3 * torch.randn(BATCH, 1, generator=g).double()
    return x.to(dtype), y.to(dtype)


def loss_at(model: nn.Module, step: int, rank: int, world: int) -> Tensor:
    """The loss on this process's part of a step's batch."""
    dtype = torch.float64 if "64" in str(next(model.parameters()).dtype) else torch.float32
    x, y = (part.chunk(world)[rank] for part in batch(step, dtype))
    return nn.functional.mse_loss(model(x), y)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[int],
    place: tuple[int, int] = JOINT,
    *,
    observe: bool = False,
) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss = loss_at(model, step, *place)
        loss.backward()
        if observe:
            optimizer.observe(loss.detach())
        optimizer.step()


def sgd(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


BASES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": sgd,
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.01),
}


def checked_loss(model: nn.Module, place: tuple[int, int]) -> Callable[[], float]:
    """The loss of this process's part of a fixed batch, for `LossCheck`."""

    def loss() -> float:
        value = float(loss_at(model, 1000, *place))
        F.reshard_(model)
        return value

    return loss


GATES: dict[str, Callable[[Callable[[], float]], gates.Gate | None]] = {
    "none": lambda loss: None,
    "After": lambda loss: gates.After(steps=10),
    "Before": lambda loss: gates.Before(share=0.5),
    "Every": lambda loss: gates.Every(2),
    "Agreement": lambda loss: gates.Agreement(above=0.2),
    "MaxRelativeJump": lambda loss: gates.MaxRelativeJump(0.02),
    "MaxRelativeJump-refuse": lambda loss: gates.MaxRelativeJump(0.02, shorten=False),
    "combined": lambda loss: gates.Every(2) & gates.After(steps=4) & gates.Agreement(),
    "LossCheck": gates.LossCheck,
    "Anomaly": lambda loss: anomalies.Anomaly(
        jump=0.05, disagreement=2, loss=0.5, drift=1.0, actions={"drift": "pause"}, pause=2
    ),
}
PREDICTORS: dict[str, P.Predictor] = {
    "Midline": P.Midline(),
    "LeastSquares": P.LeastSquares(4, 1.0),
    "Quadratic": P.Quadratic(0.5),
    "Lookahead": P.Interpolate(3, 0.5, momentum="pullback"),
    "OuterNesterov": P.OuterNesterov(every=3),
    "ForwardEMA": P.ForwardEMA(),
    "PrimalAveraging": P.PrimalAveraging(),
    "RRE": P.RRE(window=3),
    "Aitken": P.Aitken(),
    "SignFlipped": P.SignFlipped(P.RRE(window=3)),
}


REDUCED = ("none", "Agreement", "MaxRelativeJump", "LossCheck", "Anomaly")
"""Gates that decide by sums over the processes."""
TELLING = ("Midline", "Lookahead", "RRE", "Aitken")
"""Predictors that differ in what they need: a buffer, the base's momentum, sums over processes."""


class Untimed(pc.monitors.History):
    """The events without the one field that differs from process to process."""

    def look(self, event: pc.ForecastEvent) -> None:
        super().look(event._replace(milliseconds=0.0))


def wrapped(
    model: nn.Module,
    place: tuple[int, int],
    *,
    gate: str = "none",
    predictor: P.Predictor | None = None,
    base: Callable[..., torch.optim.Optimizer] = sgd,
    steps: int = 100,
    **options: Any,
) -> tuple[pc.Forecast, list[pc.ForecastEvent]]:
    """The optimizer and the list that collects its events."""
    history = Untimed()
    optimizer = pc.Forecast(
        base(model.parameters()),
        P.Midline() if predictor is None else predictor,
        gate=GATES[gate](checked_loss(model, place)),
        total_steps=steps,
        monitors=[history],
        **options,
    )
    return optimizer, history.rows


def compare(
    model: nn.Module,
    place: tuple[int, int],
    joint: nn.Module,
    *,
    steps: int = 24,
    tolerance: float = 1e-9,
    **options: Any,
) -> list[pc.ForecastEvent]:
    """Train in all processes and, with whole batches, in each alone: the same path and events."""
    runs = []
    for net, where in ((model, place), (joint, JOINT)):
        optimizer, events = wrapped(net, where, steps=steps, **options)
        train(net, optimizer, range(steps), where, observe=options.get("gate") == "Anomaly")
        runs.append((wholes(net), events))
    (mine, events), (theirs, joint_events) = runs
    assert_alike(mine)
    assert_alike([tuple(event) for event in events])
    assert_close(mine, theirs, tolerance)
    assert decisions(events) == decisions(joint_events)
    for one, whole in zip(events, joint_events, strict=True):
        assert math.isclose(one.jump_norm, whole.jump_norm, rel_tol=tolerance), (one, whole)
    return events


def decisions(events: list[pc.ForecastEvent]) -> list[tuple[int, bool]]:
    return [(event.step, event.applied) for event in events]


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every process."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()


def wholes(model: nn.Module) -> dict[str, Tensor]:
    F.reshard_(model)
    return {
        name.removeprefix("module."): whole(p).detach().clone()
        for name, p in model.named_parameters()
    }


def shards(model: nn.Module) -> dict[str, Tensor]:
    F.reshard_(model)
    return {name: F.local(p).detach().clone() for name, p in model.named_parameters()}


def assert_bitwise(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys(), (a.keys(), b.keys())
    for name in a:
        assert torch.equal(a[name], b[name]), f"{name}: {a[name]} != {b[name]}"


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert a.keys() == b.keys(), (a.keys(), b.keys())
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


def everywhere(value: Any) -> list[Any]:
    """What each process has."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def assert_alike(value: Any) -> None:
    """The same in all processes, tensors bitwise."""
    first, *others = everywhere(value)
    for other in others:
        if isinstance(first, dict):
            assert_bitwise(first, other)
        else:
            assert first == other, f"{first} != {other}"
