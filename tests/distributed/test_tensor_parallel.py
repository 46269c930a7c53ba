"""Tensor parallel: rows of one layer, columns of the next, and what is replicated counts once."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import paramcast as pc
from paramcast.averaging import EMA
from paramcast.integrations.checkpoint import TrainingState
from paramcast.predictors import RandomDirection
from paramcast.tensors import functional as F
from training import (
    GATES,
    JOINT,
    PREDICTORS,
    REDUCED,
    TELLING,
    Net,
    assert_alike,
    assert_bitwise,
    assert_close,
    compare,
    everywhere,
    shards,
    train,
    wholes,
    wrapped,
)
from two_processes import Ranks, on_ranks

WIDTH = 6  # torch's tensor parallel layers want even shares


def parallel(dtype: torch.dtype = torch.float64, *, with_fsdp: bool = False) -> nn.Module:
    model = Net(dtype, WIDTH)
    names = ("data", "tensor")
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=names)
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    parallelize_module(model, mesh["tensor"], plan)
    if with_fsdp:
        fully_shard(model, mesh=mesh["data"])
    return model


@pytest.mark.compat(stack="tensor parallel", feature="train")
@pytest.mark.compat(stack="tensor parallel", feature="sharded")
@pytest.mark.compat(stack="tensor parallel", feature="metrics")
@on_ranks(cases=GATES, quick=REDUCED)
def test_every_gate_decides_by_whole_tensors(ranks: Ranks, case: str) -> None:
    compare(parallel(), JOINT, Net(torch.float64, WIDTH), gate=case)


@pytest.mark.compat(stack="tensor parallel", feature="train")
@on_ranks(cases=PREDICTORS, quick=TELLING)
def test_every_predictor_equals_the_unsharded_run(ranks: Ranks, case: str) -> None:
    compare(parallel(), JOINT, Net(torch.float64, WIDTH), predictor=PREDICTORS[case])


@on_ranks
def test_a_random_direction_is_the_same_for_what_is_replicated(ranks: Ranks) -> None:
    model = parallel()
    optimizer, events = wrapped(model, JOINT, predictor=RandomDirection(PREDICTORS["Midline"]))
    train(model, optimizer, range(3))
    assert_alike(wholes(model))  # the replicated bias too
    assert_alike(tuple(events[0]))
    with torch.no_grad():
        draws = [view.clone() for view in optimizer._cycle.members.segments[0].buffers[0]]
    one, two = everywhere(draws[0] / draws[0].norm())
    assert not torch.allclose(one, two)  # shards do not repeat each other's draws


@pytest.mark.compat(stack="FSDP2 + tensor parallel", feature="train")
@pytest.mark.compat(stack="FSDP2 + tensor parallel", feature="sharded")
@on_ranks(cases=["none", "Agreement", "MaxRelativeJump"])
def test_a_mesh_of_two_dimensions(ranks: Ranks, case: str) -> None:
    compare(parallel(with_fsdp=True), JOINT, Net(torch.float64, WIDTH), gate=case)


@pytest.mark.compat(stack="tensor parallel", feature="averaged evaluation")
@on_ranks
def test_the_average_equals_the_unsharded_one(ranks: Ranks) -> None:
    seen = []
    for model in (parallel(), Net(torch.float64, WIDTH)):
        optimizer, _ = wrapped(model, JOINT, average=EMA(decay=0.9))
        train(model, optimizer, range(5))
        live = shards(model)
        with optimizer.eval_weights(model):
            seen.append(wholes(model))
        assert_bitwise(shards(model), live)
    assert_close(*seen)


@pytest.mark.compat(stack="tensor parallel", feature="resume in mid-cycle")
@on_ranks
def test_a_run_resumes_bitwise_at_every_cut(ranks: Ranks) -> None:
    def start() -> tuple[nn.Module, pc.Forecast]:
        model = parallel(torch.float32)
        return model, wrapped(model, JOINT, gate="Agreement")[0]

    model, optimizer = start()
    for cut in range(7):
        dcp.save({"t": TrainingState(model, optimizer)}, checkpoint_id=str(ranks.folder / str(cut)))
        train(model, optimizer, [cut])
        optimizer.zero_grad()
    wanted = shards(model)
    for cut in range(7):
        model, optimizer = start()
        dcp.load({"t": TrainingState(model, optimizer)}, checkpoint_id=str(ranks.folder / str(cut)))
        train(model, optimizer, range(cut, 7))
        assert_bitwise(shards(model), wanted)
        assert all(F.local(p).numel() for p in model.parameters())
