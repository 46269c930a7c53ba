"""What the wrapper adds to a step, against the floor and beside what users would pick instead.

    python benchmarks/overhead.py                          all tables, about 15 minutes on 2 cores
    python benchmarks/overhead.py --tables floor small     some of them
    python benchmarks/overhead.py --most 1e7 --rounds 3 --seconds 0.01 --busy       a quick look
    python benchmarks/overhead.py --device cuda            on a GPU (written, not run so far)

The floor of PLP is its three operations (copy, subtract, add) on one flat pair of tensors of the
same size: 8/3 parameter-sized transfers per step. Everything runs in turn, in another order each
round, and the table of the floor allocates all memory anew for each third of the rounds; the base
stands still, so that nothing but the wrapper is timed. Operations, transfers and memory (at the
peak, beside parameters and gradients) are counted, not timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import machine
import torch
from steps import (
    COUNTED,
    SMALL,
    FlatPair,
    Lists,
    Still,
    count,
    momentum,
    parameters,
    peers,
    plp,
    repeating,
    schedule_free,
    stepping,
)
from torch import nn
from torch.nn.functional import cross_entropy

import paramcast as pc
from paramcast.study.tasks.networks import CHARACTERS, IMAGES

STEPS = 15  # of a loop: whole cycles of 3 and of 5
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8, 5 * 10**8, 10**9)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Rows = Iterator[list[object]]


def threads(device: str) -> list[int]:
    return [1] if device == "cuda" else sorted({1, machine.cores()})


def clock(device: str) -> Callable[[], float]:
    if device == "cpu":
        return time.perf_counter

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised


# --- the floor ------------------------------------------------------------------------------------


def floor(given: argparse.Namespace) -> None:
    """PLP from 10^4 to 10^9 parameters."""
    columns = (
        "parameters | tensors | dtype | threads | copy, GB/s | floor, ms per step | "
        f"PLP adds, ms per step | PLP / floor | {COUNTED}"
    )
    machine.table(columns, _floor(given))


def _floor(given: argparse.Namespace) -> Rows:
    for elements in (n for n in SIZES if n <= given.most):
        for tensors in (8, 1000):
            if tensors == 1000 and elements > 10**8:
                continue
            for name, dtype in DTYPES.items():
                if 4 * elements * dtype.itemsize > 0.8 * available(given.device):
                    continue
                yield from _floor_rows(given, elements, tensors, name)


def _floor_rows(given: argparse.Namespace, elements: int, tensors: int, name: str) -> Rows:
    took: dict[int, dict[str, list[float]]] = {number: {} for number in threads(given.device)}
    for rounds in shares(given.rounds):
        loops, counted = _floor_loops(given, elements, tensors, DTYPES[name])
        for number, so_far in took.items():
            torch.set_num_threads(number)
            now = machine.in_turn(loops, rounds, at_least=given.seconds, clock=clock(given.device))
            for loop, seconds in now.items():
                so_far.setdefault(loop, []).extend(seconds)
        del loops  # and with them the memory
    for number, seconds in took.items():
        ms = machine.added(seconds["PLP"], seconds["base"], 3)
        least = [1000 * s / 3 for s in seconds["floor"]]
        moved = 2 * elements * DTYPES[name].itemsize
        speed = machine.spread([moved / s / 1e9 for s in seconds["copy"]], ".1f")
        yield [
            f"{elements:.0e}", tensors, name, number, speed, machine.spread(least, ".4g"),
            machine.spread(ms, ".4g"), machine.spread(machine.quotients(ms, least)), counted,
        ]  # fmt: skip


def _floor_loops(
    given: argparse.Namespace, elements: int, tensors: int, dtype: torch.dtype
) -> tuple[dict[str, Callable[[], object]], object]:
    ps = parameters(elements, tensors, dtype, given.device)
    pair = FlatPair(elements, dtype, given.device)
    ours, counted = count(lambda: stepping(plp(ps), 3), 3, elements * dtype.itemsize)
    base = stepping(Still(ps), 3)
    return {"copy": pair.copy, "floor": pair.cycle, "base": base, "PLP": ours}, counted


def shares(rounds: int) -> list[int]:
    """The rounds in up to three parts: where memory happens to lie makes a tenth of difference."""
    return [part for part in ((rounds + 2) // 3, (rounds + 1) // 3, rounds // 3) if part]


def available(device: str) -> int:
    """Bytes of memory."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return machine.psutil.virtual_memory().available


# --- many small tensors ---------------------------------------------------------------------------


def small(given: argparse.Namespace) -> None:
    """PLP on 1,000 small tensors, as a share of the base's own step."""
    columns = (
        "base | threads | base's step, ms | three foreach calls / base's step | "
        "PLP adds, ms per step | PLP / base's step | around the calls, µs per step"
    )
    machine.table(columns, _small(given))


def _small(given: argparse.Namespace) -> Rows:
    ps = parameters(*SMALL, device=given.device)
    for p in ps:
        p.grad = torch.zeros_like(p)
    bases = {
        "SGD, momentum, foreach": momentum(ps),
        "AdamW, foreach": torch.optim.AdamW(ps, lr=0.0, weight_decay=0.0, foreach=True),
    }
    lists = Lists(ps)
    for name, base in bases.items():
        loops = {
            "base": stepping(base, 3),
            "calls": lists.cycle,
            "still": stepping(Still(ps), 3),
            "PLP": stepping(plp(ps), 3),
        }
        for number in threads(given.device):
            torch.set_num_threads(number)
            took = machine.in_turn(
                loops, given.rounds, at_least=given.seconds, clock=clock(given.device)
            )
            ms = machine.added(took["PLP"], took["still"], 3)
            step = [1000 * s / 3 for s in took["base"]]
            calls = [1000 * s / 3 for s in took["calls"]]
            around = [1000 * (a - b) for a, b in zip(ms, calls, strict=True)]
            yield [
                name, number, machine.spread(step), machine.spread(machine.quotients(calls, step)),
                machine.spread(ms, ".3f"), machine.spread(machine.quotients(ms, step), ".3f"),
                machine.spread(around, ".0f"),
            ]  # fmt: skip


# --- beside what users would pick -----------------------------------------------------------------


def beside(given: argparse.Namespace) -> None:
    """PLP and its peers, each over the base that it wraps or follows."""
    columns = (
        f"parameters | tensors | threads | what | adds, ms per step | added / PLP's | {COUNTED}"
    )
    machine.table(columns, _beside(given))


def _beside(given: argparse.Namespace) -> Rows:
    for elements, tensors in (SMALL, (10**7, 8), (5 * 10**7, 8)):
        if elements <= max(given.most, SMALL[0]):
            yield from _beside_rows(given, elements, tensors)


def _beside_rows(given: argparse.Namespace, elements: int, tensors: int) -> Rows:
    ps = parameters(elements, tensors, device=given.device)
    size = 4 * elements
    made = {"PLP": lambda: stepping(plp(ps), STEPS), **peers(ps, STEPS)}
    loops, counted = {}, {}
    for name, make in made.items():
        loops[name], counted[name] = count(make, STEPS, size)
    for p in ps:
        p.grad = torch.zeros_like(p)
    free, replaced = schedule_free(ps, STEPS)
    loops |= {"base": stepping(Still(ps), STEPS), "free": free, "momentum": replaced}
    for number in threads(given.device):
        torch.set_num_threads(number)
        took = machine.in_turn(
            loops, given.rounds, at_least=given.seconds, clock=clock(given.device)
        )
        # an average is updated beside the base, whose own step costs it nothing
        none = [0.0] * given.rounds
        follows = {name for name in made if "ema" in name.lower()}
        all_added = {
            name: machine.added(took[name], none if name in follows else took["base"], STEPS)
            for name in made
        }
        ours = all_added["PLP"]
        for name in made:
            ratio = machine.spread(machine.quotients(all_added[name], ours))
            yield [f"{elements:.0e}", tensors, number, name,
                   machine.spread(all_added[name], ".4g"), ratio, counted[name]]  # fmt: skip
        instead = machine.added(took["free"], took["momentum"], STEPS)
        yield [
            f"{elements:.0e}", tensors, number, "schedulefree.SGDScheduleFree minus SGD, momentum",
            machine.spread(instead, ".4g"), machine.spread(machine.quotients(instead, ours)),
            "| | 0",  # it keeps z in place of the momentum
        ]  # fmt: skip


# --- as a share of training steps -----------------------------------------------------------------


def models(given: argparse.Namespace) -> None:
    """PLP as a share of real training steps."""
    columns = (
        "network | batch | tensors | parameters | threads | a training step, ms | "
        "PLP adds, ms per step | PLP / a training step"
    )
    machine.table(columns, _models(given))


def _models(given: argparse.Namespace) -> Rows:
    torch.set_num_threads(machine.cores())
    for name, batch in (("resnet18", 128), ("gpt-mini", 64), ("resnet8", 128)):
        if name == "resnet18" and given.most < 10**7:
            continue
        model, inputs, targets = problem(name, batch, given.device)
        ps = list(model.parameters())
        base = momentum(ps)

        def step(model=model, inputs=inputs, targets=targets, base=base) -> None:
            base.zero_grad()
            cross_entropy(model(inputs), targets).backward()
            base.step()

        tick = clock(given.device)
        whole = machine.in_turn({"step": step}, 5, clock=tick)["step"]
        for p in ps:
            p.grad = p.detach()
        loops = {"base": stepping(Still(ps), 3), "PLP": stepping(plp(ps), 3)}
        took = machine.in_turn(loops, given.rounds, at_least=given.seconds, clock=tick)
        ms = machine.added(took["PLP"], took["base"], 3)
        middle = sorted(whole)[2] * 1000
        share = machine.spread([100 * each / middle for each in ms], ".3f")
        yield [
            name, batch, len(ps), f"{sum(p.numel() for p in ps):,}", torch.get_num_threads(),
            machine.spread([1000 * s for s in whole], ".0f"), machine.spread(ms, ".3f"),
            f"{share} %",
        ]  # fmt: skip


def problem(name: str, batch: int, device: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network and a batch of noise."""
    if name in CHARACTERS:
        context = CHARACTERS[name].context
        letters = torch.randint(65, (2, batch, context), device=device)
        return CHARACTERS[name].make(65, context).to(device), letters[0], letters[1]
    images = torch.randn(batch, 3, 32, 32, device=device)
    labels = torch.randint(10, (batch,), device=device)
    return IMAGES[name].make(3, 10, 32).to(device), images, labels


# --- on a GPU -------------------------------------------------------------------------------------


def graphs(given: argparse.Namespace) -> None:
    """A whole cycle as one CUDA graph, and whether a step waits for the device (not run so far)."""
    ps, pair = parameters(*SMALL, device="cuda"), FlatPair(SMALL[0], torch.float32, "cuda")
    loop = stepping(plp(ps), 3)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        repeating(loop, 3)()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loop()
    loops = {"eager": loop, "graph": graph.replay, "floor": pair.cycle}
    took = machine.in_turn(loops, given.rounds, at_least=given.seconds, clock=clock("cuda"))
    rows = [
        [name, machine.spread([1000 * s / 3 for s in seconds], ".4g"),
         machine.spread(machine.quotients(seconds, took["floor"])),
         waits(loop) if name == "eager" else ""]
        for name, seconds in took.items()
    ]  # fmt: skip
    machine.table("1,000 tensors of 64 | ms per step | / floor | waits per cycle", rows)


def waits(loop: Callable[[], object]) -> int:
    """Calls that wait for the device, of one loop, as the profiler sees them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        loop()
    names = [event.key for event in seen.key_averages() for _ in range(event.count)]
    # the profiler itself waits once, at its end
    return sum("Synchronize" in name for name in names) - 1


TABLES = {"floor": floor, "small": small, "peers": beside, "models": models}


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--most", type=float, default=5e8, help="parameters, at most")
    parser.add_argument("--seconds", type=float, default=0.02, help="one measurement lasts so long")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    torch.manual_seed(0)
    machine.heading("pytorch-optimizer", "schedulefree", "torch-ema", "ema-pytorch")
    print(f"paramcast {pc.__version__}, n = {given.rounds} rounds\n")
    for name in given.tables:
        print(f"### {TABLES[name].__doc__}\n")
        TABLES[name](given)
    if given.device == "cuda":
        print(f"### {graphs.__doc__}\n")
        graphs(given)


if __name__ == "__main__":
    main()
