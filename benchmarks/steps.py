"""Optimizer steps to time and to count: bases that stand still, floors, and what users would pick.

A *loop* is a function that makes so many steps. All loops work on the same parameters, which never
move: their arithmetic and traffic do not depend on values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import paramcast as pc

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import Allocations

Loop = Callable[[], object]
SMALL = (64_000, 1000)
"""Elements in tensors: where Python counts most."""
COUNTED = "operations | transfers | memory / parameters"
"""The columns that `Counted` fills."""


class Still(torch.optim.Optimizer):
    """A base that does nothing, so that nothing but what is around it is timed."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, {"lr": 1.0})

    def step(self, closure: Any = None) -> None:
        pass


def parameters(
    elements: int, tensors: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> list[nn.Parameter]:
    """So many elements in so many tensors; each is its own gradient, which takes no memory."""
    sizes = [elements // tensors + (i < elements % tensors) for i in range(tensors)]
    made = [nn.Parameter(torch.randn(size, device=device).to(dtype)) for size in sizes]
    for p in made:
        p.grad = p.detach()
    return made


def stepping(optimizer: Any, steps: int) -> Loop:
    """A loop of so many steps."""

    def loop() -> None:
        for _ in range(steps):
            optimizer.step()

    return loop


class FlatPair:
    """The floor of PLP: a flat tensor and one of the same size, and its three operations."""

    def __init__(self, elements: int, dtype: torch.dtype, device: str = "cpu") -> None:
        self.point = torch.randn(elements, device=device).to(dtype)
        self.buffer = torch.empty_like(self.point).copy_(self.point)

    def copy(self) -> None:
        self.buffer.copy_(self.point)

    def cycle(self) -> None:
        self.buffer.copy_(self.point)
        self.buffer.sub_(self.point)
        self.point.add_(self.buffer, alpha=-0.5)


class Lists:
    """The same three operations on lists of tensors, and nothing around them."""

    def __init__(self, points: Sequence[Tensor]) -> None:
        self.points = [p.detach() for p in points]
        self.buffers = [p.clone() for p in self.points]

    def cycle(self) -> None:
        torch._foreach_copy_(self.buffers, self.points)
        torch._foreach_sub_(self.buffers, self.points)
        torch._foreach_add_(self.points, self.buffers, alpha=-0.5)


class Textbook:
    """PLP as the formula reads: three clones of the parameters, and a midline through them."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        self.parameters = [p for group in base.param_groups for p in group["params"]]
        self.points: list[list[Tensor]] = []

    @torch.no_grad()
    def step(self) -> None:
        self.base.step()
        self.points.append([p.detach().clone() for p in self.parameters])
        if len(self.points) == 3:
            for p, first, second, third in zip(self.parameters, *self.points, strict=True):
                start, before = (second + third) / 2, (first + second) / 2
                p.copy_(start + (start - before))
            self.points.clear()


class Model(nn.Module):
    """Parameters for those who want a module."""

    def __init__(self, given: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.inner = nn.ParameterList(given)


def peer(module: str) -> Any:
    """A peer's module.

    Raises:
        SystemExit: it is not installed, with what to do.
    """
    try:
        return import_module(module)
    except ImportError:
        sys.exit(
            f"{module} is not installed, which this compares with: "
            "pip install -c constraints.txt -e '.[bench]'"
        )


def peers(ps: list[nn.Parameter], steps: int) -> dict[str, Callable[[], Loop]]:
    """What makes loops of so many steps of what a user may pick instead; bases stand still."""

    def lookahead() -> Loop:
        return stepping(peer("pytorch_optimizer").Lookahead(Still(ps), k=5, alpha=0.5), steps)

    def torch_ema() -> Loop:
        return repeating(peer("torch_ema").ExponentialMovingAverage(ps, decay=0.999).update, steps)

    def ema_pytorch() -> Loop:
        average = peer("ema_pytorch").EMA(
            Model(ps), beta=0.999, update_every=1, update_after_step=-1, use_foreach=True,
            include_online_model=True,
        )  # fmt: skip
        return repeating(average.update, steps)

    def swa_utils() -> Loop:
        model, average = Model(ps), torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
        averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
        return repeating(lambda: averaged.update_parameters(model), steps)

    return {
        "textbook PLP, three clones": lambda: stepping(Textbook(Still(ps)), steps),
        "pytorch_optimizer.Lookahead": lookahead,
        "torch_ema": torch_ema,
        "ema_pytorch, foreach": ema_pytorch,
        "swa_utils.AveragedModel, EMA": swa_utils,
    }


def schedule_free(ps: list[nn.Parameter], steps: int) -> tuple[Loop, Loop]:
    """SGDScheduleFree, and SGD with momentum, which it replaces; both with real steps."""
    theirs = peer("schedulefree").SGDScheduleFree(ps, lr=1e-9)
    theirs.train()
    return stepping(theirs, steps), stepping(momentum(ps), steps)


def momentum(ps: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(ps, lr=1e-9, momentum=0.9, foreach=True)


def repeating(do: Callable[[], object], times: int) -> Loop:
    def loop() -> None:
        for _ in range(times):
            do()

    return loop


class Traffic(Allocations):
    """Counts operations, the bytes that they read and write, and what stays allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        name = func.overloadpacket.__name__
        if not given or func.is_view or name in ("detach", "empty_like"):
            return result
        self.operations += 1
        read = sum(x.nbytes for x in given if x is not (kwargs or {}).get("out"))
        if name.startswith("_foreach_") and func._schema.returns == []:
            first = args[0]
            written = sum(x.nbytes for x in first)
            read -= written if name == "_foreach_copy_" else 0
        elif name.endswith("_"):
            written = args[0].nbytes
            read -= written if name == "copy_" else 0
        else:
            written = sum(x.nbytes for x in made)
        self.moved += read + written
        return result


class Counted(NamedTuple):
    """Of a loop, in its steady state: per step, and in multiples of the parameters' bytes."""

    operations: float
    transfers: float
    memory: float  # at the peak, beside the parameters
    allocated: int  # bytes of the largest allocation in the steady state

    def __str__(self) -> str:
        return f"{self.operations:.3g} | {self.transfers:.2f} | {self.memory:.2f}"


def count(make: Callable[[], Loop], steps: int, size: int) -> tuple[Loop, Counted]:
    """Make a loop, and count what it does.

    Args:
        steps: that the loop makes.
        size: bytes of the parameters.
    """
    with Traffic() as seen:
        loop = make()
        loop()
        loop()
        seen.mark()
        seen.operations = seen.moved = 0
        loop()
        largest = max(seen.since_mark, default=0)
    return loop, Counted(
        seen.operations / steps, seen.moved / steps / size, seen.peak / size, largest
    )


def plp(ps: Sequence[Tensor], base: torch.optim.Optimizer | None = None, **options: Any) -> pc.PLP:
    """PLP around a base that stands still, or another one."""
    return pc.PLP(Still(ps) if base is None else base, **options)
