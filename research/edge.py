"""How large a learning rate a predictor stands: one cycle on a quadratic, as a linear map.

On a loss L theta^2 / 2 one cycle of SGD with momentum and a prediction with fixed weights maps
(theta, u), with u the momentum buffer times the learning rate, linearly to their next values:

    u <- mu u + x theta        x = learning rate times curvature L
    theta <- theta - u         (Nesterov: theta - x theta - mu u)
    after k steps: theta <- sum_j w_j theta_j,    u is left alone

The loop is stable where the spectral radius of that 2 x 2 matrix is below 1. A network's directions
have curvatures from 0 up to its sharpness, so the edge is the smallest x that is not stable.

Source: the classical analysis of heavy-ball momentum (Polyak 1964); with no prediction the edge is
2 (1 + mu). The buffer does not know of the jump, which is why PLP's edge is so much nearer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from paramcast._checks import within
from paramcast.predictors import Affine

_GRID = 4000
_ROUNDING = 1e-9


def cycle_matrices(
    weights: Sequence[float], x: Tensor, momentum: float, *, nesterov: bool = False
) -> Tensor:
    """The map of one cycle for each x.

    Args:
        weights: (w_0, ..., w_k) of the cycle's points, oldest first.
        x: learning rate times curvature, shape (n,), float64.
        momentum: mu, from 0 up to 1.

    Returns:
        Matrices of shape (n, 2, 2), acting on (theta, u).
    """
    start = torch.eye(2, dtype=x.dtype, device=x.device).expand(len(x), 2, 2)
    theta, u = start[:, 0].clone(), start[:, 1].clone()
    x = x[:, None]
    points = [theta]
    for _ in range(len(weights) - 1):
        gradient = x * theta
        u = momentum * u + gradient
        theta = theta - (gradient + momentum * u if nesterov else u)
        points.append(theta)
    predicted = torch.stack(points, -1) @ torch.tensor(
        tuple(weights), dtype=x.dtype, device=x.device
    )
    return torch.stack((predicted, u), 1)


def spectral_radius(
    predictor: Affine | None, x: float, momentum: float = 0.9, *, nesterov: bool = False
) -> float:
    """The factor per cycle by which the slowest or least stable mode shrinks (below 1) or grows.

    Args:
        predictor: with fixed weights; None for the bare optimizer (a cycle of one step).
        x: learning rate times curvature, at least 0.
        momentum: of SGD, from 0 up to 1.
        nesterov: whether it is Nesterov's.

    Raises:
        ArgumentError: a number out of its range.

    Example:
        >>> from paramcast.predictors import Midline
        >>> spectral_radius(None, 3.7) < 1 < spectral_radius(Midline(), 0.7)
        True
    """
    momentum = within("momentum", momentum, 0.0, 1.0, ends="[)")
    values = torch.tensor([within("x", x, 0.0, 1e9)], dtype=torch.float64, device="cpu")
    return float(_radii(_weights(predictor), values, momentum, nesterov)[0])


def edge(predictor: Affine | None, momentum: float = 0.9, *, nesterov: bool = False) -> float:
    """The largest learning rate times curvature up to which every smaller one is stable too.

    Args:
        predictor, momentum, nesterov: as in `spectral_radius`.

    Returns:
        The edge, to 1e-6 or better; unstable gaps narrower than a 4,000th of 2 (1 + mu) G are not
        seen.

    Raises:
        ArgumentError: a momentum out of its range.

    Example:
        >>> from paramcast.predictors import Midline
        >>> round(edge(None), 2), round(edge(Midline()), 2), round(edge(Midline(), momentum=0.0), 2)
        (3.8, 0.67, 2.38)
    """
    momentum = within("momentum", momentum, 0.0, 1.0, ends="[)")
    weights = _weights(predictor)
    top = 4.0 * (1.0 + momentum)
    grid = torch.linspace(0.0, top, _GRID + 1, dtype=torch.float64, device="cpu")[1:]
    unstable = _radii(weights, grid, momentum, nesterov) > 1.0 + _ROUNDING
    if not bool(unstable.any()):
        return top
    first = int(unstable.nonzero()[0])
    low, high = (float(grid[first - 1]) if first else 0.0), float(grid[first])
    while high - low > 1e-7:
        middle = (low + high) / 2
        values = torch.tensor([middle], dtype=torch.float64, device="cpu")
        if float(_radii(weights, values, momentum, nesterov)[0]) > 1.0 + _ROUNDING:
            high = middle
        else:
            low = middle
    return low


def _weights(predictor: Affine | None) -> tuple[float, ...]:
    return (0.0, 1.0) if predictor is None else predictor.weights_at(predictor.horizon)


def _radii(weights: Sequence[float], x: Tensor, momentum: float, nesterov: bool) -> Tensor:
    values: Tensor = torch.linalg.eigvals(cycle_matrices(weights, x, momentum, nesterov=nesterov))
    return values.abs().amax(1)
