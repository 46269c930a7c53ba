"""What watching costs, as a share of the prediction and of a training step.

    python benchmarks/monitoring.py [ROUNDS]

For each set of parameters loops of 16 cycles (48 steps) run in turn: the base alone, PLP, and PLP
watched in several ways. 16 cycles hold one norm of the parameters, so they stand for a whole run.
The base leaves the parameters where they are, so that nothing but the wrapper is timed. Each round
has another order, and one training step of ResNet8 (a batch of 128 images of 32 x 32). Times are
CPU seconds of the process, and differences are taken within a round, since the machine may be busy;
the table holds medians over the rounds with quartiles.

    of the prediction   (watched - PLP) / (PLP - base alone)       goal for History(): at most 5 %
    of a step           (watched - PLP) per step / training step   goal for all: at most 0.5 %
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import paramcast as pc
from paramcast.anomalies import Anomaly
from paramcast.monitors import History, TensorBoard
from paramcast.study.tasks.networks import IMAGES
from paramcast.study.training.predictions import Predictions

CYCLES = 16
FOLDER = tempfile.mkdtemp()

WATCHED: dict[str, Callable[[], dict[str, Any]]] = {
    "History()": lambda: {"monitors": [History()]},
    "gate=Anomaly()": lambda: {"gate": Anomaly()},
    "TensorBoard(...)": lambda: {"monitors": [TensorBoard(FOLDER)]},
    "all three": lambda: {"gate": Anomaly(), "monitors": [History(), TensorBoard(FOLDER)]},
    "TensorBoard(every=20)": lambda: {"monitors": [TensorBoard(FOLDER, every=20)]},
    "a study's final run": lambda: {"monitors": [Predictions()]},
    "History(every=20, scored)": lambda: {"monitors": [History(every=20, scored=True)]},
}


class Still(torch.optim.Optimizer):
    """A base that does nothing."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        super().__init__(parameters, {"lr": 1.0})

    def step(self, closure: Any = None) -> None:
        pass


def seconds(optimizer: torch.optim.Optimizer) -> float:
    """Of 16 cycles."""
    start = time.process_time()
    for _ in range(3 * CYCLES):
        optimizer.step()
    return time.process_time() - start


def network() -> torch.nn.Module:
    return IMAGES["resnet8"].make(3, 10, 32)


def training_step() -> Callable[[], float]:
    """A function that makes a step and returns its seconds."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        return time.process_time() - start

    step()
    return step


def with_gradients(parameters: Sequence[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    for p in parameters:
        p.grad = torch.zeros_like(p)
    return list(parameters)


def tensors(count: int, size: int) -> list[torch.nn.Parameter]:
    return with_gradients([torch.nn.Parameter(torch.randn(size)) for _ in range(count)])


def spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def measure(
    name: str, parameters: list[torch.nn.Parameter], rounds: int, step: Callable[[], float]
) -> None:
    """Print a row for each way to watch."""
    loops = {"base": Still(parameters), "PLP": pc.PLP(Still(parameters))}
    for label, options in WATCHED.items():
        loops[label] = pc.PLP(Still(parameters), **options())
    labels, took = list(loops), {label: [] for label in loops}
    for optimizer in loops.values():
        seconds(optimizer)
    for n in range(rounds):
        first = n % len(labels)
        for label in labels[first:] + labels[:first]:
            took[label].append(1e6 * seconds(loops[label]) / CYCLES)
    one_step = 1e6 * statistics.median(step() for _ in range(7))
    prediction = [plp - base for plp, base in zip(took["PLP"], took["base"], strict=True)]
    for label in WATCHED:
        more = [each - plp for each, plp in zip(took[label], took["PLP"], strict=True)]
        middle = statistics.median(more)
        print(
            f"| {name} | {spread(prediction)} | {label} | {spread(more)} "
            f"| {100 * middle / statistics.median(prediction):.1f} % "
            f"| {100 * middle / 3 / one_step:.4f} % |",
            flush=True,
        )
        name = " "
    print(f"| | | | | | a step: {one_step / 1e3:.0f} ms, n = {rounds} |")


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = training_step()
    print("| parameters | prediction, µs per cycle | watched by | more, µs per cycle ", end="")
    print("| of the prediction | of a step of ResNet8 |\n|---|---|---|---|---|---|")
    own = with_gradients(list(network().parameters()))
    elements = sum(p.numel() for p in own)
    measure(f"ResNet8: {len(own)} tensors, {elements:,} elements", own, 5 * rounds, step)
    measure("1,000 of 1,000 elements", tensors(1000, 1000), rounds, step)
    measure("4 of 2,500,000 elements", tensors(4, 2_500_000), rounds, step)
    print(
        f"\nMedians (quartiles) over n rounds of {CYCLES} cycles. One thread of "
        f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"paramcast {pc.__version__}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 31)
