"""Accelerate, the real one: prepare, accumulation, save_state and load_state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("accelerate")
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small import (
    Averaging,
    adamw,
    averaged,
    cosine,
    each_average,
    loss_of,
    network,
    plp,
    primal,
    same,
    sgd,
    spoiled,
    train,
)

import paramcast as pc
from paramcast.errors import BaseOptimizerError
from paramcast.integrations.common import numbers, unwrap


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def loader(digits: tuple[Tensor, Tensor]) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*digits), batch_size=32)


def steps(accelerator: Accelerator, net: Any, optimizer: Any, batches: Any) -> None:
    for batch in batches:
        with accelerator.accumulate(net):
            accelerator.backward(loss_of(net, batch))
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.compat(stack="Accelerate", feature="train")
@pytest.mark.parametrize("base", [sgd, adamw])
def test_training_equals_the_plain_loop(loader: Any, base: Any) -> None:
    accelerator = Accelerator(cpu=True)
    net = network()
    optimizer = plp(base)(net.parameters())
    net, optimizer, batches, scheduler = accelerator.prepare(
        net, optimizer, loader, cosine(optimizer)
    )
    for batch in batches:
        optimizer.zero_grad()
        accelerator.backward(loss_of(net, batch))
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()

    plain = network()
    bare = plp(base)(plain.parameters())
    schedule = cosine(bare)
    for batch in loader:
        bare.zero_grad()
        loss_of(plain, batch).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        bare.step()
        schedule.step()
    assert same(net, plain)


@pytest.mark.compat(stack="Accelerate", feature="train")
def test_an_accumulated_micro_batch_is_no_step(loader: Any) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = torch.nn.Linear(64, 10)  # without batch norm, two micro-batches are one batch
    plain = torch.nn.Linear(64, 10)
    plain.load_state_dict(net.state_dict())
    net, optimizer, batches = accelerator.prepare(net, pc.PLP(sgd(net.parameters())), loader)
    steps(accelerator, net, optimizer, batches)
    assert unwrap(optimizer).state_dict()["paramcast"]["steps"] == 10

    joint = DataLoader(loader.dataset, batch_size=64)
    train(plain, pc.PLP(sgd(plain.parameters())), joint)
    torch.testing.assert_close(net.weight, plain.weight)


@pytest.mark.compat(stack="Accelerate", feature="resume in mid-cycle")
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_saved_state_resumes_bitwise(loader: Any, cut: int, tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    net = network()
    net, optimizer, batches = accelerator.prepare(net, pc.PLP(adamw(net.parameters())), loader)
    steps(accelerator, net, optimizer, list(batches)[:cut])
    accelerator.save_state(tmp_path)
    steps(accelerator, net, optimizer, list(batches)[cut:])

    AcceleratorState._reset_state(reset_partial_state=True)
    other = Accelerator(cpu=True)
    again = spoiled(network())
    again, resumed, batches = other.prepare(again, pc.PLP(adamw(again.parameters())), loader)
    other.load_state(tmp_path)
    steps(other, again, resumed, other.skip_first_batches(batches, cut))
    assert same(again, net)


@pytest.mark.compat(stack="Accelerate", feature="averaged evaluation")
@pytest.mark.compat(stack="Accelerate", feature="metrics")
@each_average
def test_the_wrapper_inside_evaluates_and_tells(
    loader: Any, kind: Averaging, tmp_path: Path
) -> None:
    accelerator = Accelerator(cpu=True)
    net = network()
    net, optimizer = accelerator.prepare(net, kind.make(net.parameters()))
    points = []
    for batch in loader:
        steps(accelerator, net, optimizer, [batch])
        points.append(net[0].weight.detach().clone())
    live = points[-1]
    with unwrap(optimizer).eval_weights():
        average = net[0].weight.detach().clone()
        torch.testing.assert_close(average, kind.of(points))
        assert not torch.equal(average, live)
        accelerator.save_model(net, tmp_path, safe_serialization=False)
    saved = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert torch.equal(saved["0.weight"], average)
    assert torch.equal(net[0].weight, live)
    wrapper = unwrap(optimizer)
    last = len(points) - len(points) % wrapper.predictor.every
    assert numbers(wrapper.last_event)["forecast/step"] == last


def through_files(accelerator: Accelerator, optimizer: Any, folder: Path) -> Any:
    accelerator.save_state(folder)
    accelerator.load_state(folder)
    return optimizer


def prepared_again(accelerator: Accelerator, optimizer: Any, folder: Path) -> Any:
    return accelerator.prepare(unwrap(optimizer))  # which loads the state that it has


@pytest.mark.parametrize(
    "load",
    [
        through_files,
        prepared_again,
    ],
)
@pytest.mark.parametrize("make", [plp(adamw), averaged, primal], ids=["PLP", "EMA", "primal"])
def test_loading_in_mid_cycle_what_is_there_changes_nothing(
    loader: Any, make: Any, load: Any, tmp_path: Path
) -> None:
    nets = []
    for reloaded in (False, True):
        accelerator = Accelerator(cpu=True)
        net = network()
        net, optimizer = accelerator.prepare(net, make(net.parameters()))
        batches = list(loader)
        steps(accelerator, net, optimizer, batches[:5])
        if reloaded:
            optimizer = load(accelerator, optimizer, tmp_path)
        steps(accelerator, net, optimizer, batches[5:10])
        with unwrap(optimizer).eval_weights():
            nets.append({name: p.detach().clone() for name, p in net.named_parameters()})
    assert all(torch.equal(nets[0][name], p) for name, p in nets[1].items())


def test_wrapping_what_accelerate_has_prepared_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(sgd(network().parameters()))
    with pytest.raises(BaseOptimizerError, match=r"AcceleratedOptimizer of accelerate.*wrap the"):
        pc.PLP(prepared)
