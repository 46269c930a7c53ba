"""The tasks that come with the package, their networks, and the names that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...errors import TaskError
from ..reading import shown
from .data.places import DataSet, locate
from .housing import HOUSING, california
from .intents import CLINC150, clinc150
from .language import SHAKESPEARE, shakespeare
from .networks import CHARACTERS, IMAGES, TABLES, WORDS, Network, small_cnn, some
from .online import class_incremental, drifting
from .task import Task
from .vision import CIFAR10, CIFAR100, COARSE, FASHION, cifar10, cifar100, cifar100_coarse, fashion

SMALL_CNN = Network(small_cnn)
DIGITS_STREAM: dict[str, Any] = {"epochs": 4, "batch_size": 20}
# without a decaying schedule the best rates are lower than `fashion`'s
FASHION_STREAM: dict[str, Any] = {"epochs": 2, "batch_size": 32, "lr_range": (0.0005, 0.05)}
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))  # classes that come together, in their order


def digits(name: str = "digits", network: Network = SMALL_CNN) -> Task:
    """1,797 handwritten digits of 8x8 pixels (scikit-learn): 300 train, 397 validate, 1,100 test.

    With the usual 60/20/20 the test accuracy saturates (3 errors in 360); few training images and
    many test images leave room for differences.
    """
    return split_digits(name, network, train=300, test=1100)


def digits_classes(name: str, network: Network) -> Task:
    """The digits, two classes at a time, with a memory of 100 images: 1,000 train, 497 test."""
    task = split_digits(name, network, train=1000, test=497)
    return class_incremental(replace(task, **DIGITS_STREAM), PAIRS, memory=100)


def digits_drift(name: str, network: Network) -> Task:
    """The digits, drifting: labels swapped and back, images turned: 1,000 train, 497 test."""
    return drifting(replace(split_digits(name, network, train=1000, test=497), **DIGITS_STREAM))


def fashion_classes(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """Fashion-MNIST, two classes at a time, with a memory of 200 images."""
    task = fashion(name, network, folder, limit)
    return class_incremental(replace(task, **FASHION_STREAM), PAIRS, memory=200)


def fashion_drift(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """Fashion-MNIST, drifting: labels swapped and back, images turned."""
    return drifting(replace(fashion(name, network, folder, limit), **FASHION_STREAM))


def split_digits(name: str, network: Network, train: int, test: int) -> Task:
    """The digits with that many images to train and test; the others validate."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(bunch.target, dtype=torch.long)
    rest, held_out = train_test_split(
        range(len(labels)), test_size=test, random_state=0, stratify=labels.numpy()
    )
    chosen, validation = train_test_split(
        rest, train_size=train, random_state=0, stratify=labels[rest].numpy()
    )
    train_mean, train_std = images[chosen].mean(), images[chosen].std()
    images = (images - train_mean) / train_std
    return Task(
        name=name,
        model=partial(network.make, channels=1, classes=10, size=8),
        train=(images[chosen], labels[chosen]),
        validation=(images[validation], labels[validation]),
        test=(images[held_out], labels[held_out]),
        epochs=15,
        batch_size=32,
        lr_range=(0.003, 0.3),
    )


@dataclass(frozen=True)
class Builtin:
    """A family of built-in tasks: one data set, several networks."""

    # make(name, network), or make(name, network, folder, limit) where there are data to be found;
    # its docstring's first line is what `paramcast tasks` shows
    make: Callable[..., Task]
    networks: Mapping[str, Network]  # by name; the first is the default
    data: DataSet | None = None  # what to look for; None where the data come with a package
    whole: bool = False  # takes no @N

    @property
    def line(self) -> str:
        return (self.make.__doc__ or "").splitlines()[0]

    @property
    def default(self) -> str:
        return next(iter(self.networks))


DIGITS_NETWORKS = {"cnn": SMALL_CNN, **some(IMAGES, "mlp", "resnet8")}
FASHION_NETWORKS = some(
    IMAGES, "cnn", "cnn-wide", "mlp", "resnet8", "resnet20", "resnet18", "googlenet", "vit-tiny"
)
CIFAR_NETWORKS = {"resnet8": IMAGES["resnet8"], **IMAGES}
BUILTIN: dict[str, Builtin] = {
    "digits": Builtin(digits, DIGITS_NETWORKS),
    "fashion": Builtin(fashion, FASHION_NETWORKS, FASHION),
    "cifar10": Builtin(cifar10, CIFAR_NETWORKS, CIFAR10.data),
    "cifar100": Builtin(cifar100, CIFAR_NETWORKS, CIFAR100.data),
    "cifar100-coarse": Builtin(cifar100_coarse, CIFAR_NETWORKS, COARSE.data),
    "shakespeare": Builtin(shakespeare, CHARACTERS, SHAKESPEARE),
    "clinc150": Builtin(clinc150, WORDS, CLINC150, whole=True),
    "california": Builtin(california, TABLES, HOUSING, whole=True),
    "digits-classes": Builtin(digits_classes, DIGITS_NETWORKS),
    "digits-drift": Builtin(digits_drift, DIGITS_NETWORKS),
    "fashion-classes": Builtin(fashion_classes, FASHION_NETWORKS, FASHION),
    "fashion-drift": Builtin(fashion_drift, FASHION_NETWORKS, FASHION),
}


@dataclass(frozen=True)
class Choice:
    """A built-in task as its name says it: TASK, TASK/NETWORK, TASK@N or TASK/NETWORK@N."""

    task: str
    network: str
    limit: int | None = None

    @property
    def name(self) -> str:
        """The shortest name: without the network if it is the default."""
        network = "" if self.network == BUILTIN[self.task].default else f"/{self.network}"
        return f"{self.task}{network}{'' if self.limit is None else f'@{self.limit}'}"


def is_builtin(text: str) -> bool:
    """Whether a text starts with the name of a built-in task."""
    return text.partition("@")[0].partition("/")[0] in BUILTIN


def choose(text: str) -> Choice:
    """Read the name of a built-in task.

    Example:
        >>> choose("digits/mlp")
        Choice(task='digits', network='mlp', limit=None)
        >>> choose("fashion/cnn@10000").name
        'fashion@10000'
    """
    words, at, count = text.partition("@")
    task, slash, network = words.partition("/")
    if task not in BUILTIN:
        raise TaskError(f"unknown task {task!r}; the built-in ones are {', '.join(BUILTIN)}")
    known = BUILTIN[task].networks
    if slash and network not in known:
        folder = f"; for the folder write ./{text}" if Path(text).is_dir() else ""
        raise TaskError(
            f"task {task} has no network {shown(network)}; it has {', '.join(known)}{folder}"
        )
    if not at:
        return Choice(task, network or BUILTIN[task].default)
    if BUILTIN[task].data is None or BUILTIN[task].whole:
        raise TaskError(f"task {task} is small and takes no @N; got {shown(text)}")
    if not (count.isascii() and count.isdigit()) or len(count) > 9 or int(count) == 0:
        raise TaskError(f"N of {words}@N must be a whole number of examples, got {shown(count)}")
    return Choice(task, network or BUILTIN[task].default, int(count))


def find_data(choice: Choice, data_dir: str | None) -> str:
    """The folder of a task's data, or "" if the task needs none; downloads what is missing."""
    data = BUILTIN[choice.task].data
    if data is None:
        if data_dir is not None:
            raise TaskError(f"task {choice.task} comes with its data, so --data-dir has no use")
        return ""
    return str(locate(data, data_dir))


def build(choice: Choice, folder: str = "") -> Task:
    """The task, its data read from `folder`."""
    kind = BUILTIN[choice.task]
    network = kind.networks[choice.network]
    if kind.data is None:
        return kind.make(choice.name, network)
    # missing, as on a machine other than the one that found it, it is searched for again
    path = Path(folder) if folder and Path(folder).is_dir() else locate(kind.data)
    return kind.make(choice.name, network, path, choice.limit)
