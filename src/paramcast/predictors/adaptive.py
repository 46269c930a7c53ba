"""Predictors with a memory of earlier cycles, or with weights that depend on the data."""

from __future__ import annotations

import torch

from .. import functional as F
from ..errors import ArgumentError
from ..segments import gram, tensor_dots
from .base import Predictor, Workspace, finite, whole, within


class _FromTheStart(Predictor):
    """Keeps theta_0 in buffer 0."""

    def observe_(self, point: int, work: Workspace) -> None:
        if point == 0:
            for segment in work.segments:
                segment.fold_(F.Fold(F.COPY), 0)


class OuterNesterov(_FromTheStart):
    """Nesterov momentum on the displacement of whole cycles (SNOO, DiLoCo with one worker).

        d          = theta_0 - theta_k                       the outer gradient
        b          <- momentum * b + d
        theta_plus = theta_0 - lr * (d + momentum * b)

    lr = 1 and momentum = 0 is the base optimizer. On a straight path G = lr / (1 - momentum).

    Args:
        every: k, optimizer steps per cycle, at least 1.
        momentum: in [0, 1).
        lr: the outer learning rate, above 0.

    Memory: two elements per parameter; b is saved between cycles.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(OuterNesterov(every=10, momentum=0.5, lr=0.7).gain, 4)
        1.4

    Source: Kallusky et al., SNOO (2025), arXiv 2510.15830; Douillard et al., DiLoCo (2023).
    """

    knobs = ("every", "momentum", "lr")
    buffers, persistent = 2, (1,)

    def __init__(self, every: int = 20, momentum: float = 0.5, lr: float = 0.7) -> None:
        self.every = whole("every", every, 1, "OuterNesterov")
        self.momentum = within("momentum", momentum, 0.0, 1.0, ends="[)")
        self.lr = finite("lr", lr)
        if self.lr <= 0:
            raise ArgumentError(f"lr must be above 0, got {lr!r}")

    @property
    def extra_steps(self) -> float:
        return self.every * (self.lr / (1.0 - self.momentum) - 1.0)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            d, b = segment.flats
            b.mul_(self.momentum).add_(d)
            # theta_plus - theta_k = d - lr d - lr momentum b
            d.mul_(1.0 - self.lr).add_(b, alpha=-self.lr * self.momentum)
        return 1.0


class ForwardEMA(_FromTheStart):
    """Each gradient is taken ahead, along an average of the displacements (EMA-Nesterov).

        theta_plus = x + strength * m          where the next gradient is taken
        x          <- where the base's step from there ends
        m          <- decay * m + (1 - decay) * (x - x before)

    On a straight path G = 1 / (1 - strength). The source switches it on in a middle window of the
    training only: combine it with gates.After and gates.Before.

    Args:
        decay: of the average, in [0, 1).
        strength: share of the average that is added, in [0, 1).

    Memory: two elements per parameter, both saved between cycles (a cycle is one step).

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(ForwardEMA(decay=0.9, strength=0.5).gain, 4)
        2.0

    Source: EMA-Nesterov (2026), arXiv 2605.25395.
    """

    knobs = ("decay", "strength")
    every, buffers, persistent, feeds_back = 1, 2, (1,), True

    def __init__(self, decay: float = 0.9, strength: float = 0.5) -> None:
        self.decay = within("decay", decay, 0.0, 1.0, ends="[)")
        self.strength = within("strength", strength, 0.0, 1.0, ends="[)")

    @property
    def extra_steps(self) -> float:
        return self.strength / (1.0 - self.strength)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            d, m = segment.flats  # d = minus the base's step
            # x - x before = step + strength * m, as far as that jump was written
            ahead = self.strength * work.written
            m.mul_(self.decay + (1.0 - self.decay) * ahead).add_(d, alpha=self.decay - 1.0)
            d.copy_(m)
        return self.strength


class PrimalAveraging(_FromTheStart):
    """Each gradient is taken near an average of the path (Schedule-Free, primal averaging).

        z  <- where the base's steps alone would be: z + step
        x  <- x + w (z - x),   w = (eta + 1) / (t + eta)      after t steps
        theta_plus = (1 - beta) z + beta x                    where the next gradient is taken

    x is the average of z that `averaging.PolynomialDecay(eta)` makes: it lags t / (eta + 2) steps
    behind. The parameters stay near it, and `eval_weights()` shows it, at a constant learning rate
    and without a known end. eta = 0 weighs all points alike, as Schedule-Free does. On a
    straight path G = 1 - beta / (eta + 2).

    The average takes the place of a momentum: give the base none (AdamW with betas=(0, 0.999)).

    Args:
        beta: how near to the average, in [0, 1]; 0 is the base alone.
        eta: how fast the average forgets, at least 0.

    Memory: two elements per parameter; one of them, z - x, is saved between cycles (a cycle is one
    step). Where a jump is not written, z and x move with the parameters.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> round(PrimalAveraging(beta=0.9, eta=2).gain, 4)
        0.775

    Source: Defazio et al., The Road Less Scheduled (2024), arXiv 2405.15682, whose power r is eta,
    exactly for 0 and 1 (for others its weights are i^r, ours only about i^eta); Defazio et al.,
    Smoothing DiLoCo with Primal Averaging (2025), arXiv 2512.17131.
    """

    knobs = ("beta", "eta")
    every, buffers, persistent = 1, 2, (1,)

    def __init__(self, beta: float = 0.9, eta: float = 2.0) -> None:
        self.beta = within("beta", beta, 0.0, 1.0)
        self.eta = within("eta", eta, 0.0, 1e6)
        self.evaluated = (1, self.beta - 1.0)  # x = theta_plus - (1 - beta) (z - x)

    @property
    def extra_steps(self) -> float:
        return -self.beta / (self.eta + 2.0)

    def finish_(self, work: Workspace) -> float:
        w = F.polynomial_weight(self.eta, work.age)
        for segment in work.segments:
            segment.fold_(F.Fold(F.SUBTRACT), 0)
            d, u = segment.flats  # d = minus the base's step, u = z - x
            u.sub_(d)
            d.add_(u, alpha=w)  # u before - u after
            u.mul_(1.0 - w)
        return self.beta


class RRE(Predictor):
    """Reduced rank extrapolation: the combination of points whose displacements cancel best.

        u_i        = theta_{i+1} - theta_i,   i = 0 .. n-1,   n = window = every
        c          = argmin |sum_i c_i u_i|^2 + ridge |U|^2 |c|^2   with   sum_i c_i = 1
                   = (U'U + ridge tr(U'U) I)^-1 1, normalised
        theta_plus = sum_i c_i theta_{i+1}

    On a noiseless linear iteration with fewer than n modes it lands at the fixed point. In pure
    noise the c_i become equal and it averages. On a straight path the u_i are equal, so are the
    c_i, and the jump is -(n - 1)/2 steps: expect it to slow such phases down.

    Args:
        window: n, displacements used, at least 2; also the cycle's length.
        ridge: relative regularisation, above 0.
        cap: largest length of the jump, as a multiple of the cycle's whole displacement.

    Memory: n elements per parameter.

    Raises:
        ArgumentError: a knob outside its range.

    Example:
        >>> RRE(window=5).gain
        0.6

    Source: Sidi, Vector Extrapolation Methods with Applications (2017); the ridge as in Scieur,
    d'Aspremont, Bach, Regularized Nonlinear Acceleration (2016), arXiv 1606.04133.
    """

    knobs = ("window", "ridge", "cap")

    def __init__(self, window: int = 5, ridge: float = 1e-8, cap: float = 10.0) -> None:
        self.every = self.buffers = self.window = whole("window", window, 2, "RRE")
        self.ridge, self.cap = finite("ridge", ridge), finite("cap", cap)
        if self.ridge <= 0 or self.cap <= 0:
            raise ArgumentError(f"ridge and cap must be above 0, got {ridge!r} and {cap!r}")

    @property
    def extra_steps(self) -> float:
        return -min((self.window - 1) / 2, self.cap * self.window)

    def observe_(self, point: int, work: Workspace) -> None:
        # Slot i holds theta_i, then u_i = theta_{i+1} - theta_i.
        for segment in work.segments:
            if point > 0:
                segment.fold_(F.Fold(F.SUBTRACT), point - 1)
                segment.flats[point - 1].neg_()
            if point < self.window:
                segment.fold_(F.Fold(F.COPY), point)

    def finish_(self, work: Workspace) -> float:
        n = self.window
        products = gram(work.segments, n)
        trace = products.trace()
        if not bool(torch.isfinite(trace)) or float(trace) == 0.0:
            return 0.0 if float(trace) == 0.0 else float("nan")
        ridged = products + self.ridge * trace * torch.eye(n, dtype=torch.float64, device="cpu")
        ones = torch.ones(n, 1, dtype=torch.float64, device="cpu")
        c = torch.linalg.lstsq(ridged, ones, driver="gelsd").solution[:, 0]  # singular or not
        c = c / c.sum()
        # theta_{i+1} = theta_n - sum_{l>i} u_l, so the jump is -sum_l u_l (c_0 + ... + c_{l-1}).
        amounts = -(c.cumsum(0) - c)
        length = float((amounts @ products @ amounts).clamp_min(0).sqrt())
        limit = self.cap * float(products.sum().clamp_min(0).sqrt())
        shrink = min(1.0, limit / length) if length > 0 else 1.0
        for segment in work.segments:
            jump, *others = segment.flats
            jump.mul_(float(amounts[0]))
            for i, displacement in enumerate(others, start=1):
                jump.add_(displacement, alpha=float(amounts[i]))
        return shrink


class Aitken(Predictor):
    """Per tensor, the limit of a geometric sequence through the last three points.

        d_1, d_2   = the last two displacements of a tensor
        rho        = <d_1, d_2> / <d_1, d_1>
        theta_plus = theta_k + h d_2,    h = rho / (1 - rho) clipped to [-cap, cap]

    Exact after three points where a tensor moves along one decaying mode. Above rho = 1 the
    sequence diverges and the horizon is `cap`.

    Args:
        cap: largest horizon in steps, above 0.
        every: optimizer steps per cycle, at least 3.

    Memory: two elements per parameter.

    Raises:
        ArgumentError: cap <= 0, every < 3.

    Example:
        >>> Aitken(cap=5.0).gain  # a straight path has rho = 1
        2.6666666666666665

    Source: Aitken, On Bernoulli's numerical solution of algebraic equations (1926).
    """

    knobs = ("cap", "every")
    buffers = 2

    def __init__(self, cap: float = 5.0, *, every: int = 3) -> None:
        self.cap = finite("cap", cap)
        if self.cap <= 0:
            raise ArgumentError(f"cap must be above 0, got {cap!r}")
        self.every = whole("every", every, 3, "Aitken")

    @property
    def extra_steps(self) -> float:
        return self.cap

    def first_point(self, horizon: float | None) -> int:
        return self.every - 2

    def observe_(self, point: int, work: Workspace) -> None:
        back = self.every - point
        for segment in work.segments:
            if back == 2:
                segment.fold_(F.Fold(F.COPY), 1)
            elif back == 1:
                segment.fold_(F.Fold(F.SUBTRACT), 1)
                segment.fold_(F.Fold(F.COPY), 0)
            elif back == 0:
                segment.fold_(F.Fold(F.SUBTRACT), 0)

    def finish_(self, work: Workspace) -> float:
        for segment in work.segments:
            d2, d1 = segment.buffers  # both with the sign turned
            square = tensor_dots(segment, d1, d1)
            rho = tensor_dots(segment, d1, d2) / torch.where(square > 0, square, 1.0)
            h = torch.where(rho < 1.0, rho / (1.0 - rho), self.cap).clamp(-self.cap, self.cap)
            for new, own in zip(d2, h, strict=True):
                new.mul_(own)
        return -1.0
