"""The edge of stability: known values, momentum's formula, and the library's own optimizer."""

from __future__ import annotations

import math

import pytest
import torch

import paramcast as pc
from edge import cycle_matrices, edge, spectral_radius
from paramcast import predictors as P
from paramcast.errors import ArgumentError


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_without_predictions_it_is_the_textbook_edge(momentum: float) -> None:
    assert edge(None, momentum) == pytest.approx(2 * (1 + momentum), abs=1e-5)
    nesterov = 2 * (1 + momentum) / (1 + 2 * momentum)
    assert edge(None, momentum, nesterov=True) == pytest.approx(nesterov, abs=1e-5)


def test_the_figures_of_the_method_page() -> None:
    assert edge(P.Midline()) == pytest.approx(0.67, abs=0.01)
    assert edge(P.Midline(), 0.0) == pytest.approx(2.38, abs=0.01)
    half = (0.0,) * 11 + (-0.5,) + (0.0,) * 18 + (1.5,)  # theta_30 + (theta_30 - theta_11) / 2
    assert edge(P.Affine(half)) == pytest.approx(3.38, abs=0.01)


def test_one_step_without_momentum_by_pencil() -> None:
    """theta_1 = (1 - x) theta; with weights (-1, 2): theta_plus = 2 (1 - x) - 1 = 1 - 2 x."""
    matrix = cycle_matrices((-1.0, 2.0), torch.tensor([0.3], dtype=torch.float64), 0.0)
    torch.testing.assert_close(
        matrix, torch.tensor([[[0.4, 0.0], [0.3, 0.0]]], dtype=torch.float64)
    )
    assert spectral_radius(P.Affine((-1.0, 2.0)), 0.3, 0.0) == pytest.approx(0.4)
    assert edge(P.Affine((-1.0, 2.0)), 0.0) == pytest.approx(1.0, abs=1e-5)


PREDICTORS = [
    P.Midline(), P.Midline(horizon=1.5), P.Midline(every=6), P.Secant(), P.LeastSquares(),
    P.Interpolate(), P.Quadratic(),
]  # fmt: skip


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
def test_the_librarys_optimizer_does_what_the_matrix_says(
    predictor: P.Affine, nesterov: bool
) -> None:
    """30 cycles of the real thing on a quadratic, below the edge and above."""
    at = edge(predictor, 0.8, nesterov=nesterov)
    for x in (0.9 * at, 1.1 * at):
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        sgd = torch.optim.SGD([theta], lr=x, momentum=0.8, nesterov=nesterov)
        optimizer = pc.Forecast(sgd, predictor)
        cycles = 30
        for _ in range(cycles * predictor.every):
            optimizer.zero_grad()
            (theta.square().sum() / 2).backward()
            optimizer.step()
        matrix = cycle_matrices(
            predictor.weights, torch.tensor([x], dtype=torch.float64), 0.8, nesterov=nesterov
        )[0]
        expected = torch.linalg.matrix_power(matrix, cycles)[:, 0]
        buffer = sgd.state[theta]["momentum_buffer"]
        # the first step of torch's SGD sets the buffer to the gradient: as if it had been 0
        found = torch.stack((theta.detach()[0], x * buffer[0]))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    just = [spectral_radius(predictor, f * at, 0.8, nesterov=nesterov) for f in (0.9999, 1.0001)]
    assert just[0] < 1 < just[1]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"momentum must be in \[0, 1\), got 1.0"):
        edge(None, 1.0)
    with pytest.raises(ArgumentError, match="x must be"):
        spectral_radius(None, math.nan)
