"""The built-in task with words: what a sentence said to an assistant wants."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .data.download import Remote
from .data.places import DataSet
from .networks import Network
from .task import Task

CLINC150 = DataSet.of_file(
    "clinc150",
    ("clinc", "oos-eval/data"),
    Remote(
        "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json",
        "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
        2_495_390,
    ),
)
Pairs = list[tuple[str, str]]  # texts, each with the name of its class


def clinc150(name: str, network: Network, folder: Path, limit: int | None) -> Task:
    """CLINC150: which of 150 intents a sentence has; the official 15,000 train, 4,500 test.

    The sentences outside all intents are left out. Words that training has once or never are one
    word; digits and punctuation marks are words of their own.
    """
    content = json.loads(CLINC150.only_file(folder).read_bytes())
    train, validation, test = ([*map(tuple, content[split])] for split in ("train", "val", "test"))
    known = vocabulary(text for text, _ in train)
    labels = {label: i for i, label in enumerate(sorted({label for _, label in train}))}
    longest = max(len(words(text)) for text, _ in train)
    return Task(
        name=name,
        model=partial(network.make, len(known) + 2, len(labels)),
        train=numbered(train, known, labels, longest),
        validation=numbered(validation, known, labels, longest),
        test=numbered(test, known, labels, longest),
        **{"epochs": 6, "batch_size": 64, **network.settings},  # type: ignore[arg-type]
    )


def words(text: str) -> list[str]:
    """A text's words, digits and punctuation marks.

    >>> words("what's on channel 12")
    ['what', "'", 's', 'on', 'channel', '1', '2']
    """
    return re.findall(r"[^\W\d_]+|\d|[^\w\s]", text.lower())


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Numbers from 2 for the words that appear at least twice, in alphabetical order.

    >>> vocabulary(["play a song", "play the song", "the end"])
    {'play': 2, 'song': 3, 'the': 4}
    """
    counts = Counter(word for text in texts for word in words(text))
    return {w: i for i, w in enumerate(sorted(w for w, n in counts.items() if n > 1), 2)}


def numbered(
    pairs: Pairs, known: dict[str, int], labels: dict[str, int], longest: int
) -> tuple[Tensor, Tensor]:
    """Texts as numbers, cut or filled up with 0 to one length, and the classes' numbers.

    1 stands for an unknown word.
    """
    inputs = torch.zeros(len(pairs), longest, dtype=torch.long)
    for row, (text, _) in zip(inputs, pairs, strict=True):
        found = [known.get(word, 1) for word in words(text)[:longest]]
        row[: len(found)] = torch.tensor(found)
    return inputs, torch.tensor([labels[label] for _, label in pairs])
