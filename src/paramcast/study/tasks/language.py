"""The built-in task with text: the next character of Shakespeare."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import TaskError
from .data.download import Remote
from .data.places import DataSet
from .networks import Network
from .splits import VALIDATION_SHARE
from .task import Task

TEST_SHARE = 0.1
FEWEST_CHARACTERS = 10_000
SHAKESPEARE = DataSet.of_file(
    "tinyshakespeare",
    ("shakespeare",),
    Remote(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
    ),
)


def shakespeare(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """Tiny Shakespeare: the next of 65 characters, in 1.1 million; its last tenth tests.

    The text is cut into windows of the network's context, which do not overlap; every position of
    a window is a prediction. The loss is the cross entropy per character in nats, the metric the
    share of characters predicted correctly.
    """
    codes, alphabet = encode(SHAKESPEARE.only_file(folder).read_text("ascii"))
    test_from = round((1 - TEST_SHARE) * len(codes))
    if limit is not None and not FEWEST_CHARACTERS <= limit <= test_from:
        raise TaskError(
            f"{name.partition('@')[0]}@N uses the first N of the {test_from} training characters, "
            f"from {FEWEST_CHARACTERS}; got {limit}"
        )
    known = codes[: limit or test_from]
    cut = round((1 - VALIDATION_SHARE) * len(known))
    settings = {"base": "adamw", "weight_decay": 0.1, "lr_range": (3e-4, 1e-2), "epochs": 1}
    return Task(
        name=name,
        model=partial(network.make, len(alphabet), network.context),
        train=windows(known[:cut], network.context),
        validation=windows(known[cut:], network.context),
        test=windows(codes[test_from:], network.context),
        **{**settings, "batch_size": 32, **network.settings},  # type: ignore[arg-type]
    )


def windows(codes: npt.NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (windows, length): the targets are the inputs one character later."""
    count = (len(codes) - 1) // length
    inputs, targets = codes[: count * length], codes[1 : count * length + 1]
    return (
        torch.from_numpy(inputs.reshape(count, length).copy()),
        torch.from_numpy(targets.reshape(count, length).copy()),
    )


def encode(text: str) -> tuple[npt.NDArray[np.int64], str]:
    """Characters as numbers, and the alphabet: the text's characters in the order of their codes.

    Example:
        >>> encode("banana")
        (array([1, 0, 2, 0, 2, 0]), 'abn')
    """
    alphabet = "".join(sorted(set(text)))
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    places = np.searchsorted(np.array([ord(c) for c in alphabet]), codes)
    return places.astype(np.int64), alphabet
