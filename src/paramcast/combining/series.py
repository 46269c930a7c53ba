"""Checkpoints of one training in their order, and affine combinations of them.

Every combination is computed in float64, piece by piece, in the form of differences
(`tensors.functional`): what never moved stays as it is to the bit.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..tensors import functional as F
from ..tensors.segments import fold_, jump_
from .formats import STEPS, Checkpoint, is_name

# Elements of each checkpoint that are converted to float64 at a time.
PIECE = 1 << 18
OF_BATCH_NORM = ("running_mean", "running_var", "num_batches_tracked")


class Series:
    """Checkpoints of one training, oldest first: at least 2, alike in names, shapes and dtypes.

    Attributes:
        order: how they were sorted, for the user.
        combined: the names of what is combined: all floating-point and complex tensors, but no
            statistics of batch norm. Everything else is the last checkpoint's.
        statistics: the names of the running statistics of batch norm.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], *, as_given: bool = False) -> None:
        if len(checkpoints) < 2:
            came = f"1 ({checkpoints[0].name})" if checkpoints else "none"
            raise CheckpointError(f"give at least 2 checkpoints of one training, got {came}")
        self.checkpoints, self.order, self.steps = _sorted(checkpoints, as_given=as_given)
        self.last = self.checkpoints[-1]
        if not self.last.tensors or not all(map(is_name, self.last.tensors)):
            raise CheckpointError(f"{self.last.name} holds no tensors with names")
        for other in self.checkpoints[:-1]:
            _check_alike(other, self.last)
        self._first_of = self._ties()
        self.statistics = [name for name in self.last.tensors if _of_batch_norm(name)]
        self.combined = [
            name
            for name, tensor in self.last.tensors.items()
            if (tensor.is_floating_point() or tensor.is_complex()) and not _of_batch_norm(name)
        ]
        if not self.combined:
            raise CheckpointError(f"{self.last.name} holds no floating-point tensors to combine")

    def __len__(self) -> int:
        return len(self.checkpoints)

    def state(self, weights: Sequence[float]) -> OrderedDict[str, Any]:
        """The state dict sum_j weights_j theta_j, in the checkpoints' dtypes; the caller's own."""
        state: OrderedDict[str, Any] = OrderedDict()
        # tied tensors stay tied, weights are combined, all else is the last checkpoint's
        moving = set(self.combined)
        for name, tensor in self.last.tensors.items():
            tied = self._first_of.get(name)
            if tied is not None:
                state[name] = state[tied]
            elif name in moving:
                state[name] = self._combination(name, weights)
            else:
                state[name] = tensor.clone()
        state.update(self.last.others)
        if self.last.metadata is not None:
            state._metadata = self.last.metadata  # type: ignore[attr-defined] # as torch does
        return state

    def products(self) -> Tensor:
        """The inner products of the steps between checkpoints, oldest first, in float64."""
        count = len(self) - 1
        total = torch.zeros(count, count, dtype=torch.float64, device="cpu")
        for name in self.combined:
            if name not in self._first_of:
                for pieces in self._pieces(name):
                    points = torch.stack([piece.double() for piece in pieces])
                    steps = points.diff(dim=0)
                    # a mask of -inf that stays as it is does not move
                    steps.masked_fill_(~points.isfinite().any(dim=0), 0.0)
                    total += steps @ steps.T
        return total

    def _pieces(self, name: str) -> Iterator[tuple[Tensor, ...]]:
        """The same elements of each checkpoint, a piece at a time."""
        flat = [F.local(each.tensors[name]).reshape(-1) for each in self.checkpoints]
        return zip(*(points.split(PIECE) for points in flat), strict=True)

    def _combination(self, name: str, weights: Sequence[float]) -> Tensor:
        plan = F.plan(tuple(weights))
        result = self.last.tensors[name].clone(memory_format=torch.contiguous_format)
        written = F.local(result).view(-1).split(PIECE)
        for out, pieces in zip(written, self._pieces(name), strict=True):
            if plan.first is None or not len(out):
                break  # the last checkpoint itself
            buffer = torch.zeros(len(out), dtype=torch.float64)
            for fold, piece in zip(plan.folds, pieces, strict=True):
                fold_(fold, [buffer], [piece])
            wrong = ~buffer.isfinite()
            if bool(wrong.any()):
                # elements that are finite in no checkpoint, such as a mask of -inf, stay
                usual = torch.stack(pieces).isfinite().any(dim=0)
                for checkpoint, piece in zip(self.checkpoints, pieces, strict=True):
                    if bool((~piece.isfinite() & usual).any()):
                        raise CheckpointError(
                            f"{name} in {checkpoint.name} holds NaN or infinity; leave that "
                            "checkpoint out"
                        )
                buffer[wrong] = 0.0
            jump_([out], [buffer], plan.scale)
        return result

    def _ties(self) -> dict[str, str]:
        """The names whose tensor every checkpoint also holds under an earlier name."""
        found: list[dict[str, str]] = []
        # two names are one tensor where memory, dtype, shape and strides agree
        for checkpoint in self.checkpoints:
            names: dict[Any, str] = {}
            ties = {}
            for name, t in checkpoint.tensors.items():
                if t.numel():
                    memory = (t.data_ptr(), t.dtype, t.shape, t.stride())
                    if (first := names.setdefault(memory, name)) != name:
                        ties[name] = first
            found.append(ties)
        return {n: first for n, first in found[0].items() if all(t.get(n) == first for t in found)}

    def notes(self) -> list[str]:
        """What the user should know about what was not combined, a sentence each."""
        notes, moving = [], {*self.combined, *self.statistics}
        changed = [
            name
            for name, tensor in self.last.tensors.items()
            if name not in moving
            and not all(torch.equal(c.tensors[name], tensor) for c in self.checkpoints[:-1])
        ]
        if changed:
            notes.append(
                f"{_several(len(changed), 'integer tensor')} that changed ({changed[0]}) "
                f"{'is' if len(changed) == 1 else 'are'} the last checkpoint's"
            )
        if any("lora_" in name for name in self.combined):
            notes.append(
                "these are LoRA factors: combining each is not the same as combining their "
                "products, so judge by an evaluation, or merge them first"
            )
        gaps = {b - a for a, b in zip(self.steps, self.steps[1:], strict=False)}
        if len(gaps) > 1:
            notes.append(
                f"the checkpoints are {min(gaps)} to {max(gaps)} steps apart; every rule counts "
                "checkpoints, as if they were equally far apart"
            )
        return notes

    def __str__(self) -> str:
        """The checkpoints and their order, in a sentence."""
        steps = [f" ({step})" for step in self.steps] or [""]
        first, last = f"{self.checkpoints[0].name}{steps[0]}", f"{self.last.name}{steps[-1]}"
        return f"{len(self)} checkpoints, {self.order}: {first} ... {last}"


def _sorted(
    checkpoints: Sequence[Checkpoint], *, as_given: bool
) -> tuple[list[Checkpoint], str, list[int]]:
    """The checkpoints in the order of training, how that was found, and their steps if known."""
    if as_given:
        return list(checkpoints), "in the order given", []
    for key in STEPS:
        steps = [c.steps[key] for c in checkpoints if key in c.steps]
        if len(set(steps)) == len(checkpoints):
            ordered = sorted(checkpoints, key=lambda c: c.steps[key])
            return ordered, f"by the {key} stored in them", sorted(steps)
    return sorted(checkpoints, key=lambda c: natural(c.name)), "by their names", []


def natural(name: str) -> list[Any]:
    """A key that sorts numbers in names by their values.

    >>> sorted(["step10.pt", "step9.pt"], key=natural)
    ['step9.pt', 'step10.pt']
    """
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _of_batch_norm(name: str) -> bool:
    return name.rpartition(".")[2] in OF_BATCH_NORM


def _check_alike(a: Checkpoint, b: Checkpoint) -> None:
    """Refuse two checkpoints that are not of one model."""
    for one, other in ((a, b), (b, a)):
        missing = [name for name in one.tensors if name not in other.tensors]
        if missing:
            raise CheckpointError(
                f"{other.name} lacks {missing[0]}, which {one.name} has "
                f"({_several(len(missing), 'name')} in all); give checkpoints of one model"
            )
    for name, x in a.tensors.items():
        for what, of in (("the shape", _shape), ("the dtype", lambda t: str(t.dtype)[6:])):
            if of(x) != of(b.tensors[name]):
                raise CheckpointError(
                    f"{name} has {what} {of(x)} in {a.name} and {of(b.tensors[name])} in {b.name}; "
                    "give checkpoints of one model, saved alike"
                )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "of one number"


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
