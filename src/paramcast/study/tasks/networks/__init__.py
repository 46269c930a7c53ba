"""Networks for the built-in tasks and for data that come without one.

A network for images is built by name from `IMAGES`, called with (channels, classes, size); one for
characters from `CHARACTERS`, called with (vocabulary, context); one for words from `WORDS`, called
with (vocabulary, classes); one for tables from `TABLES`, called with (inputs, outputs, numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from .googlenet import googlenet
from .recurrent import WordLSTM
from .resnet import cifar_resnet, resnet18
from .small import image_mlp, mlp, small_cnn, vgg16
from .tabular import mlp_plr
from .transformer import GPT, vit_tiny

__all__ = ["CHARACTERS", "IMAGES", "TABLES", "WORDS", "Network", "mlp", "small_cnn", "some"]


@dataclass(frozen=True)
class Network:
    """A network by name."""

    make: Callable[..., nn.Module]  # builds a fresh one
    # those of the Task in which this network departs from the data's usual ones
    settings: Mapping[str, Any] = field(default_factory=dict)
    context: int = 0  # length of the sequences it reads, for a network of characters


ADAMW = {"base": "adamw", "weight_decay": 0.05, "lr_range": (1e-4, 1e-2)}

IMAGES: dict[str, Network] = {
    "cnn": Network(partial(small_cnn, width=8, strided=True)),
    "cnn-wide": Network(partial(small_cnn, stages=3, strided=True)),
    "mlp": Network(image_mlp),
    "resnet8": Network(partial(cifar_resnet, depth=8)),
    "resnet20": Network(partial(cifar_resnet, depth=20)),
    "resnet18": Network(resnet18),
    "vgg16": Network(vgg16),
    "googlenet": Network(googlenet),
    "vit-tiny": Network(vit_tiny, ADAMW),
}

CHARACTERS: dict[str, Network] = {
    "gpt-tiny": Network(partial(GPT, layers=2, heads=2, width=64), context=64),
    "gpt-mini": Network(partial(GPT, layers=4, heads=4, width=128), context=64),
    "gpt-small": Network(partial(GPT, layers=6, heads=6, width=384, dropout=0.2), context=256),
}


WORDS: dict[str, Network] = {
    "lstm": Network(WordLSTM, {"base": "adamw", "weight_decay": 0.1, "lr_range": (1e-3, 1e-1)})
}

TABLES: dict[str, Network] = {
    "mlp-plr": Network(mlp_plr, {"base": "adamw", "weight_decay": 0.3, "lr_range": (3e-4, 3e-2)}),
    "mlp": Network(lambda inputs, outputs, numbers: mlp(inputs, outputs)),
}


def some(networks: Mapping[str, Network], *names: str) -> dict[str, Network]:
    """The named ones, in this order; the first is a task's default."""
    return {name: networks[name] for name in names}
