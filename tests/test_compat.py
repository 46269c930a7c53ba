"""Together with the rest of torch: schedulers, scalers, closures, hooks, other bases."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as S

import paramcast as pc
from paramcast import predictors as P
from reference import (
    AFFINE,
    BASES,
    Slow,
    Twin,
    affine,
    constant_steps,
    parameters,
    restore,
    same_bits,
    set_gradients,
    train,
    values,
)

Base = torch.optim.Optimizer

# --- schedulers ---------------------------------------------------------------------------------

SCHEDULERS: dict[str, Callable[[Base], Any]] = {
    "StepLR": lambda opt: S.StepLR(opt, step_size=4, gamma=0.5),
    "OneCycleLR": lambda opt: S.OneCycleLR(opt, max_lr=0.1, total_steps=30, cycle_momentum=True),
    "CyclicLR": lambda opt: S.CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=5),
    "ReduceLROnPlateau": lambda opt: S.ReduceLROnPlateau(opt, factor=0.5, patience=1),
    "SequentialLR": lambda opt: S.SequentialLR(
        opt,
        [S.LinearLR(opt, 0.1, total_iters=5), S.CosineAnnealingLR(opt, T_max=15)],
        milestones=[5],
    ),
    "CosineAnnealingWarmRestarts": lambda opt: S.CosineAnnealingWarmRestarts(opt, T_0=5),
    "LambdaLR": lambda opt: S.LambdaLR(opt, lambda t: 1.0 / (1 + t)),
}


def settings_path(optimizer: Base, name: str, ps: list[torch.nn.Parameter]) -> list[dict]:
    """The groups' settings before each of 25 steps."""
    scheduler = SCHEDULERS[name](optimizer)
    seen = []
    for t in range(25):
        seen.append({k: v for k, v in optimizer.param_groups[0].items() if k != "params"})
        train(optimizer, ps, 1, start=t)
        scheduler.step(*([1.0 + t // 6 % 2] if name == "ReduceLROnPlateau" else []))
    return seen


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("base", ["momentum", "adamw"])
def test_a_scheduler_sets_what_it_sets_on_the_bare_base(name: str, base: str) -> None:
    ps, bare_ps = parameters(), parameters()
    wrapped = settings_path(pc.PLP(BASES[base](ps)), name, ps)
    bare = settings_path(BASES[base](bare_ps), name, bare_ps)
    assert wrapped == bare
    assert len({group["lr"] for group in bare}) > 1


def test_a_scheduler_made_for_the_base_before_it_was_wrapped_goes_on() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    base = torch.optim.SGD([p], lr=1.0)
    scheduler = S.StepLR(base, step_size=1, gamma=0.5)
    optimizer = pc.PLP(base)
    for _ in range(3):
        constant_steps(optimizer, p, 1.0)
        scheduler.step()  # a warning, were the base's steps not seen, is an error here
    assert p.item() == -1.75 - 0.25  # -1, -1.5, -1.75 and half of the second step


def test_a_scheduler_resumes_beside_the_wrapper() -> None:
    def fresh() -> tuple[list[torch.nn.Parameter], pc.Forecast, Any]:
        ps = parameters()
        optimizer = pc.PLP(BASES["momentum"](ps))
        return ps, optimizer, S.OneCycleLR(optimizer, max_lr=0.1, total_steps=30)

    ps, optimizer, scheduler = fresh()
    for t in range(7):
        train(optimizer, ps, 1, start=t)
        scheduler.step()
    others, resumed, other_scheduler = fresh()
    restore(others, ps)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # else torch shares tensors
    other_scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    for t in range(7, 14):
        for running, its_own, its_scheduler in (
            (optimizer, ps, scheduler),
            (resumed, others, other_scheduler),
        ):
            train(running, its_own, 1, start=t)
            its_scheduler.step()
    assert same_bits(ps, others)


# --- gradient scalers ---------------------------------------------------------------------------


# --- closures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", AFFINE, ids=lambda case: case.name)
def test_a_closure_gives_the_same_run_and_its_loss(case: Any) -> None:
    ps, others = parameters(), parameters()
    optimizer = pc.Forecast(BASES["momentum"](ps), case.predictor)
    other = pc.Forecast(BASES["momentum"](others), case.predictor)
    calls = []
    for t in range(2 * case.predictor.every + 1):

        def closure(t: int = t) -> float:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            set_gradients(ps, t)
            calls.append(t)
            return 7.0 + t

        assert optimizer.step(closure) == 7.0 + t
        train(other, others, 1, start=t)
    assert same_bits(ps, others)
    assert len(calls) == 2 * case.predictor.every + 1


def test_a_closure_passed_by_name_is_handed_on() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0))
    for gradient in (1.0, 2.0, 4.0):

        def closure(gradient: float = gradient) -> float:
            optimizer.zero_grad()
            (gradient * p).sum().backward()
            return gradient

        assert optimizer.step(closure=closure) == gradient
    assert p.item() == -8.0


def test_a_closure_without_gradients_is_not_counted() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0))
    assert optimizer.step(lambda: 3.0) == 3.0
    assert optimizer.state_dict()["paramcast"]["cycle"]["done"] == 0


# --- other bases --------------------------------------------------------------------------------


def test_a_third_partys_optimizer_agrees_with_the_twin() -> None:
    class Sign(torch.optim.Optimizer):
        """Moves by the sign of the gradient; its groups have no lr."""

        def __init__(self, ps: Any) -> None:
            super().__init__(ps, {"step_size": 0.125})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["step_size"] * p.grad.sign())

    weights = (0.25, 0.0, -0.5, 1.25)
    ps, slow = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.Forecast(Sign(ps), P.Affine(weights))
    twin = Twin(Sign(slow), Slow(3, affine(weights)))
    train(optimizer, ps, 12)
    train(twin, slow, 12)
    torch.testing.assert_close(values(ps), values(slow), rtol=1e-9, atol=1e-10)


# --- step hooks ---------------------------------------------------------------------------------


def test_the_wrappers_and_the_bases_hooks_fire_once_per_step_and_nested() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0))
    seen: list[tuple[str, float, bool]] = []

    def note(name: str, owner: Base) -> Callable[..., None]:
        return lambda opt, args, kwargs: seen.append((name, p.item(), opt is owner))

    optimizer.register_step_pre_hook(note("pre", optimizer))
    optimizer.register_step_post_hook(note("post", optimizer))
    optimizer.base.register_step_pre_hook(note("base pre", optimizer.base))
    optimizer.base.register_step_post_hook(note("base post", optimizer.base))
    constant_steps(optimizer, p, 1.0, 2.0)
    seen.clear()
    constant_steps(optimizer, p, 4.0)
    assert seen == [
        ("pre", -3.0, True),
        ("base pre", -3.0, True),
        ("base post", -7.0, True),
        ("post", -8.0, True),  # the prediction belongs to the step
    ]


def test_hooks_see_the_step_with_a_scheduler_attached_once() -> None:
    ps = parameters()
    optimizer = pc.PLP(BASES["sgd"](ps))
    S.StepLR(optimizer, step_size=2)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    train(optimizer, ps, 5)
    assert len(calls) == 5


def test_a_pre_hook_may_change_the_arguments() -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0))
    p.grad = torch.ones(1)
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 42.0), {}))
    assert optimizer.step() == 42.0


@pytest.mark.parametrize("wrap", [lambda base: base, pc.PLP], ids=["torch alone", "wrapped"])
def test_a_post_hook_gets_what_the_step_got(wrap: Callable[[Base], Base]) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = wrap(torch.optim.SGD([p], lr=1.0))
    closure, seen = lambda: 42.0, []
    optimizer.register_step_post_hook(lambda _, args, kwargs: seen.append((args, kwargs)))
    p.grad = torch.ones(1)
    optimizer.step()
    optimizer.step(closure)
    optimizer.register_step_pre_hook(lambda opt, *_: ((opt,), {"closure": closure}))
    optimizer.step()
    assert seen == [
        ((optimizer,), {}),
        ((optimizer, closure), {}),
        ((optimizer,), {"closure": closure}),
    ]
