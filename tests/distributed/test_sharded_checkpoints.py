"""Sharded checkpoints with the adapter: resume at every cut, with more or fewer processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import paramcast as pc
from paramcast import predictors as P
from paramcast.averaging import EMA
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.integrations.checkpoint import CycleState, TrainingState
from paramcast.tensors import functional as F
from training import (
    BASES,
    JOINT,
    Net,
    Untimed,
    assert_alike,
    assert_bitwise,
    assert_close,
    shards,
    train,
    wholes,
    wrapped,
)
from two_processes import Ranks, on_ranks

LAST = 8
CUTS = range(LAST - 1)  # two cycles of three steps, every phase
FEW = range(1, 4)  # one cycle


@contextmanager
def quiet() -> Iterator[None]:
    """torch warns of its own deprecated parts while it saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(model: nn.Module, optimizer: pc.Forecast, folder: Path, **options: Any) -> None:
    with quiet():
        state = {"training": TrainingState(model, optimizer)}
        dcp.save(state, checkpoint_id=str(folder), **options)


def load(model: nn.Module, optimizer: pc.Forecast, folder: Path, **options: Any) -> None:
    with quiet():
        state = {"training": TrainingState(model, optimizer)}
        dcp.load(state, checkpoint_id=str(folder), **options)


def sharded(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = Net(dtype)
    fully_shard(model.up)
    fully_shard(model)
    return model


def rich(model: nn.Module, place: tuple[int, int]) -> tuple[pc.Forecast, list[pc.ForecastEvent]]:
    """Everything that a checkpoint must hold: scores, an average, anomaly rules, two halves."""
    history = Untimed(scored=True)
    rules = pc.anomalies.Anomaly(jump=1.0, disagreement=3, drift=3.0)
    optimizer = pc.Forecast(
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        P.LeastSquares(3, 1.0),
        horizon=pc.schedules.Linear(1.0, 0.0),
        total_steps=20,
        gate=pc.gates.Agreement(above=-0.9) & rules,
        average=EMA(decay=0.8),
        monitors=[history],
    )
    return optimizer, history.rows


STARTS: dict[str, Callable[..., tuple[pc.Forecast, list[pc.ForecastEvent]]]] = {
    **{
        name: lambda model, place, base=base: wrapped(model, place, base=base)
        for name, base in BASES.items()
    },
    "rich": rich,
}


def averaged(model: nn.Module, optimizer: pc.Forecast) -> dict[str, Tensor]:
    if not optimizer.has_average:
        return {}
    with optimizer.eval_weights(model):
        return shards(model)


@pytest.mark.compat(stack="FSDP2", feature="resume in mid-cycle")
@pytest.mark.compat(stack="FSDP2", feature="sharded")
@on_ranks(cases=STARTS)
def test_a_sharded_run_resumes_bitwise_at_every_cut(ranks: Ranks, case: str) -> None:
    """The interrupted run is not disturbed by saving, and the resumed one equals it."""
    place, start = (ranks.rank, ranks.world), STARTS[case]
    model = sharded()
    optimizer, wanted_events = start(model, place)
    train(model, optimizer, range(LAST), place)
    wanted, wanted_average = shards(model), averaged(model, optimizer)

    model = sharded()
    optimizer, events = start(model, place)
    for cut in CUTS:
        if not (case == "AdamW" and cut == 0):  # torch then counts a step that is none: its own
            optimizer.zero_grad()  # or torch would not make its empty step
            save(model, optimizer, ranks.folder / str(cut))
        train(model, optimizer, [cut], place)
    train(model, optimizer, range(len(CUTS), LAST), place)
    assert_bitwise(shards(model), wanted)
    assert_bitwise(averaged(model, optimizer), wanted_average)
    assert events == wanted_events

    for cut in CUTS:
        if case == "AdamW" and cut == 0:
            continue
        model = sharded()
        optimizer, events = start(model, place)
        train(model, optimizer, range(cut % 2), place)  # what was there before must not matter
        load(model, optimizer, ranks.folder / str(cut))
        events.clear()
        train(model, optimizer, range(cut, LAST), place)
        assert_bitwise(shards(model), wanted)
        assert_bitwise(averaged(model, optimizer), wanted_average)
        told = 1 if case == "rich" else 0  # a scored event comes one step later
        assert events == [event for event in wanted_events if event.step + told > cut]
        assert optimizer._cycle.steps == LAST


@pytest.mark.compat(stack="FSDP2", feature="resume in mid-cycle")
@on_ranks(cases=["momentum", "AdamW", "rich"])
def test_a_checkpoint_continues_in_one_process_and_in_two(ranks: Ranks, case: str) -> None:
    """One of two processes in one, and one of one process in two."""
    start = STARTS[case]
    both, one = (sharded, (ranks.rank, ranks.world)), (Net, JOINT)
    for (make, place), (other, there) in ((both, one), (one, both)):
        alone = place == JOINT
        model = make(torch.float64)
        optimizer, _ = start(model, place)
        for step in range(LAST):
            train(model, optimizer, [step], place)
            optimizer.zero_grad()
            if step in FEW and (ranks.rank == 0 or not alone):
                save(model, optimizer, ranks.folder / f"{alone}-{step}", no_dist=alone)
        dist.barrier()
        for step in FEW:
            resumed = other(torch.float64)
            optimizer, _ = start(resumed, there)
            load(resumed, optimizer, ranks.folder / f"{alone}-{step}", no_dist=not alone)
            assert optimizer._cycle.done == (step + 1) % 3
            train(resumed, optimizer, range(step + 1, LAST), there)
            assert_close(wholes(resumed), wholes(model), 1e-12)


@pytest.mark.compat(stack="DDP", feature="resume in mid-cycle")
@on_ranks
def test_a_checkpoint_of_replicas_continues_in_shards(ranks: Ranks) -> None:
    place = (ranks.rank, ranks.world)
    model = DistributedDataParallel(Net(torch.float64))
    optimizer, _ = wrapped(model, place)
    train(model, optimizer, range(4), place)
    save(model, optimizer, ranks.folder / "saved")
    cut = sharded(torch.float64)
    resumed, _ = wrapped(cut, place)
    load(cut, resumed, ranks.folder / "saved")
    for net, opt in ((model, optimizer), (cut, resumed)):
        train(net, opt, range(4, LAST), place)
    assert_close(wholes(cut), wholes(model), 1e-12)


@on_ranks
def test_the_keys_and_shapes_are_the_same_at_every_phase(ranks: Ranks) -> None:
    place = (ranks.rank, ranks.world)
    for start in STARTS.values():
        model = sharded()
        optimizer, _ = start(model, place)
        state = CycleState(model, optimizer)
        layouts = []
        for step in range(7):
            saved = state.state_dict()
            assert all(isinstance(value, Tensor) for value in saved.values())
            assert all(
                F.local(saved[f"buffers.0.{name}"]).shape == F.local(p).shape
                for name, p in model.named_parameters()
            )
            layouts.append({key: (value.shape, value.dtype) for key, value in saved.items()})
            train(model, optimizer, [step], place)
        assert all(layout == layouts[0] for layout in layouts)
        assert_alike(sorted(layouts[0]))


@on_ranks
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(ranks: Ranks) -> None:
    place = (ranks.rank, ranks.world)
    model = sharded()
    optimizer, _ = wrapped(model, place)
    state = CycleState(model, optimizer)
    train(model, optimizer, range(4), place)
    good = state.state_dict()
    other = CycleState(model, wrapped(model, place, predictor=P.Secant())[0]).state_dict()
    short = {**good, "members": good["members"][:-1]}
    torn = {**good, "header": torch.zeros_like(good["header"])}
    for bad, words in (
        (other, "was written with Secant"),
        (short, "not one of these 4 parameters"),
        (torn, "header cannot be read"),
        ({**good, "buffers.0.up.weight": good["buffers.0.up.bias"]}, "shape"),
        ({k: v for k, v in good.items() if k != "buffers.0.up.bias"}, "lacks buffers.0.up.bias"),
    ):
        with pytest.raises(CheckpointError, match=words):
            state.load_state_dict(bad)
        assert_bitwise(
            {k: F.local(v) for k, v in state.state_dict().items()},
            {k: F.local(v) for k, v in good.items()},
        )
    with pytest.raises(ArgumentError, match="4 of the optimizer's parameters"):
        CycleState(Net(), optimizer)
    with pytest.raises(ArgumentError, match="paramcast wrapper"):
        CycleState(model, optimizer.base)


@on_ranks
def test_the_older_fsdp_trains_with_plp_and_all_else_is_refused(ranks: Ranks) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    whole = Net(torch.float64)
    alone = pc.PLP(torch.optim.SGD(whole.parameters(), lr=0.1))
    with quiet():
        model = FullyShardedDataParallel(Net(torch.float64), device_id=torch.device("cpu"))
        base = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = pc.Forecast(base, pc.predictors.Midline(), average=pc.averaging.EMA(0.9))
        train(model, optimizer, range(7), (ranks.rank, ranks.world))
        train(whole, alone, range(7))
        with torch.no_grad():
            torch.testing.assert_close(
                model(torch.ones(2, 3).double()), whole(torch.ones(2, 3).double())
            )
    with pytest.raises(ArgumentError, match="fully_shard"):
        CycleState(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ArgumentError, match="fully_shard"), optimizer.eval_weights(model):
        pass
    assert all(map(torch.equal, model.parameters(), before))
    check = pc.gates.LossCheck(lambda: 0.0, model=model)
    with pytest.raises(ArgumentError, match="fully_shard"):
        check.measure()
