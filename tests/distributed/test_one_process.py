"""The checkpoint adapter without any process group: names, dtypes, layouts, the round trip."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

import paramcast as pc
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.integrations.checkpoint import HEADER, CycleState, TrainingState
from training import Net, assert_bitwise, train, wholes, wrapped

Run = tuple[nn.Module, pc.Forecast]


class Odd(nn.Module):
    """Parameters that need care: half precision, complex, not contiguous, a scalar, a name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.narrow = nn.Parameter(torch.randn(4).bfloat16())
        self.turned = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
        self.waves = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.one = nn.Parameter(torch.randn(()))
        self.module = nn.Linear(1, 1)  # the word that DistributedDataParallel adds

    def give_gradients(self, step: int) -> None:
        for i, p in enumerate(self.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(9 * step + i)).to(
                p.dtype
            )


def start(model: nn.Module) -> pc.Forecast:
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    return pc.Forecast(base, pc.predictors.LeastSquares(3, 1.0))


@pytest.mark.parametrize("cut", range(7))
def test_every_kind_of_parameter_travels(cut: int) -> None:
    model = Odd()
    optimizer = start(model)
    for step in range(cut):
        model.give_gradients(step)
        optimizer.step()
    twin = Odd()
    twin.load_state_dict(model.state_dict())
    other = start(twin)
    CycleState(twin, other).load_state_dict(CycleState(model, optimizer).state_dict())
    for step in range(cut, cut + 4):
        for net, opt in ((model, optimizer), (twin, other)):
            net.give_gradients(step)
            opt.step()
    assert_bitwise(wholes(model), wholes(twin))


def test_what_is_saved_is_a_copy() -> None:
    model = Net()
    optimizer, _ = wrapped(model, (0, 1))
    train(model, optimizer, range(1))
    saved = CycleState(model, optimizer).state_dict()
    kept = {k: v.clone() for k, v in saved.items()}
    train(model, optimizer, range(1, 3))
    assert_bitwise(saved, kept)


def test_the_names_are_those_of_the_bare_model() -> None:
    model = Odd()
    bare = set(CycleState(model, start(model)).state_dict())
    compiled = torch.compile(model)
    assert set(CycleState(compiled, start(compiled)).state_dict()) == bare
    assert "buffers.0.module.weight" in bare


def save_load_and_train(saved: Run, loaded: Run, folder: Path) -> None:
    """Save one run with torch, load it into the other, and train both for 4 more steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is no process group
        dcp.save({"run": TrainingState(*saved)}, checkpoint_id=str(folder))
        dcp.load({"run": TrainingState(*loaded)}, checkpoint_id=str(folder))
    for net, optimizer in (saved, loaded):
        train(net, optimizer, range(4, 8))


@pytest.mark.parametrize(
    "average", [None, pc.averaging.EMA(decay=0.8), pc.averaging.Trend()], ids=repr
)
def test_a_run_is_saved_and_loaded_with_torch(
    average: pc.averaging.Average | None, tmp_path: Path
) -> None:
    model, twin = Net(), Net()
    optimizer, _ = wrapped(model, (0, 1), average=average)
    other, _ = wrapped(twin, (0, 1), average=average)
    before = set(CycleState(model, optimizer).state_dict())
    train(model, optimizer, range(4))
    assert set(CycleState(model, optimizer).state_dict()) == before
    save_load_and_train((model, optimizer), (twin, other), tmp_path)
    assert_bitwise(wholes(model), wholes(twin))
    with optimizer.eval_weights(model), other.eval_weights(twin):
        assert_bitwise(wholes(model), wholes(twin))


def test_a_frozen_parameter_stays_out_after_loading() -> None:
    runs = []
    for _ in range(2):
        model = Net()
        model.up.bias.requires_grad = False
        runs.append((model, wrapped(model, (0, 1))[0]))
    (model, optimizer), (twin, other) = runs
    train(model, optimizer, range(4))
    twin.load_state_dict(model.state_dict())
    other.base.load_state_dict(copy.deepcopy(optimizer.base.state_dict()))
    CycleState(twin, other).load_state_dict(CycleState(model, optimizer).state_dict())
    for net, opt in runs:
        train(net, opt, range(4, 8))
    assert_bitwise(wholes(model), wholes(twin))
    assert torch.equal(twin.up.bias, Net().up.bias)


def test_plain_values_that_do_not_fit_are_refused() -> None:
    model = Net()
    weights = (0.123456789,) * (HEADER // 8)
    predictor = pc.predictors.Affine((*weights, 1.0 - sum(weights)))
    optimizer, _ = wrapped(model, (0, 1), predictor=predictor)
    with pytest.raises(CheckpointError, match="the predictor's weights or the anomaly rules"):
        CycleState(model, optimizer).state_dict()


def test_nothing_is_loaded_while_the_average_is_in_the_model() -> None:
    model = Net()
    optimizer, _ = wrapped(model, (0, 1), average=pc.averaging.EMA(decay=0.5))
    train(model, optimizer, range(2))
    state = CycleState(model, optimizer)
    saved = state.state_dict()
    with optimizer.eval_weights(), pytest.raises(ArgumentError, match="inside eval_weights"):
        state.load_state_dict(saved)
