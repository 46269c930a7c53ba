"""Evaluation weights: what the averages are, and swapping them in and out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import paramcast as pc
from paramcast import averaging as A
from paramcast import gates as G
from paramcast import predictors as P
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.tensors import segments as S
from reference import (
    BASES,
    COPIERS,
    FAMILY,
    Row,
    averaged,
    check_resumes,
    constant_steps,
    pairwise,
    parameters,
    restore,
    same_bits,
    set_gradients,
    through_a_file,
    train,
    values,
)

TOTAL = 64

# --- the twins: every point kept ----------------------------------------------------------------


def slow_ema(points: list[list[Tensor]], decay: float) -> list[Tensor]:
    """(1 - d) sum_i d^(t-i) theta_i / (1 - d^t)"""
    t = len(points)
    weights = [(1 - decay) * decay ** (t - i) / (1 - decay**t) for i in range(1, t + 1)]
    assert sum(weights) == pytest.approx(1.0)
    paths = zip(*points, strict=True)
    return [sum(w * p for w, p in zip(weights, path, strict=True)) for path in paths]


def slow_mean(points: list[list[Tensor]], steps: list[int]) -> list[Tensor]:
    """The mean of the points after these steps (counted from 1)."""
    chosen = [points[step - 1] for step in steps]
    return [sum(path) / len(chosen) for path in zip(*chosen, strict=True)]


def slow_polynomial(points: list[list[Tensor]], eta: float) -> list[Tensor]:
    """sum_i w_i prod_(j > i) (1 - w_j) theta_i with w_t = (eta + 1) / (t + eta)"""
    w = [(eta + 1) / (t + eta) for t in range(1, len(points) + 1)]
    weights = [w[i] * math.prod(1 - later for later in w[i + 1 :]) for i in range(len(w))]
    paths = zip(*points, strict=True)
    return [sum(w * p for w, p in zip(weights, path, strict=True)) for path in paths]


def slow_trend(points: list[list[Tensor]], eta: float, slow: float, lag: float) -> list[Tensor]:
    """The line through both averages, which lie at lags 1 / (eta + 2) and 1 / (slow + 2)."""
    a, b = slow_polynomial(points, eta), slow_polynomial(points, slow)
    near, far = 1 / (eta + 2), 1 / (slow + 2)
    return [x + (y - x) * (lag - near) / (far - near) for x, y in zip(a, b, strict=True)]


Twin = Callable[[list[list[Tensor]]], "list[Tensor] | None"]


def mean_of(steps: Callable[[int], bool]) -> Twin:
    def twin(points: list[list[Tensor]]) -> list[Tensor] | None:
        chosen = [step for step in range(1, len(points) + 1) if steps(step)]
        return slow_mean(points, chosen) if chosen else None

    return twin


def lawa(*steps: int) -> Twin:
    """The mean of the snapshots so far and, between two of them, of the present point."""

    def twin(points: list[list[Tensor]]) -> list[Tensor] | None:
        now = len(points)
        chosen = [step for step in steps if step < now]
        return slow_mean(points, [*chosen, now]) if chosen or now in steps else None

    return twin


AVERAGES: dict[str, tuple[Callable[[], A.Average], Twin]] = {
    "EMA(decay)": (lambda: A.EMA(0.9), lambda points: slow_ema(points, 0.9)),
    "EMA(half_life)": (lambda: A.EMA(half_life=4), lambda points: slow_ema(points, 0.5**0.25)),
    "EMA(share)": (lambda: A.EMA(share=0.25), lambda points: slow_ema(points, 0.5 ** (1 / 16))),
    "PolynomialDecay": (lambda: A.PolynomialDecay(3), lambda points: slow_polynomial(points, 3)),
    "PolynomialDecay(0)": (
        lambda: A.PolynomialDecay(0),
        mean_of(lambda t: True),
    ),
    "Trend": (lambda: A.Trend(), lambda points: slow_trend(points, 8, 3, 0.03)),
    "Trend(ahead)": (lambda: A.Trend(6, 1, -0.2), lambda points: slow_trend(points, 6, 1, -0.2)),
    "SWA(start)": (lambda: A.SWA(20), mean_of(lambda t: t >= 20)),
    "SWA(0)": (lambda: A.SWA(0, every=3), mean_of(lambda t: t % 3 == 1)),
    "SWA(every)": (lambda: A.SWA(20, every=7), mean_of(lambda t: t >= 20 and (t - 20) % 7 == 0)),
    "SWA(share)": (lambda: A.SWA(start_share=0.75), mean_of(lambda t: t >= 48)),
    "LAWA": (lambda: A.LAWA(4, every=10), lawa(34, 44, 54, 64)),
    "LAWA(1)": (lambda: A.LAWA(1), mean_of(lambda t: t == 64)),
    "LAWA longer than the run": (
        lambda: A.LAWA(20, every=10),
        lawa(4, 14, 24, 34, 44, 54, 64),
    ),
}


def wrapped(
    average: A.Average | None,
    predictor: P.Predictor | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    base: str = "momentum",
    **options: Any,
) -> tuple[list[torch.nn.Parameter], pc.Forecast]:
    ps = parameters(dtype, seed)
    options = {"total_steps": TOTAL, **options}
    return ps, pc.Forecast(BASES[base](ps), predictor, average=average, **options)


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("predictor", [None, P.Midline(), P.ForwardEMA()], ids=repr)
def test_an_average_agrees_with_the_twin_at_every_step(
    name: str, predictor: P.Predictor | None
) -> None:
    make, twin = AVERAGES[name]
    ps, optimizer = wrapped(make(), predictor)
    points: list[list[Tensor]] = []
    for t in range(TOTAL):
        train(optimizer, ps, 1, start=t)
        points.append(values(ps))  # the predicted point too: what is evaluated is what there is
        expected = twin(points)
        assert optimizer.has_average is (expected is not None)
        if expected is not None:
            torch.testing.assert_close(averaged(optimizer, ps), expected, rtol=1e-10, atol=1e-11)
    assert optimizer.has_average


@pytest.mark.parametrize("lag", [0.1, 0.03, 0.0, -0.5])
def test_on_a_straight_path_a_trend_is_exact_at_its_lag(lag: float) -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = pc.Forecast(torch.optim.SGD([weight], lr=1.0), average=A.Trend(lag=lag))
    for t in range(1, 40):
        weight.grad = -torch.ones(1, dtype=torch.float64)
        optimizer.step()
        with optimizer.eval_weights():
            assert weight.item() == pytest.approx(t - lag * (t - 1), abs=1e-9)
        assert weight.item() == t


@pytest.mark.parametrize(("saved", "loaded"), [(A.Trend(), A.EMA(0.9)), (A.EMA(0.9), A.Trend())])
def test_an_average_of_another_kind_is_refused(saved: A.Average, loaded: A.Average) -> None:
    ps, optimizer = wrapped(saved)
    train(optimizer, ps, 2)
    _, other = wrapped(loaded)
    with pytest.raises(CheckpointError, match=f"this optimizer has {type(loaded).__name__}"):
        other.load_state_dict(optimizer.state_dict())


def test_a_trend_whose_averages_differ_in_who_is_there_is_damaged() -> None:
    ps, optimizer = wrapped(A.Trend())
    train(optimizer, ps, 2)
    state = optimizer.state_dict()
    state["paramcast"]["average"]["slower"][0] = None
    _, other = wrapped(A.Trend())
    with pytest.raises(CheckpointError, match="damaged"):
        other.load_state_dict(state)


@pytest.mark.parametrize("base", ["momentum", "adamw"])
@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
def test_an_average_beside_any_predictor_sees_its_path_and_changes_nothing(
    row: Row, base: str
) -> None:
    ps, optimizer = wrapped(A.EMA(0.8), row.predictor, base=base)
    others, alone = wrapped(None, row.predictor, base=base)
    points = []
    for t in range(2 * row.predictor.every + 3):
        train(optimizer, ps, 1, start=t)
        train(alone, others, 1, start=t)
        points.append(values(ps))
    assert same_bits(ps, others)
    torch.testing.assert_close(averaged(optimizer, ps), slow_ema(points, 0.8))


@given(
    st.floats(0.01, 0.999),
    st.lists(st.floats(-10, 10), min_size=1, max_size=30),
)
def test_the_weights_of_an_ema_are_its_formulas(decay: float, path: list[float]) -> None:
    average, rule = 0.0, A.EMA(decay)
    for updates, value in enumerate(path):
        weight = rule.weight(updates + 1, updates, None)
        average += weight * (value - average)
    points = [[torch.tensor(x, dtype=torch.float64)] for x in path]
    assert average == pytest.approx(slow_ema(points, decay)[0].item(), abs=1e-9)


def test_a_half_life_is_when_a_weight_has_halved() -> None:
    assert A.EMA(half_life=10).decay ** 10 == pytest.approx(0.5)


def test_an_average_of_one_point_is_that_point_bitwise() -> None:
    for average in (A.EMA(0.99), A.SWA(1), A.LAWA(64, every=1)):
        ps, optimizer = wrapped(average, dtype=torch.float32)
        train(optimizer, ps, 1)
        assert same_bits(averaged(optimizer, ps), ps)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
def test_narrow_and_complex_parameters_are_averaged_in_float32_at_least(dtype: torch.dtype) -> None:
    ps, optimizer = wrapped(A.EMA(0.95), P.Midline(), dtype=dtype)
    points = []
    for t in range(40):
        train(optimizer, ps, 1, start=t)
        wide = torch.complex128 if dtype.is_complex else torch.float64
        points.append([p.to(wide) for p in values(ps)])
    saved = optimizer.state_dict()["paramcast"]["average"]["buffers"]
    assert {buffer.dtype for buffer in saved} == {torch.float32}
    live = values(ps)
    with optimizer.eval_weights():
        exact = slow_ema(points, 0.95)
        for p, value in zip(ps, exact, strict=True):
            rounded = value.to(dtype)
            tolerance = 1e-5 if dtype in (torch.float32, torch.complex64) else 1e-2
            torch.testing.assert_close(p.detach(), rounded, rtol=tolerance, atol=tolerance / 10)
    assert same_bits(ps, live)


def test_an_average_of_what_never_moved_stays_bitwise() -> None:
    ps, optimizer = wrapped(A.EMA(0.9), P.Midline(), dtype=torch.float32, base="sgd")
    before = values(ps)
    for t in range(30):
        set_gradients(ps, t)
        ps[1].grad.zero_()
        optimizer.step()
    with optimizer.eval_weights():
        assert same_bits([ps[1]], [before[1]])
        assert not same_bits([ps[0]], [before[0]])


# --- in and out ---------------------------------------------------------------------------------


def test_the_live_weights_come_back_bitwise_also_after_an_exception() -> None:
    ps, optimizer = wrapped(A.EMA(0.9), dtype=torch.float32)
    train(optimizer, ps, 5)
    live, addresses = values(ps), [p.data_ptr() for p in ps]
    for failure in (None, RuntimeError, KeyboardInterrupt):
        try:
            with optimizer.eval_weights():
                assert not same_bits(ps, live)
                assert [p.data_ptr() for p in ps] == addresses
                for p in ps:
                    with torch.no_grad():
                        p.add_(1.0)  # whatever the block does
                if failure:
                    raise failure
        except (RuntimeError, KeyboardInterrupt):
            pass
        assert same_bits(ps, live)
    others, other = wrapped(A.EMA(0.9), dtype=torch.float32)
    train(other, others, 5)
    train(optimizer, ps, 5, start=5)
    train(other, others, 5, start=5)
    assert same_bits(ps, others)
    assert same_bits(averaged(optimizer, ps), averaged(other, others))


def test_signs_of_zero_and_nan_come_back_too() -> None:
    p = torch.nn.Parameter(torch.tensor([-0.0, math.nan, math.inf, 1.0]))
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), average=A.EMA(0.5))
    constant_steps(optimizer, p, 0.0, 0.0)
    live = values([p])
    with optimizer.eval_weights():
        pass
    assert same_bits([p], live)


def test_without_an_average_the_live_weights_are_evaluated() -> None:
    ps, optimizer = wrapped(None, P.Midline())
    live = values(ps)
    with optimizer.eval_weights():
        assert same_bits(ps, live)
        with optimizer.eval_weights():
            train(optimizer, ps, 1)
    assert not optimizer.has_average


def test_opened_twice_is_refused_and_the_first_goes_on() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 4)
    live = values(ps)
    with optimizer.eval_weights():
        inside = values(ps)
        with pytest.raises(ArgumentError, match="open already"), optimizer.eval_weights():
            pass
        assert same_bits(ps, inside)
    assert same_bits(ps, live)


def test_a_step_inside_is_refused_and_changes_nothing() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 4)
    with optimizer.eval_weights():
        inside, state = values(ps), copy.deepcopy(optimizer.state_dict())
        set_gradients(ps, 4)
        with pytest.raises(ArgumentError, match=r"step\(\) inside eval_weights\(\)"):
            optimizer.step()
        with pytest.raises(ArgumentError, match=r"step\(\) inside eval_weights\(\)"):
            optimizer.step(lambda: 0.0)
        assert same_bits(ps, inside)
        assert optimizer.state_dict()["paramcast"]["steps"] == state["paramcast"]["steps"]
    train(optimizer, ps, 1, start=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda optimizer: optimizer.step(),
            "step() inside eval_weights(): leave it first, then train on",
        ),
        (
            lambda optimizer: optimizer.load_state_dict(optimizer.state_dict()),
            "load_state_dict() inside eval_weights(): leave it first",
        ),
        (
            lambda optimizer: optimizer.restart_average(),
            "restart_average() inside eval_weights(): leave it first",
        ),
        (
            lambda optimizer: optimizer.eval_weights().__enter__(),
            "eval_weights() is open already; leave it before opening it again",
        ),
    ],
    ids=["step", "load", "restart", "open"],
)
def test_what_must_wait_until_the_live_weights_are_back_says_so(
    call: Callable[[pc.Forecast], object], message: str
) -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 4)
    live, before = values(ps), averaged(optimizer, ps)
    with optimizer.eval_weights():
        with pytest.raises(ArgumentError) as caught:
            call(optimizer)
        assert str(caught.value) == message
    assert same_bits(ps, live)
    assert same_bits(averaged(optimizer, ps), before)


def test_loading_inside_is_refused_and_changes_nothing() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 4)
    state, live = copy.deepcopy(optimizer.state_dict()), values(ps)
    train(optimizer, ps, 2, start=4)
    later = values(ps)
    with (
        optimizer.eval_weights(),
        pytest.raises(ArgumentError, match="inside eval_weights"),
    ):
        optimizer.load_state_dict(state)
    assert same_bits(ps, later)
    assert not same_bits(ps, live)


@pytest.mark.parametrize(
    "average", [A.EMA(0.9), A.SWA(5), A.LAWA(2, every=3)], ids=lambda rule: type(rule).__name__
)
def test_before_the_first_update_the_live_weights_are_evaluated_and_the_log_says_so_once(
    average: A.Average, caplog: pytest.LogCaptureFixture
) -> None:
    ps, optimizer = wrapped(average)
    train(optimizer, ps, 0 if isinstance(average, A.EMA) else 4)
    live = values(ps)
    assert not optimizer.has_average
    for _ in range(2):
        with optimizer.eval_weights():
            assert same_bits(ps, live)
    (said,) = caplog.messages
    assert said == (
        "eval_weights() shows the live weights: the average has none before its first update"
    )
    train(optimizer, ps, 1)  # it is not left open
    if optimizer.has_average:
        with optimizer.eval_weights():
            pass
    assert caplog.messages == [said]


def test_without_any_average_there_is_nothing_to_switch_which_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ps, optimizer = wrapped(None)
    train(optimizer, ps, 4)
    live = values(ps)
    for _ in range(2):
        with optimizer.eval_weights():
            assert same_bits(ps, live)
    (said,) = caplog.messages
    assert "has nothing to switch" in said
    assert "average=..., such as paramcast.averaging.EMA(0.999)" in said


def test_the_block_is_left_before_the_next_one_is_opened() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 3)
    first, second = averaged(optimizer, ps), averaged(optimizer, ps)
    assert same_bits(first, second)


# --- batch norm ---------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def trained() -> tuple[nn.Sequential, pc.Forecast, list[Tensor]]:
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer = pc.PLP(base, average=A.EMA(0.8))
    batches = [torch.randn(16, 3) + n for n in range(8)]
    for x in batches:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return model, optimizer, batches


def test_update_bn_re_estimates_the_statistics_and_restores_them() -> None:
    model, optimizer, batches = trained()
    before, live = values(model.buffers()), values(model.parameters())
    modes = [module.training for module in model.modules()]
    with optimizer.eval_weights(model, update_bn=batches):
        assert [module.training for module in model.modules()] == modes
        means = torch.stack([model[0](x).mean(0) for x in batches]).mean(0)
        torch.testing.assert_close(model[1].running_mean, means)
        assert model[1].num_batches_tracked == len(batches)
    assert same_bits(model.buffers(), before)
    assert same_bits(model.parameters(), live)
    assert model[1].momentum == 0.1


def test_update_bn_draws_no_random_numbers_of_the_trainings() -> None:
    """Dropout and a shuffled loader draw some, also from a generator of its own."""

    def losses(evaluates: bool, own: torch.Generator | None) -> list[float]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))
        data = torch.utils.data.TensorDataset(torch.randn(24, 4))
        loader = torch.utils.data.DataLoader(data, 8, shuffle=True, generator=own)
        base = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer, found = pc.Forecast(base, average=A.EMA(0.9)), []
        for _ in range(3):
            for (inputs,) in loader:
                optimizer.zero_grad()
                loss = model(inputs).square().mean()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
            if evaluates:
                with optimizer.eval_weights(model, update_bn=loader):
                    pass
        return found

    assert losses(True, None) == losses(False, None)
    assert losses(True, torch.Generator().manual_seed(5)) == losses(
        False, torch.Generator().manual_seed(5)
    )


def test_without_update_bn_buffers_are_left_as_the_block_leaves_them() -> None:
    model, optimizer, batches = trained()
    before, live = values(model.buffers()), values(model.parameters())
    with optimizer.eval_weights(model):
        assert same_bits(model.buffers(), before)
        model(batches[0])  # in training mode: moves the statistics
        after = values(model.buffers())
    assert same_bits(model.buffers(), after)
    assert same_bits(model.parameters(), live)


def test_with_update_bn_only_the_batch_norm_statistics_are_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            return x

    model, optimizer, batches = trained()
    model.append(Counting())
    statistics = values(model[1].buffers())
    with optimizer.eval_weights(model, update_bn=batches):
        assert model[-1].seen == 0  # the pass over the batches is ours, not the evaluation
        model(batches[0])
        model(batches[1])
    assert model[-1].seen == 2
    assert same_bits(model[1].buffers(), statistics)


def everything(model: nn.Module) -> list[Any]:
    """What a pass over data may change: modes, momenta, statistics, parameters."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    bits = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
    return [bits, [m.training for m in model.modules()], [norm.momentum for norm in norms]]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", ["data", "model", "block"])
@pytest.mark.parametrize("training", [True, False])
def test_whatever_fails_statistics_modes_and_momenta_come_back(
    failure: type[BaseException], at: str, training: bool
) -> None:
    model, optimizer, batches = trained()
    model.train(training)
    model[2].train(not training)  # a mode of its own
    before = everything(model)

    def fail(where: str) -> None:
        if where == at:
            raise failure

    def data() -> Any:
        yield from batches[:2]
        fail("data")

    hook = model[2].register_forward_hook(lambda *args: fail("model"))

    def evaluate() -> None:
        with optimizer.eval_weights(model, update_bn=data()):
            assert everything(model)[1:] == before[1:]
            fail("block")

    with pytest.raises(failure):
        evaluate()
    hook.remove()
    assert everything(model) == before


def test_batches_that_are_used_up_are_refused_before_anything_is_reset() -> None:
    model, optimizer, batches = trained()
    before, generator = everything(model), (x for x in batches)
    with optimizer.eval_weights(model, update_bn=generator):
        pass
    for data in (generator, [], iter(())):
        with (
            pytest.raises(ArgumentError, match=r"update_bn has no batches.*give a list"),
            optimizer.eval_weights(model, update_bn=data),
        ):
            pytest.fail("never here")
        assert everything(model) == before
    plain = nn.Linear(3, 1)
    other = pc.Forecast(torch.optim.SGD(plain.parameters(), lr=0.1), average=A.EMA(0.5))
    plain(batches[0]).sum().backward()
    other.step()
    with other.eval_weights(plain, update_bn=[]):  # no batch norm: nobody looks at the data
        pass


class Keeping(nn.Sequential):
    """Keeps its batch norm frozen, as many backbones do, by a `train` of its own."""

    def train(self, mode: bool = True) -> Keeping:
        super().train(mode)
        self[1].training = False
        return self


def frozen_by_mode(model: nn.Sequential) -> nn.Sequential:
    model[1].eval()
    return model


def frozen_by_weight(model: nn.Sequential) -> nn.Sequential:
    model[1].requires_grad_(False)
    return model.eval()


def frozen_by_train(model: nn.Sequential) -> nn.Sequential:
    return Keeping(*model).eval()


def without_statistics(model: nn.Sequential) -> nn.Sequential:
    model[1].track_running_stats = False
    return model


@pytest.mark.parametrize(
    "freeze", [frozen_by_mode, frozen_by_weight, frozen_by_train, without_statistics]
)
def test_frozen_batch_norm_keeps_its_statistics(
    freeze: Callable[[nn.Sequential], nn.Sequential],
) -> None:
    model, optimizer, batches = trained()
    model.append(nn.BatchNorm1d(1))
    model = freeze(model)
    before, frozen = everything(model), values(model[1].buffers())
    with optimizer.eval_weights(model, update_bn=batches):
        assert same_bits(model[1].buffers(), frozen)
        assert model[3].num_batches_tracked == len(batches)
        assert everything(model)[1:] == before[1:]
    assert everything(model) == before


class Named(nn.Sequential):
    def forward(self, *, inputs: Tensor, **others: Any) -> Tensor:
        return super().forward(inputs)


@pytest.mark.parametrize("form", ["tensor", "list", "tuple", "dict", "dict in a tuple"])
def test_batches_may_be_tensors_sequences_and_dicts(form: str) -> None:
    model, optimizer, batches = trained()
    by_name = Named(*model)
    forms: dict[str, Callable[[Tensor], Any]] = {
        "tensor": lambda x: x,
        "list": lambda x: [x, "label"],
        "tuple": lambda x: (x, torch.zeros(1)),
        "dict": lambda x: {"inputs": x, "label": "a"},
        "dict in a tuple": lambda x: ({"inputs": x}, 3),
    }
    used = by_name if "dict" in form else model
    with optimizer.eval_weights(used, update_bn=[forms[form](x) for x in batches]):
        means = torch.stack([model[0](x).mean(0) for x in batches]).mean(0)
        torch.testing.assert_close(model[1].running_mean, means)


class Elsewhere(nn.Module):
    """A model on another device; it notes where its inputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, device="meta"))
        self.norm = nn.BatchNorm1d(1)
        self.devices: list[str] = []

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        self.devices += [x.device.type for x in (inputs, mask) if x is not None]


def test_batches_are_moved_to_the_models_device() -> None:
    _, optimizer, (x, *_) = trained()
    model = Elsewhere()
    with optimizer.eval_weights(model, update_bn=[x, (x, x), {"inputs": x, "mask": x}]):
        assert model.devices == ["meta"] * 4


def test_synchronised_and_lazy_batch_norm_is_re_estimated() -> None:
    model, optimizer, batches = trained()
    model[1] = nn.SyncBatchNorm(4)
    model.append(nn.LazyBatchNorm1d())
    model(batches[0])  # makes it a BatchNorm1d of the right size
    before = everything(model)
    model.unused = nn.LazyBatchNorm1d()
    model.forward = lambda x: model[:4](x)  # type: ignore[method-assign]
    with optimizer.eval_weights(model, update_bn=batches):
        assert model[1].num_batches_tracked == model[3].num_batches_tracked == len(batches)
    del model.unused
    assert everything(model) == before


def test_data_that_fails_leaves_the_live_weights_and_statistics() -> None:
    model, optimizer, _ = trained()
    before, live = values(model.buffers()), values(model.parameters())

    def failing() -> Any:
        yield torch.randn(16, 3)
        raise OSError("disk")

    with (
        pytest.raises(OSError, match="disk"),
        optimizer.eval_weights(model, update_bn=failing()),
    ):
        pytest.fail("never here")
    assert same_bits(model.buffers(), before)
    assert same_bits(model.parameters(), live)
    with optimizer.eval_weights():
        pass


def test_update_bn_without_the_model_is_refused() -> None:
    _, optimizer, batches = trained()
    with (
        pytest.raises(ArgumentError, match=r"needs the model too: eval_weights\(model"),
        optimizer.eval_weights(update_bn=batches),
    ):
        pass
    with optimizer.eval_weights():
        pass


def test_buffers_that_come_and_change_shape_inside_do_not_lose_the_live_weights() -> None:
    model, optimizer, _ = trained()
    model.register_buffer("cache", torch.zeros(2))
    live = values(model.parameters())
    with optimizer.eval_weights(model):
        model.cache = torch.zeros(5)
        model.register_buffer("late", torch.ones(1))
    assert same_bits(model.parameters(), live)
    with optimizer.eval_weights():
        pass


# --- who takes part -----------------------------------------------------------------------------


def test_frozen_parameters_and_those_without_gradients_stay_what_they_are() -> None:
    p, frozen, idle = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    base = torch.optim.SGD([p, frozen, idle], lr=1.0)
    optimizer = pc.PLP(base, average=A.EMA(0.5))
    constant_steps(optimizer, p, 1.0, 1.0)
    with optimizer.eval_weights():
        assert frozen.tolist() == idle.tolist() == [1.0, 1.0]
        assert p.tolist() != [-1.0, -1.0]


def test_a_parameter_that_joins_late_starts_at_its_value_and_keeps_the_others() -> None:
    p, q, alone = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), average=A.EMA(0.5))
    other = pc.Forecast(torch.optim.SGD([alone], lr=1.0), average=A.EMA(0.5))
    constant_steps(optimizer, p, 1.0, 2.0)
    constant_steps(other, alone, 1.0, 2.0)
    with torch.no_grad():
        q.fill_(5.0)
    optimizer.add_param_group({"params": [q]})
    constant_steps(optimizer, p, 1.0)
    constant_steps(other, alone, 1.0)
    with optimizer.eval_weights(), other.eval_weights():
        assert q.item() == 5.0
        assert p.item() == alone.item()


def test_a_parameter_frozen_late_keeps_its_average() -> None:
    """q is -1, -2, -2: (-1 + 2 * -2 + 4 * -2) / 7."""
    p, q = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.Forecast(torch.optim.SGD([p, q], lr=1.0), average=A.EMA(0.5))
    for _ in range(2):
        q.grad = torch.ones(1)
        constant_steps(optimizer, p, 1.0)
    q.requires_grad_(False)
    q.grad = None
    constant_steps(optimizer, p, 1.0)
    with optimizer.eval_weights():
        assert q.item() == pytest.approx(-13 / 7)


def test_an_excluded_group_is_averaged_with_the_rest() -> None:
    # "forecast": False leaves a group out of predictions; evaluating a mixture of averaged and
    # live tensors would be neither model.
    p, q = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    groups = [{"params": [p]}, {"params": [q], "forecast": False}]
    optimizer = pc.Forecast(torch.optim.SGD(groups, lr=1.0), average=A.EMA(0.5))
    for _ in range(3):
        q.grad = torch.ones(1)
        constant_steps(optimizer, p, 1.0)
    with optimizer.eval_weights():
        assert q.item() == p.item() != -3.0


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_listed_twice_is_averaged_once() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.Forecast(torch.optim.SGD([p, p], lr=0.5), average=A.EMA(0.5))
    constant_steps(optimizer, p, 1.0, 1.0)
    with optimizer.eval_weights():
        assert p.item() == pytest.approx((0.25 * -1 + 0.5 * -2) / 0.75)
    assert p.item() == -2.0


@pytest.mark.usefixtures("gathering")
def test_a_conversion_between_steps_keeps_the_average() -> None:
    ps, optimizer = wrapped(A.EMA(0.9), dtype=torch.float32, base="sgd")
    wide_ps, wide = wrapped(A.EMA(0.9), dtype=torch.float64, base="sgd")
    train(optimizer, ps, 10)
    train(wide, wide_ps, 10)
    for p in ps:
        p.grad = None
        p.data = p.data.double()
    train(optimizer, ps, 10, start=10)
    train(wide, wide_ps, 10, start=10)
    torch.testing.assert_close(averaged(optimizer, ps), averaged(wide, wide_ps), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("gathering")
def test_after_a_conversion_the_average_rounds_no_more_than_the_parameters_do() -> None:
    ps, optimizer = wrapped(A.EMA(0.9), dtype=torch.bfloat16, base="sgd")
    wide_ps, wide = wrapped(A.EMA(0.9), dtype=torch.float32, base="sgd")
    train(optimizer, ps, 10)
    train(wide, wide_ps, 10)
    for p, twin in zip(ps, wide_ps, strict=True):
        p.grad = None
        p.data = twin.data.clone()
    train(optimizer, ps, 80, start=10)  # what came before weighs 0.9^80
    train(wide, wide_ps, 80, start=10)
    torch.testing.assert_close(averaged(optimizer, ps), averaged(wide, wide_ps), rtol=0, atol=1e-5)


def test_steps_that_do_not_count_do_not_move_the_average() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 3)
    before = averaged(optimizer, ps)
    optimizer.zero_grad()
    optimizer.step()
    optimizer.step(lambda: 0.0)
    assert same_bits(averaged(optimizer, ps), before)


# --- saving and loading -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype", "fewest"),
    pairwise(AVERAGES, [torch.float32, torch.bfloat16], [1, S.FEWEST]),
    ids=str,
)
def test_a_resume_at_any_cut_gives_the_same_average_bitwise(
    name: str, dtype: torch.dtype, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S, "FEWEST", fewest)  # 1: the few short vectors are gathered
    check_resumes(
        lambda seed: wrapped(
            AVERAGES[name][0](), P.Interpolate(4, 0.6), dtype, seed, total_steps=16
        ),
        16,
    )


@pytest.mark.parametrize("copier", ["deepcopy", "pickle"])
def test_a_copy_has_its_own_average(copier: str) -> None:
    copy_of = COPIERS[copier]
    ps, optimizer = wrapped(A.EMA(0.9), P.Midline(), gate=G.Every(2))
    train(optimizer, ps, 5)
    others, other = copy_of((ps, optimizer))
    before = averaged(optimizer, ps)
    assert same_bits(averaged(other, others), before)
    train(other, others, 3, start=5)
    assert same_bits(averaged(optimizer, ps), before)
    train(optimizer, ps, 3, start=5)
    assert same_bits(averaged(optimizer, ps), averaged(other, others))


def test_a_checkpoint_says_which_weights_the_model_holds() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 3)
    assert optimizer.state_dict()["paramcast"]["model_holds"] == "live"
    with optimizer.eval_weights():
        assert optimizer.state_dict()["paramcast"]["model_holds"] == "average"
    assert optimizer.state_dict()["paramcast"]["model_holds"] == "live"


def test_a_checkpoint_without_an_average_says_so_too() -> None:
    _, optimizer = wrapped(None, P.Midline())
    assert optimizer.state_dict()["paramcast"]["model_holds"] == "live"


def test_the_average_is_saved_as_plain_values_and_tensors() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 3)
    entry = through_a_file(optimizer.state_dict())["paramcast"]["average"]
    assert entry.keys() == {"rule", "updates", "buffers"}
    assert entry["updates"] == 3
    assert [buffer.shape for buffer in entry["buffers"]] == [p.shape for p in ps]


def test_a_state_without_an_average_starts_a_new_one() -> None:
    for state_of in (
        lambda: torch.optim.SGD(parameters(torch.float64), lr=0.02, momentum=0.9).state_dict(),
        lambda: wrapped(None)[1].state_dict(),
    ):
        ps, optimizer = wrapped(A.EMA(0.9))
        train(optimizer, ps, 7)  # an average of another trajectory: forgotten
        optimizer.load_state_dict(state_of())
        assert not optimizer.has_average
        train(optimizer, ps, 1, start=7)
        assert same_bits(averaged(optimizer, ps), ps)


def test_a_state_with_an_average_loads_where_none_is_wanted() -> None:
    ps, optimizer = wrapped(A.EMA(0.9), P.Midline())
    train(optimizer, ps, 4)
    others, resumed = wrapped(None, P.Midline(), seed=9)
    restore(others, ps)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    train(optimizer, ps, 4, start=4)
    train(resumed, others, 4, start=4)
    assert same_bits(ps, others)


def test_a_loaded_average_shares_no_memory_with_the_state() -> None:
    ps, optimizer = wrapped(A.EMA(0.9))
    train(optimizer, ps, 3)
    state = copy.deepcopy(optimizer.state_dict())
    kept = values(state["paramcast"]["average"]["buffers"])
    optimizer.load_state_dict(state)
    train(optimizer, ps, 3, start=3)
    assert same_bits(state["paramcast"]["average"]["buffers"], kept)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no dict": lambda ours: ours.update(average=3),
    "no updates": lambda ours: ours["average"].pop("updates"),
    "no buffers": lambda ours: ours["average"].pop("buffers"),
    "too few": lambda ours: ours["average"]["buffers"].pop(),
    "too many": lambda ours: ours["average"]["buffers"].append(torch.zeros(2)),
    "another shape": lambda ours: ours["average"]["buffers"].__setitem__(0, torch.zeros(4, 3)),
    "no tensor": lambda ours: ours["average"]["buffers"].__setitem__(0, "gone"),
    "buffers of no list": lambda ours: ours["average"].update(buffers=None),
    "updates of no number": lambda ours: ours["average"].update(updates="3"),
    "updates below zero": lambda ours: ours["average"].update(updates=-1),
    "updates but no buffers": lambda ours: ours["average"].update(buffers=[None] * 3),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_average_is_refused_before_anything_changed(what: str) -> None:
    ps, optimizer = wrapped(A.EMA(0.9), P.Midline())
    train(optimizer, ps, 4)
    state = copy.deepcopy(optimizer.state_dict())
    DAMAGE[what](state["paramcast"])
    state["param_groups"][0]["lr"] = 0.5
    before = averaged(optimizer, ps)
    with pytest.raises(CheckpointError, match="the average in the state dict"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert same_bits(averaged(optimizer, ps), before)


# --- bad input ----------------------------------------------------------------------------------

CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: A.EMA(), "give exactly one of decay, half_life and share, got None, None, None"),
    (
        lambda: A.EMA(0.9, half_life=3),
        "give exactly one of decay, half_life and share, got 0.9, 3, None",
    ),
    (lambda: A.EMA(0.0), "decay must be in (0, 1), got 0"),
    (lambda: A.EMA(1.0), "decay must be in (0, 1), got 1"),
    (lambda: A.EMA(math.nan), "decay must be a finite number, got nan"),
    (lambda: A.EMA(half_life=0), "half_life must be "),
    (lambda: A.EMA(half_life=-3), "half_life must be "),
    (lambda: A.EMA(half_life=1e30), "half_life must be "),
    (lambda: A.EMA(share=0.0), "share must be in (0, 1], got 0"),
    (lambda: A.EMA(share=1.5), "share must be in (0, 1], got 1.5"),
    (lambda: A.SWA(), "give either start or start_share, got None and None"),
    (lambda: A.SWA(3, start_share=0.5), "give either start or start_share, got 3 and 0.5"),
    (lambda: A.SWA(-1), "start must be >= 0, got -1"),
    (lambda: A.SWA(3, every=0), "every must be >= 1, got 0"),
    (lambda: A.SWA(start_share=2.0), "start_share must be in [0, 1], got 2"),
    (lambda: A.PolynomialDecay(-1), "eta must be in [0, 1e+06], got -1"),
    (lambda: A.Trend(3, 3), "eta_slow must be in [0, 3), got 3"),
    (lambda: A.Trend(lag=0.2), "lag must be in [-1, 0.1], got 0.2"),
    (lambda: A.LAWA(0), "last must be >= 1, got 0"),
    (lambda: A.LAWA(3, every=0), "every must be >= 1, got 0"),
    (
        lambda: wrapped(A.EMA(share=0.1), total_steps=None),
        "the average must know the length of the run: give total_steps=...",
    ),
    (
        lambda: wrapped(A.LAWA(3), total_steps=None),
        "the average must know the length of the run: give total_steps=...",
    ),
    (
        lambda: wrapped(A.SWA(start_share=0.5), total_steps=None),
        "the average must know the length of the run: give total_steps=...",
    ),
    (lambda: wrapped(A.EMA), "average must be one of paramcast.averaging, got <class"),
    (lambda: wrapped(0.9), "average must be one of paramcast.averaging, got 0.9"),
]


@pytest.mark.parametrize(
    ("average", "shown"),
    [
        (A.EMA(0.9), "EMA(decay=0.9)"),
        (A.EMA(half_life=1), "EMA(decay=0.5)"),
        (A.EMA(share=0.1), "EMA(share=0.1)"),
        (A.SWA(5), "SWA(start=5, every=1)"),
        (A.SWA(start_share=0.5, every=3), "SWA(start_share=0.5, every=3)"),
        (A.LAWA(), "LAWA(last=5, every=10)"),
        (A.PolynomialDecay(), "PolynomialDecay(eta=8.0)"),
        (A.Trend(lag=0), "Trend(eta=8.0, eta_slow=3.0, lag=0.0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_repr_of_an_average_builds_it_again(average: A.Average, shown: str) -> None:
    assert repr(average) == shown
    again = eval(shown, {name: getattr(A, name) for name in A.__dict__})
    assert vars(again) == vars(average)


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:50] for _, message in CALLS])
def test_what_cannot_be_used_is_refused_with_the_reason(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_a_run_longer_than_was_said_keeps_the_mean_of_the_last_n_or_less() -> None:
    ps, optimizer = wrapped(A.LAWA(2, every=5), total_steps=10)
    train(optimizer, ps, 10)
    before = averaged(optimizer, ps)
    train(optimizer, ps, 10, start=10)
    assert same_bits(averaged(optimizer, ps), before)


def test_a_state_saved_inside_eval_weights_restarts_the_cycle_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ps = parameters()
    optimizer = pc.PLP(BASES["momentum"](ps), average=A.EMA(0.5))
    train(optimizer, ps, 4)
    with optimizer.eval_weights():
        inside = optimizer.state_dict()
    outside = optimizer.state_dict()
    assert (inside["paramcast"]["model_holds"], outside["paramcast"]["model_holds"]) == (
        "average",
        "live",
    )
    optimizer.load_state_dict(outside)
    assert optimizer.state_dict()["paramcast"]["cycle"]["done"] == 1
    assert not caplog.records
    optimizer.load_state_dict(inside)
    assert optimizer.state_dict()["paramcast"]["cycle"]["done"] == 0
    assert "a model saved with it holds the average" in caplog.text
