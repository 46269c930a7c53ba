"""Right and wrong predictions per class, from which false positives and negatives follow."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tasks.task import Prepared

MOST_CLASSES = 100
"""No counts are kept with more classes."""


def class_counts(prepared: Prepared, outputs: Tensor) -> dict[str, list[int]] | None:
    """Count, for each class of the test split, its examples, its predictions, and its hits.

    The prediction is the class with the largest output. For a class c the false positives are
    predicted[c] - hits[c], the false negatives actual[c] - hits[c].

    Args:
        prepared: the task.
        outputs: (examples, classes, ...) on its test split.

    Returns:
        Three lists, one count per output, or None for a task without classes or with more than
        100 outputs.
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
