"""Parameters grouped by device, dtype and sharding, each group with its flat buffers.

Norms and inner products are those of the whole tensors: where parameters are sharded (`DTensor`:
`fully_shard`, tensor parallel) they are summed over the processes, which must all ask for them.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import parametrize

from . import functional as F

# Elements of the longest vector that is gathered with others.
SHORT = 1 << 12
# Elements gathered at a time: a cache holds them, and torch uses one thread up to that many.
TOGETHER = (1 << 15) - 1
# Vectors for which gathering pays.
FEWEST = 16
# Elements that a norm sums at a time on a CPU: 16-bit ones, which it converts, and wider ones.
HALVES, WHOLE = 1 << 18, 1 << 20


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
        stamps: addresses and sizes of the parameters' memory when the segment was made.
        groups: the process groups over which the parameters are sharded; none if each process
            holds all of them.
        gathered: short vectors on a CPU; they come first in the flat tensors.
        apart: the indices of all other parameters, if vectors are gathered.
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
        """Fold the current parameters into one of the buffers."""
        if fold.kind == F.SKIP:
            return
        buffers, points = self.buffers[buffer], self.points
        if self.gathered:
            for vectors, start, stop, scratch in self.gathered:
                torch.cat(vectors, out=scratch)
                fold_(fold, [self.flats[buffer][start:stop]], [scratch])
            buffers, points = [buffers[i] for i in self.apart], [points[i] for i in self.apart]
        fold_(fold, buffers, points)

    def current(self) -> bool:
        """Whether the parameters still own the same memory (`model.to(...)` moves it)."""
        return _stamps(self.points) == self.stamps

    @property
    def shard(self) -> tuple[int, ...]:
        """Which shard this process holds: its rank in each of the groups."""
        return tuple(dist.get_rank(group) for group in self.groups)

    def without(self, leaving: set[int]) -> Segment:
        """The segment without some parameters, by id; it is rebuilt for the next cycle."""
        kept = [i for i, p in enumerate(self.parameters) if id(p) not in leaving]
        if len(kept) == len(self.parameters):
            return self
        for i, p in enumerate(self.parameters):
            if id(p) in leaving:
                for views in self.buffers:
                    views[i].zero_()  # it no longer counts in a norm
        parameters, *buffers = [[xs[i] for i in kept] for xs in (self.parameters, *self.buffers)]
        return self._replace(parameters=parameters, buffers=buffers, stamps=([], []), gathered=())


def fold_(fold: F.Fold, buffers: list[Tensor], points: list[Tensor]) -> None:
    """Fold one point into the buffers, in place; its dtype may be narrower than theirs."""
    if fold.kind == F.SKIP or not buffers:
        return
    if fold.kind == F.COPY:
        torch._foreach_copy_(buffers, points)
    elif buffers[0].dtype != points[0].dtype:  # one at a time, so that only one is converted
        for buffer, point in zip(buffers, points, strict=True):
            fold_(fold, [buffer], [point.to(buffer.dtype)])
    elif fold.kind == F.SUBTRACT:
        torch._foreach_sub_(buffers, points)
    elif fold.kind == F.RESTORE:
        torch._foreach_mul_(buffers, fold.scalar)
        torch._foreach_add_(buffers, points)
    elif abs(1.0 - fold.scalar) >= 0.5:
        torch._foreach_lerp_(buffers, points, fold.scalar)
    else:  # lerp would round 1 - scalar, and with it the past
        torch._foreach_sub_(buffers, points)
        torch._foreach_mul_(buffers, fold.keep)
        torch._foreach_add_(buffers, points)


def jump_(points: list[Tensor], buffers: list[Tensor], scale: float) -> None:
    """Write the prediction: point <- point + scale * buffer, in place.

    In float16 an element that would overflow is left as it is.
    """
    if not points:
        return
    if points[0].dtype == torch.float16:  # the one dtype that a finite jump can overflow
        for point, buffer in zip(points, buffers, strict=True):
            there = point.float().add_(buffer, alpha=scale).to(point.dtype)
            point.copy_(torch.where(torch.isfinite(there), there, point))
    elif buffers[0].dtype == points[0].dtype:
        torch._foreach_add_(points, buffers, alpha=scale)
    else:  # computed in the wider dtype
        for point, buffer in zip(points, buffers, strict=True):
            point.copy_(point.to(buffer.dtype).add_(buffer, alpha=scale))


def forget_copies() -> None:
    """Make torch drop what it computed from parameters that have just been overwritten.

    `torch.autocast` casts each weight once per block, and `parametrize.cached()` computes it once:
    the next forward pass in that block would still use the old values.
    """
    torch.clear_autocast_cache()  # 0.2 us, even outside autocast
    parametrize._cache.clear()  # torch has no public way


def without(segments: Iterable[Segment], leaving: set[int]) -> list[Segment]:
    """The segments without some parameters, by id."""
    left = [segment.without(leaving) for segment in segments]
    return [segment for segment in left if segment.parameters]


def make_segments(
    parameters: Sequence[Tensor], buffers: int, precision: torch.dtype | None
) -> list[Segment]:
    """Group the parameters, each given once, and give each group its buffers, all zero.

    Their narrowest dtype is `precision`; None stands for the parameters' own.
    """
    # one segment per device, dtype and sharding: foreach operations and norms go over each
    kinds: dict[tuple[Any, ...], list[Tensor]] = {}
    for p in parameters:
        kinds.setdefault((p.device, p.dtype, F.sharding(p)), []).append(p)
    segments = []
    for (_, _, groups), members in kinds.items():
        points = [F.local(p) for p in members]
        plain = all(point is p for point, p in zip(points, members, strict=True))
        own = points[0].dtype
        dtype = own if precision is None else torch.promote_types(own, precision)
        # short vectors are gathered where `torch.cat` pays: on a CPU, of the buffers' dtype
        short = [i for i, p in enumerate(members) if p.ndim == 1 and 0 < p.numel() <= SHORT]
        if not plain or dtype != own or points[0].device.type != "cpu" or len(short) < FEWEST:
            short = []
        # the gathered vectors come first in the flat buffers, so that one slice holds a run of them
        apart = sorted(set(range(len(members))) - set(short))
        pairs = [_allocate(points, [*short, *apart], dtype) for _ in range(buffers)]
        flats, views = [flat for flat, _ in pairs], [views for _, views in pairs]
        gathered = _gather([members[i] for i in short], dtype)
        stamps = _stamps(points)
        segments.append(Segment(members, plain, flats, views, stamps, groups, gathered, apart))
    return segments


def _allocate(
    points: Sequence[Tensor], order: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """A flat tensor that holds the points in this order, and its views in their own order."""
    flat, views = F.allocate([points[i] for i in order], dtype)
    place = dict(zip(order, views, strict=True))
    return flat, [place[i] for i in range(len(points))]


def _gather(vectors: Sequence[Tensor], dtype: torch.dtype) -> list[Gathered]:
    """Cut the vectors into runs of at most `TOGETHER` elements."""
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
    return list(map(Tensor.data_ptr, points)), list(map(operator.attrgetter("nbytes"), points))


class Readback:
    """A scalar that is copied to the host behind the work queued so far.

    Reading it waits for that copy alone, not for work that is queued later.
    """

    def __init__(self, value: Tensor) -> None:
        self._value, self._copied = value, None
        if value.device.type == "cuda":
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(value.device))  # type: ignore[no-untyped-call]

    def __float__(self) -> float:
        if self._copied is not None:
            self._copied.synchronize()  # type: ignore[no-untyped-call]
        return float(self._value)


def members(segments: Iterable[Segment]) -> list[Tensor]:
    """The parameters of all segments."""
    return [p for segment in segments for p in segment.parameters]


def norm(segments: Iterable[Segment], buffer: int = 0) -> list[Tensor]:
    """Euclidean norms of one buffer, one per segment, on their devices."""
    found = []
    for segment in segments:
        own = buffer_norm(segment.flats[buffer])
        found.append(whole_norm(segment.groups, own) if segment.groups else own)
    return found


def buffer_norm(flat: Tensor) -> Tensor:
    """Euclidean norm of a flat buffer, accumulated in at least float32; stays on its device."""
    wide = torch.promote_types(flat.dtype, torch.float32)
    if piece := _piece(flat):
        # vector_norm would convert 16 bits element by element, which takes eight times as long,
        # and would sum float32 in too few parts: 1 % is lost at 10^8 elements
        pieces = (part.to(wide) for part in flat.split(piece))
        return torch.stack([torch.dot(part, part) for part in pieces]).sum().sqrt()
    norm: Tensor = torch.linalg.vector_norm(flat, dtype=wide)
    return norm


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """Euclidean norms of tensors of one dtype, accumulated in at least float32."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32) if tensors else None
    short = [t for t in tensors if not _piece(t)]
    quick = iter(torch._foreach_norm(short, 2, dtype) if short else ())
    return [buffer_norm(t.reshape(-1)) if _piece(t) else next(quick) for t in tensors]


def _piece(tensor: Tensor) -> int:
    """How many of its elements a norm sums at a time; 0 for all at once."""
    piece = HALVES if tensor.dtype.itemsize < 4 else WHOLE
    return piece if tensor.numel() > piece and tensor.device.type == "cpu" else 0


def whole_norm(groups: Sequence[Any], norm: Tensor) -> Tensor:
    """The norm of whole tensors, from that of this process's shards."""
    return F.sum_over_(groups, norm.double().square_()).sqrt() if groups else norm


def parameter_norms(segments: Iterable[Segment]) -> list[Tensor]:
    """Norms that combine into that of all parameters, on their devices."""
    found = []
    for segment in segments:
        own = norms(segment.points)
        found += [whole_norm(segment.groups, torch.stack(own).norm())] if segment.groups else own
    return found


def dot(segments: Iterable[Segment], a: int, b: int) -> float:
    """Inner product of two buffers over all parameters."""
    return math.fsum(float(F.sum_over_(s.groups, F.dot(s.flats[a], s.flats[b]))) for s in segments)


def gram(segments: Iterable[Segment], buffers: int) -> Tensor:
    """Inner products of the first buffers over all parameters, float64 on the CPU."""
    whole = torch.zeros(buffers, buffers, dtype=torch.float64, device="cpu")
    for segment in segments:
        flats = segment.flats[:buffers]
        # the lower triangle, in one sum over the processes; the upper one mirrors it
        rows = [[F.dot(a, b) for b in flats[: i + 1]] for i, a in enumerate(flats)]
        lower = F.sum_over_(segment.groups, torch.stack([x for row in rows for x in row]))
        whole[tuple(torch.tril_indices(buffers, buffers, device="cpu"))] += lower.cpu()
    return whole + whole.tril(-1).T


def tensor_dots(segment: Segment, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Tensor:
    """Inner products of tensors shaped like the shards of the segment's parameters, one each."""
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
    return math.hypot(*map(float, norms))


def all_parameters(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """All parameters in group order, each once."""
    return list({id(p): p for group in groups for p in group["params"]}.values())


# --- what segments hold: carried over, read into checkpoints, packed for copies -------------------


def carry_over(old: Sequence[Segment], new: Sequence[Segment], buffer: int) -> None:
    """Copy one buffer's content for the parameters that are in both."""
    before = rows(old)
    for key, row in rows(new).items():
        # a parameter that was pruned or resized since starts with zeros
        if key in before and before[key][buffer].shape == row[buffer].shape:
            row[buffer].copy_(before[key][buffer])


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
