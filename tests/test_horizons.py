"""How far: a horizon given as a number or as a function of progress, read at a cycle's start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast import schedules as S
from paramcast.errors import ArgumentError
from reference import (
    BASES,
    Rule,
    SlowLine,
    Twin,
    check_resumes,
    constant_steps,
    least_squares,
    midline,
    parameters,
    quadratic,
    same_bits,
    secant,
    timeless,
    train,
    values,
)

TOTAL = 60


def forward_then_backward(progress: float) -> float:
    return 1.0 if progress < 0.5 else -0.4


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": S.Constant(0.7),
    "linear": S.Linear(1.0, -0.5),
    "cosine": S.Cosine(1.0, -0.5),
    "piecewise": S.Piecewise((0.3, 1.0), (0.6, 0.0), (1.0, -0.4)),
    "a function": forward_then_backward,
    "a lambda": lambda progress: 0.5 - progress,
}
LINES: dict[str, tuple[P.Predictor, Callable[[float], Rule]]] = {
    "midline": (P.Midline(9.0), midline),
    "midline from the last": (P.Midline(9.0, start="last", every=4), lambda h: midline(h, "last")),
    "secant": (P.Secant(3, 9.0), lambda h: secant(3, h)),
    "least squares": (P.LeastSquares(4, 9.0, every=5), lambda h: least_squares(4, h)),
    "quadratic": (P.Quadratic(9.0), quadratic),
}


def one(start: float = 0.0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))


# --- the schedules themselves -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "path"),
    [
        (S.Constant(0.7), [0.7, 0.7, 0.7, 0.7, 0.7]),
        (S.Linear(1.0, -1.0), [1.0, 0.5, 0.0, -0.5, -1.0]),
        (S.Cosine(1.0, 0.0), [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]),
        (S.Piecewise((0.5, 1.0), (1.0, -0.5)), [1.0, 1.0, -0.5, -0.5, -0.5]),
        (S.Piecewise((1.0, 0.3)), [0.3] * 5),
        (S.Piecewise((0.25, 3), (0.75, 2), (1.0, 1)), [3.0, 2.0, 2.0, 1.0, 1.0]),
    ],
    ids=repr,
)
def test_a_schedule_over_the_run(schedule: Callable[[float], float], path: list[float]) -> None:
    assert [schedule(quarter / 4) for quarter in range(5)] == pytest.approx(path)
    assert all(isinstance(schedule(quarter / 4), float) for quarter in range(5))


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1))
def test_linear_and_cosine_stay_between_their_ends(first: float, last: float, at: float) -> None:
    for kind in (S.Linear, S.Cosine):
        low, high = sorted((first, last))
        assert low - 1e-9 <= kind(first, last)(at) <= high + 1e-9
        assert kind(first, last)(0.0) == pytest.approx(first, abs=1e-12)
        assert kind(first, last)(1.0) == pytest.approx(last, abs=1e-12)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "piecewise"])
def test_the_repr_builds_the_schedule_again(name: str) -> None:
    schedule = SCHEDULES[name]
    again = eval(repr(schedule), vars(S))
    assert type(again) is type(schedule)
    assert [again(at / 10) for at in range(11)] == [schedule(at / 10) for at in range(11)]


FINITE = "a horizon must be a finite number, got "
PIECES = "pieces must be (until, horizon) with until ascending from above 0 to 1, got "


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: S.Constant(math.nan), FINITE + "nan"),
        (lambda: S.Linear(1.0, math.inf), FINITE + "inf"),
        (lambda: S.Linear(None, 1.0), FINITE + "None"),
        (lambda: S.Piecewise((1.0, math.nan)), FINITE + "nan"),
        (lambda: S.Piecewise(), PIECES),
        (lambda: S.Piecewise((0.5, 1.0)), PIECES),
        (lambda: S.Piecewise((0.5, 1.0), (0.5, 2.0), (1.0, 3.0)), PIECES),
        (lambda: S.Piecewise((0.0, 1.0), (1.0, 2.0)), PIECES),
        (lambda: S.Piecewise((math.nan, 1.0), (1.0, 2.0)), PIECES),
        (lambda: S.Piecewise(0.6, 1.0), PIECES),
    ],
    ids=lambda value: "pieces" if value is PIECES else "",
)
def test_a_schedule_that_cannot_be_used_is_refused(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).startswith(message)


# --- in the wrapper -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_changing_horizon_agrees_with_the_twin(name: str, schedule: str) -> None:
    predictor, rule = LINES[name]
    ps, slow_ps = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.Forecast(
        BASES["momentum"](ps), predictor, horizon=SCHEDULES[schedule], total_steps=TOTAL
    )
    slow = SlowLine(predictor.every, rule, SCHEDULES[schedule], TOTAL)
    twin = Twin(BASES["momentum"](slow_ps), slow)
    for t in range(TOTAL + 6):  # past the end the horizon stays what it was at the end
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("horizon", [1.0, 0.25, -0.5, 1])
def test_a_number_is_the_predictors_own_horizon_bitwise(name: str, horizon: float) -> None:
    predictor, _ = LINES[name]
    knobs = {knob: getattr(predictor, knob) for knob in predictor.knobs}
    own = type(predictor)(**{**knobs, "horizon": horizon})
    ps, others = parameters(), parameters()
    optimizer = pc.Forecast(BASES["momentum"](ps), predictor, horizon=horizon)
    other = pc.Forecast(BASES["momentum"](others), own)
    train(optimizer, ps, 20)
    train(other, others, 20)
    assert same_bits(ps, others)
    assert timeless(optimizer.last_event) == timeless(other.last_event)
    assert optimizer.last_event.horizon == horizon


def test_plp_takes_a_schedule_in_place_of_its_number() -> None:
    ps, others = parameters(), parameters()
    optimizer = pc.PLP(BASES["sgd"](ps), horizon=S.Linear(1.0, 0.0), total_steps=30)
    other = pc.Forecast(
        BASES["sgd"](others), P.Midline(), horizon=S.Linear(1.0, 0.0), total_steps=30
    )
    train(optimizer, ps, 30)
    train(other, others, 30)
    assert same_bits(ps, others)


def test_the_horizon_is_read_once_at_the_start_of_each_cycle() -> None:
    asked: list[float] = []

    def horizon(progress: float) -> float:
        asked.append(progress)
        return 1.0 - progress

    p = one()
    history = M.History()
    optimizer = pc.Forecast(
        torch.optim.SGD([p], lr=1.0),
        P.Secant(),
        horizon=horizon,
        total_steps=12,
        monitors=[history],
    )
    constant_steps(optimizer, p, *[1.0] * 12)
    assert asked == [0.0, 0.25, 0.5, 0.75]
    assert [row.horizon for row in history.rows] == [1.0, 0.75, 0.5, 0.25]
    assert [row.jump_norm for row in history.rows] == pytest.approx([1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("more", ["", "agreement", "shadow"])
def test_a_resume_at_every_cut_is_bitwise(name: str, more: str) -> None:
    def fresh(seed: int) -> tuple[list[torch.nn.Parameter], pc.Forecast]:
        options: dict[str, Any] = {
            "": {},
            "agreement": {"gate": G.Agreement(-0.5)},
            "shadow": {"shadow": True},
        }[more]
        ps = parameters(seed=seed)
        horizon = S.Piecewise((0.3, 1.0), (0.6, 0.0), (1.0, -0.4))
        return ps, pc.Forecast(
            BASES["momentum"](ps), LINES[name][0], horizon=horizon, total_steps=20, **options
        )

    check_resumes(fresh, 20, ahead=9)


@pytest.mark.parametrize("horizon", [2.0, -0.5, S.Linear(3.0, 2.0)], ids=repr)
def test_a_scored_prediction_is_worth_its_own_horizon(horizon: Any) -> None:
    # On a straight path a prediction has no error, whatever the horizon was in its cycle.
    p = one()
    history = M.History(scored=True)
    optimizer = pc.Forecast(
        torch.optim.SGD([p], lr=1.0),
        P.Secant(),
        horizon=horizon,
        total_steps=30,
        monitors=[history],
        shadow=True,
    )
    constant_steps(optimizer, p, *[-1.0] * 13)
    assert len(history.rows) == 4
    assert [row.error for row in history.rows] == pytest.approx([0.0] * 4, abs=1e-6)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"predictor": P.Interpolate(), "horizon": 1.0},
            "Interpolate has no horizon, got 1.0",
        ),
        (
            {"predictor": P.Secant(), "horizon": S.Linear(1.0, 0.0)},
            "the horizon must know the length of the run: give total_steps=...",
        ),
        (
            {
                "predictor": P.Secant(),
                "horizon": S.Linear(1.0, 0.0),
                "gate": G.After(share=0.5),
            },
            "the horizon and the gate must know the length of the run: give total_steps=...",
        ),
        (
            {"predictor": P.Secant(), "horizon": "far"},
            "horizon must be a finite number, got 'far'",
        ),
        (
            {"predictor": P.Secant(), "total_steps": 0},
            "total_steps must be >= 1, got 0",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_horizon_that_cannot_be_used_is_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    predictor = options.pop("predictor")
    with pytest.raises(ArgumentError) as caught:
        pc.Forecast(BASES["sgd"](parameters()), predictor, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("horizon", [1e7, -1e300])
def test_a_number_beyond_any_use_is_refused_as_by_the_predictor(horizon: float) -> None:
    with pytest.raises(ArgumentError, match="horizon must be in"):
        pc.Forecast(BASES["sgd"](parameters()), P.Secant(), horizon=horizon)


@pytest.mark.parametrize(
    "returned", [math.nan, math.inf, 1e300, None, "far"], ids=lambda value: repr(value)
)
def test_a_function_that_returns_no_usable_horizon_is_named_and_writes_nothing(
    returned: Any,
) -> None:
    ps, others = parameters(), parameters()
    optimizer = pc.Forecast(
        BASES["sgd"](ps), P.Secant(), horizon=lambda progress: returned, total_steps=9
    )
    with pytest.raises(ArgumentError, match=r"horizon.*(nan|inf|1e\+300|None|'far')"):
        train(optimizer, ps, 3)
    assert same_bits(ps, others)


def test_a_flipped_line_takes_the_horizon_of_what_it_flips() -> None:
    p, q = one(), one()
    flipped = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.SignFlipped(P.Secant()), horizon=0.5)
    straight = pc.Forecast(torch.optim.SGD([q], lr=1.0), P.Secant(), horizon=-0.5)
    constant_steps(flipped, p, 1.0, 2.0, 4.0)
    constant_steps(straight, q, 1.0, 2.0, 4.0)
    assert p.item() == q.item() == -5.5


def test_a_run_may_have_one_step() -> None:
    base = BASES["sgd"](parameters(torch.float64))
    assert pc.PLP(base, horizon=S.Linear(1.0, 0.0), total_steps=1).param_groups
