"""`torch.compile` of the model, of the step and of both: equal results, few graph breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from by_hand import ByHand, batch, network
from torch import nn
from torch.nn.functional import cross_entropy

import paramcast as pc
from paramcast import averaging
from reference import same_bits, through_a_file

Base = torch.optim.Optimizer
BASES: dict[str, Callable[[Any], Base]] = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.01),
    "Adam, tensor lr": lambda ps: torch.optim.Adam(ps, lr=torch.tensor(0.01)),
}
# torch's own, bare or wrapped, where a backward pass is inside a compiled function.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


class Graphs:
    """A back end that runs graphs as they are and counts how many ran."""

    def __init__(self) -> None:
        self.ran = 0

    def __call__(self, module: Any, inputs: Any) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.ran += 1
            return module.forward(*args)

        return run


def breaks() -> int:
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def gradients(model: nn.Module, t: int) -> None:
    inputs, targets = batch(t)
    model.zero_grad()
    cross_entropy(model(inputs), targets).backward()


def step_alone(model: nn.Module, optimizer: Base, backend: Any) -> Callable[[int], None]:
    """The model runs as it is, the step is compiled."""
    step = torch.compile(optimizer.step, backend=backend)

    def one(t: int) -> None:
        gradients(model, t)
        step()

    return one


def step_in_a_function(model: nn.Module, optimizer: Base, backend: Any) -> Callable[[int], None]:
    @torch.compile(backend=backend)
    def step() -> None:
        optimizer.step()

    def one(t: int) -> None:
        gradients(model, t)
        step()

    return one


def whole_iteration(model: nn.Module, optimizer: Base, backend: Any) -> Callable[[int], None]:
    """Forward, backward and step in one compiled function."""

    @torch.compile(backend=backend)
    def iteration(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return lambda t: iteration(*batch(t))


WAYS = {"step": step_alone, "function": step_in_a_function, "iteration": whole_iteration}


def run(way: str, name: str, *, wrapped: bool, backend: Any, steps: int = 9) -> list[Any]:
    """Train with PLP, or with the bare optimizer and PLP by hand."""
    model = network()
    bare = BASES[name](model.parameters())
    by_hand = ByHand(list(model.parameters()))
    one = WAYS[way](model, pc.PLP(bare) if wrapped else bare, backend)
    for t in range(steps):
        one(t)
        if not wrapped:
            by_hand.completed()
    return list(model.parameters())


# --- the model ------------------------------------------------------------------------------------


@pytest.mark.compat(stack="PyTorch: torch.compile of the model", feature="train")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", BASES)
def test_a_compiled_model_is_trained_as_by_hand_and_not_compiled_again(
    name: str, backend: str
) -> None:
    models = network(), network()
    compiled = [torch.compile(model, backend=backend) for model in models]
    optimizer = pc.PLP(BASES[name](compiled[0].parameters()))
    weights = list(models[1].parameters())
    bare, by_hand = BASES[name](weights), ByHand(weights)
    graphs = []
    for t in range(9):
        for model, its_own in zip(compiled, (optimizer, bare), strict=True):
            its_own.zero_grad()
            inputs, targets = batch(t)
            cross_entropy(model(inputs), targets).backward()
            its_own.step()
        by_hand.completed()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert same_bits(models[0].parameters(), weights)
    assert len(set(graphs)) == 1


# --- the step -------------------------------------------------------------------------------------


@pytest.mark.compat(stack="PyTorch: torch.compile of the step", feature="train")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BASES)
def test_a_compiled_step_is_the_bare_one_and_plp_by_hand_with_one_graph_break_more(
    name: str, way: str
) -> None:
    bare, wrapped = Graphs(), Graphs()
    by_hand = run(way, name, wrapped=False, backend=bare)
    breaks_of_the_bare_step = breaks()
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    assert same_bits(by_hand, run(way, name, wrapped=True, backend=wrapped))
    assert breaks() <= breaks_of_the_bare_step + 1
    assert wrapped.ran == bare.ran > 0


@pytest.mark.slow
@pytest.mark.compat(stack="PyTorch: torch.compile of the step", feature="train")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_step_compiled_by_a_back_end_is_so_too(name: str, way: str, backend: str) -> None:
    wrapped = run(way, name, wrapped=True, backend=backend)
    torch.compiler.reset()
    assert same_bits(wrapped, run(way, name, wrapped=False, backend=backend))


@pytest.mark.compat(stack="PyTorch: torch.compile of the step", feature="resume in mid-cycle")
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_run_with_a_compiled_step_resumes_bitwise(cut: int) -> None:
    def fresh() -> tuple[nn.Module, pc.PLP, Callable[[int], None]]:
        model = network()
        optimizer = pc.PLP(BASES["momentum"](model.parameters()))
        return model, optimizer, step_alone(model, optimizer, "eager")

    model, optimizer, one = fresh()
    for t in range(cut):
        one(t)
    other, resumed, its_one = fresh()
    saved = through_a_file([model.state_dict(), optimizer.state_dict()])
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for t in range(cut, cut + 7):
        one(t)
        its_one(t)
    assert same_bits(model.parameters(), other.parameters())


def test_averages_gates_and_hooks_stay_out_of_the_graphs() -> None:
    def build() -> tuple[nn.Module, pc.Forecast, list[int]]:
        model = network()
        optimizer = pc.Forecast(
            BASES["momentum"](model.parameters()),
            pc.predictors.LeastSquares(3),
            gate=pc.gates.Agreement(above=-1.0),
            average=averaging.EMA(decay=0.9),
        )
        calls: list[int] = []
        optimizer.register_step_post_hook(lambda *_: calls.append(1))
        return model, optimizer, calls

    (model, optimizer, calls), (other, plain, _) = build(), build()
    graphs = Graphs()
    one = step_alone(model, optimizer, graphs)
    for t in range(9):
        one(t)
        gradients(other, t)
        plain.step()
    assert same_bits(model.parameters(), other.parameters())
    with optimizer.eval_weights(), plain.eval_weights():
        assert same_bits(model.parameters(), other.parameters())
    assert len(calls) == graphs.ran == 9
