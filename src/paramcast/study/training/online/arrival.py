"""The order in which a stream's examples arrive: fixed before a run, the same for all methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...spec import axis_seed
from ...tasks.streams import Segment, Stream, parts_of, shares

HELD_OUT = 32  # held-out examples per split that measure a step


class Arrival(NamedTuple):
    """One step of a stream, as indices into the task's splits."""

    segment: int  # its number, from 0
    last: bool  # whether it is the segment's last step
    new: Tensor  # the training examples that arrive
    replayed: Tensor  # those taken from the memory
    validation: Tensor  # held-out examples of the distribution in force
    test: Tensor


def arrivals(
    stream: Stream, steps: int, batch_size: int, phase: str, seed: int
) -> Iterator[Arrival]:
    """The steps of a run, which do not depend on the model.

    Every segment has its own generators, so that a shorter run sees the beginning of each segment
    of a longer one.
    """
    parts, reservoir = parts_of(stream), Reservoir(stream.memory, _generator("memory", phase, seed))
    for number, (part, count) in enumerate(zip(parts, shares(stream, steps), strict=True)):
        before = parts[number - 1] if number else None
        train, validation, test = (
            _Mixture(part, before, split, _generator(f"{split}-{number}", phase, seed))
            for split in ("train", "validation", "test")
        )
        for i in range(count):
            # the share of the new segment's examples rises linearly along the ramp
            fresh = min(1.0, (i + 1) / (part.ramp * count)) if part.ramp else 1.0
            new = train.take(batch_size, fresh)
            replayed = reservoir.draw(batch_size)
            held_out = validation.take(HELD_OUT, fresh), test.take(HELD_OUT, fresh)
            yield Arrival(number, i == count - 1, new, replayed, *held_out)
            reservoir.add(new)  # after the step: an example is replayed from the next step on


def _generator(axis: str, phase: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(axis_seed(f"stream-{axis}", phase, seed))


class _Passes:
    """Examples in endless passes, each pass in a new random order."""

    def __init__(self, indices: Tensor, generator: torch.Generator) -> None:
        self.indices, self.generator = indices, generator
        self.queue = indices[:0]

    def take(self, count: int) -> Tensor:
        while len(self.queue) < count:
            order = torch.randperm(len(self.indices), generator=self.generator)
            self.queue = torch.cat([self.queue, self.indices[order]])
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken


class _Mixture:
    """A segment's examples of one split, mixed with those of the segment before."""

    def __init__(
        self, part: Segment, before: Segment | None, split: str, generator: torch.Generator
    ) -> None:
        self.generator = generator
        self.fresh = _Passes(getattr(part, split), generator)
        self.old = _Passes(getattr(before, split), generator) if before and part.ramp else None

    def take(self, count: int, fresh: float) -> Tensor:
        """Take `count` examples, each of this segment with probability `fresh`."""
        if self.old is None:
            return self.fresh.take(count)
        # only the number is drawn; the examples come in their own order
        new = int((torch.rand(count, generator=self.generator) < fresh).sum())
        return torch.cat([self.fresh.take(new), self.old.take(count - new)])


class Reservoir:
    """A memory in which each example that has arrived is kept with the same probability.

    Algorithm R: the first `size` are kept; the n-th takes a random place with probability size / n.
    An example that arrives again, in a later pass, counts once.

    Source: Vitter, ACM Transactions on Mathematical Software 11(1), 1985; as a memory for replay:
    Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv 1902.10486 (2019).
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator
        self.kept: list[int] = []
        self.seen: set[int] = set()

    def add(self, indices: Tensor) -> None:
        """Offer examples that have arrived."""
        if self.size == 0:
            return
        chances = torch.rand(len(indices), generator=self.generator).tolist()
        for index, chance in zip(indices.tolist(), chances, strict=True):
            if index in self.seen:
                continue
            self.seen.add(index)
            if len(self.kept) < self.size:
                self.kept.append(index)
            elif (place := int(chance * len(self.seen))) < self.size:
                self.kept[place] = index

    def draw(self, count: int) -> Tensor:
        """Draw `count` of the kept examples, or all of them if there are fewer, each once."""
        order = torch.randperm(len(self.kept), generator=self.generator)[:count]
        return torch.tensor(self.kept, dtype=torch.long)[order]
