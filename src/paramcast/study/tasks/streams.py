"""Streams: tasks whose examples arrive in segments, each with a distribution of its own."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...errors import TaskError

FINAL, PREQUENTIAL = "final", "prequential"
JUDGED = (FINAL, PREQUENTIAL)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of a stream: which examples arrive in it, and which measure it.

    Args:
        train, validation, test: indices into the task's splits (a list, a range or a tensor).
        ramp: the share of the segment's steps in which examples of the segment before still
            arrive, with a probability that falls linearly to 0. With 0 the change is abrupt.
    """

    train: Any
    validation: Any
    test: Any
    ramp: float = 0.0


@dataclass(frozen=True, eq=False)
class Stream:
    """The order in which a task's examples arrive.

    Every example of every split belongs to exactly one segment. The steps of a run are shared
    among the segments in proportion to their training examples; in a segment these come in passes,
    each in a new random order.

    Args:
        segments: first to last.
        judged: "prequential" (the mean over all steps of the accuracy on held-out examples of the
            distribution in force, measured before the step) or "final" (the mean over the segments
            of the accuracy at the end).
        memory: how many past training examples are kept, by reservoir sampling (Vitter 1985), to
            be replayed: each batch then holds as many of them as new ones. 0 keeps none.

    Example:
        >>> halves = [Segment(range(0, 50), range(0, 10), range(0, 10)),
        ...           Segment(range(50, 100), range(10, 20), range(10, 20), ramp=0.5)]
        >>> len(Stream(tuple(halves)).segments)
        2
    """

    segments: tuple[Segment, ...]
    judged: str = PREQUENTIAL
    memory: int = 0


def parts_of(stream: Stream) -> list[Segment]:
    """The segments of a stream, checked, with their indices as tensors on the CPU."""
    return [
        replace(
            part, ramp=float(part.ramp), **{n: _indices(getattr(part, n), n, i) for n in SPLITS}
        )
        for i, part in enumerate(stream.segments, 1)
    ]


def digest(stream: Stream) -> str:
    """A hash of everything that a stream specifies."""
    parts = parts_of(stream)
    told = [(p.train.tolist(), p.validation.tolist(), p.test.tolist(), p.ramp) for p in parts]
    return hashlib.sha256(repr((told, stream.judged, stream.memory)).encode()).hexdigest()


def check_stream(stream: Any, labels: dict[str, Tensor]) -> None:
    """Refuse a stream that cannot be run, before anything runs; `labels` are by split."""
    if not isinstance(stream, Stream):
        raise TaskError(f"Task.stream must be a Stream, got {stream!r}")
    segments = stream.segments
    if not isinstance(segments, tuple) or len(segments) < 2:
        found = len(segments) if isinstance(segments, tuple) else repr(segments)
        raise TaskError(f"Stream.segments must be a tuple of at least 2 Segments, got {found}")
    if not all(isinstance(segment, Segment) for segment in segments):
        raise TaskError("Stream.segments must hold Segments only")
    if stream.judged not in JUDGED:
        raise TaskError(f"Stream.judged must be {' or '.join(JUDGED)}, got {stream.judged!r}")
    if type(stream.memory) is not int or stream.memory < 0:
        raise TaskError(
            f"Stream.memory must be a whole number of examples from 0, got {stream.memory!r}"
        )
    for number, segment in enumerate(segments, 1):
        ramp = segment.ramp
        if isinstance(ramp, bool) or not isinstance(ramp, (int, float)) or not 0 <= ramp <= 1:
            raise TaskError(f"the ramp of segment {number} must be from 0 to 1, got {ramp!r}")
        if number == 1 and ramp:
            raise TaskError("segment 1 has a ramp, but no segment before it; give it ramp=0")
    # every example belongs to exactly one segment
    parts = parts_of(stream)
    for name in SPLITS:
        _check_partition([getattr(part, name) for part in parts], name, len(labels[name]))
    # a segment trains every class that it is tested on
    for number, part in enumerate(parts, 1):
        trained = set(labels["train"][part.train].tolist())
        for name in ("validation", "test"):
            unknown = set(labels[name][getattr(part, name)].tolist()) - trained
            if unknown:
                raise TaskError(
                    f"segment {number} lacks the class {min(unknown)}: its {name} examples have "
                    "it, its training examples do not; add some, or move it"
                )


def _indices(value: Any, name: str, number: int) -> Tensor:
    try:
        tensor = torch.as_tensor(list(value) if isinstance(value, range) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"the {name} indices of segment {number} cannot be read as a tensor: {error}"
        ) from None
    if tensor.numel() == 0:
        raise TaskError(
            f"segment {number} has no {name} examples; give it at least one, or leave it out"
        )
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise TaskError(
            f"the {name} indices of segment {number} must be a list of whole numbers, got "
            f"shape {tuple(tensor.shape)} of {tensor.dtype}"
        )
    return tensor.long().cpu()


def _check_partition(segments: list[Tensor], name: str, count: int) -> None:
    every = torch.cat(segments)
    low, high = int(every.min()), int(every.max())
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise TaskError(f"the {name} split has examples 0 to {count - 1}, a segment names {wrong}")
    times = torch.bincount(every, minlength=count)
    if int(times.max()) > 1:
        raise TaskError(
            f"{name} example {int(times.argmax())} is in two segments, or twice in one; each "
            "belongs to exactly one"
        )
    if int(times.min()) == 0:
        raise TaskError(
            f"{int((times == 0).sum())} {name} examples are in no segment, the first is "
            f"{int(times.argmin())}; put each into one, or leave them out of the split"
        )


def shares(stream: Stream, steps: int) -> list[int]:
    """How many of a run's steps each segment gets, at least one each.

    In proportion to the training examples: segment i ends after round(steps * share of the examples
    in segments 1 to i).
    """
    counts = [len(part.train) for part in parts_of(stream)]
    if steps < len(counts):
        raise TaskError(
            f"the run has {steps} steps for {len(counts)} segments; "
            "give it more epochs or a smaller batch size"
        )
    total, seen, ends = sum(counts), 0, [0]
    for i, count in enumerate(counts):
        seen += count
        left = len(counts) - 1 - i
        ends.append(min(max(math.floor(steps * seen / total + 0.5), ends[-1] + 1), steps - left))
    return [b - a for a, b in itertools.pairwise(ends)]
