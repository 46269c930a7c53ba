"""What a step costs, bare and wrapped with PLP, as it is and compiled.

    python benchmarks/compile.py [CYCLES]

Momentum SGD and AdamW on 20 matrices of 64 x 64, one thread, gradients given. Microseconds per step
are means over a cycle of three steps, of which the last one predicts; bare and wrapped run in turn,
and the ratio is taken in pairs. Compiling and the first cycles are not timed.
"""

import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch

import paramcast as pc

BASES = {
    "SGD, momentum": lambda ps: torch.optim.SGD(ps, lr=1e-3, momentum=0.9),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=1e-3),
}
PASSED_OVER = 5  # cycles


def make(name: str, *, wrapped: bool, compiled: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    ps = [torch.nn.Parameter(torch.randn(64, 64)) for _ in range(20)]
    for p in ps:
        p.grad = torch.randn_like(p)
    base = BASES[name](ps)
    optimizer = pc.PLP(base) if wrapped else base
    return torch.compile(optimizer.step) if compiled else optimizer.step


def cycle(step: Callable[[], None]) -> float:
    """Microseconds per step."""
    start = time.perf_counter()
    for _ in range(3):
        step()
    return (time.perf_counter() - start) / 3 * 1e6


def breaks() -> int:
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def compare(name: str, cycles: int, *, compiled: bool) -> None:
    torch.compiler.reset()
    steps, broken = [], []
    for wrapped in (False, True):
        torch._dynamo.utils.counters.clear()
        steps.append(make(name, wrapped=wrapped, compiled=compiled))
        for _ in range(PASSED_OVER):
            cycle(steps[-1])
        broken.append(breaks())
    pairs = [(cycle(steps[0]), cycle(steps[1])) for _ in range(cycles)]
    bare, ours = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratios = statistics.quantiles([b / a for a, b in pairs], n=4)
    how = "inductor" if compiled else "as it is"
    graphs = f", graph breaks {broken[0]} and {broken[1]}" if compiled else ""
    print(
        f"{name:14} {how:9} bare {bare:6.0f} us, PLP {ours:6.0f} us, ratio {ratios[1]:.2f} "
        f"(quartiles {ratios[0]:.2f} to {ratios[2]:.2f}), n = {cycles} cycles{graphs}"
    )


def main(cycles: int) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Dynamo detected a call")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one thread")
    for name in BASES:
        for compiled in (False, True):
            compare(name, cycles, compiled=compiled)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
