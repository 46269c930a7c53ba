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

Each point updates it by one of four operations (`Fold`). Since the u_j sum to 0, the last form is
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

from ..errors import ArgumentError

# Elements that an inner product converts at a time: what a cache holds, what a kernel needs.
PIECE_ON_CPU, PIECE = 1 << 15, 1 << 22

SKIP, COPY, SUBTRACT, AVERAGE, RESTORE = "skip", "copy", "subtract", "average", "restore"


class Fold(NamedTuple):
    """What one point does to the buffer.

    Only average and restore use `scalar`; `keep` is an average's 1 - scalar, exactly.
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


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two flat tensors in float64, piece by piece so that no copy is made."""
    piece = PIECE_ON_CPU if a.device.type == "cpu" else PIECE
    wide = torch.float32 if a.device.type == "mps" else torch.float64  # it has no float64
    total = torch.zeros((), dtype=wide, device=a.device)
    for x, y in zip(a.split(piece), b.split(piece), strict=True):
        total += torch.dot(x.to(wide), y.to(wide))
    return total


def local(parameter: Tensor) -> Tensor:
    """The storage that this process owns: a sharded tensor's shard, complex as pairs of reals."""
    shard: Tensor = getattr(parameter, "_local_tensor", parameter)
    return torch.view_as_real(shard.detach()) if shard.is_complex() else shard


def sharding(tensor: Tensor) -> tuple[Any, ...]:
    """The process groups over which a tensor is sharded; none if each process holds all of it.

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
    """The mean of a number over all processes, which must all call it, so that all decide alike."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    on_cpu = "cpu" in str(dist.get_backend_config())  # such as "cpu:gloo,cuda:nccl"
    device = "cpu" if on_cpu else torch.accelerator.current_accelerator()
    values = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return float(values) / dist.get_world_size()


def reshard_(model: nn.Module) -> None:
    """Make `fully_shard` modules drop the whole parameters that a forward pass left behind.

    The outermost module keeps them after its forward pass, for the backward pass that usually
    follows. After an evaluation, they would hide what is then written into the shards until the
    next backward pass. The older `FullyShardedDataParallel` has no way to drop them and is refused.
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
    """One flat tensor with a view per point, of the point's shape and, where dense, its strides."""
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
