"""The built-in streams: the image tasks with classes that arrive in groups, and with drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .streams import FINAL, PREQUENTIAL, SPLITS, Segment, Stream
from .task import Task

Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def class_incremental(task: Task, groups: Sequence[Sequence[int]], memory: int) -> Task:
    """The task with its classes in groups, one group after another; judged at the end.

    `memory`: how many past examples are kept and replayed.
    """

    def of(group: Sequence[int], split: str) -> Tensor:
        labels = getattr(task, split)[1]
        return torch.isin(labels, torch.tensor(list(group))).nonzero().flatten()

    segments = (
        Segment(of(group, "train"), of(group, "validation"), of(group, "test")) for group in groups
    )
    return replace(task, stream=Stream(tuple(segments), FINAL, memory), schedule="constant")


class Concept(NamedTuple):
    """A stretch of a drifting stream."""

    share: float  # its part of the examples, relative to the other stretches
    change: Change  # change(inputs, targets), what the examples are turned into
    ramp: float = 0.0  # as in `Segment`


def as_it_is(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The examples unchanged."""
    return inputs, targets


def swapped(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The labels 0 and 1, 2 and 3, ... take each other's place: the right answer changes."""
    return inputs, targets ^ 1


def turned(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The images are turned by 90 degrees: the inputs change."""
    return torch.rot90(inputs, dims=(-2, -1)), targets


# two abrupt changes, the second of which brings the old labels back, and a gradual one
CONCEPTS = (
    Concept(1, as_it_is),
    Concept(1, swapped),
    Concept(1, as_it_is),
    Concept(2, turned, ramp=0.5),
)


def drifting(task: Task) -> Task:
    """The task with its splits cut into the stretches of CONCEPTS, judged throughout."""
    shares = torch.tensor([concept.share for concept in CONCEPTS], dtype=torch.float64)
    # cut each split in proportion to the shares, and change each piece
    changed: dict[str, Any] = {}
    chosen: list[list[Tensor]] = [[] for _ in CONCEPTS]
    for split in SPLITS:
        inputs, targets = getattr(task, split)
        ends = [0, *(shares.cumsum(0) / shares.sum() * len(inputs)).round().long().tolist()]
        pieces = []
        for i, concept in enumerate(CONCEPTS):
            indices = torch.arange(ends[i], ends[i + 1])
            chosen[i].append(indices)
            pieces.append(concept.change(inputs[indices], targets[indices]))
        changed[split] = tuple(torch.cat(part) for part in zip(*pieces, strict=True))
    segments = tuple(
        Segment(train, validation, test, concept.ramp)
        for (train, validation, test), concept in zip(chosen, CONCEPTS, strict=True)
    )
    return replace(task, **changed, stream=Stream(segments, PREQUENTIAL), schedule="constant")
