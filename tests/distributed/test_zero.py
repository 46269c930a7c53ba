"""ZeroRedundancyOptimizer: around it with whole buffers, or inside it with those of a share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import paramcast as pc
from paramcast.averaging import EMA
from training import Net, assert_alike, assert_bitwise, decisions, sgd, train, wholes, wrapped
from two_processes import Ranks, on_ranks

STEPS = 20
KNOBS = {"lr": 0.05, "momentum": 0.9}


def plain(ranks: Ranks, **options: Any) -> tuple[dict[str, Tensor], list[tuple[int, bool]]]:
    """The same run with the wrapper around an ordinary optimizer."""
    model, place = DistributedDataParallel(Net()), (ranks.rank, ranks.world)
    optimizer, events = wrapped(model, place, base=sgd, **options)
    train(model, optimizer, range(STEPS), place)
    return wholes(model), decisions(events)


def zero(parameters: Any) -> torch.optim.Optimizer:
    return ZeroRedundancyOptimizer(parameters, optimizer_class=torch.optim.SGD, **KNOBS)


@pytest.mark.compat(stack="ZeroRedundancyOptimizer", feature="train")
@pytest.mark.compat(stack="ZeroRedundancyOptimizer", feature="metrics")
@on_ranks(cases=["none", "Agreement", "MaxRelativeJump", "LossCheck"])
def test_around_it_every_step_is_that_of_the_plain_optimizer(ranks: Ranks, case: str) -> None:
    model, place = DistributedDataParallel(Net()), (ranks.rank, ranks.world)
    optimizer, events = wrapped(model, place, base=zero, gate=case)
    train(model, optimizer, range(STEPS), place)
    wanted, wanted_decisions = plain(ranks, gate=case)
    assert_bitwise(wholes(model), wanted)
    assert decisions(events) == wanted_decisions
    assert_alike(wholes(model))


@pytest.mark.compat(stack="ZeroRedundancyOptimizer", feature="resume in mid-cycle")
@on_ranks
def test_around_it_a_run_resumes_bitwise_in_mid_cycle(ranks: Ranks) -> None:
    place = (ranks.rank, ranks.world)
    wanted, _ = plain(ranks)
    for cut in (4, 5, 6):
        model = DistributedDataParallel(Net())
        optimizer, _ = wrapped(model, place, base=zero)
        train(model, optimizer, range(cut), place)
        optimizer.base.consolidate_state_dict(to=0)
        file = ranks.folder / f"{cut}.pt"
        if ranks.rank == 0:
            torch.save([model.state_dict(), optimizer.state_dict()], file)
        dist.barrier()
        model = DistributedDataParallel(Net())
        optimizer, _ = wrapped(model, place, base=zero)
        weights, state = torch.load(file, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        train(model, optimizer, range(cut, STEPS), place)
        assert_bitwise(wholes(model), wanted)


@pytest.mark.compat(stack="ZeroRedundancyOptimizer", feature="averaged evaluation")
@on_ranks
def test_around_it_the_average_is_that_of_the_plain_optimizer(ranks: Ranks) -> None:
    place, seen = (ranks.rank, ranks.world), []
    for base in (zero, sgd):
        model = DistributedDataParallel(Net())
        optimizer, _ = wrapped(model, place, base=base, average=EMA(decay=0.9))
        train(model, optimizer, range(STEPS), place)
        with optimizer.eval_weights():
            seen.append(wholes(model))
    assert_bitwise(*seen)


@pytest.mark.compat(stack="ZeroRedundancyOptimizer", feature="sharded")
@on_ranks
def test_inside_it_the_buffers_are_those_of_this_process_s_share(ranks: Ranks) -> None:
    class Inner(pc.PLP):
        def __init__(self, parameters: list[nn.Parameter], **knobs: Any) -> None:
            super().__init__(torch.optim.SGD(parameters, **knobs))

    model, place = DistributedDataParallel(Net()), (ranks.rank, ranks.world)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=Inner, **KNOBS)
    train(model, optimizer, range(STEPS), place)
    assert_bitwise(wholes(model), plain(ranks)[0])
    share = sum(p.numel() for group in optimizer.optim.param_groups for p in group["params"])
    held = [
        flat.numel()
        for segment in optimizer.optim._cycle.members.segments
        for flat in segment.flats
    ]
    assert sum(held) == share < sum(p.numel() for p in model.parameters())
