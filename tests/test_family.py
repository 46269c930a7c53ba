"""Laws that every predictor of the family obeys, and what is special to some of them.

The table `FAMILY` in reference.py drives the laws: a new predictor adds a row there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paramcast as pc
from paramcast import averaging as A
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast.errors import ArgumentError
from paramcast.tensors import segments as S
from reference import (
    BASES,
    COPIERS,
    FAMILY,
    Allocations,
    Row,
    SlowForwardEMA,
    SlowRRE,
    Twin,
    averaged,
    check_resumes,
    constant_steps,
    drive,
    first_move,
    length,
    momentum_of,
    pairwise,
    parameters,
    restore,
    same_bits,
    set_gradients,
    timeless,
    train,
    values,
)

PERSISTENT = [row for row in FAMILY if row.predictor.persistent]
REMEMBERING = [row for row in PERSISTENT if row.slow is not None]
FIXED = [row for row in FAMILY if row.predictor.noise_gain is not None]


def rows(table: list[Row] = FAMILY) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


def str_or_name(value: Any) -> str:
    return value.name if isinstance(value, Row) else str(value)


def wrapped(
    row: Row,
    base: str = "momentum",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **options: Any,
) -> tuple[list[torch.nn.Parameter], pc.Forecast]:
    ps = parameters(dtype, seed)
    return ps, pc.Forecast(BASES[base](ps), row.predictor, **options)


def scalars(*starts: float, dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor([start], dtype=dtype)) for start in starts]


# --- the rules, against the float64 twins -------------------------------------------------------


@rows([row for row in FAMILY if row.slow is not None])
@pytest.mark.parametrize("base", ["momentum", "adamw"])
def test_60_steps_agree_with_the_twin_at_every_step(row: Row, base: str) -> None:
    ps, optimizer = wrapped(row, base, torch.float64)
    slow_ps = parameters(torch.float64)
    twin = Twin(BASES[base](slow_ps), row.slow())
    for t in range(60):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-6, atol=1e-8)
    for p, q in zip(ps, slow_ps, strict=True):
        mine, its = momentum_of(optimizer.base, p), momentum_of(twin.base, q)
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-8)
    assert optimizer.last_event.applied
    assert optimizer.last_event.step == 60 // row.predictor.every * row.predictor.every


@rows([row for row in FAMILY if row.slow is not None])
def test_30_steps_in_float32_stay_close_to_the_twin(row: Row) -> None:
    ps, optimizer = wrapped(row)
    slow_ps = parameters(torch.float64)
    twin = Twin(BASES["momentum"](slow_ps), row.slow())
    train(optimizer, ps, 30)
    train(twin, slow_ps, 30)
    wide = [p.double() for p in values(ps)]
    torch.testing.assert_close(wide, values(slow_ps), rtol=0, atol=2e-3)


@rows()
@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16], ids=str)
def test_complex_and_bfloat16_parameters_are_predicted(row: Row, dtype: torch.dtype) -> None:
    ps, optimizer = wrapped(row, dtype=dtype)
    bare_ps = parameters(dtype)
    bare = BASES["momentum"](bare_ps)
    first = first_move(row)
    train(optimizer, ps, first)
    train(bare, bare_ps, first)
    assert optimizer.last_event.applied
    assert not same_bits(ps, bare_ps)
    train(optimizer, ps, 2 * row.predictor.every, start=first)
    assert all(
        bool(torch.isfinite(torch.view_as_real(p) if p.is_complex() else p).all()) for p in ps
    )
    assert {p.dtype for p in ps} == {dtype}


def test_a_pullback_of_complex_momentum_is_that_of_its_parts() -> None:
    half = P.Interpolate(2, 0.5, momentum="pullback")
    z = torch.nn.Parameter(torch.tensor([1.0 + 2.0j]))
    parts = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    first = pc.Forecast(torch.optim.SGD([z], lr=0.1, momentum=0.9), half)
    second = pc.Forecast(torch.optim.SGD([parts], lr=0.1, momentum=0.9), half)
    for gradient in (1.0, -2.0, 0.5, 3.0, 1.0):
        z.grad = torch.tensor([gradient + 0.5j * gradient])
        parts.grad = torch.tensor([gradient, 0.5 * gradient])
        first.step()
        second.step()
    assert [z.real.item(), z.imag.item()] == pytest.approx(parts.tolist())


# --- the figures: gains -------------------------------------------------------------------------


@rows(FIXED)
def test_the_noise_gain_is_the_variance_in_pure_noise(row: Row) -> None:
    points = [[torch.randn(40_000, dtype=torch.float64)] for _ in range(row.predictor.every + 1)]
    (jump,) = drive(row.predictor, points)
    shown = (points[-1][0] + jump).var().item()
    assert shown == pytest.approx(row.predictor.noise_gain, rel=0.05)


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        (P.Quadratic(1.0), 19.0),
        (P.Interpolate(5, 0.5), 0.5),
        (P.Midline(), 1.5),
        (P.OuterNesterov(), None),
        (P.ForwardEMA(), None),
        (P.PrimalAveraging(), None),
        (P.RRE(), None),
        (P.Aitken(), None),
    ],
    ids=repr,
)
def test_the_noise_gain_is_a_number_where_the_weights_are_fixed(
    predictor: P.Predictor, expected: float | None
) -> None:
    assert predictor.noise_gain == expected


# --- memory -------------------------------------------------------------------------------------

EXTRAS: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    "nothing": (dict, 0),
    "Every": (lambda: {"gate": G.Every(2)}, 0),
    "Agreement": (lambda: {"gate": G.Agreement(-1.0)}, 2),
    "LossCheck": (lambda: {"gate": G.LossCheck(lambda: 0.0)}, 1),
    "both": (lambda: {"gate": G.Agreement(-1.0) & G.LossCheck(lambda: 0.0)}, 3),
    "shadow": (lambda: {"shadow": True}, 2),
    "scored": (lambda: {"monitors": [M.History(scored=True)]}, 2),
    "plain monitor": (lambda: {"monitors": [M.History()]}, 0),
    "average": (lambda: {"average": A.EMA(0.9)}, 1),
    "all": (
        lambda: {
            "gate": G.Agreement(-1.0) & G.LossCheck(lambda: 0.0),
            "monitors": [M.History(scored=True)],
            "average": A.EMA(0.9),
        },
        6,
    ),
}


def held_bytes(optimizer: pc.Forecast) -> int:
    """What our buffers own."""
    cycle, averager = optimizer._cycle, optimizer._averager
    segments = [*cycle.members.segments, *cycle.members.resting, *averager.segments]
    return sum(flat.nbytes for segment in segments for flat in segment.flats)


def memories() -> list[Any]:
    """Every predictor with every helper; Agreement needs cycles of two steps."""
    return [
        pytest.param(row, extra, id=f"{row.name}-{extra}")
        for row, extra in itertools.product(FAMILY, EXTRAS)
        if row.predictor.every > 1 or extra not in ("Agreement", "both", "all")
    ]


@pytest.mark.parametrize(("row", "extra"), memories())
def test_the_memory_is_what_the_predictor_and_its_helpers_say(row: Row, extra: str) -> None:
    options, more = EXTRAS[extra]
    ps, optimizer = wrapped(row, **options())
    elements = sum(p.numel() for p in ps)
    most = 0
    for t in range(2 * row.predictor.every + 1):
        train(optimizer, ps, 1, start=t)
        most = max(most, held_bytes(optimizer))
    assert most == 4 * elements * (row.predictor.buffers + more)


def steady_states() -> list[Any]:
    """Every predictor alone, and one with every helper."""
    alone = [(row, "nothing") for row in FAMILY]
    helped = [(FAMILY[0], extra) for extra in EXTRAS if extra not in ("nothing", "average", "all")]
    return [pytest.param(row, extra, id=f"{row.name}-{extra}") for row, extra in alone + helped]


@pytest.mark.parametrize(("row", "extra"), steady_states())
def test_steady_state_allocates_nothing_that_stays_and_one_tensor_at_a_time_in_passing(
    row: Row, extra: str
) -> None:
    options, more = EXTRAS[extra]
    ps = [torch.nn.Parameter(torch.randn(20_000)) for _ in range(20)]
    base = torch.optim.SGD(ps, lr=0.01, foreach=False)
    optimizer = pc.Forecast(base, row.predictor, **options())
    set_gradients(ps, 0)
    with Allocations() as seen:
        for _ in range(row.predictor.every + 2):
            optimizer.step()
        held = seen.alive()
        for _ in range(2 * row.predictor.every):
            optimizer.step()
            assert seen.alive() <= held + 256  # numbers such as norms
    assert 0 <= held - 4 * 400_000 * (row.predictor.buffers + more) <= 256
    assert seen.peak <= held + 4 * 20_000 * 8 + 2048  # a few of the 20 tensors, in float64


# --- what did not move --------------------------------------------------------------------------


@rows()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_what_never_moved_stays_bitwise(row: Row, dtype: torch.dtype) -> None:
    ps = parameters(dtype)
    before = values(ps)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1), row.predictor)
    for t in range(3 * row.predictor.every + 3):
        set_gradients(ps, t)
        ps[0].grad[:, 1:].zero_()
        ps[1].grad.zero_()
        optimizer.step()
    assert same_bits([ps[1]], [before[1]])
    if row.name != "random":  # which draws for a whole tensor
        assert same_bits([ps[0][:, 1:]], [before[0][:, 1:]])
    assert not torch.equal(ps[0][:, 0], before[0][:, 0])
    assert optimizer.last_event.applied


@rows()
def test_a_cycle_in_which_nothing_moves_predicts_nothing_and_no_nan(row: Row) -> None:
    ps = parameters()
    before = values(ps)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1), row.predictor)
    for _ in range(2 * row.predictor.every):
        for p in ps:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert same_bits(ps, before)
    assert optimizer.last_event.jump_norm == 0.0


# --- degenerate settings are the base -----------------------------------------------------------

DEGENERATE: dict[str, tuple[P.Predictor | None, Callable[[], dict[str, Any]]]] = {
    "no predictor": (None, dict),
    "no predictor, an average": (None, lambda: {"average": A.EMA(0.9)}),
    "outer nesterov": (P.OuterNesterov(3, momentum=0.0, lr=1.0), dict),
    "outer nesterov, each step": (P.OuterNesterov(1, momentum=0.0, lr=1.0), dict),
    "forward ema": (P.ForwardEMA(strength=0.0), dict),
    "primal averaging": (P.PrimalAveraging(beta=0.0), dict),
    "lookahead": (P.Interpolate(4, alpha=1.0), dict),
    "lookahead, reset": (P.Interpolate(4, alpha=1.0, momentum="pullback"), dict),
    "secant": (P.Secant(horizon=0.0), dict),
    "quadratic": (P.Quadratic(0.0), dict),
    "secant by a schedule": (P.Secant(), lambda: {"horizon": 0.0}),
    "the last point": (P.Affine((0.0, 0.0, 0.0, 1.0)), dict),
    "flipped": (P.SignFlipped(P.Secant(3, 0.0)), dict),
    "random": (P.RandomDirection(P.Secant(3, 0.0)), dict),
    "a function": (P.Secant(), lambda: {"horizon": lambda progress: 0.0, "total_steps": 9}),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_settings_are_the_base_bitwise(
    name: str, base: Callable[..., torch.optim.Optimizer]
) -> None:
    predictor, options = DEGENERATE[name]
    ps, bare_ps = parameters(), parameters()
    optimizer, bare = pc.Forecast(base(ps), predictor, **options()), base(bare_ps)
    train(optimizer, ps, 13)
    train(bare, bare_ps, 13)
    assert same_bits(ps, bare_ps)


REFUSING: dict[str, Callable[[], dict[str, Any]]] = {
    "Every": lambda: {"gate": G.Every(10**9)},
    "shadow": lambda: {"shadow": True},
    "shadow and a gate": lambda: {"shadow": True, "gate": G.LossCheck(lambda: 0.0)},
    "LossCheck": lambda: {"gate": G.LossCheck(itertools.count().__next__)},
    "MaxRelativeJump": lambda: {"gate": G.MaxRelativeJump(1e-12, shorten=False)},
}


@pytest.mark.parametrize(
    ("row", "name", "base"), pairwise(FAMILY, REFUSING, ["momentum", "adamw"]), ids=str_or_name
)
def test_whoever_writes_nothing_is_the_base_bitwise(row: Row, name: str, base: str) -> None:
    ps, optimizer = wrapped(row, base, **REFUSING[name]())
    bare_ps = parameters()
    bare = BASES[base](bare_ps)
    train(optimizer, ps, 13)
    train(bare, bare_ps, 13)
    assert same_bits(ps, bare_ps)
    for p, q in zip(ps, bare_ps, strict=True):  # momentum neither reset nor pulled back
        assert same_bits([momentum_of(optimizer.base, p)], [momentum_of(bare, q)])
    assert not optimizer.last_event.applied


@rows()
def test_an_excluded_group_is_left_to_the_base_bitwise(row: Row) -> None:
    ps, bare_ps = parameters(), parameters()
    groups = [{"params": ps[:1]}, {"params": ps[1:], "forecast": False}]
    optimizer = pc.Forecast(torch.optim.SGD(groups, lr=0.02, momentum=0.9), row.predictor)
    bare = torch.optim.SGD(bare_ps, lr=0.02, momentum=0.9)
    train(optimizer, ps, 13)
    train(bare, bare_ps, 13)
    assert same_bits(ps[1:], bare_ps[1:])
    assert not same_bits(ps[:1], bare_ps[:1])
    one = parameters()[:1]
    alone = pc.Forecast(torch.optim.SGD(one, lr=0.02, momentum=0.9), row.predictor)
    train(alone, one, 13)
    assert same_bits(ps[:1], one)


def test_excluding_every_group_is_the_base_bitwise() -> None:
    ps, bare_ps = parameters(), parameters()
    groups = [{"params": ps, "forecast": False}]
    optimizer = pc.Forecast(torch.optim.SGD(groups, lr=0.02, momentum=0.9), P.Aitken())
    bare = torch.optim.SGD(bare_ps, lr=0.02, momentum=0.9)
    train(optimizer, ps, 13)
    train(bare, bare_ps, 13)
    assert same_bits(ps, bare_ps)
    assert optimizer.last_event is None


def test_a_group_may_be_excluded_and_taken_back_during_the_run() -> None:
    p, q = scalars(0.0, 0.0)
    optimizer = pc.PLP(torch.optim.SGD([{"params": [p]}, {"params": [q]}], lr=1.0))
    for forecast, expected in ((False, -7.0), (True, -15.0)):
        optimizer.param_groups[1]["forecast"] = forecast
        for gradient in (1.0, 2.0, 4.0):
            q.grad = torch.tensor([gradient], dtype=torch.float64)
            constant_steps(optimizer, p, gradient)
        assert q.item() == expected
    assert p.item() == -16.0


def test_a_step_that_moves_only_an_excluded_group_counts() -> None:
    # "A step counts when the base completed it ... nor one in which no parameter has a gradient."
    p, q = scalars(0.0, 0.0)
    groups = [{"params": [p]}, {"params": [q], "forecast": False}]
    optimizer = pc.PLP(torch.optim.SGD(groups, lr=1.0))
    constant_steps(optimizer, q, 1.0)
    assert optimizer.state_dict()["paramcast"]["steps"] == 1


# --- RRE and Aitken on what they are made for ---------------------------------------------------


def linear_iteration(modes: tuple[float, ...], sizes: tuple[int, ...], steps: int) -> list[Any]:
    """theta_{t+1} - limit = A (theta_t - limit), split into tensors, and the limit."""
    generator = torch.Generator().manual_seed(1)
    n = sum(sizes)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    limit = torch.randn(n, generator=generator, dtype=torch.float64)
    amounts = torch.zeros(n, dtype=torch.float64)
    amounts[: len(modes)] = 1.0
    decay = torch.zeros(n, dtype=torch.float64)
    decay[: len(modes)] = torch.tensor(modes, dtype=torch.float64)
    points = [limit + basis @ (amounts * decay**t) for t in range(steps + 1)]
    return [list(point.split(sizes)) for point in (*points, limit)]


@pytest.mark.parametrize("window", [4, 5, 6])
@pytest.mark.parametrize(
    ("ridge", "closer"),
    [(1e-12, 1e4), (1e-8, 100.0)],  # the ridge bounds it: 1e-8 is the default, against noise
)
def test_rre_lands_near_the_limit_of_a_noiseless_linear_iteration_with_3_modes(
    window: int, ridge: float, closer: float
) -> None:
    *points, limit = linear_iteration((0.9, 0.6, -0.5), (20, 7), window)
    jump = drive(P.RRE(window, ridge=ridge), points)
    there = [p + j for p, j in zip(points[-1], jump, strict=True)]
    gap = length(a - b for a, b in zip(there, limit, strict=True))
    last = length(a - b for a, b in zip(points[-1], limit, strict=True))
    assert closer * gap < last


def test_rre_takes_gradient_descent_on_a_quadratic_to_its_minimum() -> None:
    curvature = torch.tensor([1.0, 0.5, 0.1, 0.1], dtype=torch.float64)
    errors = []
    for wrap in (lambda base: base, lambda base: pc.Forecast(base, P.RRE(4, ridge=1e-13))):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64))
        optimizer = wrap(torch.optim.SGD([p], lr=1.0))
        for _ in range(4):
            p.grad = curvature * p.detach()
            optimizer.step()
        errors.append(p.detach().norm().item())
    assert errors[1] < 1e-4 * errors[0]


def test_rre_averages_in_pure_noise() -> None:
    # Displacements of noise are not independent: the best combination leaves the first point and
    # the last one of a differenced mean. Its coefficients are positive, its variance falls.
    window, size = 5, 50_000
    points = [[torch.randn(size, dtype=torch.float64)] for _ in range(window + 1)]
    c = SlowRRE(window).coefficients(points)
    assert (c > 0).all()
    (jump,) = drive(P.RRE(window), points)
    there = points[-1][0] + jump
    torch.testing.assert_close(there, sum(a * p[0] for a, p in zip(c, points[1:], strict=True)))
    assert there.var().item() < 1.5 / window


def test_rre_gives_equal_coefficients_to_independent_displacements() -> None:
    window, size = 5, 200_000
    moves = torch.randn(window, size, dtype=torch.float64)
    points = [[moves[:t].sum(0)] for t in range(window + 1)]
    c = SlowRRE(window).coefficients(points)
    assert c.tolist() == pytest.approx([1 / window] * window, abs=0.01)
    (jump,) = drive(P.RRE(window), points)
    mean = sum(p[0] for p in points[1:]) / window
    assert (points[-1][0] + jump - mean).norm() < 0.02 * mean.norm()


def test_the_cap_shortens_rres_jump_to_a_multiple_of_the_cycles_displacement() -> None:
    points = [[torch.tensor([0.999**t], dtype=torch.float64)] for t in range(4)]
    moved = abs(points[-1][0].item() - 1.0)
    for cap in (0.5, 2.0):
        (jump,) = drive(P.RRE(3, ridge=1e-13, cap=cap), points)
        assert abs(jump.item()) == pytest.approx(cap * moved, rel=1e-9)


@pytest.mark.parametrize("ridge", [1e-300, 1e-30, 1e-16])
@pytest.mark.parametrize("path", ["straight", "one step only", "two equal"])
def test_rre_with_next_to_no_ridge_does_not_fail_on_dependent_displacements(
    ridge: float, path: str
) -> None:
    at = {
        "straight": lambda t: float(t),
        "one step only": lambda t: float(t > 0),
        "two equal": lambda t: float(min(t, 2)),
    }[path]
    points = [[torch.full((6,), at(t), dtype=torch.float64)] for t in range(5)]
    (jump,) = drive(P.RRE(4, ridge=ridge), points)
    assert bool(torch.isfinite(jump).all())
    assert jump.norm() <= 10.0 * (points[-1][0] - points[0][0]).norm() * (1 + 1e-9)


def test_aitken_is_exact_on_one_mode_per_tensor() -> None:
    limits = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    modes = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    ratios = (0.8, -0.3)
    points = [
        [x + m * r**t for x, m, r in zip(limits, modes, ratios, strict=True)] for t in range(4)
    ]
    jump = drive(P.Aitken(cap=5.0), points)
    for last, j, limit in zip(points[-1], jump, limits, strict=True):
        torch.testing.assert_close(last + j, limit, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("points", "horizon"),
    [
        ((0.0, 1.0, 2.0), 3.0),  # rho = 1: a straight path
        ((0.0, 1.0, 3.0), 3.0),  # rho = 2: it diverges
        ((0.0, 1.0, 1.9), 3.0),  # rho = 0.9 would be 9 steps
        ((0.0, 1.0, 1.5), 1.0),  # rho = 0.5
        ((0.0, 1.0, 0.0), -0.5),  # rho = -1: it oscillates; half of the way back
        ((0.0, 1.0, 1.0), 0.0),  # it stands still
        ((0.0, 0.0, 1.0), 0.0),  # it stood still: nothing to compare with
    ],
)
def test_aitkens_horizon_is_rho_over_1_minus_rho_and_the_cap_from_rho_1_on(
    points: tuple[float, float, float], horizon: float
) -> None:
    path = [torch.tensor([x], dtype=torch.float64) for x in (7.0, *points)]
    (jump,) = drive(P.Aitken(cap=3.0), [[p] for p in path])
    assert jump.item() == pytest.approx(horizon * (points[2] - points[1]), abs=1e-12)


def test_aitken_beside_an_unmoved_tensor_gives_no_nan() -> None:
    moving = [torch.tensor([1.0 - 0.5**t], dtype=torch.float64) for t in range(4)]
    still = torch.full((3,), 2.0, dtype=torch.float64)
    first, second = drive(P.Aitken(), [[p, still] for p in moving])
    assert moving[-1] + first == pytest.approx(1.0)
    assert second.abs().tolist() == [0.0, 0.0, 0.0]


# --- outer Nesterov, forward EMA, lookahead by pencil -------------------------------------------


def test_outer_nesterov_by_pencil() -> None:
    (p,) = scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.OuterNesterov(2, 0.5, 0.5))
    constant_steps(optimizer, p, 1.0, 1.0)  # d = 2, b = 2, 0 - 0.5 (2 + 1)
    assert p.item() == -1.5
    constant_steps(optimizer, p, 1.0, 1.0)  # d = 2, b = 3, -1.5 - 0.5 (2 + 1.5)
    assert p.item() == -3.25


def test_forward_ema_by_pencil() -> None:
    (p,) = scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.ForwardEMA(0.5, 0.5))
    constant_steps(optimizer, p, 1.0)  # x = -1, m = -0.5
    assert p.item() == -1.25
    constant_steps(optimizer, p, 1.0)  # x = -2.25, m = -0.25 - 0.625
    assert p.item() == -2.25 - 0.4375


def test_primal_averaging_by_pencil() -> None:
    (p,) = scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.PrimalAveraging(0.5, eta=1))
    constant_steps(optimizer, p, 1.0)  # w = 1: z = x = -1
    assert p.item() == -1.0
    constant_steps(optimizer, p, 1.0)  # w = 2/3: z = -2, x = -5/3
    assert p.item() == pytest.approx(-11 / 6)
    constant_steps(optimizer, p, 1.0)  # w = 1/2: z = -3, x = -7/3
    assert p.item() == pytest.approx(-8 / 3)


def test_primal_averaging_in_a_window_by_pencil() -> None:
    (p,) = scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.PrimalAveraging(0.5, eta=0, window=2))
    constant_steps(optimizer, p, 1.0)  # w = 1: z = x = -1
    assert p.item() == -1.0
    constant_steps(optimizer, p, 1.0)  # w = 1/2: z = -2, x = -3/2
    assert p.item() == -1.75
    constant_steps(optimizer, p, 1.0)  # w = 1/2, no longer 1/3: z = -3, x = -9/4
    assert p.item() == -2.625
    with optimizer.eval_weights():
        assert p.item() == -2.25


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0])
def test_a_constant_window_is_a_quasi_hyperbolic_momentum(beta: float) -> None:
    """theta <- theta - lr ((1 - beta) g + beta m) with m <- (1 - 1/n) m + g / n, for any n."""
    n, m, theta = 4, 0.0, torch.zeros((), dtype=torch.float64)
    (p,) = scalars(0.0)
    # from step n on w = 1/n; steps without a gradient start the count
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=0.5), P.PrimalAveraging(beta, 0.0, n))
    constant_steps(optimizer, p, *[0.0] * n)
    for g in (1.0, -2.0, 0.5, 3.0, -1.0, 0.25):
        m = (1 - 1 / n) * m + g / n
        theta = theta - 0.5 * ((1 - beta) * g + beta * m)
        constant_steps(optimizer, p, g)
        assert p.item() == pytest.approx(theta.item(), abs=1e-12)


def test_a_window_longer_than_the_run_changes_nothing() -> None:
    ps, others = parameters(), parameters()
    train(pc.Forecast(BASES["sgd"](ps), P.PrimalAveraging()), ps, 12)
    windowed = pc.Forecast(BASES["sgd"](others), P.PrimalAveraging(window=12))
    train(windowed, others, 12)
    assert same_bits(ps, others)


def test_primal_averaging_shows_its_average_for_evaluation() -> None:
    (p,) = scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.PrimalAveraging(0.5, eta=1))
    assert not optimizer.has_average
    with optimizer.eval_weights():
        assert p.item() == 0.0
    constant_steps(optimizer, p, 1.0, 1.0)  # z = -2, x = -5/3
    before = p.item()
    for _ in range(2):
        assert optimizer.has_average
        with optimizer.eval_weights():
            assert p.item() == pytest.approx(-5 / 3)
            with pytest.raises(ArgumentError, match="leave it first"):
                optimizer.step()
        assert p.item() == before
        again = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.PrimalAveraging(0.5, eta=1))
        again.load_state_dict(optimizer.state_dict())
        optimizer = again
    optimizer.restart_cycle()  # the average starts over, where the parameters are
    with optimizer.eval_weights():
        assert p.item() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_the_average_that_a_predictor_shows_is_that_of_its_twin(dtype: torch.dtype) -> None:
    row = next(row for row in FAMILY if row.name == "primal-averaging")
    ps, optimizer = wrapped(row, dtype=dtype)
    slow_ps, slow = parameters(dtype), row.slow()
    twin = Twin(BASES["momentum"](slow_ps), slow)
    train(optimizer, ps, 12)
    train(twin, slow_ps, 12)
    live = values(ps)
    with optimizer.eval_weights():
        near = 1e-9 if dtype == torch.float64 else 0.05
        for p, x in zip(values(ps), slow.x, strict=True):
            torch.testing.assert_close(p, x.to(dtype), rtol=near, atol=near)
    assert same_bits(live, values(ps))


def test_shadow_mode_shows_no_average() -> None:
    ps = parameters()
    optimizer = pc.Forecast(BASES["sgd"](ps), P.PrimalAveraging(), shadow=True)
    train(optimizer, ps, 5)
    assert not optimizer.has_average


@pytest.mark.parametrize("r", [0, 1])  # where its weights i^r add up to ours
def test_primal_averaging_is_schedule_free(r: int) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    ps, theirs_ps = parameters(torch.float64), parameters(torch.float64)
    ours = pc.Forecast(torch.optim.SGD(ps, lr=0.05), P.PrimalAveraging(beta=0.9, eta=r))
    theirs = schedulefree.SGDScheduleFree(theirs_ps, lr=0.05, momentum=0.9, r=r)
    theirs.train()
    for t in range(30):
        train(ours, ps, 1, start=t)
        train(theirs, theirs_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(theirs_ps), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("momentum", "after"), [("keep", 1.5), ("reset", 0.0), ("pullback", 0.75)])
@pytest.mark.parametrize("cycle", [1, 2])
def test_lookaheads_momentum_by_pencil(momentum: str, after: float, cycle: int) -> None:
    (p,) = scalars(0.0)
    base = torch.optim.SGD([p], lr=1.0, momentum=0.5)
    optimizer = pc.Forecast(base, P.Interpolate(2, 0.5, momentum=momentum))
    constant_steps(optimizer, p, 1.0, 1.0)  # 1, 1.5
    if cycle == 2:
        start = base.state[p]["momentum_buffer"].clone()
        constant_steps(optimizer, p, 1.0, 1.0)
        full = 0.25 * start + 1.5
        after = {"keep": full, "reset": 0.0, "pullback": start + 0.5 * (full - start)}[momentum]
    assert base.state[p]["momentum_buffer"].item() == pytest.approx(float(after))


def test_resetting_leaves_the_second_moment_and_the_step_count_of_adam() -> None:
    ps, bare_ps = parameters(), parameters()
    base, bare = torch.optim.AdamW(ps), torch.optim.AdamW(bare_ps)
    optimizer = pc.Forecast(base, P.Interpolate(3, 0.5, momentum="reset"))
    train(optimizer, ps, 3)
    train(bare, bare_ps, 3)
    for p, q in zip(ps, bare_ps, strict=True):
        assert same_bits([base.state[p]["exp_avg"]], [torch.zeros_like(p)])
        assert same_bits([base.state[p]["exp_avg_sq"]], [bare.state[q]["exp_avg_sq"]])
        assert base.state[p]["step"].item() == 3


@pytest.mark.parametrize("momentum", ["reset", "pullback"])
def test_a_base_without_momentum_keeps_none(momentum: str) -> None:
    ps = parameters()
    base = torch.optim.SGD(ps, lr=0.1)
    optimizer = pc.Forecast(base, P.Interpolate(2, 0.5, momentum=momentum))
    train(optimizer, ps, 5)
    assert all(momentum_of(base, p) is None for p in ps)
    other_ps = parameters()
    other = pc.Forecast(torch.optim.SGD(other_ps, lr=0.1), P.Interpolate(2, 0.5))
    train(other, other_ps, 5)
    assert same_bits(ps, other_ps)


# --- gates beside predictors that remember ------------------------------------------------------


@rows(REMEMBERING)
@pytest.mark.parametrize("n", [2, 3])
def test_a_memory_goes_on_through_cycles_that_a_gate_refuses(row: Row, n: int) -> None:
    ps, optimizer = wrapped(row, dtype=torch.float64, gate=G.Every(n))
    slow_ps = parameters(torch.float64)
    twin = Twin(
        BASES["momentum"](slow_ps),
        row.slow(),
        lambda cycle, points, there: there if cycle % n == 0 else None,
    )
    for t in range(40):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-8, atol=1e-9)


def test_forward_ema_remembers_a_shortened_jump_at_its_length() -> None:
    limit = 1e-3
    row = next(row for row in FAMILY if row.name == "forward-ema")
    ps, optimizer = wrapped(row, dtype=torch.float64, gate=G.MaxRelativeJump(limit))
    slow_ps = parameters(torch.float64)
    shortened = []

    def shorten(cycle: int, points: Any, there: list[Tensor]) -> list[Tensor]:
        jump = [a - b for a, b in zip(there, points[-1], strict=True)]
        factor = min(1.0, limit * length(points[-1]) / length(jump)) if length(jump) else 1.0
        shortened.append(factor < 1.0)
        return [b + factor * j for b, j in zip(points[-1], jump, strict=True)]

    twin = Twin(BASES["momentum"](slow_ps), row.slow(), shorten)
    for t in range(40):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-8, atol=1e-9)
    assert any(shortened)


class SlowBackwardEMA(SlowForwardEMA):
    """Its average holds where the parameters went, so turning the jump does not mirror the path."""

    def predict(self, points: Any) -> list[Tensor]:
        there = super().predict(points)
        return [2 * last - x for last, x in zip(points[-1], there, strict=True)]


def test_a_flipped_forward_ema_remembers_where_it_went_or_is_refused() -> None:
    try:
        flipped = P.SignFlipped(P.ForwardEMA(0.8, 0.5))
    except ArgumentError:
        return
    ps, slow_ps = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.Forecast(BASES["momentum"](ps), flipped)
    twin = Twin(BASES["momentum"](slow_ps), SlowBackwardEMA(0.8, 0.5))
    for t in range(20):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-8, atol=1e-9)
    (p,) = scalars(0.0)
    straight = pc.Forecast(torch.optim.SGD([p], lr=1.0), flipped)
    constant_steps(straight, p, *[-1.0] * 200)
    before = p.item()
    constant_steps(straight, p, *[-1.0] * 50)
    assert (p.item() - before) / 50 == pytest.approx(flipped.gain, abs=1e-6)


# --- nothing that is not finite is written, and nothing is spoilt for good ----------------------


@rows()
def test_a_prediction_that_is_not_finite_is_not_written_and_does_not_last(row: Row) -> None:
    k = row.predictor.every
    ps, optimizer = wrapped(row, "sgd")
    train(optimizer, ps, k)
    kept = values(ps)
    with torch.no_grad():
        ps[0][0, 0] = math.inf  # a burst, noticed and undone by the user
    train(optimizer, ps, k, start=k)
    event = optimizer.last_event
    assert (event.applied, event.reason) == (False, "the prediction is not finite")
    restore(ps, kept)
    for cycle in (2, 3):
        train(optimizer, ps, k, start=cycle * k)
    assert optimizer.last_event.applied, optimizer.last_event.reason
    assert all(bool(torch.isfinite(p).all()) for p in ps)


@rows()
def test_a_restart_forgets_what_was_not_finite(row: Row) -> None:
    k = row.predictor.every
    ps, optimizer = wrapped(row, "sgd")
    kept = values(ps)
    with torch.no_grad():
        ps[0][0, 0] = math.nan
    train(optimizer, ps, k)
    restore(ps, kept)
    optimizer.restart_cycle()
    train(optimizer, ps, k, start=k)
    fresh_ps, fresh = wrapped(row, "sgd")
    train(fresh, fresh_ps, k, start=k)
    assert optimizer.last_event.applied
    if row.name != "random":  # its draws depend on the number of the cycle
        assert same_bits(ps, fresh_ps)


# --- saving and loading -------------------------------------------------------------------------

GATES: dict[str, Callable[[], dict[str, Any]]] = {
    "no gate": dict,
    "Agreement": lambda: {"gate": G.Agreement(0.0)},
    "Every": lambda: {"gate": G.Every(2)},
}
MORE: dict[str, Callable[[], dict[str, Any]]] = {
    "no average": dict,
    "EMA": lambda: {"average": A.EMA(0.8)},
    "shadow": lambda: {"shadow": True},
    "scored": lambda: {"monitors": [M.History(scored=True)]},
}


@pytest.mark.parametrize(
    ("row", "gate", "more"),
    pairwise(
        FAMILY,
        GATES,
        MORE,
        fits=lambda row, gate, _: gate != "Agreement" or row.predictor.every > 1,
    ),
    ids=str_or_name,
)
def test_a_resume_at_every_cut_into_fresh_objects_is_bitwise(
    row: Row, gate: str, more: str
) -> None:
    k = row.predictor.every
    check_resumes(
        lambda seed: wrapped(row, seed=seed, **GATES[gate](), **MORE[more]()),
        3 * k + 2,
        ahead=2 * k + 1,
    )


@pytest.mark.parametrize(
    ("row", "copier", "more", "fewest"),
    pairwise(FAMILY, COPIERS, ["EMA", "scored", "shadow"], [1, S.FEWEST]),
    ids=str_or_name,
)
def test_a_copy_at_every_cut_goes_on_bitwise(
    row: Row, copier: str, more: str, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S, "FEWEST", fewest)  # 1: the few short vectors are gathered
    copy_of = COPIERS[copier]
    k = row.predictor.every
    for cut in range(1, k + 2):
        ps, optimizer = wrapped(row, gate=G.Every(2), **MORE[more]())
        train(optimizer, ps, cut)
        others, other = copy_of((ps, optimizer))
        train(optimizer, ps, 2 * k, start=cut)
        train(other, others, 2 * k, start=cut)
        assert same_bits(ps, others)
        assert same_bits(averaged(optimizer, ps), averaged(other, others))
        assert timeless(other.last_event) == timeless(optimizer.last_event)


@rows(PERSISTENT)
def test_what_lives_between_cycles_is_saved_between_them(row: Row) -> None:
    ps, optimizer = wrapped(row)
    train(optimizer, ps, first_move(row))
    saved = optimizer.state_dict()["paramcast"]["cycle"]["buffers"]
    assert all(len(buffers) == row.predictor.buffers for buffers in saved)
    assert any(bool(saved[0][i].any()) for i in row.predictor.persistent)


@rows([row for row in FAMILY if not row.predictor.persistent])
def test_nothing_of_a_finished_cycle_is_saved(row: Row) -> None:
    ps, optimizer = wrapped(row)
    train(optimizer, ps, row.predictor.every)
    assert optimizer.state_dict()["paramcast"]["cycle"]["buffers"] == [None, None, None]


@rows(PERSISTENT)
def test_a_restart_forgets_what_was_learnt_in_earlier_cycles(row: Row) -> None:
    ps, optimizer = wrapped(row, "sgd")
    train(optimizer, ps, 2 * row.predictor.every)
    fresh_ps, fresh = wrapped(row, "sgd")
    restore(ps, fresh_ps)
    optimizer.restart_cycle()
    cycles = 1 if row.name == "random" else 3  # whose directions differ, and so the later steps
    train(optimizer, ps, cycles * row.predictor.every)
    train(fresh, fresh_ps, cycles * row.predictor.every)
    if row.name != "random":
        assert same_bits(ps, fresh_ps)
    else:
        assert optimizer.last_event.jump_norm == pytest.approx(fresh.last_event.jump_norm)


# --- who takes part -----------------------------------------------------------------------------


@pytest.mark.usefixtures("gathering")
@rows(REMEMBERING)
@pytest.mark.parametrize("change", ["a new group", "a frozen one", "a late one", "a conversion"])
@pytest.mark.parametrize("at", [4, 5])
def test_a_change_of_members_keeps_the_memory_of_the_others(row: Row, change: str, at: int) -> None:
    """`at` is at a cycle's end (4) or within one (5) where cycles have 4 steps."""
    ps, optimizer = wrapped(row, "sgd", torch.float64)
    alone_ps, alone = wrapped(row, "sgd", torch.float64)
    other = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    if change != "a new group":
        optimizer.add_param_group({"params": [other]})
    for t in range(16):
        if t == at and change == "a new group":
            optimizer.add_param_group({"params": [other]})
        if t == at and change == "a frozen one":
            other.requires_grad_(False)
        if t == at and change == "a conversion":
            other.data = other.data.float()
        present = change == "a conversion" or (change == "a frozen one") == (t < at)
        if present and (change != "a late one" or t >= at):
            set_gradients([other], t)
        else:
            other.grad = None
        train(optimizer, ps, 1, start=t)
        train(alone, alone_ps, 1, start=t)
        assert same_bits(ps, alone_ps), f"step {t}"
    if change == "a frozen one":
        return
    assert not torch.equal(other.double(), torch.ones(3, dtype=torch.float64))


def many_vectors(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    """Short vectors of many lengths among others, more than are gathered at a time."""
    shapes: list[tuple[int, ...]] = [(3, 4), (S.SHORT,), (S.SHORT + 1,), (), (0,), (S.SHORT,)]
    shapes += [(n,) for n in range(1, 40)] + [(2, 2), (1,)]
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


@rows()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gathered_vectors_are_predicted_as_one_by_one(
    row: Row, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S, "TOGETHER", S.SHORT + 100)
    runs = []
    for fewest in (S.FEWEST, 10**9):
        monkeypatch.setattr(S, "FEWEST", fewest)
        ps = many_vectors(dtype)
        base = torch.optim.SGD(ps[:-1], lr=0.05, momentum=0.9)
        optimizer = pc.Forecast(base, row.predictor, average=A.EMA(0.9))
        train(optimizer, ps[:-1], 5)
        (segment,) = optimizer._cycle.members.segments
        assert bool(segment.gathered) == (fewest < 100 and segment.flats[0].dtype == dtype)
        ps[12].requires_grad_(False)  # within a cycle of 3, 4 or 5 steps
        optimizer.add_param_group({"params": ps[-1:]})
        learning = [p for p in ps if p.requires_grad]
        ps[12].grad = None
        train(optimizer, learning, 9, start=5)
        with optimizer.eval_weights():
            averages = values(ps)
        runs.append((values(ps), averages))
    for one, other in zip(*runs, strict=True):
        if isinstance(row.predictor, P.RRE):  # its inner products are added up in another order
            for a, b in zip(one, other, strict=True):
                torch.testing.assert_close(
                    a, b, rtol=1e-4 if dtype == torch.float32 else 0.02, atol=1e-5
                )
        else:
            assert same_bits(one, other)


@rows([row for row in REMEMBERING if not isinstance(row.predictor, P.PrimalAveraging)])
def test_a_new_parameter_starts_with_an_empty_memory(row: Row) -> None:
    k = row.predictor.every
    (p, q), (fresh,) = scalars(0.0, 0.0), scalars(0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), row.predictor)
    constant_steps(optimizer, p, *[1.0] * 2 * k)
    optimizer.add_param_group({"params": [q]})
    other = pc.Forecast(torch.optim.SGD([fresh], lr=1.0), row.predictor)
    for gradient in [1.0, 2.0] * k:
        q.grad = torch.tensor([gradient], dtype=torch.float64)
        constant_steps(optimizer, p, 1.0)
        constant_steps(other, fresh, gradient)
    assert q.item() == fresh.item()


def test_the_average_of_a_new_parameter_starts_where_it_is_and_has_the_runs_length() -> None:
    p, q = scalars(0.0, 0.0)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.PrimalAveraging(0.5, eta=1))
    constant_steps(optimizer, p, 1.0, 1.0)
    optimizer.add_param_group({"params": [q]})
    q.grad = torch.ones_like(q)
    constant_steps(optimizer, p, 1.0)  # w = 1/2: z = -1, x = -1/2
    assert q.item() == -0.75


@pytest.mark.usefixtures("gathering")
@rows(REMEMBERING)
def test_a_conversion_of_the_model_keeps_the_memory(row: Row) -> None:
    k = row.predictor.every
    ps, optimizer = wrapped(row, "sgd")
    wide_ps, wide = wrapped(row, "sgd", torch.float64)
    train(optimizer, ps, 2 * k)
    train(wide, wide_ps, 2 * k)
    for p in ps:
        p.grad = None
        p.data = p.data.double()
    train(optimizer, ps, 2 * k, start=2 * k)
    train(wide, wide_ps, 2 * k, start=2 * k)
    torch.testing.assert_close(values(ps), values(wide_ps), rtol=0, atol=1e-4)


@rows()
def test_grouping_changes_no_bit(row: Row) -> None:
    ps, optimizer = wrapped(row)
    many = parameters()
    groups = [{"params": [p]} for p in many]
    base = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=1e-2)
    apart = pc.Forecast(base, row.predictor)
    train(optimizer, ps, 3 * row.predictor.every)
    train(apart, many, 3 * row.predictor.every)
    assert same_bits(ps, many)


@rows()
def test_two_dtypes_in_one_optimizer_are_predicted_together(row: Row) -> None:
    ps = [*parameters(torch.float32), *parameters(torch.float64, 1)]
    slow_ps = [*parameters(torch.float64), *parameters(torch.float64, 1)]
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.05), row.predictor)
    train(optimizer, ps, 2 * row.predictor.every)
    if row.slow is None:
        assert optimizer.last_event.applied
        return
    twin = Twin(torch.optim.SGD(slow_ps, lr=0.05), row.slow())
    train(twin, slow_ps, 2 * row.predictor.every)
    wide = [p.double() for p in values(ps)]
    torch.testing.assert_close(wide, values(slow_ps), rtol=0, atol=2e-3)


# --- the documentation's fields, and bad input --------------------------------------------------

CLASSES = sorted({type(row.predictor) for row in FAMILY}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_predictor_documents_rule_knobs_errors_and_source(kind: type) -> None:
    doc = kind.__doc__
    assert "theta_plus" in doc or "jump" in doc
    assert "Args:" in doc
    assert all(f"{knob}: " in doc for knob in kind.knobs)
    assert "Raises:" in doc
    if kind not in (P.SignFlipped, P.RandomDirection, P.Affine):
        assert "Source:" in doc
        assert "Example:" in doc
        assert "Memory:" in doc or row_of(kind).predictor.buffers == 1


def row_of(kind: type) -> Row:
    return next(row for row in FAMILY if type(row.predictor) is kind)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: P.Quadratic(math.nan), "horizon must be a finite number, got nan"),
        (lambda: P.Quadratic(every=2), "every must be >= 3 (Quadratic reads 3 points), got 2"),
        (
            lambda: P.Interpolate(momentum="drop"),
            "momentum must be one of keep, reset, pullback, got 'drop'",
        ),
        (lambda: P.OuterNesterov(0), "every must be >= 1 (OuterNesterov reads 1 point), got 0"),
        (lambda: P.OuterNesterov(momentum=1.0), "momentum must be in [0, 1), got 1"),
        (lambda: P.OuterNesterov(momentum=-0.1), "momentum must be in [0, 1), got -0.1"),
        (lambda: P.OuterNesterov(lr=0.0), "lr must be above 0, got 0.0"),
        (lambda: P.OuterNesterov(lr=math.inf), "lr must be a finite number, got inf"),
        (lambda: P.ForwardEMA(decay=1.0), "decay must be in [0, 1), got 1"),
        (lambda: P.ForwardEMA(strength=1.0), "strength must be in [0, 1), got 1"),
        (lambda: P.ForwardEMA(strength="1"), "strength must be a finite number, got '1'"),
        (lambda: P.PrimalAveraging(beta=1.1), "beta must be in [0, 1], got 1.1"),
        (lambda: P.PrimalAveraging(eta=-1.0), "eta must be in [0, 1e+06], got -1"),
        (lambda: P.PrimalAveraging(window=0), "window must be >= 1, got 0"),
        (lambda: P.PrimalAveraging(window=2.5), "window must be a whole number, got 2.5"),
        (lambda: P.RRE(1), "window must be >= 2 (RRE reads 2 points), got 1"),
        (lambda: P.RRE(ridge=0.0), "ridge and cap must be above 0, got 0.0 and 10.0"),
        (lambda: P.RRE(cap=-1.0), "ridge and cap must be above 0, got 1e-08 and -1.0"),
        (lambda: P.Aitken(0.0), "cap must be above 0, got 0.0"),
        (lambda: P.Aitken(math.nan), "cap must be a finite number, got nan"),
        (lambda: P.Aitken(every=2), "every must be >= 3 (Aitken reads 3 points), got 2"),
        (
            lambda: P.SignFlipped(3),
            "of must be a predictor such as Midline(), got 3",
        ),
        (
            lambda: P.RandomDirection(P.Midline),
            "of must be a predictor such as Midline(), "
            "got <class 'paramcast.predictors.plp.Midline'>",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_knob_that_cannot_be_used_is_refused_with_the_reason(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).removesuffix(".0") == message.removesuffix(".0")


def test_a_knob_just_outside_its_range_is_shown_with_the_digits_that_put_it_there() -> None:
    with pytest.raises(ArgumentError, match=r"got -1e-09|got -0\.000000001"):
        P.ForwardEMA(decay=-1e-9)
    with pytest.raises(ArgumentError) as caught:
        P.PrimalAveraging(beta=1.0000000001)
    assert "got 1.0000000001" in str(caught.value)


@rows()
def test_the_repr_names_every_knob_and_builds_the_predictor_again(row: Row) -> None:
    shown = repr(row.predictor)
    assert all(f"{knob}=" in shown for knob in type(row.predictor).knobs)
    assert repr(eval(shown, {name: getattr(P, name) for name in P.__all__})) == shown
