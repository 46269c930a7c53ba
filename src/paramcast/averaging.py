"""Averages of the weights, for evaluation: training itself does not see them.

At each update the average moves toward the weights by a factor w that depends only on the method:

    average <- average + w (theta - average),      w = 1 at the first update

`Trend` holds two of them and evaluates on the line through both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from ._checks import as_constructed, whole, within
from .errors import ArgumentError
from .tensors import functional as F


class Average(ABC):
    """How an average of the weights is updated.

    Attributes:
        progress: needs the total number of steps.
        slower: a second average to hold; None for most.
        ahead: c; with a slower average, what is evaluated is average + c (average - slower).

    Memory of all averages: one element per parameter, in at least float32; two if there is a
    slower one.
    """

    progress = False
    ahead = 0.0

    @property
    def slower(self) -> Average | None:
        return None

    @abstractmethod
    def weight(self, step: int, updates: int, total_steps: int | None) -> float | None:
        """The weight w of the parameters after `step`; None where they are left out.

        Args:
            step: completed steps, from 1.
            updates: how many times the average was updated before.
            total_steps: of the run, where known.
        """

    def weight_of_present(self, step: int, updates: int, total_steps: int | None) -> float | None:
        """The weight of the current parameters in what is evaluated, beside the average's.

        None for an average that stands for itself; the arguments are those of `weight`.
        """
        return None

    def __repr__(self) -> str:
        return as_constructed(self)


class EMA(Average):
    """Exponential moving average, bias-corrected.

        average_t = (1 - d) sum_i d^(t-i) theta_i / (1 - d^t),   w = (1 - d) / (1 - d^t)

    Args:
        decay: d per step, in (0, 1); or
        half_life: steps after which a weight has halved, d = 2^(-1/half_life); or
        share: half-life as a share of the run's total steps, in (0, 1].

    Raises:
        ArgumentError: none or several given, or outside the range.

    Example:
        >>> EMA(half_life=1).decay
        0.5
    """

    def __init__(
        self,
        decay: float | None = None,
        *,
        half_life: float | None = None,
        share: float | None = None,
    ) -> None:
        given = [value for value in (decay, half_life, share) if value is not None]
        if len(given) != 1:
            raise ArgumentError(
                "give exactly one of decay, half_life and share, "
                f"got {decay!r}, {half_life!r}, {share!r}"
            )
        self.decay = None if decay is None else within("decay", decay, 0.0, 1.0, ends="()")
        if half_life is not None:
            # at most 1e15 steps: the decay of longer ones rounds to 1
            self.decay = 2.0 ** (-1.0 / within("half_life", half_life, 0.0, 1e15, ends="(]"))
        self.share = None if share is None else within("share", share, 0.0, 1.0, ends="(]")
        self.progress = share is not None

    def weight(self, step: int, updates: int, total_steps: int | None) -> float:
        # w folds the bias correction in: average_1 is theta_1 itself, not (1 - d) theta_1
        d = self.decay
        if d is None:
            d = 2.0 ** (-1.0 / (self.share * total_steps))  # type: ignore[operator]
        return (1.0 - d) / -math.expm1((updates + 1) * math.log(d))  # 1 - d^t without cancellation


class PolynomialDecay(Average):
    """An average over a share of the steps so far: each step weighs a power of its number.

        w_t = (eta + 1) / (t + eta)

    so that theta_i weighs about (i / t)^eta, and the average lags t / (eta + 2) steps behind: by
    default, a tenth of the steps so far. It does not need to know the length of the run, and it
    forgets the beginning by itself.

    Args:
        eta: at least 0; 0 is the mean of all points.

    Raises:
        ArgumentError: eta outside its range.

    Example:
        >>> average = PolynomialDecay(eta=1)
        >>> [round(average.weight(t, t - 1, None), 3) for t in (1, 2, 3)]  # of weights 1, 2, 3
        [1.0, 0.667, 0.5]

    Source: Shamir and Zhang, Stochastic Gradient Descent for Non-smooth Optimization (2013), ICML.
    """

    def __init__(self, eta: float = 8.0) -> None:
        self.eta = within("eta", eta, 0.0, 1e6)

    def weight(self, step: int, updates: int, total_steps: int | None) -> float:
        return F.polynomial_weight(self.eta, updates + 1)


class Trend(PolynomialDecay):
    """A straight line through two averages of the path, read near its end.

        a, b       averages by `PolynomialDecay` with eta and with eta_slow < eta
        evaluated  a + c (a - b),      c = (l_a - lag) / (l_b - l_a)
        with       l_a = 1 / (eta + 2),      l_b = 1 / (eta_slow + 2)

    After t steps, a lags l_a t steps behind, and b lags l_b t. Where the averaged path is straight,
    the line through both is exact at any lag: it predicts weights that no single average reaches,
    with the low noise of long averages. The default reads it 3 % of the steps behind the present,
    where a lags 10 % and b 20 %.

    Args:
        eta, eta_slow: of the two averages.
        lag: where the line is read, as a share of the steps so far: 0 is the present, below 0 is
            ahead of it, and the largest, 1 / (eta + 2), is the average a itself.

    Memory: two elements per parameter, in at least float32.

    Raises:
        ArgumentError: eta_slow not below eta, or a lag outside [-1, 1 / (eta + 2)].

    Example:
        >>> Trend(eta=8, eta_slow=3, lag=0).ahead
        1.0
    """

    def __init__(self, eta: float = 8.0, eta_slow: float = 3.0, lag: float = 0.03) -> None:
        super().__init__(eta)
        self.eta_slow = within("eta_slow", eta_slow, 0.0, self.eta, ends="[)")
        # lags of both averages, and where between or beyond them the line is read
        own, slow = 1.0 / (self.eta + 2.0), 1.0 / (self.eta_slow + 2.0)
        self.lag = within("lag", lag, -1.0, own)
        # the line through (-own, a) and (-slow, b), read at -lag: a + ahead (a - b)
        self.ahead = round((own - self.lag) / (slow - own), 12)

    @property
    def slower(self) -> PolynomialDecay:
        return PolynomialDecay(self.eta_slow)


class SWA(Average):
    """Stochastic weight averaging: the plain mean of snapshots from some step on.

    Args:
        start: first step that counts; or
        start_share: the same as a share of the run's total steps.
        every: steps between snapshots.

    Raises:
        ArgumentError: both or none given, or outside the range.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima (2018), arXiv 1803.05407.
    """

    def __init__(
        self, start: int | None = None, *, start_share: float | None = None, every: int = 1
    ) -> None:
        if (start is None) == (start_share is None):
            raise ArgumentError(
                f"give either start or start_share, got {start!r} and {start_share!r}"
            )
        self.start = None if start is None else whole("start", start, 0)
        self.start_share = (
            None if start_share is None else within("start_share", start_share, 0.0, 1.0)
        )
        self.every, self.progress = whole("every", every, 1), start_share is not None

    def first(self, total_steps: int | None) -> int:
        """The first step that counts."""
        if self.start is not None:
            return max(1, self.start)
        return max(1, math.ceil(self.start_share * total_steps))  # type: ignore[operator]

    def weight(self, step: int, updates: int, total_steps: int | None) -> float | None:
        first = self.first(total_steps)
        if step < first or (step - first) % self.every:
            return None
        return 1.0 / (updates + 1)  # the mean of updates + 1 snapshots


class LAWA(SWA):
    """Latest weight averaging: the mean of the run's last n snapshots, streamed into one buffer.

    Snapshots are taken at steps T, T - every, ..., T - (n - 1) every, T = total steps. A run that
    ends earlier, because a `GradScaler` skipped some of its steps, never reaches the last of them:
    between two snapshots, what is evaluated is the mean of those so far and the current weights.

    Args:
        last: n, snapshots.
        every: steps between them; the last is taken at the end of the run.

    Raises:
        ArgumentError: last < 1 or every < 1.

    Source: Kaddour, Stop Wasting My Time! (2022), arXiv 2209.14981.
    """

    def __init__(self, last: int = 5, *, every: int = 10) -> None:
        super().__init__(0, every=every)
        self.last, self.progress = whole("last", last, 1), True

    def weight(self, step: int, updates: int, total_steps: int | None) -> float | None:
        # a run may be longer than announced: the mean stays what it was at the announced end
        beyond = step > total_steps  # type: ignore[operator]
        return None if beyond else super().weight(step, updates, total_steps)

    def weight_of_present(self, step: int, updates: int, total_steps: int | None) -> float | None:
        taken = (step - self.first(total_steps)) % self.every == 0
        return None if taken or step > total_steps else 1.0 / (updates + 1)  # type: ignore[operator]

    def first(self, total_steps: int | None) -> int:
        """The first step that counts: (last - 1) * every before the end, or as near as possible."""
        # a run too short for n snapshots has as many as fit after its first step
        back = min(self.last - 1, (total_steps - 1) // self.every)  # type: ignore[operator]
        return total_steps - back * self.every  # type: ignore[operator]


COMPARED: Mapping[str, type[Average]] = MappingProxyType(
    {"ema": EMA, "lawa": LAWA, "polynomial-decay": PolynomialDecay, "trend": Trend, "swa": SWA}
)
"""The averages that comparisons know by name (`paramcast methods` says what each does)."""
