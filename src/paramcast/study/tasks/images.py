"""A task from a folder that holds one folder of images per class."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import TaskError
from .networks import small_cnn
from .splits import VALIDATION_SHARE, check_classes, split_at_random
from .task import Task


def task_from_images(name: str, file: Path, split: int = 0) -> Task:
    """The images that `image_folder` stored in a file, 32x32, and a small convolutional network."""
    with np.load(file, allow_pickle=False) as stored:
        pixels, labels, splits, classes, description = (
            stored[key] for key in ("pixels", "labels", "splits", "classes", "description")
        )
    inputs = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
    targets = torch.tensor(labels)
    train, validation, test = _split(name, splits, targets, classes.tolist(), split)
    mean = inputs[train].mean((0, 2, 3), keepdim=True)
    std = inputs[train].std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    inputs = (inputs - mean) / std
    return Task(
        name=name,
        model=partial(small_cnn, 3, len(classes), inputs.shape[-1], stages=3),
        train=(inputs[train], targets[train]),
        validation=(inputs[validation], targets[validation]),
        test=(inputs[test], targets[test]),
        epochs=15,
        description=json.loads(str(description)),
    )


def _split(
    name: str, splits: npt.NDArray[np.int64], targets: Tensor, classes: list[str], split: int
) -> list[list[int]]:
    """The given splits; a missing one is a fifth of train; without both, all are as for a table."""
    from sklearn.model_selection import train_test_split

    given = [np.flatnonzero(splits == number).tolist() for number in range(3)]  # train, val, test
    for label, count in enumerate(torch.bincount(targets[given[0]], minlength=len(classes))):
        if count == 0 and bool((targets == label).any()):
            raise TaskError(
                f"class {classes[label]!r} of {name} has images to validate or test, but none in "
                "train; add some, or remove its folders"
            )
    missing = [number for number in (1, 2) if not given[number]]
    if missing:
        check_classes(name, classes, targets[given[0]])
    if len(missing) == 2:
        return list(split_at_random(len(targets), targets, name, split))
    if split > 0:
        raise TaskError(
            f"{name} has splits of its own, and --splits makes random ones; leave --splits out, or "
            "give a folder without train, val and test"
        )
    for number in missing:
        given[0], given[number] = train_test_split(
            given[0], test_size=VALIDATION_SHARE, random_state=0, stratify=targets[given[0]].numpy()
        )
    return given
