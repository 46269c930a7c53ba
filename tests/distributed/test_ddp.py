"""DistributedDataParallel: replicas stay replicas, and equal one process with the joint batch."""

from __future__ import annotations

import io

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import paramcast as pc
from paramcast.averaging import EMA
from training import (
    BASES,
    GATES,
    JOINT,
    PREDICTORS,
    TELLING,
    Net,
    assert_alike,
    assert_bitwise,
    assert_close,
    compare,
    train,
    wholes,
    wrapped,
)
from two_processes import Ranks, on_ranks

STEPS = 100
ALWAYS = {"none", "MaxRelativeJump"}
"""Gates that change how far, not whether."""


@pytest.mark.compat(stack="DDP", feature="train")
@pytest.mark.compat(stack="DDP", feature="metrics")
@on_ranks(cases=GATES)
def test_replicas_are_bitwise_equal_and_close_to_one_process(ranks: Ranks, case: str) -> None:
    model, place = DistributedDataParallel(Net(torch.float64)), (ranks.rank, ranks.world)
    joint = Net(torch.float64)
    events = compare(model, place, joint, gate=case, steps=STEPS, tolerance=1e-8)
    assert len(events) >= STEPS // 3 - 1
    if case not in ALWAYS:  # or the comparison shows nothing
        assert {event.applied for event in events} == {True, False}


@pytest.mark.compat(stack="DDP", feature="train")
@on_ranks(cases=PREDICTORS, quick=TELLING)
def test_every_predictor_keeps_replicas_equal(ranks: Ranks, case: str) -> None:
    model, place = DistributedDataParallel(Net(torch.float64)), (ranks.rank, ranks.world)
    compare(model, place, Net(torch.float64), predictor=PREDICTORS[case])


@pytest.mark.compat(stack="DDP", feature="resume in mid-cycle")
@on_ranks(cases=BASES)
def test_a_run_resumes_bitwise_at_every_cut(ranks: Ranks, case: str) -> None:
    place = (ranks.rank, ranks.world)

    def start() -> tuple[torch.nn.Module, pc.Forecast]:
        model = DistributedDataParallel(Net())
        return model, wrapped(model, place, gate="Agreement", base=BASES[case])[0]

    model, optimizer = start()
    train(model, optimizer, range(8), place)
    wanted = wholes(model)
    for cut in range(8):
        model, optimizer = start()
        train(model, optimizer, range(cut), place)
        file = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict()], file)
        file.seek(0)
        model, optimizer = start()
        weights, state = torch.load(file, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        train(model, optimizer, range(cut, 8), place)
        assert_bitwise(wholes(model), wanted)


@pytest.mark.compat(stack="DDP", feature="averaged evaluation")
@on_ranks
def test_the_average_is_the_same_everywhere_and_leaves_the_run_alone(ranks: Ranks) -> None:
    place = (ranks.rank, ranks.world)
    model, joint = DistributedDataParallel(Net(torch.float64)), Net(torch.float64)
    seen = []
    for net, where in ((model, place), (joint, JOINT)):
        optimizer, _ = wrapped(net, where, average=EMA(decay=0.9))
        train(net, optimizer, range(7), where)
        live = wholes(net)
        with optimizer.eval_weights():
            seen.append(wholes(net))
        assert_bitwise(wholes(net), live)
    assert_alike(seen[0])
    assert_close(*seen)
    assert not torch.equal(seen[0]["up.weight"], live["up.weight"])
