"""The arithmetic of a cycle, on lists of tensors.

A linear predictor is a tuple of weights (w_0, ..., w_k) over the k + 1 points of a cycle, oldest
first, the point that the cycle started from included; they sum to 1. Its *jump*, the prediction
minus the last point, therefore has the weights u = (w_0, ..., w_k - 1), which sum to 0:

    jump = sum_j u_j theta_j

One buffer of the parameters' size holds the running sum whatever k is. Adding up u_j * theta_j
would move parameters that never moved (rounding), so only differences are formed. With
U_j = u_0 + ... + u_j the buffer is in one of two forms:

    mean          sum so far = U_j * buffer     buffer = affine mean of the points so far
    difference    sum so far = scale * buffer   where U_j = 0

A point moves it on by one of four operations (`Fold`). Since the u_j sum to 0, the last form is
always a difference: the jump is scale * buffer, exactly 0 where a parameter never moved. For PLP,
u = (0, -1/2, 1/2, 0): copy theta_1, subtract theta_2, nothing, and theta_3 += -1/2 * buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ArgumentError

PIECE_ON_CPU, PIECE = 1 << 15, 1 << 22
"""Elements that an inner product converts at a time: what a cache holds, what a kernel needs."""

HALVES, WHOLE = 1 << 18, 1 << 20
"""Elements that a norm adds up at a time on a CPU: of 16 bits, which it converts, and of more."""

SKIP, COPY, SUBTRACT, AVERAGE, RESTORE = "skip", "copy", "subtract", "average", "restore"


class Fold(NamedTuple):
    """What one point does to the buffer.

    `scalar` is used by average and restore alone; `keep` is an average's 1 - scalar, exactly.
    """

    kind: str
    scalar: float = 0.0
    keep: float = 0.0


class Plan(NamedTuple):
    """The folds of one cycle, one per point, and the factor that turns the buffer into the jump.

    `first` is the point that fills the buffer (None: the jump is always 0, nothing is ever done).
    `precision` is the narrowest dtype that the buffer may have: None (the parameters' own) for a
    plain difference of two points, float32 where it holds a mean.
    """

    folds: tuple[Fold, ...]
    scale: float
    first: int | None
    precision: torch.dtype | None


@lru_cache(maxsize=256)
def plan(weights: tuple[float, ...]) -> Plan:
    """Plan how the points of a cycle fold into one buffer.

    Args:
        weights: (w_0, ..., w_k), oldest point first, summing to 1.

    Returns:
        The folds for the points 0 to k and the scale of the jump.

    Example:
        >>> [fold.kind for fold in plan((0.0, -0.5, 0.5, 1.0)).folds], plan((0, -0.5, 0.5, 1)).scale
        (['skip', 'copy', 'subtract', 'skip'], -0.5)
    """
    past = weights[:-1]
    jump = (*past, -math.fsum(past))  # sums to 0 exactly, whatever the last weight was rounded to
    tiny = 1e-9 * max(map(abs, jump))
    folds: list[Fold] = []
    first: int | None = None
    total = scale = 0.0  # U_j of the mean form; factor of the difference form (where total is 0)
    for j, u in enumerate(jump):
        if abs(u) <= tiny:
            folds.append(Fold(SKIP))
        elif first is None:
            folds.append(Fold(COPY))
            first, total = j, u
        elif total == 0.0:  # scale * b + u * theta = u * (theta + scale/u * b)
            folds.append(Fold(RESTORE, scale / u))
            total = u
        elif j == len(jump) - 1 or abs(total + u) <= tiny:  # u = -total: total * (b - theta)
            folds.append(Fold(SUBTRACT))
            total, scale = 0.0, total
        else:
            folds.append(Fold(AVERAGE, u / (total + u), total / (total + u)))
            total += u
    if total != 0.0:  # the last point was skipped: its weight is 0 but for rounding
        folds[-1], scale = Fold(SUBTRACT), total
    means = any(fold.kind in (AVERAGE, RESTORE) for fold in folds)
    return Plan(tuple(folds), scale, first, torch.float32 if means else None)


def fold_(fold: Fold, buffers: list[Tensor], points: list[Tensor]) -> None:
    """Move the buffers on by one point, in place.

    Args:
        fold: what to do.
        buffers: the running mean or difference, one tensor per parameter.
        points: the parameters now, same shapes; their dtype may be narrower than the buffers'.
    """
    if fold.kind == SKIP or not buffers:
        return
    if fold.kind == COPY:
        torch._foreach_copy_(buffers, points)
    elif buffers[0].dtype == points[0].dtype:
        _fold_same_dtype_(fold, buffers, points)
    else:  # one tensor at a time, so that only one is converted in passing
        for buffer, point in zip(buffers, points, strict=True):
            _fold_same_dtype_(fold, [buffer], [point.to(buffer.dtype)])


def _fold_same_dtype_(fold: Fold, buffers: list[Tensor], points: list[Tensor]) -> None:
    if fold.kind == SUBTRACT:
        torch._foreach_sub_(buffers, points)
    elif fold.kind == AVERAGE and abs(1.0 - fold.scalar) >= 0.5:
        torch._foreach_lerp_(buffers, points, fold.scalar)
    elif fold.kind == AVERAGE:  # lerp would round 1 - scalar, and with it the past
        torch._foreach_sub_(buffers, points)
        torch._foreach_mul_(buffers, fold.keep)
        torch._foreach_add_(buffers, points)
    else:
        torch._foreach_mul_(buffers, fold.scalar)
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


def buffer_norm(flat: Tensor) -> Tensor:
    """Euclidean norm of a flat buffer, accumulated in float32 at least; stays on its device."""
    wide = torch.promote_types(flat.dtype, torch.float32)
    if _long(flat):
        # vector_norm would convert 16 bits element by element, which takes eight times as long,
        # and add float32 up in too few parts: a hundredth is lost at 10^8 elements
        pieces = (piece.to(wide) for piece in flat.split(_piece(flat)))
        return torch.stack([torch.dot(piece, piece) for piece in pieces]).sum().sqrt()
    norm: Tensor = torch.linalg.vector_norm(flat, dtype=wide)
    return norm


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """Euclidean norms of tensors of one dtype, accumulated in float32 at least."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32) if tensors else None
    short = [t for t in tensors if not _long(t)]
    quick = iter(torch._foreach_norm(short, 2, dtype) if short else ())
    return [buffer_norm(t.reshape(-1)) if _long(t) else next(quick) for t in tensors]


def _long(tensor: Tensor) -> bool:
    """Whether a norm of it is taken in pieces."""
    return tensor.numel() > _piece(tensor) and tensor.device.type == "cpu"


def _piece(tensor: Tensor) -> int:
    return HALVES if tensor.dtype.itemsize < 4 else WHOLE


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two flat tensors in float64, piece by piece so that no copy is made."""
    piece = PIECE_ON_CPU if a.device.type == "cpu" else PIECE
    wide = torch.float32 if a.device.type == "mps" else torch.float64  # it has no float64
    total = torch.zeros((), dtype=wide, device=a.device)
    for x, y in zip(a.split(piece), b.split(piece), strict=True):
        total += torch.dot(x.to(wide), y.to(wide))
    return total


def zero_unless_finite_(flat: Tensor, norm: Tensor) -> None:
    """Set the buffer to zero where its norm is not finite, without asking the device."""
    flat.masked_fill_(~torch.isfinite(norm), 0.0)


def local(parameter: Tensor) -> Tensor:
    """The storage that this process owns: a sharded tensor's shard, complex as pairs of reals."""
    shard: Tensor = getattr(parameter, "_local_tensor", parameter)
    return torch.view_as_real(shard.detach()) if shard.is_complex() else shard


def sharding(tensor: Tensor) -> tuple[Any, ...]:
    """The process groups over which a tensor is cut up; none where each process holds all of it.

    On a mesh of several dimensions a `DTensor` may be replicated along some of them: their
    processes hold the same shard and are left out, or it would count twice.
    """
    if not hasattr(tensor, "_local_tensor"):
        return ()
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    cut = [dim for dim, placement in enumerate(placements) if not placement.is_replicate()]
    return tuple(mesh.get_group(dim) for dim in cut)


def sum_over_(groups: Sequence[Any], values: Tensor) -> Tensor:
    """Add up over the processes of each group, in place; without groups nothing happens."""
    for group in groups:
        dist.all_reduce(values, group=group)
    return values


def mean_over_ranks(value: float) -> float:
    """The mean of a number over all processes, so that they all decide by the same one.

    Outside `torch.distributed`, or in a group of one process, it is the number itself. Otherwise
    every process must call it.

    Example:
        >>> mean_over_ranks(0.5)
        0.5
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    on_cpu = "cpu" in str(dist.get_backend_config())  # such as "cpu:gloo,cuda:nccl"
    device = "cpu" if on_cpu else torch.accelerator.current_accelerator()
    values = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return float(values) / dist.get_world_size()


def forget_copies() -> None:
    """Make torch drop what it has computed from parameters that are overwritten now.

    `torch.autocast` casts each weight once in a block, and `parametrize.cached()` computes it once:
    the next forward pass of that block would go on with the old values.
    """
    torch.clear_autocast_cache()  # 0.2 us, also outside autocast
    parametrize._cache.clear()  # torch has no public way


def reshard_(model: nn.Module) -> None:
    """Make `fully_shard` modules drop the whole parameters that a forward pass left behind.

    The outermost module keeps them after its forward, for the backward that usually follows. After
    an evaluation they would hide what is then written into the shards, until the next backward. The
    older `FullyShardedDataParallel` has no way to drop them, and is refused.
    """
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise ArgumentError(
                "FullyShardedDataParallel flattens parameters, and their norms are not known to "
                "each process; shard the model with torch.distributed.fsdp.fully_shard"
            )
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            module.reshard()  # type: ignore[operator]


def allocate(points: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """One flat tensor with a view per point, of the point's shape and, where dense, its strides.

    Returns:
        The flat tensor (one element per element of the points) and its views.
    """
    flat = torch.zeros(sum(p.numel() for p in points), dtype=dtype, device=points[0].device)
    views, start = [], 0
    for point in points:
        piece = flat[start : start + point.numel()]
        like = torch.empty_like(point, device="meta")  # keeps the strides of a dense tensor only
        if like.stride() == point.stride():
            views.append(piece.as_strided(point.shape, point.stride(), piece.storage_offset()))
        else:
            views.append(piece.view(point.shape))
        start += point.numel()
    return flat, views


def polynomial_weight(eta: float, t: int) -> float:
    """The weight of the t-th point, from 1, in an average where point i weighs about i^eta."""
    return (eta + 1.0) / (t + eta)


def straight_path_extra(weights: Sequence[float]) -> float:
    """Steps gained by one prediction when the points lie on a line, one step apart.

    e = sum_j w_j * j - k
    """
    return math.fsum(w * j for j, w in enumerate(weights)) - (len(weights) - 1)
