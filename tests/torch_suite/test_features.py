"""Training as torch users write it: what the other files do not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from by_hand import BASES, ByHand, batch, network
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler as S

import paramcast as pc
from reference import same_bits

Clip = Callable[[Any], Any]
CLIPS: dict[str, Clip] = {
    "norm": lambda ps: nn.utils.clip_grad_norm_(ps, 0.3),
    "norm, one by one": lambda ps: nn.utils.clip_grad_norm_(ps, 0.3, foreach=False),
    "value": lambda ps: nn.utils.clip_grad_value_(ps, 0.02),
}


def steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    completed: Callable[[], None] = lambda: None,
    *,
    count: int = 10,
    accumulate: int = 1,
    clip: Clip = lambda ps: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    for t in range(count):
        optimizer.zero_grad()
        for part in range(accumulate):
            inputs, targets = batch(10 * t + part)
            (cross_entropy(model(inputs), targets) / accumulate).backward()
        clip(list(model.parameters()))
        optimizer.step()
        completed()
        after()


@pytest.mark.compat(stack="PyTorch: GradScaler, accumulation, clipping", feature="train")
@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", BASES)
def test_accumulated_and_clipped_gradients_are_one_step(
    name: str, clip: str, accumulate: int
) -> None:
    model, slow = network(), network()
    optimizer, bare = pc.PLP(BASES[name](model.parameters())), BASES[name](slow.parameters())
    steps(model, optimizer, accumulate=accumulate, clip=CLIPS[clip])
    by_hand = ByHand(list(slow.parameters()))
    steps(slow, bare, by_hand.completed, accumulate=accumulate, clip=CLIPS[clip])
    assert same_bits(model.parameters(), slow.parameters())
    assert optimizer.last_event is not None
    assert optimizer.last_event.step == 9


@pytest.mark.parametrize("foreach", [False, True])
def test_a_tensor_learning_rate_is_scheduled_in_place(foreach: bool) -> None:
    def run(lr: Any) -> tuple[list[torch.Tensor], Any]:
        model = network()
        base = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, foreach=foreach)
        optimizer = pc.PLP(base)
        scheduler = S.CosineAnnealingLR(optimizer, T_max=12)
        steps(model, optimizer, after=scheduler.step)
        return list(model.parameters()), optimizer.param_groups[0]["lr"]

    tensor = torch.tensor(0.125, dtype=torch.float64)
    with_tensor, last = run(tensor)
    with_number, number = run(0.125)
    assert last is tensor
    assert float(last) == pytest.approx(number, rel=1e-12)
    torch.testing.assert_close(with_tensor, with_number)


def test_groups_of_their_own_dtype_and_settings() -> None:
    def build() -> list[nn.Module]:
        torch.manual_seed(3)
        return [nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.float64)]

    def run(layers: list[nn.Module], optimizer: torch.optim.Optimizer, completed: Any) -> None:
        for t in range(10):
            optimizer.zero_grad()
            inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(t))
            layers[1](layers[0](inputs).tanh().double()).square().mean().backward()
            optimizer.step()
            completed()

    def base(layers: list[nn.Module]) -> torch.optim.Optimizer:
        first = {"params": layers[0].parameters(), "lr": 0.1}
        second = {"params": layers[1].parameters(), "lr": 0.3, "maximize": True, "foreach": False}
        return torch.optim.AdamW([first, second])

    layers, slow = build(), build()
    run(layers, pc.PLP(base(layers)), lambda: None)
    weights = [p for layer in slow for p in layer.parameters()]
    run(slow, base(slow), ByHand(weights).completed)
    assert same_bits([p for layer in layers for p in layer.parameters()], weights)


def test_an_optimizer_per_parameter_that_steps_within_backward() -> None:
    """Steps in `register_post_accumulate_grad_hook`, so that no gradient outlives its use."""

    def run(model: nn.Module, wrap: bool) -> None:
        for p in model.parameters():
            base = torch.optim.SGD([p], lr=0.1, momentum=0.9)
            optimizer = pc.PLP(base) if wrap else base
            by_hand = ByHand([p])

            def hook(p: Any, optimizer: Any = optimizer, by_hand: Any = by_hand) -> None:
                optimizer.step()
                optimizer.zero_grad()
                if not wrap:
                    by_hand.completed()

            p.register_post_accumulate_grad_hook(hook)
        for t in range(10):
            inputs, targets = batch(t)
            cross_entropy(model(inputs), targets).backward()

    model, slow = network(), network()
    run(model, True)
    run(slow, False)
    assert same_bits(model.parameters(), slow.parameters())
    assert all(p.grad is None for p in model.parameters())
