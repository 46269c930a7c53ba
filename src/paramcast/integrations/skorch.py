"""skorch: PLP as an optimizer that scikit-learn can clone and search over; a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import ArgumentError
from ..forecast import PLP, Forecast
from ..tensors.segments import all_parameters
from .common import Averaged, numbers, unwrap

try:
    from skorch.callbacks import Callback
except ImportError:
    raise ArgumentError("skorch is not installed: pip install 'paramcast[skorch]'") from None

_OURS = ("horizon", "start", "every", "total_steps", "gate", "average", "monitors", "shadow")


def plp(base: Callable[..., Optimizer], params: Any, **options: Any) -> PLP:
    """PLP around an optimizer that is built here, as skorch expects of an optimizer.

    Args:
        base: an optimizer class, bound first: `functools.partial(plp, torch.optim.SGD)`.
        params: what skorch passes.
        options: those of `PLP` go to it, all others to the base.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> plp(torch.optim.SGD, [weight], lr=0.1, momentum=0.9, horizon=1.5).predictor.gain
        1.3333333333333333
    """
    ours = {name: options.pop(name) for name in _OURS if name in options}
    return PLP(base(params, **options), **ours)


class ForecastCallback(Callback):
    """Record the predictions in the history; validate with the averaged weights.

    At the end of an epoch the last event's numbers (`ForecastEvent`) are recorded as
    "forecast/jump_norm" and so on. Where the wrapper has an average, the validation losses and
    scores of each epoch are those of the averaged weights. At the end of an epoch, callbacks listed
    before this one see the averaged weights too, and those listed after it see the live ones: list
    `Checkpoint` and `EarlyStopping(load_best=True)` before it to keep the weights that were
    evaluated, after it to keep those to resume from.

    Args:
        averaged: validate with the averaged weights.
        keep: at the end of training, put the averaged weights into the network for good, so that
            `predict`, and with it `GridSearchCV`, uses them. Further training starts from them. Do
            not combine it with `load_best`, whose weights they would replace.

    Raises:
        ArgumentError: when training starts, if the optimizer is not a paramcast wrapper.

    Example:
        NeuralNetClassifier(Net, optimizer=partial(plp, SGD), callbacks=[ForecastCallback()])
    """

    def __init__(self, averaged: bool = True, keep: bool = False) -> None:
        self.averaged, self.keep = averaged, keep

    def initialize(self) -> ForecastCallback:
        self.average_ = Averaged()
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.average_.close([unwrap(net.optimizer_)])

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        if self.averaged and not training and not self.average_.is_open:
            self.average_.open([unwrap(net.optimizer_)])

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.average_.close()
        for name, value in numbers(unwrap(net.optimizer_).last_event).items():
            net.history.record(name, value)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        forecast = unwrap(net.optimizer_)
        if self.average_.is_open:  # `EarlyStopping` or Ctrl-C ended the epoch
            found = [p.detach().clone() for p in all_parameters(forecast.param_groups)]
            self.average_.close()
            if not all(map(torch.equal, found, _averages(forecast))):  # `load_best` loaded others
                _replace(forecast, found)
        if self.keep and forecast.has_average:
            _replace(forecast, _averages(forecast))


def _averages(forecast: Forecast) -> list[Tensor]:
    with forecast.eval_weights():
        return [p.detach().clone() for p in all_parameters(forecast.param_groups)]


def _replace(forecast: Forecast, weights: list[Tensor]) -> None:
    """Replace the live weights."""
    with torch.no_grad():
        for p, weight in zip(all_parameters(forecast.param_groups), weights, strict=True):
            p.copy_(weight)
    forecast.restart_cycle()  # they lie on another trajectory
    forecast.restart_average()
