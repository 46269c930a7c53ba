"""Weights: their sums, their readings, their gains."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import paramcast as pc
from paramcast import predictors as P
from reference import (
    Case,
    constant_steps,
    drive,
    parameters,
    restore,
    train,
    values,
    weights_by_running,
)

horizons = st.floats(-1e6, 1e6)


@st.composite
def fixed_predictor(draw: st.DrawFn) -> P.Affine:
    """Any predictor with fixed weights, anywhere in the range of its knobs."""
    kinds = ["midline", "least squares", "secant", "quadratic", "interpolate"]
    kind = draw(st.sampled_from(kinds))
    window = draw(st.integers(2, 12))
    every = draw(st.integers(max(window, 3), 20))
    made: P.Affine
    if kind == "midline":
        start = draw(st.sampled_from(sorted(P.Midline.STARTS)))
        made = P.Midline(draw(horizons), start=start, every=every)
    elif kind == "least squares":
        made = P.LeastSquares(window, draw(horizons), every=every)
    elif kind == "secant":
        made = P.Secant(window, draw(horizons), every=every)
    elif kind == "quadratic":
        made = P.Quadratic(draw(st.floats(-1e3, 1e3)), every=every)
    else:
        made = P.Interpolate(every, draw(st.floats(0, 1, exclude_min=True)))
    return made


@given(fixed_predictor())
def test_weights_sum_to_one_for_every_predictor(predictor: P.Affine) -> None:
    largest = max(map(abs, predictor.weights))
    assert math.fsum(predictor.weights) == pytest.approx(1.0, abs=1e-15 * max(1.0, largest) * 20)
    assert len(predictor.weights) == predictor.every + 1


@given(fixed_predictor())
def test_what_is_folded_are_the_weights(predictor: P.Affine) -> None:
    largest = max(map(abs, predictor.weights))
    assert weights_by_running(predictor) == pytest.approx(predictor.weights, abs=1e-8 * largest)


@given(fixed_predictor())
def test_a_flipped_predictor_folds_the_mirrored_weights(predictor: P.Affine) -> None:
    mirrored = [-w for w in predictor.weights[:-1]] + [2.0 - predictor.weights[-1]]
    largest = max(map(abs, mirrored))
    assert weights_by_running(P.SignFlipped(predictor)) == pytest.approx(
        mirrored, abs=1e-8 * largest
    )


@given(fixed_predictor())
def test_gains_are_those_of_the_weights(predictor: P.Affine) -> None:
    k, w = predictor.every, predictor.weights
    assert predictor.noise_gain == pytest.approx(sum(x * x for x in w))
    extra, tolerance = sum(x * (j - k) for j, x in enumerate(w)), 1e-8 * max(1.0, *map(abs, w))
    assert predictor.gain == pytest.approx((k + extra) / k, abs=tolerance)
    flipped, random = P.SignFlipped(predictor), P.RandomDirection(predictor)
    assert flipped.gain == pytest.approx((k - extra) / k, abs=tolerance)
    assert random.gain == 1.0
    assert flipped.every == random.every == k


@given(st.sampled_from([P.Secant, P.LeastSquares, P.Midline, P.Quadratic]), st.floats(1e7, 1e300))
def test_an_extreme_horizon_works_or_is_refused_by_its_name(
    kind: type[P.Affine], horizon: float
) -> None:
    message = ""
    try:
        kind(horizon=horizon)  # type: ignore[call-arg]
    except pc.errors.ArgumentError as error:
        message = str(error)
    assert message == "" or message.startswith("horizon")  # nobody passed weights


# --- the rules ----------------------------------------------------------------------------------


def test_each_predictors_weights_are_its_rule(case: Case) -> None:
    for j in range(case.predictor.every + 1):  # the rule reads a unit point as its weight
        points = [torch.tensor(float(i == j)) for i in range(case.predictor.every + 1)]
        weight = case.rule(points).item()
        assert weights_by_running(case.predictor)[j] == pytest.approx(weight, abs=1e-6)
        if isinstance(case.predictor, P.Affine):
            assert case.predictor.weights[j] == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize(
    ("reading", "prediction", "gain"),
    [
        ("midline", -8.0, 7 / 6),
        ("midline-at-4", -9.5, 4 / 3),
        ("least-squares-at-4", -29 / 3, 4 / 3),
        ("secant", -10.0, 4 / 3),
    ],
)
def test_pencil_values_and_gains_of_the_four_readings(
    reading: str, prediction: float, gain: float
) -> None:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    predictor = P.READINGS[reading]
    optimizer = pc.Forecast(torch.optim.SGD([weight], lr=1.0), predictor)
    constant_steps(optimizer, weight, 1.0, 2.0, 4.0)  # -1, -3, -7, and then the prediction
    assert weight.item() == pytest.approx(prediction, abs=1e-12)
    assert predictor.gain == pytest.approx(gain)


def test_the_default_of_the_project_is_the_midline_reading() -> None:
    assert P.READINGS["midline"].weights == P.Midline().weights == (0.0, -0.5, 0.5, 1.0)
    assert list(P.READINGS) == ["midline", "midline-at-4", "least-squares-at-4", "secant"]


def test_the_readings_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        P.READINGS["midline"] = P.Secant()  # type: ignore[index]


@pytest.mark.parametrize("start", sorted(P.Midline.STARTS))
def test_every_start_of_the_midline_has_the_same_slope(start: str) -> None:
    near, far = P.Midline(0.0, start=start), P.Midline(1.0, start=start)
    slope = [b - a for a, b in zip(near.weights, far.weights, strict=True)]
    assert slope == pytest.approx([0.0, -0.5, 0.0, 0.5])


def test_the_midline_from_the_last_point_is_the_secant() -> None:
    assert P.Midline(0.8, start="last").weights == pytest.approx(P.Secant(3, 0.8).weights)


def test_the_midline_from_the_mean_is_least_squares_two_thirds_ahead() -> None:
    # mean + h s reads the line h steps past the middle point, one step before the last.
    from_mean = P.Midline(2.0, start="mean").weights
    assert from_mean == pytest.approx(P.LeastSquares(3, 1.0).weights)


def test_the_midlines_lag_is_zero_at_half_a_step() -> None:
    assert P.Midline(0.5).extra_steps == 0.0
    assert P.Midline(0.5).weights != (0.0, 0.0, 0.0, 1.0)


def test_a_line_through_two_points_is_the_secant_of_two_points() -> None:
    assert P.LeastSquares(2, 0.3).weights == pytest.approx(P.Secant(2, 0.3).weights)


@pytest.mark.parametrize("window", [2, 3, 5, 8])
def test_least_squares_at_horizon_zero_smooths_and_does_not_predict(window: int) -> None:
    predictor = P.LeastSquares(window, 0.0)
    assert predictor.extra_steps == pytest.approx(0.0, abs=1e-12)
    assert predictor.noise_gain <= 1.0 + 1e-12


def test_a_longer_cycle_reads_its_last_points_only() -> None:
    assert P.Midline(every=6).weights == (0.0, 0.0, 0.0, 0.0, -0.5, 0.5, 1.0)
    assert P.Secant(2, every=4).weights == (0.0, 0.0, 0.0, -1.0, 2.0)
    assert P.LeastSquares(4, every=6).weights[:3] == (0.0, 0.0, 0.0)


def test_defaults_take_the_window_as_the_cycle() -> None:
    assert (P.LeastSquares(6).every, P.Secant(4).every, P.Midline().every) == (6, 4, 3)


# --- the velocity gain, by running --------------------------------------------------------------


def displacement_per_step(predictor: P.Affine, size: int = 1, cycles: int = 20) -> float:
    """Along a constant gradient, where the base alone moves 1 per step."""
    p = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), predictor)
    constant_steps(optimizer, p, *[-1.0] * cycles * predictor.every)
    return p.mean().item() / (cycles * predictor.every)


@pytest.mark.parametrize("name", sorted(P.READINGS))
def test_the_gain_of_each_reading_is_what_a_straight_path_shows(name: str) -> None:
    reading = P.READINGS[name]
    assert displacement_per_step(reading) == pytest.approx(reading.gain, abs=1e-9)


def test_a_random_direction_gains_nothing_on_a_straight_path() -> None:
    predictor = P.RandomDirection(P.Secant())
    assert predictor.gain == 1.0
    assert displacement_per_step(predictor, size=10_000) == pytest.approx(1.0, abs=5e-3)


def test_the_flipped_gain_mirrors_the_original_at_one() -> None:
    assert P.SignFlipped(P.Midline()).gain == pytest.approx(2 - P.Midline().gain)


# --- the controls -------------------------------------------------------------------------------


def jumps(predictor: P.Affine, cycles: int = 1) -> list[list[torch.Tensor]]:
    """What each prediction adds to each parameter, on one fixed path."""
    ps = parameters(torch.float64)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1), predictor)
    base = torch.optim.SGD(ps, lr=0.1)
    found = []
    for cycle in range(cycles):
        train(optimizer, ps, predictor.every - 1, start=cycle * predictor.every)
        before = values(ps)
        train(base, ps, 1, start=(cycle + 1) * predictor.every - 1)  # what the base alone does
        alone = values(ps)
        restore(ps, before)
        train(optimizer, ps, 1, start=(cycle + 1) * predictor.every - 1)
        found.append([p.detach() - value for p, value in zip(ps, alone, strict=True)])
    return found


def test_the_flipped_jump_is_the_original_backward() -> None:
    (forward,), (backward,) = jumps(P.Midline()), jumps(P.SignFlipped(P.Midline()))
    torch.testing.assert_close(backward, [-jump for jump in forward])


def test_a_random_jump_is_as_long_as_the_original_tensor_by_tensor() -> None:
    (original,), (drawn,) = jumps(P.Midline()), jumps(P.RandomDirection(P.Midline()))
    assert [d.norm().item() for d in drawn] == pytest.approx([o.norm().item() for o in original])


def test_a_random_jump_points_elsewhere() -> None:
    (original,), (drawn,) = jumps(P.Midline()), jumps(P.RandomDirection(P.Midline()))
    cosine = torch.nn.functional.cosine_similarity(original[0].flatten(), drawn[0].flatten(), 0)
    assert abs(cosine.item()) < 0.9


def directions(seed: int, cycles: range) -> list[torch.Tensor]:
    predictor = P.RandomDirection(P.Midline(), seed=seed)
    drawn = []
    for cycle in cycles:
        drawn.append(straight_jump(predictor, cycle, 16)[0])
    return drawn


def straight_jump(predictor: P.Predictor, cycle: int, *sizes: int) -> list[torch.Tensor]:
    """The jump after one cycle of unit steps, for tensors of these sizes."""
    points = range(predictor.every + 1)
    path = [[torch.full((size,), float(t), dtype=torch.float64) for size in sizes] for t in points]
    return drive(predictor, path, cycle=cycle)


def test_random_draws_repeat_for_one_seed_and_cycle() -> None:
    assert torch.equal(directions(1, range(4, 5))[0], directions(1, range(4, 5))[0])


def test_random_draws_differ_between_cycles_and_between_tensors() -> None:
    first, second = directions(0, range(1, 3))
    assert not torch.allclose(first, second)
    pair = straight_jump(P.RandomDirection(P.Midline()), 1, 8, 8)
    assert not torch.allclose(*pair)


def test_two_seeds_share_no_draw_in_any_cycle() -> None:
    drawn = [d for seed in range(4) for d in directions(seed, range(1, 5))]
    assert len({tuple(d.tolist()) for d in drawn}) == 16


def test_a_random_jump_of_nothing_is_nothing() -> None:
    still = [torch.ones(3), torch.ones(0)]
    first, second = drive(P.RandomDirection(P.Midline()), [still] * 4)
    assert (first.abs().tolist(), second.tolist()) == ([0.0, 0.0, 0.0], [])


class Doubled(P.Midline):
    """A predictor of a third party that shapes its jump."""

    def finish_(self, work: P.Workspace) -> float:
        scale = super().finish_(work)
        for segment in work.segments:
            torch._foreach_mul_(segment.buffers[0], 2.0)
        return scale


def test_a_shaped_jump_is_what_is_written() -> None:
    (plain,), (doubled,) = jumps(P.Midline()), jumps(Doubled())
    torch.testing.assert_close(doubled, [2 * jump for jump in plain])


def test_a_random_jump_is_as_long_as_the_shaped_one() -> None:
    (doubled,), (drawn,) = jumps(Doubled()), jumps(P.RandomDirection(Doubled()))
    assert [d.norm().item() for d in drawn] == pytest.approx([j.norm().item() for j in doubled])


def test_a_flipped_jump_is_the_shaped_one_backward() -> None:
    (doubled,), (backward,) = jumps(Doubled()), jumps(P.SignFlipped(Doubled()))
    torch.testing.assert_close(backward, [-jump for jump in doubled])


# --- how they show ------------------------------------------------------------------------------


def test_the_repr_of_a_random_direction_names_its_seed() -> None:
    predictor = P.RandomDirection(P.Midline(), seed=7)
    assert repr(predictor) == (
        "RandomDirection(of=Midline(horizon=1.0, start='midpoint', every=3), seed=7)"
    )


def test_the_horizon_is_none_where_a_rule_has_none() -> None:
    assert P.Midline(0.3).horizon == 0.3
    assert (P.Interpolate().horizon, P.Affine((0.0, 1.0)).horizon) == (None, None)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_direction_does_not_remember_the_jump_that_was_replaced(seed: int) -> None:
    # The average sees the base's steps of 1 alone: m = 1/2, 3/4, 7/8, ..., whatever was drawn.
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    predictor = P.RandomDirection(P.ForwardEMA(decay=0.5, strength=0.5), seed=seed)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), predictor)
    for n in range(1, 9):
        before = p.item()
        constant_steps(optimizer, p, -1.0)
        assert abs(p.item() - before - 1.0) == pytest.approx(0.5 * (1 - 0.5**n))


@pytest.mark.parametrize(
    ("of", "noise_gain"),
    [
        (P.Midline(), 1.5),  # (0, 1/2, -1/2, 1)
        (P.Secant(), 0.25 + 0.25),  # (0, 1/2, 0, 1/2)
        (P.Quadratic(1.0), 1 + 9 + 1),  # (0, -1, 3, -1)
        (P.Interpolate(5, 0.5), 0.25 + 2.25),  # (-1/2, 0, 0, 0, 0, 3/2)
        (P.Affine((0.25, 0.75)), 0.0625 + 1.5625),
        (P.OuterNesterov(), None),
        (P.RRE(), None),
    ],
    ids=repr,
)
def test_the_noise_gain_of_a_flipped_jump_is_the_sum_of_its_squares(
    of: P.Predictor, noise_gain: float | None
) -> None:
    flipped = P.SignFlipped(of)
    assert flipped.noise_gain == (noise_gain and pytest.approx(noise_gain))
    if noise_gain is not None:
        assert sum(w * w for w in weights_by_running(flipped)) == pytest.approx(noise_gain)
    assert P.RandomDirection(of).noise_gain is None


@pytest.mark.parametrize(
    ("predictor", "horizon", "steps"),
    [(P.Midline(), None, 0.5), (P.Midline(), 2.0, 1.5), (P.Secant(), 3.0, 3.0)],
    ids=str,
)
def test_extra_steps_are_those_of_the_horizon_and_backward_if_flipped(
    predictor: P.Affine, horizon: float | None, steps: float
) -> None:
    assert predictor.extra_steps_at(horizon) == pytest.approx(steps)
    assert P.SignFlipped(predictor).extra_steps_at(horizon) == pytest.approx(-steps)


def test_the_defaults_are_these() -> None:
    """Whoever runs a default again next year must get the same one."""
    shown = (
        "Midline(horizon=1.0, start='midpoint', every=3)",
        "Secant(window=3, horizon=1.0, every=3)",
        "LeastSquares(window=3, horizon=1.0, every=3)",
        "Quadratic(horizon=1.0, every=3)",
        "Interpolate(every=5, alpha=0.5, momentum='keep')",
        "OuterNesterov(every=20, momentum=0.5, lr=0.7)",
        "ForwardEMA(decay=0.9, strength=0.5)",
        "PrimalAveraging(beta=0.9, eta=2.0, window=None)",
        "RRE(window=5, ridge=1e-08, cap=10.0)",
        "Aitken(cap=5.0, every=3)",
    )
    for text in shown:
        assert repr(getattr(P, text.partition("(")[0])()) == text
