"""Mixed precision: real networks under autocast, real overflows under a gradient scaler."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import BASES, ByHand, batch, network
from torch import nn
from torch.nn.functional import cross_entropy

import paramcast as pc
from reference import same_bits, through_a_file

Base = torch.optim.Optimizer


def counted(optimizer: pc.Forecast) -> int:
    return optimizer.state_dict()["paramcast"]["steps"]


@pytest.mark.compat(stack="PyTorch: autocast bf16 and fp16", feature="train")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", BASES)
def test_under_autocast_it_is_plp_by_hand(name: str, dtype: torch.dtype) -> None:
    model, slow = network(), network()
    optimizer, bare = pc.PLP(BASES[name](model.parameters())), BASES[name](slow.parameters())
    by_hand = ByHand(list(slow.parameters()))
    for t in range(10):
        inputs, targets = batch(t)
        for one, its_own in ((model, optimizer), (slow, bare)):
            its_own.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                loss = cross_entropy(one(inputs), targets)
            loss.backward()
            its_own.step()
        by_hand.completed()
    assert same_bits(model.parameters(), slow.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert counted(optimizer) == 10


def train_scaled(
    model: nn.Module,
    optimizer: Base,
    completed: Callable[[], None],
    *,
    accumulate: int = 1,
    clip: bool = False,
) -> list[bool]:
    """Ten updates from a scale that overflows; returns which of them the scaler skipped."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=4)
    skipped = []
    for t in range(10):
        optimizer.zero_grad()
        for part in range(accumulate):
            inputs, targets = batch(10 * t + part)
            with torch.autocast("cpu", dtype=torch.float16):
                loss = cross_entropy(model(inputs), targets) / accumulate
            scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped.append(scaler.get_scale() < before)
        if not skipped[-1]:
            completed()
    return skipped


@pytest.mark.compat(stack="PyTorch: GradScaler, accumulation, clipping", feature="train")
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", BASES)
def test_steps_that_overflowed_are_skipped_and_not_counted(
    name: str, clip: bool, accumulate: int
) -> None:
    model, slow = network(), network()
    optimizer, bare = pc.PLP(BASES[name](model.parameters())), BASES[name](slow.parameters())
    # The bare fused step decides within its kernel, and torch 2.13 leaves the momentum of SGD
    # uninitialised where the first one was skipped; without the flag the scaler itself skips.
    vars(bare).pop("_step_supports_amp_scaling", None)
    by_hand = ByHand(list(slow.parameters()))
    skipped = train_scaled(model, optimizer, lambda: None, accumulate=accumulate, clip=clip)
    theirs = train_scaled(slow, bare, by_hand.completed, accumulate=accumulate, clip=clip)
    assert skipped == theirs
    assert 2 <= sum(skipped) <= 6
    assert same_bits(model.parameters(), slow.parameters())
    assert counted(optimizer) == 10 - sum(skipped)


@pytest.mark.compat(
    stack="PyTorch: GradScaler, accumulation, clipping", feature="resume in mid-cycle"
)
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("cut", [6, 7, 8])
def test_a_scaled_run_resumes_bitwise(name: str, cut: int) -> None:
    def one_step(model: nn.Module, optimizer: Base, scaler: torch.amp.GradScaler, t: int) -> None:
        optimizer.zero_grad()
        inputs, targets = batch(t)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=4)

    whole = network()
    going_on, its_scaler = pc.PLP(BASES[name](whole.parameters())), scaler()
    for t in range(cut):
        one_step(whole, going_on, its_scaler, t)
    assert counted(going_on) < cut
    model, other_scaler = network(), scaler()
    resumed = pc.PLP(BASES[name](model.parameters()))
    states = [whole.state_dict(), going_on.state_dict(), its_scaler.state_dict()]
    saved = through_a_file(states)
    model.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    other_scaler.load_state_dict(saved[2])
    for t in range(cut, 14):
        one_step(whole, going_on, its_scaler, t)
        one_step(model, resumed, other_scaler, t)
    assert same_bits(whole.parameters(), model.parameters())
