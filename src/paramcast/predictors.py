"""What is predicted: one small class per predictor, each a tuple of weights.

A cycle is `every` optimizer steps. Its points are theta_0 (before the first step), theta_1, ...,
theta_k (after the last, k = every), and the prediction is the affine combination

    theta_plus = w_0 theta_0 + w_1 theta_1 + ... + w_k theta_k,      sum of w = 1.

Two numbers say what a predictor does on average. The *velocity gain* G is the long-run displacement
with it divided by the one without it on a straight path: G = (k + e) / k, with e the steps that the
jump is worth there. The *noise gain* sum(w^2) is the variance of the prediction when the points are
independent noise of variance 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from . import functional as F
from .errors import ArgumentError


class Affine:
    """A predictor with fixed weights: any affine combination of the points of a cycle.

        theta_plus = sum_j w_j theta_j,   sum_j w_j = 1

    Args:
        weights: (w_0, ..., w_k), oldest point first, the point before the first step included.

    Attributes:
        weights: the weights as a tuple of floats.
        every: k, the optimizer steps in a cycle.
        horizon: steps from the predictor's start point, None where the rule has no horizon.
        extra_steps: e, the steps that one jump adds on a straight path of unit steps.
        gain: velocity gain G = (k + e) / k.
        noise_gain: sum of w_j squared.

    Memory: one element per parameter, whatever `every` is.

    Raises:
        ArgumentError: fewer than 2 weights, a weight that is not finite, a sum other than 1.

    Example:
        >>> plp = Affine((0.0, -0.5, 0.5, 1.0))
        >>> plp.every, round(plp.gain, 4)
        (3, 1.1667)
    """

    horizon: float | None = None

    def __init__(self, weights: Sequence[float]) -> None:
        weights = tuple(float(w) for w in weights)
        if len(weights) < 2:
            raise ArgumentError(
                "weights must name at least 2 points (before and after one step), "
                f"got {len(weights)}"
            )
        if not all(map(math.isfinite, weights)):
            raise ArgumentError(f"weights must be finite, got {weights}")
        if abs(math.fsum(weights) - 1.0) > 1e-9:
            raise ArgumentError(
                f"weights must sum to 1, got {weights} with the sum {math.fsum(weights):g}: "
                "otherwise the prediction would scale the parameters"
            )
        self.weights = weights

    @property
    def every(self) -> int:
        return len(self.weights) - 1

    @property
    def extra_steps(self) -> float:
        return F.straight_path_extra(self.weights)

    @property
    def gain(self) -> float:
        return (self.every + self.extra_steps) / self.every

    @property
    def noise_gain(self) -> float:
        return math.fsum(w * w for w in self.weights)

    def shape_jump_(self, buffers: Sequence[Tensor], cycle: int) -> None:
        """Change the finished jump in place before it is checked and written; here: leave it.

        Args:
            buffers: the jump of each parameter, up to one common factor.
            cycle: number of the cycle, from 1; a seed that survives a resume.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(weights={self.weights})"


class Midline(Affine):
    """Parameters Linear Prediction (PLP): read on along the midline of the last three points.

        s          = (theta_k - theta_{k-2}) / 2                     slope per step
        theta_plus = start + horizon * s

        start="midpoint"   (theta_{k-1} + theta_k) / 2               the default of this project
        start="last"       theta_k
        start="mean"       (theta_{k-2} + theta_{k-1} + theta_k) / 3

    With the defaults this is theta_3 + (theta_2 - theta_1) / 2, weights (0, -1/2, 1/2, 1), G = 7/6.
    The three-step cycle and the slope are the paper's; the start point and the horizon are a
    reading of it (the paper's own equation could not be read), so both are arguments and the
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

    STARTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
        {"midpoint": (0.0, 0.5, 0.5), "last": (0.0, 0.0, 1.0), "mean": (1 / 3, 1 / 3, 1 / 3)}
    )

    def __init__(self, horizon: float = 1.0, *, start: str = "midpoint", every: int = 3) -> None:
        self.horizon = _finite("horizon", horizon)
        if start not in self.STARTS:
            raise ArgumentError(f"start must be one of {', '.join(self.STARTS)}, got {start!r}")
        every = _cycle_length(every, 3, type(self).__name__)
        a, b, c = self.STARTS[start]
        half = self.horizon / 2
        super().__init__((*_zeros(every - 2), a - half, b, c + half))
        self.start = start

    def __repr__(self) -> str:
        return f"Midline(horizon={self.horizon:g}, start={self.start!r}, every={self.every})"


class LeastSquares(Affine):
    """Least-squares line through the last `window` points, read `horizon` steps past the last.

        t_i = i - (n + 1) / 2,  i = 1 .. n = window
        s          = sum_i t_i theta_i / sum_i t_i^2
        theta_plus = mean + (horizon + (n - 1) / 2) * s

    Its start point is the line's value at the last step, so horizon 0 smooths and does not predict.

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

    def __init__(self, window: int = 3, horizon: float = 1.0, *, every: int | None = None) -> None:
        self.window = _cycle_length(window, 2, "a line", name="window")
        self.horizon = _finite("horizon", horizon)
        every = _cycle_length(window if every is None else every, window, type(self).__name__)
        t = [i - (window - 1) / 2 for i in range(window)]
        reach = (self.horizon + t[-1]) / math.fsum(x * x for x in t)
        super().__init__((*_zeros(every + 1 - window), *(1 / window + reach * x for x in t)))

    def __repr__(self) -> str:
        return f"LeastSquares(window={self.window}, horizon={self.horizon:g}, every={self.every})"


class Secant(Affine):
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
    """

    def __init__(self, window: int = 3, horizon: float = 1.0, *, every: int | None = None) -> None:
        self.window = _cycle_length(window, 2, "a secant", name="window")
        self.horizon = _finite("horizon", horizon)
        every = _cycle_length(window if every is None else every, window, type(self).__name__)
        share = self.horizon / (window - 1)
        super().__init__((*_zeros(every + 1 - window), -share, *_zeros(window - 2), 1 + share))

    def __repr__(self) -> str:
        return f"Secant(window={self.window}, horizon={self.horizon:g}, every={self.every})"


class Interpolate(Affine):
    """Lookahead: go back a part of the way to where the cycle started.

        theta_plus = theta_0 + alpha * (theta_k - theta_0)

    alpha = 1 is the base optimizer. The base's momentum is kept.

    Args:
        every: k, optimizer steps per cycle, at least 1.
        alpha: share of the way that is kept, 0 < alpha <= 1.

    Raises:
        ArgumentError: every < 1, alpha outside (0, 1].

    Example:
        >>> Interpolate(5, 0.5).weights
        (0.5, 0.0, 0.0, 0.0, 0.0, 0.5)

    Source: Zhang et al., Lookahead Optimizer (2019), arXiv 1907.08610.
    """

    def __init__(self, every: int = 5, alpha: float = 0.5) -> None:
        every = _cycle_length(every, 1, type(self).__name__)
        self.alpha = _finite("alpha", alpha)
        if not 0.0 < self.alpha <= 1.0:
            raise ArgumentError(
                f"alpha must be above 0 and at most 1, got {alpha!r}; to go forward use Secant"
            )
        super().__init__((1 - self.alpha, *_zeros(every - 1), self.alpha))

    def __repr__(self) -> str:
        return f"Interpolate(every={self.every}, alpha={self.alpha:g})"


class SignFlipped(Affine):
    """Control: the jump of another predictor, backward.

        theta_plus = theta_k - (prediction - theta_k)

    Args:
        of: the predictor whose jump is turned round.
    """

    def __init__(self, of: Affine) -> None:
        self.of = of
        *past, last = of.weights
        super().__init__((*(-w for w in past), 2 - last))

    def __repr__(self) -> str:
        return f"SignFlipped({self.of!r})"


class RandomDirection(Affine):
    """Control: a jump as long as another predictor's, tensor by tensor, in a random direction.

        jump <- |jump| * z / |z|,   z ~ N(0, I), drawn anew for each tensor and cycle

    Nothing but the length of the jump is left, so what this control gains is gained by noise. The
    draws depend on `seed` and the number of the cycle alone: a resumed run repeats them.

    Args:
        of: the predictor whose jump is replaced.
        seed: of the draws.
    """

    def __init__(self, of: Affine, *, seed: int = 0) -> None:
        self.of, self.seed = of, int(seed)
        super().__init__(of.weights)

    @property
    def extra_steps(self) -> float:
        """0: a random direction moves nothing on average."""
        return 0.0

    def shape_jump_(self, buffers: Sequence[Tensor], cycle: int) -> None:
        self.of.shape_jump_(buffers, cycle)
        generators: dict[torch.device, torch.Generator] = {}
        for buffer in buffers:
            device = buffer.device
            if device not in generators:
                generators[device] = torch.Generator(device)
                generators[device].manual_seed((self.seed + cycle) % 2**63)
            noise = torch.randn(
                buffer.shape, generator=generators[device], device=device, dtype=buffer.dtype
            )
            length = torch.linalg.vector_norm(noise).clamp_min(torch.finfo(noise.dtype).tiny)
            buffer.copy_(noise.mul_(torch.linalg.vector_norm(buffer) / length))

    def __repr__(self) -> str:
        return f"RandomDirection({self.of!r}, seed={self.seed})"


def _finite(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArgumentError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _cycle_length(value: int, least: int, reader: str, *, name: str = "every") -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        plural = "s" if least > 1 else ""
        raise ArgumentError(
            f"{name} must be >= {least} ({reader} reads {least} point{plural}), got {value}"
        )
    return value


def _zeros(count: int) -> tuple[float, ...]:
    return (0.0,) * count


READINGS: Mapping[str, Affine] = MappingProxyType(
    {
        "midline": Midline(),
        "midline-at-4": Midline(horizon=1.5),
        "least-squares-at-4": LeastSquares(window=3, horizon=1.0),
        "secant": Secant(window=3, horizon=1.0),
    }
)
"""The readings of the paper's rule by name; "midline" is the default of this project."""
