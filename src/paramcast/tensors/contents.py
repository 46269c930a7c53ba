"""What segments hold: carried over to new ones, read into checkpoints, packed for copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .segments import Segment, make_segments


def views(segments: Iterable[Segment], buffer: int) -> dict[int, Tensor]:
    """One buffer's views by the id of their parameter."""
    return {
        id(p): view
        for segment in segments
        for p, view in zip(segment.parameters, segment.buffers[buffer], strict=True)
    }


def carry_over(old: Sequence[Segment], new: Sequence[Segment], buffer: int) -> None:
    """Copy one buffer's content for the parameters that are in both."""
    # a parameter that was pruned or resized since starts with zeros
    before = views(old, buffer)
    for key, view in views(new, buffer).items():
        if key in before and before[key].shape == view.shape:
            view.copy_(before[key])


def rows(segments: Iterable[Segment]) -> dict[int, list[Tensor]]:
    """Each parameter's buffers, by its id."""
    return {
        id(p): [views[i] for views in segment.buffers]
        for segment in segments
        for i, p in enumerate(segment.parameters)
    }


def fill(segments: Iterable[Segment], kept: Mapping[int, Sequence[Tensor | None]]) -> None:
    """Copy each parameter's buffers, by its id, into the segments; None leaves zeros."""
    for segment in segments:
        for i, p in enumerate(segment.parameters):
            for views, buffer in zip(segment.buffers, kept[id(p)], strict=True):
                if buffer is not None:
                    views[i].copy_(buffer)


def pack(segments: Iterable[Segment]) -> list[Any]:
    """The segments as copies and pickles hold them: flat tensors, and where the views lie in them.

    A pickled view would bring its whole flat tensor along; a clone would be freed before a process
    that torch spawns could map its memory.
    """
    return [
        (s.parameters, s.flats, [[_place(view) for view in views] for views in s.buffers])
        for s in segments
    ]


def _place(view: Tensor) -> tuple[Any, ...]:
    return tuple(view.size()), view.stride(), view.storage_offset()


def unpack(packed: Sequence[Any], precision: torch.dtype | None) -> list[Segment]:
    """New segments with what `pack` returned in their buffers."""
    kept: dict[int, list[Tensor]] = {id(p): [] for parameters, _, _ in packed for p in parameters}
    for parameters, flats, buffers in packed:
        for flat, places in zip(flats, buffers, strict=True):
            for p, place in zip(parameters, places, strict=True):
                kept[id(p)].append(flat.as_strided(*place))
    # new memory, laid out for the devices that the parameters are on now
    number = max((len(row) for row in kept.values()), default=0)
    segments = make_segments([p for each, _, _ in packed for p in each], number, precision)
    fill(segments, kept)
    return segments
