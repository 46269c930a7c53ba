"""Torch's own copies of weights: what is written must be seen by the next forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import paramcast as pc
from paramcast import averaging as A
from paramcast import predictors as P
from paramcast.gates import LossCheck

INPUTS = torch.linspace(-1.0, 2.0, 24).reshape(2, 3, 4)
Context = Callable[[], AbstractContextManager[object]]


class Tied(nn.Module):
    """One weight used twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def encoder() -> nn.Module:
    """In evaluation mode it takes torch's fast path, which reads all weights itself."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), 1)


class Functional(nn.Module):
    """Calls a network as a function of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.net, dict(self.net.named_parameters()), (x,))


class Recurrent(nn.Module):
    """Holds its weights in a list beside its parameters (`_flat_weights`)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 4),
    "tied": Tied,
    "encoder": encoder,
    "functional_call": Functional,
    "recurrent": Recurrent,
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "the older weight_norm": lambda: nn.utils.weight_norm(nn.Linear(4, 4)),
    "compiled": lambda: torch.compile(nn.Linear(4, 4), backend="eager"),
}
OLDER = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
FORKED = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")


@contextmanager
def bfloat16() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


CONTEXTS: dict[str, Context] = {
    "plain": nullcontext,
    "autocast": bfloat16,
    "cached()": parametrize.cached,
    "inference": torch.inference_mode,
}


def trained(make: Callable[[], nn.Module], **options: object) -> tuple[nn.Module, pc.Forecast]:
    torch.manual_seed(0)
    model = make()
    optimizer = pc.Forecast(torch.optim.SGD(model.parameters(), lr=0.5), **options)  # type: ignore[arg-type]
    for _ in range(3):
        optimizer.zero_grad()
        model(INPUTS).square().mean().backward()
        optimizer.step()
    return model.eval(), optimizer


def fresh(model: nn.Module, context: Context) -> Tensor:
    """What the model says in a block of its own, where no copy is left of an earlier one."""
    with context():
        return model(INPUTS).detach().clone()


@OLDER
@FORKED
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_swap_is_seen_in_a_block_that_has_run_the_model(network: str, context: str) -> None:
    model, optimizer = trained(NETWORKS[network], average=A.EMA(decay=0.5))
    block = CONTEXTS[context]
    live = fresh(model, block)
    with optimizer.eval_weights():
        averaged = fresh(model, block)
    assert not torch.equal(live, averaged)
    with block():  # the swap inside the block
        assert torch.equal(model(INPUTS), live)
        with optimizer.eval_weights():
            assert torch.equal(model(INPUTS), averaged)
        assert torch.equal(model(INPUTS), live)
    with optimizer.eval_weights(), block():  # and outside
        assert torch.equal(model(INPUTS), averaged)
    assert torch.equal(fresh(model, block), live)


@pytest.mark.parametrize("context", ["autocast", "cached()"])
def test_a_predictors_own_average_is_seen_too(context: str) -> None:
    model, optimizer = trained(NETWORKS["weight_norm"], predictor=P.PrimalAveraging())
    with optimizer.eval_weights():
        averaged = fresh(model, CONTEXTS[context])
    with CONTEXTS[context]():
        assert not torch.equal(model(INPUTS), averaged)
        with optimizer.eval_weights():
            assert torch.equal(model(INPUTS), averaged)


@pytest.mark.parametrize("context", ["autocast", "cached()"])
def test_a_jump_made_inside_the_block_is_seen(context: str) -> None:
    torch.manual_seed(0)
    model = parametrizations.weight_norm(nn.Linear(4, 4))
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=0.5))
    for _ in range(3):
        optimizer.zero_grad()
        with CONTEXTS[context]():
            model(INPUTS).float().square().mean().backward()
            optimizer.step()
            after = model(INPUTS).detach().clone()
    assert optimizer.last_event.applied
    assert torch.equal(after, fresh(model, CONTEXTS[context]))


@pytest.mark.parametrize("context", ["autocast", "cached()"])
@pytest.mark.parametrize(("lr", "kept"), [(0.05, True), (0.9, False)])
def test_a_loss_measured_inside_the_block_is_that_of_the_weights(
    lr: float, kept: bool, context: str
) -> None:
    torch.manual_seed(0)
    model, x = parametrizations.weight_norm(nn.Linear(8, 1)), torch.randn(64, 8)
    told: list[tuple[float, float]] = []

    def loss() -> Tensor:
        value = (model(x).float() - x.sum(1, keepdim=True)).square().mean()
        if not torch.is_grad_enabled():  # measured by the gate: beside a model without any copy
            exact = model.parametrizations.weight
            weight = torch._weight_norm(exact.original1, exact.original0, 0)
            told.append((value.item(), nn.functional.linear(x, weight, model.bias)
                         .sub(x.sum(1, keepdim=True)).square().mean().item()))  # fmt: skip
        return value

    base = torch.optim.SGD(model.parameters(), lr=lr)
    optimizer = pc.Forecast(base, P.Secant(horizon=3.0), gate=LossCheck(loss))
    for _ in range(3):
        optimizer.zero_grad()
        with CONTEXTS[context]():
            loss().backward()
            optimizer.step()
            after = model(x).detach().clone()
    assert len(told) == 2
    for measured, exact in told:
        assert measured == pytest.approx(exact, rel=0.02)
    assert optimizer.last_event.applied is kept
    with CONTEXTS[context]():
        assert torch.equal(after, model(x))


def test_gradients_flow_after_a_loss_was_measured_inside_autocast() -> None:
    model = nn.Linear(4, 1)
    optimizer = pc.Forecast(
        torch.optim.SGD(model.parameters(), lr=0.1),
        P.Secant(),
        gate=LossCheck(lambda: model(INPUTS).float().mean()),
    )
    with bfloat16():
        for _ in range(4):
            optimizer.zero_grad()
            model(INPUTS).float().square().mean().backward()
            assert model.weight.grad is not None
            optimizer.step()
