"""The slow, obvious twin, and the small cast that the tests share.

The twin keeps every point of a cycle in float64 and computes the prediction from the rule as
`method.md` writes it, one parameter after the other. Nothing here reads the library's weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paramcast import predictors as P

Rule = Callable[[Sequence[Tensor]], Tensor]
"""From the points theta_0 ... theta_k of one parameter to its prediction."""


# --- the rules --------------------------------------------------------------------------------


def midline(horizon: float = 1.0, start: str = "midpoint") -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        p1, p2, p3 = points[-3:]
        m12, m23 = (p1 + p2) / 2, (p2 + p3) / 2
        slope = m23 - m12
        starts = {"midpoint": m23, "last": p3, "mean": (p1 + p2 + p3) / 3}
        return starts[start] + horizon * slope

    return rule


def least_squares(window: int, horizon: float) -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        points = points[-window:]
        times = list(range(1, window + 1))
        middle = sum(times) / window
        mean = torch.zeros_like(points[0])
        slope = torch.zeros_like(points[0])
        for t, point in zip(times, points, strict=True):
            mean = mean + point / window
            slope = slope + (t - middle) * point / sum((u - middle) ** 2 for u in times)
        return mean + (window + horizon - middle) * slope

    return rule


def secant(window: int, horizon: float) -> Rule:
    return lambda points: points[-1] + horizon * (points[-1] - points[-window]) / (window - 1)


def interpolate(alpha: float) -> Rule:
    return lambda points: points[0] + alpha * (points[-1] - points[0])


def affine(weights: Sequence[float]) -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(points[0])
        for weight, point in zip(weights, points, strict=True):
            total = total + weight * point
        return total

    return rule


def flipped(rule: Rule) -> Rule:
    return lambda points: points[-1] - (rule(points) - points[-1])


class Twin:
    """A base optimizer and a rule, with every point of the cycle kept in float64."""

    def __init__(self, base: torch.optim.Optimizer, rule: Rule, every: int) -> None:
        self.base, self.rule, self.every = base, rule, every
        self.parameters = [p for group in base.param_groups for p in group["params"]]
        self.points: list[list[Tensor]] = []

    def keep_point(self) -> None:
        self.points.append([p.detach().to(wide(p.dtype)).clone() for p in self.parameters])

    def step(self) -> None:
        if not self.points:
            self.keep_point()
        self.base.step()
        self.keep_point()
        if len(self.points) == self.every + 1:
            for n, p in enumerate(self.parameters):
                prediction = self.rule([point[n] for point in self.points])
                with torch.no_grad():
                    p.copy_(prediction)
            self.points = []


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


# --- the cast -----------------------------------------------------------------------------------

ODD = (0.5, -0.5, 0.25, 0.5, -0.75, 1.0)
"""Cumulative sums cross zero in mid-cycle: copy, subtract, restore, average, subtract."""
UNEVEN = (0.1, -0.3, 0.0, 0.2, 1.0)


class Case(NamedTuple):
    name: str
    predictor: P.Affine
    rule: Rule


AFFINE = [
    Case("midline", P.Midline(), midline()),
    Case("midline-at-4", P.Midline(horizon=1.5), midline(1.5)),
    Case("midline-from-last", P.Midline(0.7, start="last"), midline(0.7, "last")),
    Case("midline-from-mean", P.Midline(-0.4, start="mean", every=5), midline(-0.4, "mean")),
    Case("least-squares", P.LeastSquares(3, 1.0), least_squares(3, 1.0)),
    Case("least-squares-long", P.LeastSquares(5, 1.0, every=7), least_squares(5, 1.0)),
    Case("secant", P.Secant(), secant(3, 1.0)),
    Case("secant-back", P.Secant(4, -0.5), secant(4, -0.5)),
    Case("interpolate", P.Interpolate(5, 0.5), interpolate(0.5)),
    Case("affine-odd", P.Affine(ODD), affine(ODD)),
    Case("affine-uneven", P.Affine(UNEVEN), affine(UNEVEN)),
    Case("flipped", P.SignFlipped(P.Midline()), flipped(midline())),
]

PREDICTORS = [case.predictor for case in AFFINE] + [P.RandomDirection(P.Midline(), seed=3)]

BASES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9, nesterov=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.02),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.005, momentum=0.5),
}


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.nn.Parameter]:
    """A matrix, a vector and a scalar, the same numbers in every dtype (up to rounding)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 4), (4,), ())
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.Parameter(value.to(dtype)) for value in values]


def set_gradients(ps: Iterable[Tensor], t: int) -> None:
    """A pull towards zero and a push that changes with the step: nothing settles."""
    for i, p in enumerate(ps):
        phase = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape) + 1.7 * i + 0.9 * t
        p.grad = (0.5 * p.detach().to(wide(p.dtype)) + torch.sin(phase)).to(p.dtype)


def train(optimizer: Any, ps: Sequence[Tensor], steps: int, start: int = 0) -> None:
    for t in range(start, start + steps):
        set_gradients(ps, t)
        optimizer.step()


def constant_steps(optimizer: Any, p: Tensor, *gradients: float) -> None:
    """One step per gradient, the same for every element of p."""
    for gradient in gradients:
        p.grad = torch.full_like(p, gradient)
        optimizer.step()


def values(ps: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in ps]


def same_bits(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    """Equal to the last bit, the sign of zero and the payload of NaN included."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
        for a, b in zip(left, right, strict=True)
    )


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().contiguous()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.reshape(-1).view(torch.uint8)


# --- what the machine sees ----------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Counts the aten operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Allocations(TorchDispatchMode):
    """Sees every storage that operations create: the bytes alive at most, and all since `mark`."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self.since_mark: list[int] = []

    def mark(self) -> None:
        self.since_mark = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.known = {key: ref for key, ref in self.known.items() if not ref[0].expired()}
        given = {StorageWeakRef(t.untyped_storage()).cdata for t in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            ref = StorageWeakRef(tensor.untyped_storage())
            size = tensor.untyped_storage().nbytes()
            if ref.cdata not in given and ref.cdata not in self.known:
                self.known[ref.cdata] = (ref, size)
                self.since_mark.append(size)
        alive = sum(size for ref, size in self.known.values() if not ref.expired())
        self.peak = max(self.peak, alive)
        return result


def _tensors(tree: Any) -> list[Tensor]:
    leaves = tree_leaves(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type != "meta"]
