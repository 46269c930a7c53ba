"""Whatever is allocated follows its parameter: torch's default device and dtype change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

import paramcast as pc
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast import schedules
from paramcast.integrations.checkpoint import CycleState
from paramcast.integrations.packing import pack, unpack
from reference import FAMILY, Row, parameters, same_bits, set_gradients, through_a_file, values
from test_conformance import AVERAGES, GATES

TOTAL = 12
Around = Callable[[], AbstractContextManager[object]]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


FOREIGN: dict[str, Around] = {
    "meta": lambda: torch.device("meta"),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}


def many(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Enough short vectors to be gathered, and matrices beside them."""
    vectors = [nn.Parameter(torch.linspace(-1, 1, n + 2).to(dtype)) for n in range(18)]
    return [*parameters(dtype), *vectors]


def path(around: Around, steps: int = TOTAL, **options: Any) -> list[list[Tensor]]:
    """The parameters, and what they are evaluated with, after each of the steps.

    In the middle the run is saved and goes on in fresh objects. All of it happens inside `around`,
    but for what would not be ours: parameters and gradients.
    """
    ps = many()
    optimizer = pc.Forecast(SGD(ps, lr=0.05, momentum=0.9), **options)
    found = []
    for t in range(steps):
        set_gradients(ps, t)
        with around():
            optimizer.step()
            if optimizer.has_average:
                with optimizer.eval_weights():
                    found.append(values(ps))
            state = optimizer.state_dict()
        found.append(values(ps))
        if t == steps // 2:
            state = through_a_file(state)
            optimizer = pc.Forecast(SGD(ps, lr=0.05, momentum=0.9), **options)
            with around():
                optimizer.load_state_dict(state)
    with around():
        optimizer.flush()
    return found


def same(left: list[list[Tensor]], right: list[list[Tensor]]) -> bool:
    return len(left) == len(right) and all(map(same_bits, left, right))


@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
def test_every_predictor_is_where_its_parameters_are(row: Row) -> None:
    expected = path(nullcontext, predictor=row.predictor)
    for name, around in FOREIGN.items():
        assert same(path(around, predictor=row.predictor), expected), name


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: lambda make=make: {"gate": make()} for name, make in GATES.items()},
    **{name: lambda make=make: {"average": make()} for name, make in AVERAGES.items()},
    "schedule": lambda: {"horizon": schedules.Cosine(1.0, -0.5)},
    "scored": lambda: {"monitors": [M.History(scored=True)]},
    "shadow": lambda: {"shadow": True},
}


@pytest.mark.parametrize("name", PARTS)
def test_every_gate_average_and_monitor_is_too(name: str) -> None:
    def run(around: Around) -> list[list[Tensor]]:
        return path(around, predictor=P.Midline(), total_steps=TOTAL, **PARTS[name]())

    expected = run(nullcontext)
    for kind, around in FOREIGN.items():
        assert same(run(around), expected), kind


@pytest.mark.parametrize("foreign", FOREIGN)
def test_sharded_checkpoints_and_packed_states_are_too(foreign: str) -> None:
    def results() -> Any:
        state = CycleState(model, optimizer).state_dict()
        packed = unpack(pack({"lr": 0.1, "weights": [weight]}))
        return state, packed

    weight = torch.ones(3)
    model = nn.Linear(3, 1)
    optimizer = pc.PLP(SGD(model.parameters(), lr=0.1))
    model(weight).sum().backward()
    optimizer.step()
    state, packed = results()
    with FOREIGN[foreign]():
        its_state, its_packed = results()
    assert torch.equal(its_packed["weights"][0], packed["weights"][0])
    assert state.keys() == its_state.keys()
    assert all(torch.equal(its_state[key], state[key]) for key in state)
