"""Predictors with fixed weights: an affine combination of the points of a cycle.

    theta_plus = w_0 theta_0 + w_1 theta_1 + ... + w_k theta_k,      sum of w = 1

Their past folds into one buffer whatever the window (`paramcast.functional`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import functional as F
from ..errors import ArgumentError, BaseOptimizerError
from .base import FARTHEST, Predictor, Workspace, finite, whole, within


class Affine(Predictor):
    """Any fixed affine combination of the points of a cycle.

        theta_plus = sum_j w_j theta_j,   sum_j w_j = 1

    Args:
        weights: (w_0, ..., w_k), oldest point first, the point before the first step included.

    Attributes:
        weights: the weights as a tuple of floats, at the predictor's own horizon.
        noise_gain: sum of w_j squared.

    Memory: one element per parameter, whatever `every` is.

    Raises:
        ArgumentError: fewer than 2 weights, a weight that is not finite, a sum other than 1.

    Example:
        >>> plp = Affine((0.0, -0.5, 0.5, 1.0))
        >>> plp.every, round(plp.gain, 4)
        (3, 1.1667)
    """

    knobs: ClassVar[tuple[str, ...]] = ("weights",)

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
                f"weights must sum to 1, got {weights} with the sum {math.fsum(weights)!r}: "
                "otherwise the prediction would scale the parameters"
            )
        self.weights = weights
        self.every = len(weights) - 1

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        """The weights of a cycle with this horizon."""
        return self.weights

    @property
    def extra_steps(self) -> float:
        return F.straight_path_extra(self.weights)

    def extra_steps_at(self, horizon: float | None) -> float:
        return F.straight_path_extra(self.weights_at(horizon))

    @property
    def noise_gain(self) -> float:
        return math.fsum(w * w for w in self.weights)

    def first_point(self, horizon: float | None) -> int | None:
        return F.plan(self.weights_at(horizon)).first

    def precision(self, horizon: float | None) -> torch.dtype | None:
        return F.plan(self.weights_at(horizon)).precision

    def observe_(self, point: int, work: Workspace) -> None:
        fold = F.plan(self.weights_at(work.horizon)).folds[point]
        for segment in work.segments:
            segment.fold_(fold, 0)

    def finish_(self, work: Workspace) -> float:
        return F.plan(self.weights_at(work.horizon)).scale


class _Line(Affine):
    """An affine predictor whose weights are linear in a horizon: a + horizon * b."""

    def __init__(
        self, horizon: float, start: Sequence[float], slope: Sequence[float], every: int
    ) -> None:
        self.horizon = self._own = within("horizon", horizon, -FARTHEST, FARTHEST)
        padding = every + 1 - len(start)
        self._start, self._slope = (0.0,) * padding + tuple(start), (0.0,) * padding + tuple(slope)
        super().__init__(self._at(self.horizon))

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        if horizon is None or horizon == self._own:
            return self.weights
        return self._at(horizon)

    def _at(self, horizon: float) -> tuple[float, ...]:
        return tuple(a + horizon * b for a, b in zip(self._start, self._slope, strict=True))


class Midline(_Line):
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

    knobs = ("horizon", "start", "every")
    STARTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
        {"midpoint": (0.0, 0.5, 0.5), "last": (0.0, 0.0, 1.0), "mean": (1 / 3, 1 / 3, 1 / 3)}
    )

    def __init__(self, horizon: float = 1.0, *, start: str = "midpoint", every: int = 3) -> None:
        if start not in self.STARTS:
            raise ArgumentError(f"start must be one of {', '.join(self.STARTS)}, got {start!r}")
        every = whole("every", every, 3, "Midline")
        super().__init__(horizon, self.STARTS[start], (-0.5, 0.0, 0.5), every)
        self.start = start


class LeastSquares(_Line):
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

    knobs = ("window", "horizon", "every")

    def __init__(self, window: int = 3, horizon: float = 1.0, *, every: int | None = None) -> None:
        self.window = n = whole("window", window, 2, "a line")
        every = whole("every", n if every is None else every, n, f"LeastSquares(window={n})")
        t = [i - (n - 1) / 2 for i in range(n)]
        squares = math.fsum(x * x for x in t)
        start = [1 / n + t[-1] * x / squares for x in t]
        super().__init__(horizon, start, [x / squares for x in t], every)


class Secant(_Line):
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

    def __init__(self, horizon: float = 1.0, *, every: int = 3) -> None:
        self.horizon = self._own = within("horizon", horizon, -FARTHEST, FARTHEST)
        self._padding = (0.0,) * (whole("every", every, 3, "Quadratic") - 2)
        super().__init__(self.weights_at(self.horizon))

    def weights_at(self, horizon: float | None) -> tuple[float, ...]:
        h = self._own if horizon is None else horizon
        return (*self._padding, h * (h + 1) / 2, -h * (h + 2), (h + 1) * (h + 2) / 2)


class Interpolate(Affine):
    """Lookahead: go back a part of the way to where the cycle started.

        theta_plus = theta_0 + alpha * (theta_k - theta_0)

    What becomes of the base's momentum m is a choice:

        momentum="keep"       m stays
        momentum="reset"      m <- 0
        momentum="pullback"   m <- m_0 + alpha * (m - m_0), m_0 that of the cycle's start

    alpha = 1 is the base optimizer, with "reset" one whose momentum starts again every k steps.
    m is what the base's state holds as momentum_buffer, exp_avg or momentum. A base without
    any is left alone; one whose state holds it under another name, or quantised, is an error at the
    end of the first cycle, before anything is written.

    Args:
        every: k, optimizer steps per cycle, at least 1.
        alpha: share of the way that is kept, 0 < alpha <= 1.
        momentum: "keep", "reset" or "pullback".

    Memory: one element per parameter, a second one for "pullback".

    Raises:
        ArgumentError: every < 1, alpha outside (0, 1], an unknown momentum.
        BaseOptimizerError: in a step, if "reset" or "pullback" do not know the base's state.

    Example:
        >>> Interpolate(5, 0.5).weights
        (0.5, 0.0, 0.0, 0.0, 0.0, 0.5)

    Source: Zhang et al., Lookahead Optimizer (2019), arXiv 1907.08610.
    """

    knobs = ("every", "alpha", "momentum")
    MOMENTUM = ("keep", "reset", "pullback")

    def __init__(self, every: int = 5, alpha: float = 0.5, *, momentum: str = "keep") -> None:
        every = whole("every", every, 1, "Interpolate")
        self.alpha = finite("alpha", alpha)
        if not 0.0 < self.alpha <= 1.0:
            raise ArgumentError(
                f"alpha must be above 0 and at most 1, got {alpha!r}; to go forward use Secant"
            )
        if momentum not in self.MOMENTUM:
            raise ArgumentError(
                f"momentum must be one of {', '.join(self.MOMENTUM)}, got {momentum!r}"
            )
        self.momentum = momentum
        super().__init__((1 - self.alpha, *(0.0,) * (every - 1), self.alpha))
        self.buffers = 2 if momentum == "pullback" else 1
        self.adjusts_base = momentum != "keep"

    def first_point(self, horizon: float | None) -> int | None:
        first = super().first_point(horizon)
        # with alpha = 1 there is no jump, and the momentum is reset all the same
        return self.every if first is None and self.momentum == "reset" else first

    def observe_(self, point: int, work: Workspace) -> None:
        super().observe_(point, work)
        if point == 0 and self.momentum == "pullback":
            for segment in work.segments:
                segment.flats[-1].zero_()  # where the base has no state yet
            for momentum, kept in _momenta(work, self):
                kept.copy_(momentum)

    def finish_(self, work: Workspace) -> float:
        if self.momentum != "keep":
            for _ in _momenta(work, self):  # or an error, before anything is written
                pass
        return super().finish_(work)

    def written_(self, work: Workspace) -> None:
        if self.momentum == "keep":
            return
        for momentum, kept in _momenta(work, self):
            if self.momentum == "reset":
                momentum.zero_()
            else:
                momentum.lerp_(kept.to(momentum.dtype), 1.0 - self.alpha)


READINGS: Mapping[str, Affine] = MappingProxyType(
    {
        "midline": Midline(),
        "midline-at-4": Midline(horizon=1.5),
        "least-squares-at-4": LeastSquares(window=3, horizon=1.0),
        "secant": Secant(window=3, horizon=1.0),
    }
)
"""The readings of the paper's rule by name; "midline" is the default of this project."""


MOMENTA = ("momentum_buffer", "exp_avg", "momentum")
"""What optimizers call a momentum or first moment in their state."""
NO_MOMENTA = {
    "step", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_var", "max_exp_avg_var", "square_avg",
    "grad_avg", "acc_delta", "sum", "exp_inf", "variance", "row_var", "col_var", "prev",
    "step_size", "eta", "mu", "mu_product", "ax", "s", "p0",
}  # fmt: skip
"""What else may be as large as a parameter there: scales, and Prodigy's start and its distance."""


def _momenta(work: Workspace, rule: Interpolate) -> Iterator[tuple[Tensor, Tensor]]:
    """Each momentum of the base, and its parameter's kept one (in the last buffer).

    What is not known to be a momentum or something else is never passed over.
    """
    for segment in work.segments:
        rows = zip(segment.parameters, segment.points, segment.buffers[-1], strict=True)
        for p, point, kept in rows:
            # `get`: the state is a defaultdict, and asking for a parameter would create its entry
            for name, value in work.state.get(p, {}).items():
                if name in MOMENTA and value is not None:
                    yield _usable(name, value, point, rule), kept
                elif name not in NO_MOMENTA and _is_like(value, point):
                    raise _unknown(rule, f"has the unknown {name!r}")


def _is_like(value: Any, point: Tensor) -> bool:
    like = isinstance(value, Tensor) and F.local(value).shape == point.shape
    return like and value.dtype != torch.bool


def _usable(name: str, value: Any, point: Tensor, rule: Interpolate) -> Tensor:
    plain = isinstance(value, Tensor) and type(value) in (Tensor, torch.nn.Parameter)
    if not plain and not hasattr(value, "_local_tensor"):
        raise _unknown(rule, f"holds {name!r} as {type(value).__name__}")
    shard = F.local(value)
    if not shard.is_floating_point():
        raise _unknown(rule, f"holds {name!r} as {value.dtype}")
    if rule.momentum == "pullback" and shard.shape != point.shape:
        raise _unknown(rule, f"holds {name!r} in the shape {tuple(value.shape)}")
    return shard


def _unknown(rule: Interpolate, what: str) -> BaseOptimizerError:
    return BaseOptimizerError(
        f"momentum={rule.momentum!r} changes what the base's state holds as {', '.join(MOMENTA)} "
        f'in plain floating-point tensors, but this state {what}; use momentum="keep" or another '
        "base"
    )
