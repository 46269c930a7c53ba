"""Detect that the data have changed."""

from __future__ import annotations

import math

from ...._checks import finite, whole, within


class PageHinkley:
    r"""The Page-Hinkley test: has the mean of a sequence risen?

    With x_1, x_2, ... the values since the last alarm and mean_t the mean of the first t of them,

        m_t = sum_{i <= t} (x_i - mean_i - delta),     alarm if t >= least and
                                                       m_t - min_{i <= t} m_i > threshold.

    After an alarm it starts again. Give it a bounded value that is small while all is well, such as
    the share of errors in each incoming batch, measured before the step; the defaults are for that.
    A loss has no fixed scale and a heavy tail, so it needs its own threshold.

    Args:
        threshold: the accumulated rise that raises an alarm, above 0; a larger one gives fewer
            false alarms, and later ones.
        delta: the rise per value that is tolerated, from 0.
        least: the number of values that must have come since the last alarm.

    Raises:
        ArgumentError: a value outside those ranges, or one to take in that is not finite.

    Example:
        >>> test = PageHinkley(threshold=1.0, delta=0.0, least=3)
        >>> [test.update(x) for x in (0.0, 0.0, 0.0, 0.0, 1.0, 1.0)]  # m: 0, 0, 0, 0, 0.8, 1.47
        [False, False, False, False, False, True]

    Source: Page, Biometrika 41 (1954); for streams: Gama et al., "A survey on concept drift
    adaptation", ACM Computing Surveys 46(4), 2014.
    """

    def __init__(self, threshold: float = 1.0, delta: float = 0.02, least: int = 10) -> None:
        self.threshold = within("threshold", threshold, 0.0, math.inf, ends="()")
        self.delta = within("delta", delta, 0.0, math.inf, ends="[)")
        self.least = whole("least", least, 1)
        self._restart()

    def _restart(self) -> None:
        self.count, self.mean, self.sum, self.lowest = 0, 0.0, 0.0, math.inf

    def update(self, value: float) -> bool:
        """Take in the next value; return whether it raises an alarm."""
        value = finite("value", value)
        self.count += 1
        self.mean += (value - self.mean) / self.count
        self.sum += value - self.mean - self.delta
        self.lowest = min(self.lowest, self.sum)
        if self.count < self.least or self.sum - self.lowest <= self.threshold:
            return False
        self._restart()
        return True
