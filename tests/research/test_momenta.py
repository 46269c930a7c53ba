"""Momentum in the place of averaging: torch's optimizers, values by pencil, primal averaging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import paramcast as pc
from momenta import ademamix, gpa, laprop, primal
from paramcast import predictors as P
from paramcast.study.training import own
from paramcast.study.training.methods import parse_methods
from reference import constant_steps, parameters, train, values

MOMENTA = Path(__file__).parents[2] / "research" / "momenta.py"


def test_a_momentum_before_the_scale_and_nothing_else_is_adamw() -> None:
    ps, theirs = parameters(torch.float64), parameters(torch.float64)
    train(ademamix(ps, 0.02, beta1=0.9, nu=1.0, weight_decay=0.1), ps, 20)
    train(torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1), theirs, 20)
    torch.testing.assert_close(values(ps), values(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "expected"),
    # g = 1, 3 with beta2 = 0: g / s = 1, 1 whatever g is; before the scale m = 1/2, 7/4 over 1, 3
    [
        (lambda ps: laprop(ps, 0.1, beta1=0.5, beta2=0.0, weight_decay=0.0), [-0.1, -0.2]),
        (
            lambda ps: ademamix(ps, 0.3, beta1=0.5, nu=1.0, beta2=0.0, weight_decay=0.0),
            [-0.3, -0.3 - 0.3 * (7 / 4) / (3 / 4) / 3],
        ),
        (
            lambda ps: ademamix(ps, 0.3, beta1=0.5, nu=0.5, beta2=0.0, weight_decay=0.0),
            [-0.3, -0.3 - 0.15 * ((7 / 4) / (3 / 4) / 3 + 1)],
        ),
    ],
    ids=["laprop", "adam", "ademamix"],
)
def test_the_order_of_momentum_and_scale_by_pencil(make: object, expected: list[float]) -> None:
    p = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = make([p])
    path = []
    for gradient in (1.0, 3.0):
        constant_steps(optimizer, p, gradient)
        path.append(p.item())
    assert path == pytest.approx(expected, abs=1e-7)


def test_laprop_follows_the_path_of_primal_averaging_in_a_window() -> None:
    """Once the averages are as long as their windows, and the second moments are the same."""
    n, beta = 5, 0.8
    ps, theirs = parameters(torch.float64), parameters(torch.float64)
    windowed = primal(ps, 0.01, beta, 0.0, n, weight_decay=0.0)
    momentum = laprop(theirs, 0.01, 1 - 1 / n, beta, weight_decay=0.0)
    for t in range(120):  # the same gradients; what differs at the start fades as (1 - 1/n)^t
        for p, q in zip(ps, theirs, strict=True):
            p.grad = torch.full_like(p, 1.0 + (t % 3))
            q.grad = p.grad.clone()
        before = values(ps), values(theirs)
        windowed.step()
        momentum.step()
    for p, q, old, their_old in zip(ps, theirs, *before, strict=True):
        torch.testing.assert_close(p - old, q - their_old, rtol=1e-6, atol=1e-12)


def test_generalized_primal_averaging_keeps_the_momentum_of_its_base() -> None:
    optimizer = gpa(parameters(), 0.01, mu_y=0.7, mu_x=0.95)
    assert optimizer.base.param_groups[0]["betas"] == (0.9, 0.999)
    assert repr(optimizer.predictor) == repr(P.PrimalAveraging(0.7, 0.0, 20))


def test_a_comparison_takes_them_by_name() -> None:
    for name in ("laprop(nu=0.95)", "ademamix(nu=0.8)", "primal(window=20)", "gpa(mu_y=0.9)"):
        (method,) = parse_methods(f"{MOMENTA}:{name}")
        ps = parameters()
        optimizer = own.make(method.name, method.own, ps, 0.01, lambda: None)
        train(optimizer, ps, 2)
        wraps = name.startswith(("primal", "gpa"))
        assert isinstance(optimizer, pc.Forecast) == wraps
