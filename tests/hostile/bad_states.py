"""State dicts that are damaged, foreign, or made to harm."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import Bad

import paramcast as pc
from paramcast.integrations.checkpoint import CycleState
from paramcast.integrations.packing import unpack

Loading = Callable[[Path], Callable[[], Any]]


def optimizer(trained: int = 0) -> tuple[torch.nn.Module, pc.PLP]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapped = pc.PLP(base, average=pc.averaging.EMA(0.9), total_steps=20)
    for _ in range(trained):
        wrapped.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        wrapped.step()
    return model, wrapped


@cache
def saved() -> dict[str, Any]:
    return copy.deepcopy(optimizer(trained=2)[1].state_dict())


def whole(change: Callable[[dict[str, Any]], Any]) -> Loading:
    """load_state_dict of a saved state after a change of it."""

    def make(_: Path) -> Callable[[], Any]:
        state = copy.deepcopy(saved())
        state = change(state) or state
        return lambda: optimizer()[1].load_state_dict(state)

    return make


def entry(**changes: Any) -> Loading:
    def change(state: dict[str, Any]) -> None:
        for key, value in changes.items():
            ours = state["paramcast"]
            (ours if key in ours else ours["cycle"])[key] = value

    return whole(change)


def average(**changes: Any) -> Loading:
    return whole(lambda state: state["paramcast"]["average"].update(changes))


def buffers(kind: Callable[..., torch.Tensor]) -> Loading:
    """Buffers of the right shapes and another kind."""
    return entry(buffers=[[kind(1, 3)], [kind(1)]])


def sharded(**changes: Any) -> Loading:
    def make(_: Path) -> Callable[[], Any]:
        state = CycleState(*optimizer(trained=2)).state_dict() | changes
        return lambda: CycleState(*optimizer()).load_state_dict(state)

    return make


def packed(content: bytes) -> Loading:
    return lambda _: lambda: unpack(np.frombuffer(content, np.uint8))


def torch_file(thing: Any) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def demon(**changes: Any) -> Loading:
    def make(_: Path) -> Callable[[], Any]:
        base = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        schedule = pc.schedules.Demon(base, total_steps=5)
        return lambda: schedule.load_state_dict(schedule.state_dict() | changes)

    return make


def complex_zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.complex64)


HEADER = torch.tensor(list(json.dumps([1]).encode()), dtype=torch.uint8)
DAMAGED = 'the "paramcast" entry of the state dict is damaged: '
SHARDED = "the checkpoint's cycle is damaged: its header cannot be read"
AVERAGE = (
    "the average in the state dict is damaged or another model's; delete "
    'state_dict["paramcast"]["average"] to start a new one'
)
BASE = (
    "the base's part of the state dict does not fit SGD ({}); load what was saved with the same "
    "optimizer and model"
)
STATES = [
    Bad("a state that is a list", "a state dict must be a dict, got list", whole(lambda s: [1])),
    Bad("a state without the base's groups", BASE.format("KeyError: 'param_groups'"),
        whole(lambda state: {k: v for k, v in state.items() if k != "param_groups"})),
    Bad("a state whose groups are a number", BASE.format("TypeError: …"),
        whole(lambda state: state.update(param_groups=3))),
    Bad("a state of a model with more parameters", BASE.format("ValueError: loaded state dict "
        "contains a parameter group that doesn't match the size of optimizer's group"),
        whole(lambda state: state["param_groups"][0]["params"].append(2))),
    Bad("a state whose predictor is a list", DAMAGED + "predictor has the wrong type",
        entry(predictor=["Midline"])),
    Bad("a state of 10^400 steps", DAMAGED + "steps has the wrong type", entry(steps=10**400)),
    Bad("a state with a horizon that is NaN", DAMAGED + "horizon has the wrong type",
        entry(horizon=float("nan"))),
    Bad("a state whose flags are tensors", DAMAGED + "seen has the wrong type",
        entry(seen=[torch.ones(2), torch.ones(2)])),
    Bad("a state whose buffers are complex",
        DAMAGED + "a buffer of parameter 0 is torch.strided of torch.complex64",
        buffers(complex_zeros)),
    Bad("an average that was updated True times", AVERAGE, average(updates=True)),
    Bad("a sharded cycle whose header is one number, 10^12", SHARDED,
        sharded(header=torch.tensor(10**12))),
    Bad("a sharded cycle whose header is 100,000 brackets", SHARDED,
        sharded(header=torch.full((100_000,), ord("["), dtype=torch.uint8))),
    Bad("a sharded cycle whose flags are a word", "the checkpoint's cycle is not one of these 2 "
        "parameters; load it into the model that it was saved from", sharded(members="all")),
    Bad("a packed state of 100,000 brackets", "the saved state of the optimizer is damaged "
        "(UnpicklingError); load the weights alone, or an earlier file", packed(b"[" * 100_000)),
    Bad("a packed state that holds a function", "the saved state of the optimizer is damaged "
        "(UnpicklingError); load the weights alone, or an earlier file", packed(torch_file(print))),
    Bad("a state of Demon with a momentum in words", "the state dict of Demon is damaged or "
        "belongs to another optimizer; load what its state_dict() returned",
        demon(initial=["high"])),
]  # fmt: skip
