"""Parameters Linear Prediction: the midline of the last three points."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .._checks import whole
from ..errors import ArgumentError
from .affine import Affine, Line
from .lines import LeastSquares, Secant


class Midline(Line):
    """Parameters Linear Prediction (PLP): continue along the midline of the last three points.

        s          = (theta_k - theta_{k-2}) / 2                     slope per step
        theta_plus = start + horizon * s

        start="midpoint"   (theta_{k-1} + theta_k) / 2               the default of this project
        start="last"       theta_k
        start="mean"       (theta_{k-2} + theta_{k-1} + theta_k) / 3

    With the defaults this is theta_3 + (theta_2 - theta_1) / 2, weights (0, -1/2, 1/2, 1), G = 7/6.
    The three-step cycle and the slope are the paper's. The start point and the horizon are our
    reading of it (the paper's own equation could not be read), so both are arguments, and the
    readings have names in `READINGS`.

    Args:
        horizon: steps from the start point to the prediction, finite.
        start: "midpoint", "last" or "mean".
        every: optimizer steps per cycle, at least 3.

    Raises:
        ArgumentError: a horizon that is not finite, an unknown start, every < 3.

    Example:
        >>> Midline().weights
        (0.0, -0.5, 0.5, 1.0)

    Source: Ying et al., Scientific Reports 14:15197 (2024), doi 10.1038/s41598-024-65691-0.
    """

    knobs = ("horizon", "start", "every")
    STARTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
        {"midpoint": (0.0, 0.5, 0.5), "last": (0.0, 0.0, 1.0), "mean": (1 / 3, 1 / 3, 1 / 3)}
    )

    def __init__(self, horizon: float = 1.0, *, start: str = "midpoint", every: int = 3) -> None:
        # the start point is the weights at horizon 0, the slope those of one step
        if start not in self.STARTS:
            raise ArgumentError(f"start must be one of {', '.join(self.STARTS)}, got {start!r}")
        every = whole("every", every, 3, "Midline")
        super().__init__(horizon, self.STARTS[start], (-0.5, 0.0, 0.5), every)
        self.start = start


READINGS: Mapping[str, Affine] = MappingProxyType(
    {
        "midline": Midline(),
        "midline-at-4": Midline(horizon=1.5),
        "least-squares-at-4": LeastSquares(window=3, horizon=1.0),
        "secant": Secant(window=3, horizon=1.0),
    }
)
"""The readings of the paper's rule by name; "midline" is the default of this project."""
