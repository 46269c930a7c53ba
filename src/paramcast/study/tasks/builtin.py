"""The tasks that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from .networks import small_cnn
from .task import Task


def digits() -> Task:
    """1,797 handwritten digits of 8x8 pixels (scikit-learn): 300 train, 397 validate, 1,100 test.

    With the usual 60/20/20 the test accuracy saturates (3 errors in 360); few training images and
    many test images leave something to see.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(bunch.target, dtype=torch.long)
    rest, test = train_test_split(
        range(len(labels)), test_size=1100, random_state=0, stratify=labels.numpy()
    )
    train, validation = train_test_split(
        rest, train_size=300, random_state=0, stratify=labels[rest].numpy()
    )
    train_mean, train_std = images[train].mean(), images[train].std()
    images = (images - train_mean) / train_std
    return Task(
        name="digits",
        model=partial(small_cnn, channels=1, classes=10, size=8),
        train=(images[train], labels[train]),
        validation=(images[validation], labels[validation]),
        test=(images[test], labels[test]),
        epochs=15,
        batch_size=32,
        lr_range=(0.003, 0.3),
    )


BUILTIN: dict[str, Callable[[], Task]] = {"digits": digits}
