"""Fixed splits and subsets: the same examples on every machine and in every version."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...errors import TaskError

VALIDATION_SHARE = 0.2
FEWEST_PER_CLASS = 5  # of 5 examples 60/20/20 are 3, 1 and 1


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
    """Indices to train (80 %) and to validate (20 %), of `limit` examples of a training set."""
    count, least = len(labels), FEWEST_PER_CLASS * len(np.unique(labels))
    if limit is not None and not least <= limit <= count:
        raise TaskError(
            f"{name}@N uses N of the {count} training images, from {least} (5 per class); "
            f"got {limit}"
        )
    chosen = balanced_order(labels)[:limit]
    validation = round(VALIDATION_SHARE * len(chosen))
    return chosen[validation:], chosen[:validation]


def check_classes(name: str, labels: list[str], targets: torch.Tensor) -> None:
    """Refuse classes with too few examples to split."""
    counts = torch.bincount(targets, minlength=len(labels))
    if len(labels) < 2:
        raise TaskError(f"{name} has only the class {labels}; at least 2 are needed")
    fewest = int(counts.argmin())
    if int(counts[fewest]) < FEWEST_PER_CLASS:
        raise TaskError(
            f"class {labels[fewest]!r} of {name} has only {int(counts[fewest])} of the "
            f"{FEWEST_PER_CLASS} examples that a split needs; add some, or leave the class out"
        )


def split_at_random(
    count: int, stratify: torch.Tensor | None, name: str, split: int = 0
) -> tuple[list[int], ...]:
    """60/20/20 at random, classes in equal shares; `split` is the seed."""
    from sklearn.model_selection import train_test_split

    if count < 20:
        raise TaskError(f"{name} has {count} examples; at least 20 are needed to split them")

    def cut(of: list[int], share: float) -> tuple[list[int], list[int]]:
        labels = None if stratify is None else stratify.numpy()[of]
        parts = train_test_split(of, train_size=share, random_state=split, stratify=labels)
        return parts[0], parts[1]

    try:
        train, rest = cut(list(range(count)), 0.6)
        validation, test = cut(rest, 0.5)
    except ValueError as error:
        raise TaskError(f"{name} cannot be split by class: {error}") from None
    return train, validation, test
