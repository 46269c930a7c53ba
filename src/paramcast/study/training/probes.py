"""Probes: measurements of a final run beside its result. They look and change nothing.

The library has none. A script adds its own to PROBES before it runs a study, at its top level,
because worker processes import the script too (see research/run.py in the repository).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn
from torch.optim import Optimizer

from ...errors import StudyError
from ..reading import shown
from ..tasks.task import Examples, Task


@dataclass(frozen=True)
class Watched:
    """A run as its probes see it."""

    model: nn.Module
    optimizer: Optimizer
    task: Task
    train: Examples
    steps: int


class Probe(Protocol):
    """Looks at a run."""

    def step(self, number: int) -> None:
        """Called after each step of the optimizer with its number, counted from 1."""

    def finish(self) -> dict[str, float]:
        """The numbers found, by name; called once, at the end of the run."""


PROBES: dict[str, Callable[[Watched], Probe]] = {}


def check_probes(names: Sequence[str]) -> None:
    """Refuse a name that is not in PROBES."""
    known = f"choose from {', '.join(PROBES)}" if PROBES else "run the study by research/run.py"
    for name in names:
        if name not in PROBES:
            raise StudyError(f"unknown probe {shown(name)}; {known}")
