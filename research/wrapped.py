"""Wrappers whose base keeps its momentum, which `primal-averaging` itself turns off: for leads."""

from __future__ import annotations

from torch.optim import Optimizer

from paramcast import Forecast
from paramcast.predictors import PrimalAveraging


def gpa(optimizer: Optimizer, beta: float = 0.8, window: int = 20) -> Forecast:
    """Generalised primal averaging over the base as it is: a window, the momentum kept."""
    return Forecast(optimizer, PrimalAveraging(beta=beta, eta=0, window=window))
