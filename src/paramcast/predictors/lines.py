"""Lines and a parabola through the last points of a cycle."""

from __future__ import annotations

import math

from .._checks import FARTHEST, whole, within
from .affine import Affine, Line


class LeastSquares(Line):
    """Least-squares line through the last `window` points, read `horizon` steps past the last.

        t_i = i - (n + 1) / 2,  i = 1 .. n = window
        s          = sum_i t_i theta_i / sum_i t_i^2
        theta_plus = mean + (horizon + (n - 1) / 2) * s

    Its start point is the line's value at the last step, so horizon 0 smooths without predicting.

    Args:
        window: points on the line, at least 2 (2 is the line through two points).
        horizon: steps beyond the last point, finite; negative reads the line in the past.
        every: optimizer steps per cycle, at least `window`; `window` if not given.

    Raises:
        ArgumentError: window < 2, every < window, a horizon that is not finite.

    Example:
        >>> [round(w, 4) for w in LeastSquares(3, 1.0).weights]
        [0.0, -0.6667, 0.3333, 1.3333]

    Source: ordinary least squares with fixed abscissae.
    """

    knobs = ("window", "horizon", "every")

    def __init__(self, window: int = 3, horizon: float = 1.0, *, every: int | None = None) -> None:
        self.window = n = whole("window", window, 2, "a line")
        every = whole("every", n if every is None else every, n, f"LeastSquares(window={n})")
        # abscissae around their mean 0; the line's weights at the last of them, and per step
        t = [i - (n - 1) / 2 for i in range(n)]
        squares = math.fsum(x * x for x in t)
        start = [1 / n + t[-1] * x / squares for x in t]
        super().__init__(horizon, start, [x / squares for x in t], every)


class Secant(Line):
    """Straight on from the last point, with the mean step of the last `window` points.

        theta_plus = theta_k + horizon * (theta_k - theta_{k-n+1}) / (n - 1),   n = window

    Horizon 0 is the base optimizer; a negative horizon averages backward.

    Args:
        window: points spanned, at least 2.
        horizon: steps beyond the last point, finite.
        every: optimizer steps per cycle, at least `window`; `window` if not given.

    Raises:
        ArgumentError: window < 2, every < window, a horizon that is not finite.

    Example:
        >>> Secant().weights
        (0.0, -0.5, 0.0, 1.5)

    Source: the straight line through two points; one reading of Ying et al. (2024).
    """

    knobs = ("window", "horizon", "every")

    def __init__(self, window: int = 3, horizon: float = 1.0, *, every: int | None = None) -> None:
        self.window = n = whole("window", window, 2, "a secant")
        every = whole("every", n if every is None else every, n, f"Secant(window={n})")
        # start: the last point; slope: (last - first) / (n - 1)
        between, share = (0.0,) * (n - 2), 1 / (n - 1)
        super().__init__(horizon, (0.0, *between, 1.0), (-share, *between, share), every)


class Quadratic(Affine):
    """The parabola through the last three points, read `horizon` steps past the last.

        theta_plus = h(h+1)/2 theta_{k-2} - h(h+2) theta_{k-1} + (h+1)(h+2)/2 theta_k

    It follows curved paths and amplifies noise: at h = 1 the weights are (1, -3, 3) and the noise
    gain is 19. Horizon 0 is the base optimizer.

    Args:
        horizon: h, steps beyond the last point, finite.
        every: optimizer steps per cycle, at least 3.

    Raises:
        ArgumentError: a horizon that is not finite, every < 3.

    Example:
        >>> Quadratic(1.0).weights, Quadratic(1.0).noise_gain
        ((0.0, 1.0, -3.0, 3.0), 19.0)

    Source: Lagrange interpolation.
    """

    knobs = ("horizon", "every")
    horizon: float

    def __init__(self, horizon: float = 1.0, *, every: int = 3) -> None:
        self.horizon = within("horizon", horizon, -FARTHEST, FARTHEST)
        self._padding = (0.0,) * (whole("every", every, 3, "Quadratic") - 2)
        super().__init__(self.weights_at(self.horizon))

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        h = self.horizon if horizon is None else horizon
        return (*self._padding, h * (h + 1) / 2, -h * (h + 2), (h + 1) * (h + 2) / 2)
