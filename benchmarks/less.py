"""Less than the obvious: prototypes of a cheaper PLP, none of them in the library.

    python benchmarks/less.py                     10^7 parameters in 8 tensors, about 2 minutes
    python benchmarks/less.py --elements 1e5 --rounds 3 --busy                     a quick look

Each prototype is the arithmetic of one cycle, in turn with the floor (copy, subtract, add on one
flat pair). The error of the jump is relative to the exact one, for steps of 10^-3 of the weights;
memory is at the peak, beside parameters and gradients. "Finite" tells whether it also knows that
the prediction is finite, as the library must before it writes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import NamedTuple

import machine
import torch
from steps import FlatPair, Still, count, parameters, plp, stepping
from torch import Tensor

BLOCK = 1 << 18
"""Elements of a block that is still cached when its norm is taken."""
STEP = 1e-3
"""Length of a step beside the weights."""
MOMENTUM, LR = 0.9, 0.1


class Prototype(NamedTuple):
    """A way to predict: what follows each of three steps."""

    after: tuple[Callable[[Tensor], object], Callable[[Tensor], object], Callable[[Tensor], object]]
    finite: bool = True
    note: str = ""
    memory: float | None = None  # where counting operations does not show it


def as_it_is(like: Tensor) -> Prototype:
    buffer = torch.empty_like(like)

    def subtract(x: Tensor) -> None:
        buffer.sub_(x)
        float(torch.linalg.vector_norm(buffer))

    return Prototype((buffer.copy_, subtract, lambda x: x.add_(buffer, alpha=-0.5)))


def without_norm(like: Tensor) -> Prototype:
    buffer = torch.empty_like(like)
    steps = buffer.copy_, buffer.sub_, lambda x: x.add_(buffer, alpha=-0.5)
    return Prototype(steps, finite=False)


def in_blocks(like: Tensor) -> Prototype:
    """The norm of a block is taken while the block is cached."""
    buffer = torch.empty_like(like)

    def subtract(x: Tensor) -> None:
        norms = []
        for piece, point in zip(buffer.split(BLOCK), x.split(BLOCK), strict=True):
            norms.append(torch.linalg.vector_norm(piece.sub_(point)))
        float(torch.stack(norms).norm())

    return Prototype((buffer.copy_, subtract, lambda x: x.add_(buffer, alpha=-0.5)))


def compiled(like: Tensor) -> Prototype:
    """Subtraction and norm as one kernel, written by torch.compile."""
    buffer = torch.empty_like(like)

    @torch.compile(dynamic=False)
    def kernel(b: Tensor, x: Tensor) -> Tensor:
        d = b - x
        b.copy_(d)
        return (d * d).sum()

    def subtract(x: Tensor) -> None:
        float(kernel(buffer, x)) ** 0.5

    steps = buffer.copy_, subtract, lambda x: x.add_(buffer, alpha=-0.5)
    note = "seconds to compile, and a C++ compiler"
    return Prototype(steps, note=note, memory=1.0)


def narrow_point(like: Tensor) -> Prototype:
    """The buffer in bfloat16 from the start: it holds a point, of which 8 bits are left."""
    buffer = torch.empty_like(like, dtype=torch.bfloat16)
    steps = buffer.copy_, buffer.sub_, lambda x: x.add_(buffer, alpha=-0.5)
    return Prototype(steps, finite=False)


def narrow_difference(like: Tensor) -> Prototype:
    """The difference alone in bfloat16, and the point freed: less memory in one step of three."""
    kept: list[Tensor] = []

    def subtract(x: Tensor) -> None:
        kept.append(kept.pop().sub_(x).to(torch.bfloat16))

    steps = lambda x: kept.append(x.clone()), subtract, lambda x: x.add_(kept.pop(), alpha=-0.5)
    return Prototype(steps, finite=False)


def while_needed(like: Tensor) -> Prototype:
    """The buffer is allocated after the first step and freed after the third."""
    kept: list[Tensor] = []

    def subtract(x: Tensor) -> None:
        kept[0].sub_(x)
        float(torch.linalg.vector_norm(kept[0]))

    steps = lambda x: kept.append(x.clone()), subtract, lambda x: x.add_(kept.pop(), alpha=-0.5)
    return Prototype(steps, note="the memory is free in one step of three")


def offloaded(like: Tensor) -> Prototype:
    """The buffer in a file, mapped into memory (on a GPU: in the host's memory)."""
    if like.device.type == "cuda":
        buffer = torch.empty_like(like, device="cpu", pin_memory=True)

        def subtract(x: Tensor) -> None:
            buffer.copy_(buffer.to(x.device, non_blocking=True).sub_(x), non_blocking=True)

        def add(x: Tensor) -> None:
            x.add_(buffer.to(x.device, non_blocking=True), alpha=-0.5)

        return Prototype((buffer.copy_, subtract, add), finite=False)
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - lives as long as the tensor
    file.truncate(like.nbytes)
    buffer = torch.from_file(file.name, shared=True, size=like.numel(), dtype=like.dtype)
    buffer._file = file  # type: ignore[attr-defined]
    steps = buffer.copy_, buffer.sub_, lambda x: x.add_(buffer, alpha=-0.5)
    return Prototype(steps, finite=False, note="the system may write it out")


def from_momentum(like: Tensor) -> Prototype:
    """From SGD's own buffer: theta_2 - theta_1 = -lr v_2, and v_2 = (v_3 - g_3) / momentum."""
    velocity, gradient = torch.zeros_like(like), torch.zeros_like(like)

    def add(x: Tensor) -> None:
        factor = 0.5 * LR / MOMENTUM
        x.add_(velocity, alpha=-factor).add_(gradient, alpha=factor)

    def nothing(_: Tensor) -> None:
        pass

    note = "couples to the base's internals: not built in"
    return Prototype((nothing, nothing, add), finite=False, note=note, memory=0.0)


PROTOTYPES = {
    "copy, subtract, norm, add": as_it_is,
    "without the norm": without_norm,
    "norm of blocks while cached": in_blocks,
    "subtract and norm in one compiled kernel": compiled,
    "bf16 buffer": narrow_point,
    "bf16 difference": narrow_difference,
    "allocated while needed": while_needed,
    "buffer in a file": offloaded,
    "from the momentum buffer": from_momentum,
}


def loop_of(prototype: Prototype, x: Tensor) -> Callable[[], None]:
    def loop() -> None:
        for after in prototype.after:
            after(x)

    return loop


def error(prototype: Prototype, elements: int) -> float:
    """|jump - exact| / |exact| over all elements."""
    x = torch.randn(elements)
    points = []
    for after in prototype.after:
        x += STEP * torch.randn(elements)
        points.append(x.double())
        after(x)
    exact = 0.5 * (points[1] - points[0])
    return float((x.double() - points[2] - exact).norm() / exact.norm())


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("--elements", type=float, default=1e7)
    parser.add_argument("--seconds", type=float, default=0.02, help="one measurement lasts so long")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: not run")
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    torch.manual_seed(0)
    machine.heading()
    elements, device = int(given.elements), given.device
    ps, pair = parameters(elements, 8, device=device), FlatPair(elements, torch.float32, device)
    print(f"{elements:,} parameters, fp32, n = {given.rounds}\n")
    columns = "prototype | threads | ms per step | / floor | memory | jump's error | finite | note"
    with torch.no_grad():
        machine.table(columns, rows(given, ps, pair))


def rows(given, ps, pair):
    elements, size = pair.point.numel(), pair.point.nbytes
    loops = {"floor": pair.cycle, "still": stepping(Still(ps), 3)}
    loops["PLP, the library's"] = stepping(plp(ps), 3)
    about = {"PLP, the library's": ("1.00", "", "yes", "with all its Python, 8 tensors")}
    for name, make in PROTOTYPES.items():
        made: list[Prototype] = []

        def build(make=make, made=made):
            made.append(make(pair.point))
            return loop_of(made[0], pair.point)

        loops[name], counted = count(build, 3, size)
        prototype = made[0]
        memory = counted.memory if prototype.memory is None else prototype.memory
        own = f"{error(make(torch.empty(elements)), elements):.1e}" if memory else ""
        about[name] = f"{memory:.2f}", own, "yes" if prototype.finite else "no", prototype.note
    for number in [1] if given.device == "cuda" else sorted({1, machine.cores()}):
        torch.set_num_threads(number)
        took = machine.in_turn(loops, given.rounds, at_least=given.seconds)
        took["PLP, the library's"] = [
            a - b for a, b in zip(took["PLP, the library's"], took["still"], strict=True)
        ]
        for name in about:
            memory, *others = about[name]
            ms = machine.spread([1000 * s / 3 for s in took[name]], ".3g")
            ratio = machine.spread(machine.quotients(took[name], took["floor"]))
            yield [name, number, ms, ratio, memory, *others]


if __name__ == "__main__":
    main()
