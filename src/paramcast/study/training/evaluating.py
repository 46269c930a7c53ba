"""Measure a model on a split, with the weights that its method evaluates with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...forecast import Forecast
from ...running.batch_norm import batch_norm_of
from ..spec import DEFAULT, Numerics
from ..tasks.task import Examples, Prepared
from .build import base_of, switches
from .precision import outputs

MOST_CLASSES = 100  # with more no counts are kept


@contextmanager
def evaluation_weights(
    optimizer: Optimizer, model: nn.Module, inputs: Tensor, batch_size: int
) -> Iterator[None]:
    """Put the method's averaged weights, if any, into the model, and re-estimate batch-norm."""
    averages = isinstance(optimizer, Forecast) and optimizer.average is not None
    if isinstance(optimizer, Forecast) and optimizer.has_average:
        with optimizer.eval_weights(model, update_bn=to_normalise(model, inputs, batch_size)):
            yield
    elif switches(optimizer) and not averages:
        # one with `eval()` and `train()`, such as Schedule-Free, holds its average itself
        base_of(optimizer).eval()  # type: ignore[attr-defined]
        try:
            with batch_norm_of(model, to_normalise(model, inputs, batch_size)):
                yield
        finally:
            base_of(optimizer).train()  # type: ignore[attr-defined]
    else:
        yield


def to_normalise(model: nn.Module, inputs: Tensor, batch_size: int) -> Sequence[Tensor] | None:
    """The batches to re-estimate batch-norm statistics from; None if it has no such layer."""
    normalised = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return inputs.split(batch_size) if normalised else None


def evaluate(
    model: nn.Module, prepared: Prepared, examples: Examples, numerics: Numerics = DEFAULT
) -> dict[str, float]:
    """Measure the model on a split, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        return prepared.measure(outputs(model, examples.inputs, numerics), examples.targets)


def class_counts(prepared: Prepared, outputs: Tensor) -> dict[str, list[int]] | None:
    """Count, for each class of the test split, its examples, its predictions, and its hits.

    The prediction is the class with the largest of the outputs, (examples, classes, ...). For a
    class c the false positives are predicted[c] - hits[c], the false negatives actual[c] - hits[c].
    None without classes, or with more than MOST_CLASSES.
    """
    if prepared.classes is None or outputs.shape[1] > MOST_CLASSES:
        return None
    # hits are the classes of the examples that were predicted right
    actual, predicted = prepared.test.targets.cpu(), outputs.argmax(1).cpu()
    counted = {"actual": actual, "predicted": predicted, "hits": actual[predicted == actual]}
    return {
        name: torch.bincount(labels.reshape(-1), minlength=outputs.shape[1]).tolist()
        for name, labels in counted.items()
    }
