"""The built-in tasks with images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from .data.cifar import Cifar
from .data.download import Remote
from .data.idx import either, read_idx, read_labels
from .data.parquet import Part
from .data.places import DataSet
from .networks import Network
from .splits import train_and_validation
from .task import Task

PADDING = 4  # pixels at each edge in `crop_and_flip`, as is usual for 32 x 32
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
    return image_task(name, network, train, test, limit, epochs=3)


def _cifar_set(classes: int, shards: str, sha256: str, size: int) -> DataSet:
    """CIFAR by its number of classes; `shards` is Hugging Face's folder of parquet files."""
    archive = f"cifar-{classes}-binary.tar.gz"
    parquet = "train-*-of-*.parquet"
    return DataSet(
        name=f"cifar{classes}",
        folders=(f"cifar-{classes}", f"CIFAR{classes}"),
        marks=(parquet, f"{shards}/{parquet}", f"data/{parquet}", archive),
        remotes=(Remote(f"https://www.cs.toronto.edu/~kriz/{archive}", sha256, size),),
    )


CIFAR10 = Cifar(
    _cifar_set(
        10, "plain_text",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171,
    ),
    classes=10,
    label_bytes=1,
    column="label",
    folder="cifar-10-batches-bin",
    files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
)  # fmt: skip
CIFAR100 = Cifar(
    _cifar_set(
        100, "cifar100",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168_513_733,
    ),
    classes=100,
    label_bytes=2,
    column="fine_label",
    folder="cifar-100-binary",
    files={"train": ("train.bin",), "test": ("test.bin",)},
)  # fmt: skip
COARSE = replace(CIFAR100, classes=20, label_bytes=1, more_bytes=1, column="coarse_label")


def cifar10(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """CIFAR-10: 50,000 colour photographs, 32x32, 10 classes; the official 10,000 test."""
    return _cifar(CIFAR10, name, network, folder, limit)


def cifar100(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """CIFAR-100: 50,000 colour photographs, 32x32, 100 classes; the official 10,000 test."""
    return _cifar(CIFAR100, name, network, folder, limit)


def cifar100_coarse(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """CIFAR-100 by its 20 superclasses, such as flowers, insects and vehicles."""
    return _cifar(COARSE, name, network, folder, limit)


def _cifar(kind: Cifar, name: str, network: Network, folder: Path, limit: int | None) -> Task:
    train, test = kind.read(folder, "train"), kind.read(folder, "test")
    return image_task(name, network, train, test, limit, epochs=20, augment=crop_and_flip)


def image_task(
    name: str,
    network: Network,
    train: Part,
    test: Part,
    limit: int | None,
    *,
    epochs: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Task:
    """A task of images as bytes: a fixed fifth validates, channels are scaled as in training."""
    classes = int(train.labels.max()) + 1
    chosen, held_out = train_and_validation(train.labels, limit, name.partition("@")[0])
    mean, std = _channels(train.images[chosen])

    def split(part: Part) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(part.images.astype(np.float32))
        return images.sub_(mean).div_(std), torch.from_numpy(part.labels.copy())

    channels, size = train.images.shape[1:3]
    return Task(
        name=name,
        model=partial(network.make, channels, classes, size),
        train=split(Part(train.images[chosen], train.labels[chosen])),
        validation=split(Part(train.images[held_out], train.labels[held_out])),
        test=split(test),
        augment=augment,
        **{"epochs": epochs, "batch_size": 128, "lr_range": (0.003, 0.3), **network.settings},
    )


def _channels(images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
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


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels and mirror every other one, at random.

    Each image is padded with 4 zeros (the training set's mean colour) on every side, cut back to
    its size at a place drawn uniformly, and mirrored left to right with probability 1/2.

    Args:
        images: (batch, channels, height, width).
        generator: on the images' device; alone determines the result.

    Returns:
        A new tensor of the same shape.
    """
    count, _, height, width = images.shape
    device = images.device
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
    across = torch.arange(width, device=device)
    rows = shifts[0] + torch.arange(height, device=device)  # (batch, height)
    columns = shifts[1] + torch.where(mirrored, across.flip(0), across)  # (batch, width)
    padded = nnf.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(count, device=device)
    cut = padded[each[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()
