"""Parameters grouped by device, dtype and sharding, each group with its flat buffers.

Norms and inner products are those of the whole tensors: where parameters are sharded (`DTensor`:
`fully_shard`, tensor parallel) they are added up over the processes, which must all ask for them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import torch
import torch.distributed as dist
from torch import Tensor

from . import functional as F

SHORT = 1 << 12
"""Elements of the longest vector that is gathered with others."""
TOGETHER = (1 << 15) - 1
"""Elements gathered at a time: a cache holds them, and torch uses one thread up to so many."""
FEWEST = 16
"""Vectors for which it pays."""


class Gathered(NamedTuple):
    """Short vectors that lie next to each other in every buffer: one operation folds them all.

    Attributes:
        vectors: parameters.
        start, stop: their elements' place in each flat buffer.
        scratch: where their values are gathered, in the dtype that they and the buffers share.
    """

    vectors: list[Tensor]
    start: int
    stop: int
    scratch: Tensor


class Segment(NamedTuple):
    """Parameters of one device and dtype, all sharded alike.

    Attributes:
        parameters: as in the optimizer's groups.
        plain: each parameter is its own storage: not sharded, not complex.
        flats: one flat tensor per buffer, one element per element of the parameters.
        buffers: for each buffer its views, one per parameter.
        stamps: what the parameters' memory was when the segment was made: addresses and sizes.
        groups: the process groups over which the parameters are sharded; none where each process
            holds all of them.
        gathered: short vectors on a CPU; they come first in the flat tensors.
        apart: the place of all other parameters, where vectors are gathered.
    """

    parameters: list[Tensor]
    plain: bool
    flats: list[Tensor]
    buffers: list[list[Tensor]]
    stamps: tuple[list[int], list[int]]
    groups: tuple[Any, ...] = ()
    gathered: Sequence[Gathered] = ()
    apart: Sequence[int] = ()

    @property
    def points(self) -> list[Tensor]:
        """The parameters, or their local shards, or real views of complex ones."""
        return self.parameters if self.plain else [F.local(p) for p in self.parameters]

    def fold_(self, fold: F.Fold, buffer: int) -> None:
        """Move one of the buffers on by the parameters as they are now."""
        if fold.kind == F.SKIP:
            return
        for vectors, start, stop, scratch in self.gathered:
            torch.cat(vectors, out=scratch)
            F.fold_(fold, [self.flats[buffer][start:stop]], [scratch])
        buffers, points = self.buffers[buffer], self.points
        if self.gathered:
            buffers, points = [buffers[i] for i in self.apart], [points[i] for i in self.apart]
        F.fold_(fold, buffers, points)

    def current(self) -> bool:
        """Whether the parameters still own the same memory (`model.to(...)` moves it)."""
        return _stamps(self.points) == self.stamps

    @property
    def shard(self) -> tuple[int, ...]:
        """Which shard this process holds: its place in each of the groups."""
        return tuple(dist.get_rank(group) for group in self.groups)

    def without(self, leaving: set[int]) -> Segment:
        """The segment without some parameters, by id; it is made anew for the next cycle."""
        kept = [i for i, p in enumerate(self.parameters) if id(p) not in leaving]
        if len(kept) == len(self.parameters):
            return self
        for i, p in enumerate(self.parameters):
            if id(p) in leaving:
                for views in self.buffers:
                    views[i].zero_()  # it no longer counts in a norm
        parameters, *buffers = [[xs[i] for i in kept] for xs in (self.parameters, *self.buffers)]
        return self._replace(parameters=parameters, buffers=buffers, stamps=([], []), gathered=())


def without(segments: Iterable[Segment], leaving: set[int]) -> list[Segment]:
    """The segments without some parameters, by id."""
    left = [segment.without(leaving) for segment in segments]
    return [segment for segment in left if segment.parameters]


def make_segments(
    parameters: Sequence[Tensor], buffers: int, precision: torch.dtype | None
) -> list[Segment]:
    """Group the parameters and give each group so many buffers, all zero.

    Args:
        precision: the narrowest dtype of the buffers; None for the parameters' own.
    """
    kinds: dict[tuple[Any, ...], list[Tensor]] = {}
    for p in parameters:
        kinds.setdefault((p.device, p.dtype, F.sharding(p)), []).append(p)
    segments = []
    for (_, _, groups), members in kinds.items():
        points = [F.local(p) for p in members]
        plain = all(point is p for point, p in zip(points, members, strict=True))
        own = points[0].dtype
        dtype = own if precision is None else torch.promote_types(own, precision)
        alike = plain and dtype == own  # else `torch.cat` takes longer
        short = [i for i, p in enumerate(members) if alike and _is_short(p)]
        short = short if len(short) >= FEWEST else []
        apart = sorted(set(range(len(members))) - set(short))
        pairs = [_allocate(points, [*short, *apart], dtype) for _ in range(buffers)]
        flats, views = [flat for flat, _ in pairs], [views for _, views in pairs]
        gathered = _gather([members[i] for i in short], dtype)
        stamps = _stamps(points)
        segments.append(Segment(members, plain, flats, views, stamps, groups, gathered, apart))
    return segments


def _is_short(parameter: Tensor) -> bool:
    return parameter.ndim == 1 and 0 < parameter.numel() <= SHORT and parameter.device.type == "cpu"


def _allocate(
    points: Sequence[Tensor], order: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """A flat tensor that holds the points in this order, and its views in their own order."""
    flat, views = F.allocate([points[i] for i in order], dtype)
    place = dict(zip(order, views, strict=True))
    return flat, [place[i] for i in range(len(points))]


def _gather(vectors: Sequence[Tensor], dtype: torch.dtype) -> list[Gathered]:
    """Cut them into runs of at most `TOGETHER` elements."""
    runs: list[list[Tensor]] = []
    room = 0
    for vector in vectors:
        if vector.numel() > room:
            runs.append([])
            room = TOGETHER
        runs[-1].append(vector)
        room -= vector.numel()
    sizes = [sum(vector.numel() for vector in run) for run in runs]
    scratch = torch.empty(max(sizes, default=0), dtype=dtype, device="cpu")
    ends = itertools.accumulate(sizes)
    return [
        Gathered(run, end - size, end, scratch[:size])
        for run, size, end in zip(runs, sizes, ends, strict=True)
    ]


def _stamps(points: Sequence[Tensor]) -> tuple[list[int], list[int]]:
    return list(map(Tensor.data_ptr, points)), [p.nbytes for p in points]


def members(segments: Iterable[Segment]) -> list[Tensor]:
    """The parameters of all segments."""
    return [p for segment in segments for p in segment.parameters]


def views(segments: Iterable[Segment], buffer: int) -> dict[int, Tensor]:
    """One buffer's views by the id of their parameter."""
    return {
        id(p): view
        for segment in segments
        for p, view in zip(segment.parameters, segment.buffers[buffer], strict=True)
    }


def carry_over(old: Sequence[Segment], new: Sequence[Segment], buffer: int) -> None:
    """Copy one buffer's content for the parameters that are in both."""
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

    A pickled view would bring its whole flat tensor along; a clone would be gone before a process
    that torch spawns has taken over its memory.
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
    number = max((len(row) for row in kept.values()), default=0)
    segments = make_segments([p for each, _, _ in packed for p in each], number, precision)
    fill(segments, kept)
    return segments


def norm(segments: Iterable[Segment], buffer: int = 0) -> list[Tensor]:
    """Euclidean norms of one buffer, one per segment, on their devices."""
    return [whole_norm(s.groups, F.buffer_norm(s.flats[buffer])) for s in segments]


def whole_norm(groups: Sequence[Any], norm: Tensor) -> Tensor:
    """The norm of whole tensors, from that of this process's shards."""
    return F.sum_over_(groups, norm.double().square_()).sqrt() if groups else norm


def dot(segments: Iterable[Segment], a: int, b: int) -> float:
    """Inner product of two buffers over all parameters."""
    return math.fsum(float(F.sum_over_(s.groups, F.dot(s.flats[a], s.flats[b]))) for s in segments)


def gram(segments: Iterable[Segment], buffers: int) -> Tensor:
    """Inner products of the first so many buffers over all parameters, float64 on the CPU."""
    whole = torch.zeros(buffers, buffers, dtype=torch.float64, device="cpu")
    for segment in segments:
        flats = segment.flats[:buffers]
        rows = [[F.dot(a, b) for b in flats[: i + 1]] for i, a in enumerate(flats)]
        lower = F.sum_over_(segment.groups, torch.stack([x for row in rows for x in row]))
        whole[tuple(torch.tril_indices(buffers, buffers, device="cpu"))] += lower.cpu()
    return whole + whole.tril(-1).T


def tensor_dots(segment: Segment, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """Inner products tensor by tensor, one for each parameter of the segment.

    Args:
        xs, ys: one tensor per parameter of the segment, shaped like this process's shard of it.
    """
    own = [F.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(xs, ys, strict=True)]
    return F.sum_over_(segment.groups, torch.stack(own))


def any_nonzero(tensors: Iterable[Tensor]) -> bool:
    """Whether any element of any tensor differs from zero, in any process's shard of it.

    `torch.any` of a `DTensor` looks at this process's shard alone.
    """
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    for tensor in tensors:
        values = tensor.coalesce().values() if tensor.is_sparse else F.local(tensor)
        found.setdefault((values.device, F.sharding(tensor)), []).append(torch.any(values))
    sums = [F.sum_over_(groups, torch.stack(any_).sum()) for (_, groups), any_ in found.items()]
    return any(int(count) > 0 for count in sums)


def total(norms: Iterable[SupportsFloat]) -> float:
    """The norm of all segments together, from their norms."""
    return math.hypot(*(float(value) for value in norms))


def all_parameters(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """All parameters in group order, each once."""
    return list({id(p): p for group in groups for p in group["params"]}.values())
