"""fully_shard: sharded parameters and buffers, decisions by whole tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import paramcast as pc
from paramcast.averaging import EMA
from paramcast.tensors import functional as F
from paramcast.tensors import segments as S
from paramcast.tensors.segments import parameter_norms
from training import (
    BASES,
    GATES,
    JOINT,
    PREDICTORS,
    REDUCED,
    TELLING,
    Net,
    Untimed,
    assert_alike,
    assert_bitwise,
    assert_close,
    compare,
    loss_at,
    sgd,
    shards,
    train,
    wholes,
    wrapped,
)
from two_processes import Ranks, on_ranks

STEPS = 24


def sharded(dtype: torch.dtype = torch.float64) -> nn.Module:
    model = Net(dtype)
    fully_shard(model.up)
    fully_shard(model)
    return model


def both(ranks: Ranks, **options: Any) -> list[tuple[nn.Module, tuple[int, int], Any, Any]]:
    """The sharded model and one process with the whole of it: model, place, optimizer, events."""
    runs = []
    for model, place in ((sharded(), (ranks.rank, ranks.world)), (Net(torch.float64), JOINT)):
        runs.append((model, place, *wrapped(model, place, steps=STEPS, **options)))
    return runs


@pytest.mark.compat(stack="FSDP2", feature="train")
@pytest.mark.compat(stack="FSDP2", feature="sharded")
@pytest.mark.compat(stack="FSDP2", feature="metrics")
@on_ranks(cases=GATES, quick=REDUCED)
def test_every_gate_decides_by_whole_tensors(ranks: Ranks, case: str) -> None:
    place = (ranks.rank, ranks.world)
    events = compare(sharded(), place, Net(torch.float64), gate=case)
    assert len(events) >= STEPS // 3 - 1


@pytest.mark.compat(stack="FSDP2", feature="train")
@on_ranks(cases=[*PREDICTORS, "SGD", "AdamW"], quick=[*TELLING, "AdamW"])
def test_every_predictor_and_base_equals_the_unsharded_run(ranks: Ranks, case: str) -> None:
    options = {"predictor": PREDICTORS[case]} if case in PREDICTORS else {"base": BASES[case]}
    compare(sharded(), (ranks.rank, ranks.world), Net(torch.float64), **options)


@pytest.mark.compat(stack="FSDP2", feature="sharded")
@on_ranks(cases=["none", "Agreement", "LossCheck"])
def test_a_process_keeps_buffers_of_its_own_shards_alone(ranks: Ranks, case: str) -> None:
    model, place, optimizer, _ = both(ranks, gate=case)[0]
    train(model, optimizer, range(7), place)
    own = [F.local(p).numel() for p in optimizer.param_groups[0]["params"]]
    buffers = {"none": 1, "Agreement": 3, "LossCheck": 2}[case]
    flats = [flat for segment in optimizer._cycle.members.segments for flat in segment.flats]
    assert sum(flat.untyped_storage().nbytes() for flat in flats) == 8 * buffers * sum(own)
    assert sum(own) == [18, 8][ranks.rank], own  # rows 3 + 2 of 5, and all of the one row
    assert 0 in own or ranks.rank == 0


@on_ranks
def test_a_warm_up_step_counts_on_all_processes_or_on_none(ranks: Ranks) -> None:
    """At learning rate 0 a step counts if any gradient differs from zero, in any shard."""
    model = nn.Linear(3, 1)  # one row: the second process has nothing of it
    fully_shard(model)
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=0.0))
    for step in range(2):
        optimizer.zero_grad()
        loss_at(model, step, *JOINT).backward()
        optimizer.step()
    assert_alike(optimizer._cycle.steps)
    assert optimizer._cycle.steps == 2
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert optimizer._cycle.steps == 2


@on_ranks
def test_a_prediction_that_one_shard_makes_infinite_is_written_by_none(ranks: Ranks) -> None:
    model, place, optimizer, events = both(ranks)[0]
    train(model, optimizer, range(3), place)
    live = shards(model)
    for segment in optimizer._cycle.members.segments:
        optimizer._cycle.members.filled = True
        segment.flats[0].fill_(1.0)
        if ranks.rank == 0:
            segment.flats[0][0] = math.inf
    optimizer._cycle._close(optimizer._cycle._work())
    assert_bitwise(shards(model), live)
    assert [event.applied for event in events] == [True, False]


@pytest.mark.compat(stack="FSDP2", feature="averaged evaluation")
@on_ranks
def test_the_average_equals_the_unsharded_one_and_leaves_the_run_alone(ranks: Ranks) -> None:
    """The outermost module keeps whole parameters after a forward: they must not survive."""
    place = (ranks.rank, ranks.world)
    runs = both(ranks, average=EMA(decay=0.9))
    undisturbed = sharded()
    train(undisturbed, wrapped(undisturbed, place, steps=STEPS)[0], range(10), place)
    losses = []
    for model, where, optimizer, _ in runs:
        train(model, optimizer, range(5), where)
        with torch.no_grad():
            before = loss_at(model, 50, *JOINT)
        with optimizer.eval_weights(model), torch.no_grad():
            losses.append(loss_at(model, 50, *JOINT))
        with torch.no_grad():
            assert torch.equal(loss_at(model, 50, *JOINT), before)
        assert losses[-1] != before
        train(model, optimizer, range(5, 10), where)
    torch.testing.assert_close(*losses)
    assert_bitwise(shards(runs[0][0]), shards(undisturbed))


@on_ranks
def test_a_loss_check_that_is_given_the_model_sees_the_prediction(ranks: Ranks) -> None:
    """Without it the outermost module would show the loss of the old parameters again."""
    runs = []
    for model, place in ((sharded(), (ranks.rank, ranks.world)), (Net(torch.float64), JOINT)):

        def loss(model: nn.Module = model, place: tuple[int, int] = place) -> torch.Tensor:
            return loss_at(model, 1000, *place)

        history = Untimed()
        gate = pc.gates.LossCheck(loss, model=model)
        optimizer = pc.PLP(sgd(model.parameters()), gate=gate, monitors=[history])
        train(model, optimizer, range(STEPS), place)
        runs.append((model, history.rows))
    assert_close(wholes(runs[0][0]), wholes(runs[1][0]))
    assert [row.reason for row in runs[0][1]] == [row.reason for row in runs[1][1]]


@on_ranks
@torch.no_grad()
def test_reductions_are_those_of_whole_tensors(ranks: Ranks) -> None:
    meshes = {
        "shards": init_device_mesh("cpu", (ranks.world,)),
        "replicas": init_device_mesh("cpu", (ranks.world, 1), mesh_dim_names=("copies", "cut")),
    }
    for mesh in meshes.values():
        model, twin = Net(torch.float64), Net(torch.float64)
        fully_shard(model, mesh=mesh)
        mine = S.make_segments(list(model.parameters()), 2, None)
        theirs = S.make_segments(list(twin.parameters()), 2, None)
        assert len(mine) == len(theirs) == 1
        for segment in (*mine, *theirs):
            segment.flats[1].fill_(0.5)
            torch._foreach_copy_(segment.buffers[0], segment.points)
        results = [
            (
                S.total(S.norm(segments)),
                S.total(parameter_norms(segments)),
                S.dot(segments, 0, 1),
                *S.gram(segments, 2).flatten().tolist(),
                *S.tensor_dots(segments[0], *segments[0].buffers).tolist(),
            )
            for segments in (mine, theirs)
        ]
        for a, b in zip(*results, strict=True):
            assert math.isclose(a, b, rel_tol=1e-14), results
        assert_alike(results[0])
    assert mine[0].shard == (0,)  # of one: the copies do not count


@on_ranks
def test_a_number_becomes_its_mean_over_the_processes(ranks: Ranks) -> None:
    assert F.mean_over_ranks(float(ranks.rank + 1)) == 1.5
    assert math.isnan(F.mean_over_ranks([1.0, math.nan][ranks.rank]))


@on_ranks
def test_one_process_alone_may_be_watched(ranks: Ranks) -> None:
    """Files are written by the first process: a monitor there must not make it wait for others."""
    model, watched = sharded(), ranks.rank == 0
    history = Untimed()
    optimizer = pc.PLP(sgd(model.parameters()), monitors=[history] if watched else [])
    train(model, optimizer, range(3 * 18), (ranks.rank, ranks.world))
    assert len(history.rows) == (18 if watched else 0)
    joint = Net(torch.float64)
    train(joint, wrapped(joint, JOINT)[0], range(3 * 18))
    assert_close(wholes(model), wholes(joint))
