"""Batch-norm statistics for weights that are used only for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from ..errors import ArgumentError


@contextmanager
def batch_norm_of(model: nn.Module, data: Iterable[Any] | None) -> Iterator[None]:
    """Batch-norm statistics estimated from data, for the weights that the model has now.

    It does what `torch.optim.swa_utils.update_bn` does, and undoes it: on leaving, even through an
    exception, the previous statistics are restored. Frozen layers keep theirs. The pass itself
    leaves nothing else behind: modes, momenta, all other buffers and torch's random numbers are
    restored when it ends. If the data are None, nothing happens.
    """
    if data is None:
        yield
        return
    # all modes and buffers, to be restored after the pass; the layers' own only on leaving
    modes = {module: module.training for module in model.modules()}
    layers: list[_BatchNorm] = []
    kept = {module: _buffers(module) for module in modes}
    try:
        try:
            layers = _start_training(model)
            if layers:
                device = next(itertools.chain(model.parameters(), model.buffers())).device
                with _drawing_nothing(data, device):
                    _estimate(model, layers, data, device)
        finally:
            if model.training is not modes[model]:
                model.train(modes[model])  # a model's own `train` may do more than set the flags
            for module, training in modes.items():
                module.training = training
            _copy_back({module: kept[module] for module in modes.keys() - set(layers)})
        yield
    finally:
        _copy_back({layer: kept[layer] for layer in layers})


def _start_training(model: nn.Module) -> list[_BatchNorm]:
    """Put the model into training mode; return the batch-norm layers that are not frozen.

    A frozen layer is in evaluation mode while the model is in training mode. If the whole model is
    in evaluation mode, a layer counts as frozen if its weight is not learnable.
    """
    was_training = model.training
    if not was_training:
        model.train()
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    layers = [m for m in layers if m.track_running_stats]
    layers = [m for m in layers if m.running_mean is not None and not is_lazy(m.running_mean)]
    # if the whole model was in evaluation mode, modes do not say what is frozen
    for layer in [] if was_training else layers:
        layer.training = layer.weight is None or layer.weight.requires_grad
    return [layer for layer in layers if layer.training]


@contextmanager
def _drawing_nothing(data: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Restore torch's random numbers on leaving: dropout and a shuffled `DataLoader` draw some."""
    own = (
        getattr(data, "generator", None),
        getattr(getattr(data, "sampler", None), "generator", None),
    )
    kept = [(each, each.get_state()) for each in own if isinstance(each, torch.Generator)]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for generator, state in kept:
            generator.set_state(state)


def _estimate(
    model: nn.Module, layers: Sequence[_BatchNorm], data: Iterable[Any], device: torch.device
) -> None:
    """Set the layers' statistics to the mean over the batches."""
    batches = iter(data)
    first = next(batches, None)
    if first is None:
        raise ArgumentError(
            "update_bn has no batches: it is empty, or an exhausted generator; give a "
            "list of batches or a DataLoader"
        )
    momenta = [layer.momentum for layer in layers]
    try:
        # the mean over all batches, as torch's own `update_bn` takes it
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        with torch.no_grad():
            for batch in itertools.chain([first], batches):
                _run(model, batch, device)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _run(model: nn.Module, batch: Any, device: torch.device) -> None:
    """Run the model on a batch: a tensor, a list or tuple (its first), or a dict of arguments."""

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
    if isinstance(inputs, Mapping):
        model(**{name: moved(value) for name, value in inputs.items()})
    else:
        model(moved(inputs))


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's own buffers."""
    own = module.named_buffers(recurse=False)
    return {name: buffer.clone() for name, buffer in own if not is_lazy(buffer)}


def _copy_back(kept: Mapping[nn.Module, Mapping[str, Tensor]]) -> None:
    with torch.no_grad():
        for module, before in kept.items():
            for name, buffer in module.named_buffers(recurse=False):
                if name in before and before[name].shape == buffer.shape:
                    buffer.copy_(before[name])
