"""Every message of the library: what came, what is needed, what to do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import paramcast as pc
from paramcast import errors as E
from paramcast import predictors as P
from paramcast.schedules import Demon
from reference import parameters, train


def sgd(**settings: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters(), lr=0.1, **settings)


# --- the tree -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (E.ArgumentError, (E.ParamcastError, ValueError)),
        (E.BaseOptimizerError, (E.ParamcastError, TypeError)),
        (E.CheckpointError, (E.ParamcastError, ValueError)),
        (E.StudyError, (E.ParamcastError,)),
        (E.TaskError, (E.StudyError,)),
    ],
)
def test_an_error_is_one_of_ours_and_of_the_builtin_kind(
    error: type[Exception], parents: tuple[type[Exception], ...]
) -> None:
    assert error.__bases__ == parents


def test_the_tree_at_the_top_of_the_module_is_complete() -> None:
    ours = [name for name, thing in vars(E).items() if isinstance(thing, type)]
    drawn = E.__doc__.split("\n\n")[1]
    assert ours
    assert [name for name in ours if name not in drawn] == []


# --- arguments ----------------------------------------------------------------------------------

ARGUMENTS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: P.Affine(()),
        "weights must name at least 2 points (before and after one step), got 0",
    ),
    (lambda: P.Affine((math.nan, 1.0)), "weights must be finite, got (nan, 1.0)"),
    (
        lambda: P.Affine((0.0, 0.5)),
        "weights must sum to 1, got (0.0, 0.5) with the sum 0.5: "
        "otherwise the prediction would scale the parameters",
    ),
    (lambda: P.Midline(math.nan), "horizon must be a finite number, got nan"),
    (lambda: P.Midline("1"), "horizon must be a finite number, got '1'"),
    (lambda: P.Midline(True), "horizon must be a finite number, got True"),
    (
        lambda: P.Midline(start="middle"),
        "start must be one of midpoint, last, mean, got 'middle'",
    ),
    (lambda: P.Midline(every=2), "every must be >= 3 (Midline reads 3 points), got 2"),
    (lambda: P.Midline(every=3.0), "every must be a whole number, got 3.0"),
    (lambda: P.LeastSquares(1), "window must be >= 2 (a line reads 2 points), got 1"),
    (
        lambda: P.LeastSquares(5, every=4),
        "every must be >= 5 (LeastSquares(window=5) reads 5 points), got 4",
    ),
    (
        lambda: P.Secant(10**5000),
        "window must be at most 100000, got a number with thousands of digits",
    ),
    (lambda: P.Interpolate(0), "every must be >= 1 (Interpolate reads 1 point), got 0"),
    (
        lambda: P.Interpolate(5, 0.0),
        "alpha must be above 0 and at most 1, got 0.0; to go forward use Secant",
    ),
    (lambda: pc.PLP(sgd(), every=1), "every must be >= 3 (Midline reads 3 points), got 1"),
    (
        lambda: pc.Forecast(sgd(), P.Midline),
        "predictor must be one of paramcast.predictors, such as Midline(), "
        "got <class 'paramcast.predictors.plp.Midline'>",
    ),
    (
        lambda: pc.Forecast(sgd(), pc.averaging.EMA(0.9)),
        "predictor must be one of paramcast.predictors, such as Midline(), got EMA(decay=0.9); "
        "an average is given as average=...",
    ),
    (lambda: Demon(sgd(momentum=0.9), 0), "total_steps must be >= 1, got 0"),
    (
        lambda: Demon(sgd(), 10),
        "Demon needs a momentum between 0 and 1 in every group, got 0; "
        "construct the optimizer with momentum=0.9",
    ),
]


@pytest.mark.parametrize(("call", "message"), ARGUMENTS, ids=[m[:50] for _, m in ARGUMENTS])
def test_an_argument_that_cannot_be_used_is_refused_with_the_reason(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(E.ArgumentError) as caught:
        call()
    assert str(caught.value) == message


def test_a_sum_just_off_one_is_shown_with_enough_digits_to_see_it() -> None:
    with pytest.raises(E.ArgumentError) as caught:
        P.Affine((0.3333333, 0.3333333, 0.3333333))
    assert "with the sum 1:" not in str(caught.value)
    assert "0.99999989" in str(caught.value)


def test_demon_names_the_betas_to_an_optimizer_that_has_betas() -> None:
    with pytest.raises(E.ArgumentError, match=r"betas=\(0\.9, "):
        Demon(torch.optim.AdamW(parameters(), betas=(0.0, 0.99)), 10)


def test_settings_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        pc.PLP(sgd(), 1.0)
    with pytest.raises(TypeError):
        pc.Forecast(sgd(), P.Midline(), None)


# --- the base -----------------------------------------------------------------------------------


class Holder(torch.optim.SGD):
    """A wrapper of another library, which keeps what it wraps as `optimizer`."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(parameters(), lr=0.1)
        self.optimizer = optimizer


def of_framework(module: str, name: str) -> torch.optim.Optimizer:
    """What Lightning and Fabric hand out: a class made on the spot from theirs and the base's."""
    theirs = type(name, (), {"__module__": module})
    return type(f"{name}SGD", (theirs, torch.optim.SGD), {})(parameters(), lr=0.1)


NO_BASE = (
    "base must be a torch.optim.Optimizer, got {}; "
    "construct one first: PLP(torch.optim.SGD(model.parameters(), lr=0.1))"
)
TWICE = (
    "base is already wrapped ({}); "
    "wrap the plain optimizer once, with the one predictor that you want"
)
FOREIGN = (
    "base is {} of {}, which counts micro-batches as steps; "
    "wrap the plain optimizer first and hand the wrapper to the framework"
)
BASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: torch.optim.SGD,
        "base is the class SGD; construct it first: PLP(SGD(model.parameters(), ...))",
    ),
    (lambda: [torch.zeros(1)], NO_BASE.format("list")),
    (lambda: torch.nn.Linear(1, 1).parameters(), NO_BASE.format("generator")),
    (lambda: pc.PLP(sgd()), TWICE.format("PLP")),
    (lambda: Holder(Holder(pc.PLP(sgd()))), TWICE.format("PLP")),
    (
        lambda: torch.optim.LBFGS(parameters()),
        "base must not be LBFGS: a predicted jump invalidates its curvature pairs; "
        "use LBFGS without paramcast, or a first-order optimizer",
    ),
    (
        lambda: torch.optim.Adam(parameters(), differentiable=True),
        "base must not be differentiable: predictions are written in place, outside autograd; "
        "construct it with differentiable=False",
    ),
    (
        lambda: of_framework("accelerate.optimizer", "AcceleratedOptimizer"),
        FOREIGN.format("AcceleratedOptimizerSGD", "accelerate"),
    ),
    (
        lambda: of_framework("lightning.pytorch.core.optimizer", "LightningOptimizer"),
        FOREIGN.format("LightningOptimizerSGD", "lightning"),
    ),
]


@pytest.mark.parametrize(("make", "message"), BASES, ids=[m[:60] for _, m in BASES])
def test_a_base_that_cannot_be_wrapped_is_refused_with_the_reason(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(E.BaseOptimizerError) as caught:
        pc.PLP(make())
    assert str(caught.value) == message


def test_arguments_of_a_torch_optimizer_are_answered_with_how_to_wrap_one() -> None:
    with pytest.raises(E.BaseOptimizerError) as caught:
        pc.PLP(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    assert str(caught.value) == NO_BASE.format("generator")


def test_a_holder_of_itself_is_not_searched_for_ever() -> None:
    class OfItself(torch.optim.SGD):
        looks = 0

        @property
        def optimizer(self) -> torch.optim.Optimizer:
            self.looks += 1
            if self.looks > 100:
                pytest.fail("the search for a wrapped optimizer runs in a circle")
            return self

    ps = parameters()
    train(pc.PLP(OfItself(ps, lr=0.1)), ps, 1)


# --- checkpoints --------------------------------------------------------------------------------


def state(**changes: Any) -> dict[str, Any]:
    """A state in mid-cycle; a part of its entry, or something in its cycle, may be spoilt."""
    ps = parameters()
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1))
    train(optimizer, ps, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    for key, value in changes.items():
        part = saved["paramcast"] if key in saved["paramcast"] else saved["paramcast"]["cycle"]
        part[key] = value
    return saved


def lacking(*keys: str) -> dict[str, Any]:
    saved = state()
    for key in keys:
        part = saved["paramcast"] if key in saved["paramcast"] else saved["paramcast"]["cycle"]
        del part[key]
    return saved


DAMAGED = 'the "paramcast" entry of the state dict is damaged: '
CHECKPOINTS: list[tuple[Callable[[], dict[str, Any]], str]] = [
    (lambda: {**state(), "paramcast": 3}, DAMAGED + "it has no format number"),
    (lambda: lacking("format"), DAMAGED + "it has no format number"),
    (
        lambda: state(format=3),
        "the state dict has paramcast format 3, but this version reads 2; load it with the version "
        'that wrote it, or delete the entry state_dict["paramcast"] to start over',
    ),
    (lambda: lacking("written", "done"), DAMAGED + "it lacks done, written"),
    (lambda: lacking("steps"), DAMAGED + "steps has the wrong type"),
    (
        lambda: state(predictor=P.Secant().identity),
        "the state dict was written with Secant(window=3, every=3), but this optimizer has "
        "Midline(start='midpoint', every=3); use the same predictor, or delete "
        'state_dict["paramcast"]["cycle"] to start a new cycle and keep the rest',
    ),
    (lambda: state(done=7), DAMAGED + "7 steps into a cycle of 3"),
    (
        lambda: state(members=[True], seen=[True], buffers=[[torch.zeros(3, 4)]]),
        "the state dict has buffers for 1 parameters, but this optimizer has 3; "
        "load it into the model that it was saved from",
    ),
    (
        lambda: state(buffers=[[torch.zeros(4, 3)], [torch.zeros(4)], [torch.zeros(())]]),
        "the state dict's buffer 0 has shape (4, 3), but the parameter has (3, 4); "
        "load it into the model that it was saved from",
    ),
]


@pytest.mark.parametrize(("make", "message"), CHECKPOINTS, ids=[m[:60] for _, m in CHECKPOINTS])
def test_a_state_that_does_not_fit_is_refused_with_the_reason(
    make: Callable[[], dict[str, Any]], message: str
) -> None:
    with pytest.raises(E.CheckpointError) as caught:
        pc.PLP(sgd()).load_state_dict(make())
    assert str(caught.value) == message


def test_predictors_that_differ_in_a_late_digit_are_told_apart() -> None:
    ps = parameters()
    lookahead = lambda alpha: P.Interpolate(5, alpha)  # noqa: E731
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1), lookahead(0.5))
    other = pc.Forecast(sgd(), lookahead(0.5000001))
    with pytest.raises(E.CheckpointError) as caught:
        other.load_state_dict(optimizer.state_dict())
    assert "alpha=0.5000001" in str(caught.value)


def _observing(loss: object) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    base = torch.optim.SGD([p], lr=0.1)
    pc.PLP(base, gate=pc.anomalies.Anomaly(loss=4.0)).observe(loss)


def _checking(loss: object) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=0.1), gate=pc.gates.LossCheck(loss))
    for _ in range(3):
        p.grad = torch.ones(1)
        optimizer.step()


def _shadowed(shadow: object) -> None:
    pc.PLP(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), shadow=shadow)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _observing("x"), "loss must be one number, got 'x'; reduce it first"),
        (lambda: _observing(torch.ones(3)), r"loss must be one number, got .a tensor"),
        (lambda: _checking(lambda: None), r"what loss\(\) returns must be one number, got None"),
        (lambda: _checking(lambda x: x), "loss must be a function without arguments; calling"),
        (lambda: _shadowed("yes"), "shadow must be True or False, got 'yes'"),
        (lambda: pc.anomalies.Anomaly(actions="skip"), "actions must be a mapping such as"),
        (lambda: pc.anomalies.Anomaly(actions={"drift": "off"}), "'drift' has an action but"),
        (lambda: pc.anomalies.Anomaly(disagreement=1.5), "disagreement must be a whole number"),
    ],
)  # fmt: skip
def test_more_mistakes_are_said_in_one_sentence(call: object, message: str) -> None:
    with pytest.raises(pc.errors.ArgumentError, match=message):
        call()


def test_a_foreign_state_of_demon_is_refused() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    demon = pc.schedules.Demon(torch.optim.SGD([p], lr=0.1, momentum=0.9), total_steps=5)
    with pytest.raises(
        pc.errors.CheckpointError, match="of Demon is damaged or belongs to another"
    ):
        demon.load_state_dict({"a": 1})
    assert demon.steps == 0
