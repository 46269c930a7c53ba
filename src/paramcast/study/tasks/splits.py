"""Fixed splits and subsets: the same examples on every machine and in every version."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import TaskError

VALIDATION_SHARE = 0.2


def balanced_order(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All indices in a random order with a fixed seed, such that every prefix is balanced.

    First comes one example of every class, then the second of every class, and so on; which they
    are, and their order within a round, is random. A shorter prefix is part of a longer one.
    """
    # RandomState is frozen: NumPy promises its numbers for good, unlike Generator's.
    random = np.random.RandomState(0)
    order = random.permutation(len(labels))
    rounds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        mine = labels[order] == label
        rounds[mine] = np.arange(mine.sum())
    return np.asarray(order[np.argsort(rounds, kind="stable")], dtype=np.int64)


def train_and_validation(
    labels: npt.NDArray[np.int64], limit: int | None, name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the training and the validation part of a training set.

    Args:
        labels: of the whole training set.
        limit: how many of its examples to use; None for all.
        name: of the task, for the error.

    Returns:
        Training indices (80 %) and validation indices (20 %).

    Raises:
        TaskError: `limit` is more than there are, or too few to split.
    """
    classes, count = len(np.unique(labels)), len(labels)
    least = 5 * classes
    if limit is not None and not least <= limit <= count:
        raise TaskError(
            f"{name}@N uses N of the {count} training images, from {least} (5 per class); "
            f"got {limit}"
        )
    chosen = balanced_order(labels)[:limit]
    validation = round(VALIDATION_SHARE * len(chosen))
    return chosen[validation:], chosen[:validation]
