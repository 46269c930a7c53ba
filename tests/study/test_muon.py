"""The base `muon`: torch's Muon on matrices, AdamW on the rest, in one optimizer."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import paramcast as pc
from paramcast.study.tasks.networks import CHARACTERS, IMAGES
from paramcast.study.training.muon import Muon, matrices_of


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2)
    )


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def muon(model: nn.Module) -> Muon:
    return Muon(*matrices_of(model), lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for seed in steps:
        gradients(model, seed)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchs_muon_and_adamw_side_by_side(memory: torch.memory_format) -> None:
    model, twin = net().to(memory_format=memory), net()
    after = train(model, muon(model), range(4))
    # the twin: matrices of its own, the kernel as (out, in h w)
    ps = [p.detach().clone() for p in twin.parameters()]
    hidden = [nn.Parameter(ps[i].flatten(1)) for i in (0, 4)]
    others = [nn.Parameter(ps[i]) for i in (1, 2, 3, 5, 6, 7)]
    pair = (
        torch.optim.Muon(hidden, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.01, weight_decay=0.1, betas=(0.9, 0.99)),
    )
    for seed in range(4):
        gradients(twin, seed)
        given = [p.grad for p in twin.parameters()]
        for q, i in zip([*hidden, *others], (0, 4, 1, 2, 3, 5, 6, 7), strict=True):
            grad = given[i]
            assert grad is not None
            q.grad = grad.view(q.shape)
        for optimizer in pair:
            optimizer.step()
    for q, i in zip([*hidden, *others], (0, 4, 1, 2, 3, 5, 6, 7), strict=True):
        assert torch.equal(after[i], q.detach().view(after[i].shape)), i


def test_a_step_is_nearly_orthogonal_and_as_large_as_adamws() -> None:
    weight = nn.Parameter(torch.zeros(6, 20))
    optimizer = Muon([weight], [], lr=1.0)
    weight.grad = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    # singular values near 1 (the quintic stops between 0.7 and 1.2), times 0.2 sqrt(20)
    values = torch.linalg.svdvals(weight.detach()) / (0.2 * 20**0.5)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    # a row of 20 holds 1 of the 20 units of squared length, so the RMS is 0.2
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("cut", range(4))
def test_it_resumes_bitwise(cut: int) -> None:
    whole = net()
    expected = train(whole, muon(whole), range(4))
    model = net()
    before = muon(model)
    train(model, before, range(cut))
    saved = copy.deepcopy((model.state_dict(), before.state_dict()))
    fresh = net()
    fresh.load_state_dict(saved[0])
    after = muon(fresh)
    after.load_state_dict(saved[1])
    for a, b in zip(train(fresh, after, range(cut, 4)), expected, strict=True):
        assert torch.equal(a, b)


def test_a_jump_moves_it() -> None:
    """A prediction is written into the parameters, and the next step starts from there."""
    model, twin = net(), net()
    wrapped = pc.Forecast(muon(model), pc.predictors.Affine((0.0, -1.0, 2.0)))
    train(model, wrapped, range(2))
    points, plain = [], muon(twin)
    for seed in range(2):
        points.append(train(twin, plain, range(seed, seed + 1)))
    for p, first, second in zip(model.parameters(), *points, strict=True):
        torch.testing.assert_close(p.detach(), 2 * second - first, atol=1e-6, rtol=0)


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in matrices_of(model)[0]]


def test_what_muon_takes() -> None:
    """Hidden layers: no vectors, embeddings or output layer, and nothing that is frozen."""
    assert shapes(net()) == [(3, 2, 3, 3), (5, 12)]
    gpt = CHARACTERS["gpt-tiny"].make(65, 64)
    hidden = [(192, 64), (64, 64), (256, 64), (64, 256)]
    assert shapes(gpt) == 2 * hidden  # its output layer is the embedding
    resnet = IMAGES["resnet8"].make(3, 10, 32)
    assert all(len(shape) == 4 for shape in shapes(resnet))
    frozen = net()
    frozen[0].requires_grad_(False)
    assert shapes(frozen) == [(5, 12)]
    assert [len(part) for part in matrices_of(frozen)] == [1, 5]


@pytest.mark.parametrize("matrices", [True, False])
def test_either_kind_may_be_missing(matrices: bool) -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    optimizer = Muon([weight], [], 0.1) if matrices else Muon([], [weight], 0.1)
    before = weight.detach().clone()
    optimizer.step()  # without a gradient nothing moves
    assert torch.equal(weight, before)
    weight.grad = torch.ones(3, 4)
    assert optimizer.step(partial(torch.tensor, 1.5)) == 1.5
    assert not torch.equal(weight, before)
