"""Demon: its formula, and its life beside schedulers and the wrapper."""

from __future__ import annotations

import itertools

import pytest
import torch

import paramcast as pc
from paramcast.schedules import Demon, demon
from reference import parameters, train


@pytest.mark.parametrize(
    ("step", "momentum"), [(0, 0.9), (25, 0.675 / 0.775), (50, 0.45 / 0.55), (100, 0.0)]
)
def test_demon_follows_the_papers_formula(step: int, momentum: float) -> None:
    assert demon(step, 100, 0.9) == pytest.approx(momentum)


def test_demon_stays_at_zero_past_the_end() -> None:
    assert demon(150, 100, 0.9) == 0.0


def test_demon_falls_at_every_step() -> None:
    path = [demon(step, 50, 0.95) for step in range(51)]
    assert all(b < a for a, b in itertools.pairwise(path))


def test_each_group_decays_from_its_own_momentum() -> None:
    a, b, _ = parameters()
    groups = [{"params": [a], "momentum": 0.9}, {"params": [b], "momentum": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    schedule = Demon(optimizer, total_steps=10)
    for step in range(1, 11):
        schedule.step()
        seen = [group["momentum"] for group in optimizer.param_groups]
        assert seen == pytest.approx([demon(step, 10, 0.9), demon(step, 10, 0.5)])


def test_adam_decays_its_first_beta_and_keeps_the_second() -> None:
    optimizer = torch.optim.AdamW(parameters(), betas=(0.8, 0.99))
    schedule = Demon(optimizer, total_steps=4)
    schedule.step()
    assert optimizer.param_groups[0]["betas"] == (pytest.approx(demon(1, 4, 0.8)), 0.99)


def test_demon_and_a_scheduler_leave_each_other_alone_around_the_wrapper() -> None:
    ps = parameters()
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1, momentum=0.9))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    schedule = Demon(optimizer, total_steps=12)
    alone = torch.optim.SGD(parameters(), lr=0.1, momentum=0.9)
    cosine_alone = torch.optim.lr_scheduler.CosineAnnealingLR(alone, T_max=12)
    for step in range(1, 13):
        train(optimizer, ps, 1, start=step)
        cosine.step()
        schedule.step()
        alone.step()
        cosine_alone.step()
        assert optimizer.param_groups[0]["lr"] == alone.param_groups[0]["lr"]
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(demon(step, 12, 0.9))


def test_the_momentum_that_demon_sets_is_the_one_the_base_uses() -> None:
    ps, by_hand = parameters(), parameters()
    optimizer = torch.optim.SGD(ps, lr=0.1, momentum=0.9)
    schedule = Demon(optimizer, total_steps=6)
    other = torch.optim.SGD(by_hand, lr=0.1, momentum=0.9)
    for step in range(6):
        other.param_groups[0]["momentum"] = demon(step, 6, 0.9)
        train(optimizer, ps, 1, start=step)
        train(other, by_hand, 1, start=step)
        schedule.step()
    assert all(torch.equal(a, b) for a, b in zip(ps, by_hand, strict=True))


def test_demon_resumes_where_it_was() -> None:
    first = Demon(torch.optim.SGD(parameters(), lr=0.1, momentum=0.9), total_steps=10)
    for _ in range(4):
        first.step()
    fresh = Demon(torch.optim.SGD(parameters(), lr=0.1, momentum=0.7), total_steps=99)
    fresh.load_state_dict(first.state_dict())
    first.step()
    fresh.step()
    assert fresh.optimizer.param_groups == [
        {**group, "params": fresh.optimizer.param_groups[0]["params"]}
        for group in first.optimizer.param_groups
    ]
    assert fresh.state_dict() == first.state_dict()
