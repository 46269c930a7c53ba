"""Bases of others: learning rates that are no numbers, names of momentum, points of their own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

import paramcast as pc
from paramcast import predictors as P
from paramcast.averaging import EMA
from paramcast.errors import BaseOptimizerError
from paramcast.running.members import is_phantom
from paramcast.running.second_points import SECOND_POINTS
from reference import parameters, same_bits, train, values

RESET = P.Interpolate(3, 0.5, momentum="reset")
Make = Callable[[list[torch.nn.Parameter]], Optimizer]


def third_party(name: str, **options: Any) -> Make:
    optimizers = pytest.importorskip("pytorch_optimizer")
    return lambda ps: getattr(optimizers, name)(ps, **options)


def matrices(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (3,))
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def run(optimizer: Optimizer, ps: list[torch.nn.Parameter], steps: int, start: int = 0) -> None:
    """Steps with gradients that depend on the step's number alone."""
    for t in range(start, start + steps):
        generator = torch.Generator().manual_seed(t)
        for p in ps:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


class Renamed(Optimizer):
    """SGD with momentum 0.5 that keeps it under a name of its own and in a form of its own."""

    def __init__(self, ps: Any, name: str = "state1", form: Callable[[Tensor], Any] = Tensor.clone):
        super().__init__(ps, {})
        self.name, self.form = name, form

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                self.state[p][self.name] = self.form(p.grad)
                p.sub_(p.grad, alpha=0.1)


# --- learning rates -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lr", "phantom"),
    [
        *((zero, True) for zero in (0, 0.0, np.float32(0), torch.tensor(0.0), torch.zeros(2))),
        *((other, False) for other in (None, 1e-3, torch.tensor([0.0, 0.1]), 0.1j, "auto")),
    ],
)
def test_only_a_learning_rate_of_zero_makes_a_phantom_step(lr: Any, phantom: bool) -> None:
    ps = matrices()
    base = Renamed(ps)
    assert not is_phantom(base)  # it has no "lr" at all
    base.param_groups[0]["lr"] = lr
    for p in ps:
        p.grad = torch.zeros_like(p)
    assert is_phantom(base) is phantom


def test_adafactor_with_its_own_learning_rate_is_the_bare_one() -> None:
    adafactor = pytest.importorskip("transformers.optimization").Adafactor
    ps, bare_ps, plp_ps = matrices(), matrices(), matrices()
    run(pc.Forecast(adafactor(ps, lr=None)), ps, 7)
    run(adafactor(bare_ps, lr=None), bare_ps, 7)
    assert same_bits(ps, bare_ps)
    plp = pc.PLP(adafactor(plp_ps, lr=None))
    run(plp, plp_ps, 7)
    assert plp.last_event.cycle == 2
    assert plp.last_event.applied


# --- momentum under other names -----------------------------------------------------------------

KNOWN = ["AdaBelief", "Adafactor", "AdamP", "Lion", "Prodigy", "SGDP", "SignSGD", "SOAP"]
UNKNOWN = {
    "Adan": "exp_avg_diff",
    "AdaPNM": "neg_exp_avg",
    "AdEMAMix": "exp_avg_slow",
    "AggMo": "momentum_buffer",
    "FAdam": "fim",
    "NovoGrad": "moments",
}


def adafactor_of(ps: list[torch.nn.Parameter]) -> Optimizer:
    return pytest.importorskip("transformers.optimization").Adafactor(ps, lr=None)


def momenta(base: Optimizer) -> dict[str, list[Tensor]]:
    """Everything in the state, by name."""
    found: dict[str, list[Tensor]] = {}
    for state in base.state.values():
        for name, value in state.items():
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_a_reset_finds_the_momentum_and_nothing_else(name: str) -> None:
    make = adafactor_of if name == "Adafactor" else third_party(name)
    ps, kept_ps = matrices(), matrices()
    reset, keep = make(ps), make(kept_ps)
    run(pc.Forecast(reset, RESET), ps, 3)
    run(pc.Forecast(keep, P.Interpolate(3, 0.5)), kept_ps, 3)
    assert same_bits(ps, kept_ps)
    theirs, ours = momenta(keep), momenta(reset)
    assert theirs.keys() == ours.keys()
    for kind in theirs:
        for a, b in zip(theirs[kind], ours[kind], strict=True):
            if kind in ("momentum_buffer", "exp_avg", "momentum"):
                assert a.any()
                assert not b.any()
            elif isinstance(a, Tensor):
                assert torch.equal(a, b)


@pytest.mark.parametrize("momentum", ["reset", "pullback"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_a_momentum_under_another_name_is_an_error_before_the_jump(
    name: str, momentum: str
) -> None:
    make = third_party(name)
    ps, bare_ps = matrices(), matrices()
    optimizer = pc.Forecast(make(ps), P.Interpolate(3, 0.5, momentum=momentum))
    with pytest.raises(BaseOptimizerError, match=rf"'{UNKNOWN[name]}'.*use momentum=\"keep\""):
        run(optimizer, ps, 3)
    run(make(bare_ps), bare_ps, optimizer.state_dict()["paramcast"]["steps"])
    assert same_bits(ps, bare_ps)  # nothing was written


class Quantized(Tensor):
    """Stands for the tensor subclasses in which torchao keeps its moments."""


NOT_KNOWN = (
    "momentum='{}' changes what the base's state holds as momentum_buffer, exp_avg, momentum in "
    'plain floating-point tensors, but this state {}; use momentum="keep" or another base'
)
FORMS: dict[str, tuple[str, Callable[[Tensor], Any], str]] = {
    "bitsandbytes, 32 bits": ("state1", Tensor.clone, "has the unknown 'state1'"),
    "bitsandbytes, 8 bits": (
        "state1",
        lambda g: torch.zeros_like(g, dtype=torch.uint8),
        "has the unknown 'state1'",
    ),
    "torchao": ("exp_avg", lambda g: g.as_subclass(Quantized), "holds 'exp_avg' as Quantized"),
    "codes": ("exp_avg", lambda g: g.to(torch.int8), "holds 'exp_avg' as torch.int8"),
    "a list": ("momentum", lambda g: [g.clone()], "holds 'momentum' as list"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_or_renamed_momentum_is_named(form: str) -> None:
    name, made, told = FORMS[form]
    ps = matrices()
    optimizer = pc.Forecast(Renamed(ps, name, made), RESET)
    with pytest.raises(BaseOptimizerError) as caught:
        run(optimizer, ps, 3)
    assert str(caught.value) == NOT_KNOWN.format("reset", told)
    others = matrices()
    run(pc.Forecast(Renamed(others, name, made), P.Interpolate(3, 0.5)), others, 3)  # "keep"


def test_a_projected_momentum_is_reset_but_not_pulled_back() -> None:
    ps, others = matrices(), matrices()
    base = Renamed(ps, "exp_avg", lambda g: g.flatten()[:2].clone())
    run(pc.Forecast(base, RESET), ps, 3)
    assert not any(state["exp_avg"].any() for state in base.state.values())
    other = Renamed(others, "exp_avg", lambda g: g.flatten()[:2].clone())
    pullback = pc.Forecast(other, P.Interpolate(3, 0.5, momentum="pullback"))
    with pytest.raises(BaseOptimizerError) as caught:
        run(pullback, others, 3)
    assert str(caught.value) == NOT_KNOWN.format("pullback", "holds 'exp_avg' in the shape (2,)")


@pytest.mark.parametrize("width", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_momentum_of_any_width_is_pulled_back(dtype: torch.dtype, width: torch.dtype) -> None:
    p = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
    base = Renamed([p], "exp_avg", lambda g: g.to(width))
    optimizer = pc.Forecast(base, P.Interpolate(1, 0.25, momentum="pullback"))
    left = []
    for gradient in (4.0, 8.0):  # 0 + 0.25 * 4, and then 1 + 0.25 * (8 - 1)
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        left.append(base.state[p]["exp_avg"])
    assert [m.item() for m in left] == [1.0, 2.75]
    assert {m.dtype for m in left} == {width}


def test_with_alpha_1_only_the_momentum_is_reset() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    base = SGD([weight], lr=1.0, momentum=0.5)
    optimizer = pc.Forecast(base, P.Interpolate(2, 1.0, momentum="reset"))
    path = []
    for _ in range(4):
        weight.grad = torch.ones(1)
        optimizer.step()
        path.append(weight.item())
    assert path == [-1.0, -2.5, -3.5, -5.0]  # m: 1, 1.5, reset, 1, 1.5
    assert base.state[weight]["momentum_buffer"].item() == 0.0


# --- points of their own ------------------------------------------------------------------------

KEEPING = [
    *("A2Grad", "DAdaptAdaGrad", "DAdaptSGD", "FTRL", "MADGRAD", "Ranger", "SRMM"),
    *("ScheduleFreeSGD", "ScheduleFreeAdamW"),
]
FREE = ["AdamP", "Adan", "Lion", "Prodigy", "SOAP", "SPlus"]


def displacement_left(make: Make) -> float:
    """How much of a displacement by 1 three steps leave, at equal gradients."""
    means = []
    for displaced in (0.0, 1.0):
        ps = matrices()
        optimizer = make(ps)
        if hasattr(optimizer, "train"):
            optimizer.train()
        run(optimizer, ps, 3)
        with torch.no_grad():
            for p in ps:
                p.add_(displaced)
        run(optimizer, ps, 5, start=3)
        means.append(torch.cat([p.flatten() for p in ps]).mean().item())
    return means[1] - means[0]


@pytest.mark.parametrize("name", KEEPING)
def test_a_base_that_undoes_a_displacement_is_refused_with_the_way_out(name: str) -> None:
    make = third_party(name)
    assert displacement_left(make) < 0.8
    with pytest.raises(BaseOptimizerError, match=rf"must not be {name}: it .*; (use|wrap) "):
        pc.PLP(make(matrices()))
    pc.PLP(make(matrices()), shadow=True)  # nothing is written
    pc.Forecast(make(matrices()), average=EMA(0.9))


@pytest.mark.parametrize("name", FREE)
def test_a_base_that_keeps_a_displacement_is_wrapped(name: str) -> None:
    make = third_party(name)
    assert displacement_left(make) == pytest.approx(1.0, abs=0.02)
    ps = matrices()
    optimizer = pc.PLP(make(ps))
    run(optimizer, ps, 7)
    assert optimizer.last_event.applied


def test_schedule_free_is_refused_in_its_own_package_and_inside_another() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    for kind in ("SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"):
        base = getattr(schedulefree, kind)(matrices(), lr=0.1)
        with pytest.raises(BaseOptimizerError, match=r"use predictors.PrimalAveraging\(\)"):
            pc.PLP(base)
    lookahead = third_party("Lookahead")(SGD(matrices(), lr=0.1))  # type: ignore[arg-type]
    with pytest.raises(BaseOptimizerError, match=r"Interpolate\(\)\) is Lookahead"):
        pc.PLP(lookahead)

    class Holding(SGD):
        base_optimizer = schedulefree.SGDScheduleFree(matrices(), lr=0.1)

    with pytest.raises(BaseOptimizerError, match="must not be SGDScheduleFree"):
        pc.PLP(Holding(matrices(), lr=0.1))


def test_the_names_fit_no_optimizer_of_torch() -> None:
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    names = [kind.__name__ for kind in kinds]
    assert "AdamW" in names
    assert not [name for name in names for part in SECOND_POINTS if part in name]


def test_a_two_step_base_is_one_step_with_its_closure() -> None:
    sam = third_party("SAM", base_optimizer=SGD, lr=0.1)
    ps, bare_ps = matrices(), matrices()
    optimizer, bare = pc.PLP(sam(ps)), sam(bare_ps)

    def closure(ps: list[torch.nn.Parameter]) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            value = sum(p.square().sum() for p in ps)
            value.backward()
            return value

        return loss

    for _ in range(3):
        for each, its in ((optimizer, ps), (bare, bare_ps)):
            loss = closure(its)
            loss()
            each.step(loss)
    assert optimizer.last_event.step == 3
    assert not same_bits(ps, bare_ps)  # the prediction, and only now


# --- master weights -----------------------------------------------------------------------------


class Master(Optimizer):
    """SGD on float32 copies, from which it writes its parameters."""

    def __init__(self, ps: Any):
        super().__init__(ps, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            master = state.setdefault("master_param", p.float())
            master.sub_(p.grad.float(), alpha=0.1)
            p.copy_(master)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_master_weights_are_refused_after_the_first_step(dtype: torch.dtype) -> None:
    ps, bare_ps = matrices(dtype), matrices(dtype)
    with pytest.raises(BaseOptimizerError) as caught:
        run(pc.PLP(Master(ps)), ps, 1)
    assert str(caught.value) == (
        "base keeps wider copies of its 16-bit parameters (state 'master_param'), which undo every "
        "prediction; wrap an optimizer without such master weights, or use float32 parameters"
    )
    run(Master(bare_ps), bare_ps, 1)
    assert same_bits(ps, bare_ps)
    averaged_ps = matrices(dtype)
    run(pc.Forecast(Master(averaged_ps), average=EMA(0.9)), averaged_ps, 3)  # nothing to undo


def test_moments_in_float32_are_no_master_weights() -> None:
    class Wide(Master):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                first = "start" not in self.state[p]
                self.state[p].setdefault("start", p.float())
                self.state[p]["exp_avg"] = torch.zeros_like(p, dtype=torch.float32)
                p.sub_(p.grad, alpha=0.1 if first else 0.2)

    ps = [*matrices(torch.bfloat16), torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))]
    optimizer = pc.PLP(Wide(ps))
    ps[2].requires_grad_(False)  # zeros, as its moment is
    for t in range(3):
        for p in ps:
            p.grad = torch.full_like(p, float(t + 1)) if p is not ps[2] else torch.zeros_like(p)
        optimizer.step()
    assert optimizer.last_event.applied


class Recalling(SGD):
    """It keeps what its parameters are after each step, in a form of its own."""

    def __init__(self, ps: Any, form: Callable[[Tensor], Tensor]):
        super().__init__(ps, lr=1.0)
        self.form = form

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            self.state[p]["reached"] = self.form(p)


@pytest.mark.parametrize(
    ("dtype", "form"),
    [
        (torch.float32, Tensor.clone),
        (torch.bfloat16, Tensor.clone),
        (torch.bfloat16, Tensor.half),
        (torch.bfloat16, Tensor.int),
    ],
    ids=["as wide", "as wide, 16 bits", "another of 16 bits", "whole numbers"],
)
def test_a_copy_that_is_no_wider_is_no_master_weight(
    dtype: torch.dtype, form: Callable[[Tensor], Tensor]
) -> None:
    p = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
    optimizer = pc.PLP(Recalling([p], form))
    for gradient in (1.0, 2.0, 4.0):
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
    assert p.item() == -8.0


# --- train() and eval() -------------------------------------------------------------------------


def test_train_and_eval_are_there_where_the_base_has_them() -> None:
    plain = pc.PLP(SGD(matrices(), lr=0.1))
    assert not hasattr(plain, "train")
    assert not hasattr(plain, "eval")
    assert hasattr(pc.PLP, "train")  # a class has no base to ask
    assert hasattr(pc.PLP, "eval")
    ps = matrices()
    optimizer = pc.PLP(third_party("SPlus")(ps))
    optimizer.train()
    run(optimizer, ps, 5)
    for each in (optimizer, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        its = [p for group in each.param_groups for p in group["params"]]
        live = values(its)
        each.eval()
        assert not same_bits(its, live)
        each.train()
        assert same_bits(its, live)
    optimizer.eval = lambda: None  # as integrations do
    live = values(ps)
    optimizer.eval()
    assert same_bits(ps, live)


# --- a momentum that the predictor replaces -----------------------------------------------------


def no_momentum(ps: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": ps[:1]}, {"params": ps[1:]}], betas=(0.0, 0.99))


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (torch.optim.AdamW, "AdamW has betas=(0.9, 0.999); construct it with betas=(0.0, 0.999)"),
        (
            lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
            "SGD has momentum=0.9; construct it with momentum=0 and its learning rate divided by "
            "1 - 0.9",
        ),
        (lambda ps: torch.optim.SGD(ps, lr=0.1), ""),
        (lambda ps: torch.optim.RMSprop(ps, lr=0.1), ""),
        (torch.optim.Adagrad, ""),
        (no_momentum, ""),
    ],
    ids=["adamw", "sgd", "plain sgd", "rmsprop", "adagrad", "adamw without"],
)
def test_a_momentum_beside_primal_averaging_is_warned_of_once(
    make: Any, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    ps = parameters()
    optimizer = pc.Forecast(make(ps), P.PrimalAveraging())
    train(optimizer, ps, 3)
    start = "PrimalAveraging takes the place of the base's momentum, which hurts beside it: "
    assert [record.getMessage() for record in caplog.records] == [start + advice] * bool(advice)


def test_no_other_predictor_warns_of_a_momentum(caplog: pytest.LogCaptureFixture) -> None:
    pc.Forecast(torch.optim.AdamW(parameters()), P.Midline())
    pc.Forecast(torch.optim.AdamW(parameters()), P.PrimalAveraging(), shadow=True)
    assert not caplog.records
