"""The built-in tasks with images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .data.download import Remote
from .data.idx import either, read_idx, read_labels
from .data.places import DataSet
from .networks import mlp, strided_cnn
from .splits import train_and_validation
from .task import Task

Network = Callable[..., nn.Module]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Part(NamedTuple):
    """Images as bytes, (examples, channels, height, width), and their labels."""

    images: Bytes
    labels: Labels


def image_mlp(channels: int, classes: int, size: int, width: int = 64) -> nn.Module:
    """`mlp` on an image's pixels."""
    return nn.Sequential(nn.Flatten(), mlp(channels * size**2, classes, width))


SMALL: dict[str, Network] = {"cnn": strided_cnn, "mlp": image_mlp}
"""Networks for images of any size, called with channels, classes and size."""

FASHION_HOME = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION = DataSet(
    name="fashion-mnist",
    folders=("fashion", "FashionMNIST/raw"),
    marks=("*-idx[13]-ubyte*",),
    remotes=tuple(
        Remote(FASHION_HOME + name, sha256, size)
        for name, sha256, size in (
            ("train-images-idx3-ubyte.gz",
             "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
            ("train-labels-idx1-ubyte.gz",
             "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
            ("t10k-images-idx3-ubyte.gz",
             "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
            ("t10k-labels-idx1-ubyte.gz",
             "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
        )
    ),
    system=("/usr/share/datasets/fashion-mnist",),
    advice="on Debian, apt install dataset-fashion-mnist",
)  # fmt: skip


def fashion(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """Fashion-MNIST: 60,000 pictures of clothes, 28x28, 10 classes; the official 10,000 test."""
    train, test = (
        Part(
            read_idx(either(folder, f"{part}-images-idx3-ubyte"), (count, 28, 28))[:, None],
            read_labels(either(folder, f"{part}-labels-idx1-ubyte"), count, 10),
        )
        for part, count in (("train", 60_000), ("t10k", 10_000))
    )
    return image_task(name, network, train, test, limit, epochs=3, batch_size=128)


def image_task(
    name: str,
    network: Network,
    train: Part,
    test: Part,
    limit: int | None,
    *,
    epochs: int,
    batch_size: int,
    lr_range: tuple[float, float] = (0.003, 0.3),
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Task:
    """A task of images in bytes: a fixed fifth validates, channels are scaled by training's."""
    classes = int(train.labels.max()) + 1
    chosen, held_out = train_and_validation(train.labels, limit, name.partition("@")[0])
    mean, std = _channels(train.images[chosen])

    def split(part: Part) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(part.images.copy()).float()
        return images.sub_(mean).div_(std), torch.from_numpy(part.labels.copy())

    channels, size = train.images.shape[1:3]
    return Task(
        name=name,
        model=partial(network, channels, classes, size),
        train=split(Part(train.images[chosen], train.labels[chosen])),
        validation=split(Part(train.images[held_out], train.labels[held_out])),
        test=split(test),
        epochs=epochs,
        batch_size=batch_size,
        lr_range=lr_range,
        augment=augment,
    )


def _channels(images: Bytes) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, exactly: sums of whole numbers."""
    counts = np.stack(
        [np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]
    )
    values = np.arange(256)
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ values
    std = np.sqrt(share @ values**2 - mean**2)
    shape = (1, -1, 1, 1)
    return torch.tensor(mean).float().reshape(shape), torch.tensor(std).float().reshape(shape)
