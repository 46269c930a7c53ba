"""A long training with PLP, every gate and every monitor: flat memory, and the right weights?

    python benchmarks/soak.py [STEPS]      # 1,000,000 if not given: minutes to an hour

Sixteen parameters are pulled by springs to targets that move: loss = 1/2 sum h (theta - y(t))^2,
plain SGD. Beside the float32 run goes a twin in float64 and numpy that knows the rule alone; it is
told which jumps were written or withdrawn. Decisions are
steps, so a rounding error could turn one; all else is continuous, and there the two may differ by
rounding only. How much is derived here, with u = 2^-24, a = 1 - lr h, E the largest difference:

    one step      theta' = theta - lr h (theta - y): differences shrink by a <= a_max, and at most
                  6 u lr h |theta - y| + u |theta'| comes in (two roundings in theta - y and its
                  product with h, one each in lr and its product, one spare, one in the sum)
    one jump      j = (theta_2 - theta_1)/2, shortened to c |theta_3|: a
                  shortened jump is the nearest point of a ball, so the difference in j passes at
                  most whole and that in the radius is added: k E with k = max a (1 - a)/2 + c;
                  at most 12 u |j| + u |theta| comes in
    a withdrawal  the next step's gradient is of the jump's end: lr h_max k E more
    one cycle     e' <= q E + d  with  q = a_max^3 + (1 + lr h_max) k < 1
                  and  d = 3 (6 u lr h_max |theta - y| + u |theta|) + 12 u |j| + u |theta|
    for ever      E <= d / (1 - q)

all in Euclidean norms over the 16 parameters, with the largest |theta|, |theta - y| and |j| seen.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

import paramcast as pc
from paramcast.anomalies import Anomaly
from paramcast.gates import (
    After,
    Agreement,
    Before,
    Every,
    Gate,
    LossCheck,
    MaxRelativeJump,
)
from paramcast.monitors import CSV, History, JSONLines, Logger, TensorBoard

SHAPES = ((3, 4), (4,))
TARGETS = 61
LR, LIMIT = 0.05, 0.004
UNIT = 2.0**-24


class Springs(nn.Module):
    """Parameters that are pulled to a target."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        draw = lambda shape: torch.rand(shape, generator=generator)  # noqa: E731
        self.points = nn.ParameterList(nn.Parameter(1.0 + draw(shape)) for shape in SHAPES)
        self.stiffness = [0.5 + 1.5 * draw(shape) for shape in SHAPES]

    def forward(self, target: list[torch.Tensor]) -> torch.Tensor:
        parts = zip(self.points, target, self.stiffness, strict=True)
        return sum((0.5 * h * (p - y) ** 2).sum() for p, y, h in parts)


class Twin:
    """The rule in float64: three steps, and a jump that may be withdrawn before the next step."""

    def __init__(self, model: Springs) -> None:
        self.theta = self.end = flat(model.points)  # the end of a cycle, and of its jump
        self.h = flat(model.stiffness)
        self.points: list[np.ndarray] = []
        self.pulls = self.jumps = self.sizes = 0.0

    def step(self, target: np.ndarray, *, stays: bool) -> None:
        pull = self.end - target
        self.theta = self.end = (self.end if stays else self.theta) - LR * self.h * pull
        self.points = [*self.points[-2:], self.theta]
        self.pulls = max(self.pulls, norm(pull))
        self.sizes = max(self.sizes, norm(self.theta))

    def jump(self) -> None:
        jump = (self.points[-2] - self.points[-3]) / 2
        size, limit = norm(jump), LIMIT * norm(self.theta)  # a gate sees it whole
        self.end = self.theta + jump * min(1.0, limit / size if size else 1.0)
        self.jumps = max(self.jumps, norm(jump))
        self.sizes = max(self.sizes, norm(self.end))

    def bound(self) -> float:
        """The d / (1 - q) of the docstring."""
        a = 1.0 - LR * self.h
        move = LR * self.h.max()
        q = a.max() ** 3 + (1 + move) * ((a * (1 - a) / 2).max() + LIMIT)
        step = 6 * UNIT * move * self.pulls + UNIT * self.sizes
        return float((3 * step + 12 * UNIT * self.jumps + UNIT * self.sizes) / (1 - q))


def norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))


def flat(tensors: Any) -> np.ndarray:
    return np.concatenate([t.detach().double().reshape(-1).numpy() for t in tensors])


def gate(loss: Any) -> Gate:
    """All there are; each lets most jumps pass and stops some."""
    return (
        After(steps=30)
        & Before(share=1.0)
        & Every(1)
        & Agreement(-0.9)
        & MaxRelativeJump(LIMIT)
        & LossCheck(loss, tolerance=0.02)
        & Anomaly(jump=0.02, disagreement=4, loss=2.5, drift=4.0, pause=3)
    )


def soak(steps: int, folder: Path, say: Any = print) -> dict[str, float]:
    """Train, and return what was measured."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    model = Springs(generator)
    targets = [
        [1.0 + 0.1 * torch.randn(shape, generator=generator) for shape in SHAPES]
        for _ in range(TARGETS)
    ]
    wide, middle = [flat(t) for t in targets], [torch.ones(shape) for shape in SHAPES]
    history = History(every=1000, scored=True)
    with torch.no_grad(), JSONLines(folder / "e.jsonl", every=100) as lines:
        table, board = CSV(folder / "e.csv", every=100), TensorBoard(folder, every=1000)
        optimizer = pc.PLP(
            torch.optim.SGD(model.parameters(), lr=LR),
            gate=gate(lambda: model(middle)),
            monitors=[history, lines, table, board, Logger(every=1000)],
            total_steps=steps,
        )
        twin, process = Twin(model), psutil.Process()
        memory: list[tuple[int, int, int]] = []
        drift, worst, applied, withdrawn = 0.0, 0.0, 0, 0
        begun = time.perf_counter()
        for t in range(steps):
            target = targets[t % TARGETS]
            if t % 3 == 0 and t > 0:  # a loss is checked already, one to come may withdraw it
                written = optimizer.last_event.step == t and optimizer.last_event.applied
                if written:
                    twin.jump()
            with torch.enable_grad():
                optimizer.zero_grad()
                loss = model(target)
                loss.backward()
            optimizer.observe(loss.detach())
            stays = True
            if t % 3 == 0 and t > 0:
                stays = optimizer.last_event.applied if written else True
                applied += written and stays
                withdrawn += written and not stays
                drift = norm(flat(model.points) - (twin.end if stays else twin.theta))
                worst = max(worst, drift)
            optimizer.step()
            twin.step(wide[t % TARGETS], stays=stays)
            if (t + 1) % max(1, steps // 50) == 0:
                gc.collect()
                memory.append((t + 1, process.memory_info().rss, len(gc.get_objects())))
            if (t + 1) % max(1, steps // 10) == 0:
                rate = (t + 1) / (time.perf_counter() - begun)
                say(f"{t + 1:>9,} steps, {rate:,.0f} a second: drift {drift:.2e}, largest "
                    f"{worst:.2e}, bound {twin.bound():.2e}; {memory[-1][1] / 2**20:.2f} MiB, "
                    f"{memory[-1][2]:,} objects", flush=True)  # fmt: skip
        optimizer.flush()
        table.close()
        board.close()
    settled = [row for row in memory if row[0] > steps // 10]
    anomaly = optimizer._settings.anomalies[0]
    return {
        "steps": steps,
        "cycles": steps // 3,
        "written": applied / (steps // 3),
        "withdrawn": withdrawn / (steps // 3),
        "worst": worst,
        "bound": twin.bound(),
        "size": norm(twin.theta),
        "memory": settled[-1][1],
        # medians of the first and the last third: a sample may meet a monitor's full buffer
        "memory_growth": statistics.median(r[1] for r in settled[-15:])
        - statistics.median(r[1] for r in settled[:15]),
        "object_growth": settled[-1][2] - settled[0][2],
        "fired": len(anomaly.fired),
        "rows": len(history.rows),
    }


def main(steps: int) -> None:
    logging.getLogger("paramcast").addHandler(logging.NullHandler())
    logging.getLogger("paramcast").propagate = False
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        found = soak(steps, Path(folder))
    print("\n" + "\n".join(f"{name:14} {value:,.6g}" for name, value in found.items()))
    print(f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.0f}, torch "
          f"{torch.__version__}, Python {platform.python_version()}")  # fmt: skip
    if not found["worst"] <= found["bound"]:
        sys.exit("the float32 run is further from its float64 twin than rounding explains")
    if found["memory_growth"] > 2**20:
        sys.exit("the memory is not flat")


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 1_000_000)
