"""A checkpoint at every step of a run, resumed in a new process: the same run, to the bit."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import paramcast as pc
from paramcast.anomalies import Anomaly
from paramcast.gates import Gate, LossCheck
from reference import BASES, parameters, restore, set_gradients, timeless, values
from test_conformance import AVERAGES, GATES, PREDICTORS

STEPS = 20
RULES = {"loss": 1.0, "actions": {"loss": "pause"}, "pause": 2}
GATES_OF_RUNS = {name: make for name, make in GATES.items() if name != "LossCheck"} | {
    "Loss": lambda: Anomaly(jump=0.5, **RULES),
    "None": lambda: None,
}
AVERAGES_OF_RUNS = {**AVERAGES, "None": lambda: None}
Case = tuple[str, str, str, str]
"""Predictor, gate, average, base."""


class Run:
    """One training; its gate is made here, since a loss needs the parameters."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        predictor, gate, average, base = case
        self.ps = parameters(seed=seed)
        self.history = pc.monitors.History(scored=True)
        made: Gate | None = LossCheck(self.loss) if gate == "LossCheck" else GATES_OF_RUNS[gate]()
        self.watches_loss = gate == "Loss"
        self.optimizer = pc.Forecast(
            BASES[base](self.ps),
            PREDICTORS[predictor](),
            gate=made,
            average=AVERAGES_OF_RUNS[average](),
            total_steps=STEPS,
            monitors=[self.history],
        )

    def loss(self) -> float:
        return float(sum((p.detach().double() ** 2).sum() for p in self.ps))

    def step(self, t: int) -> None:
        set_gradients(self.ps, t)
        if self.watches_loss:
            self.optimizer.observe(self.loss())
        self.optimizer.step()

    def save(self) -> Any:
        return copy.deepcopy([values(self.ps), self.optimizer.state_dict()])

    def load(self, saved: Any) -> None:
        restore(self.ps, saved[0])
        self.optimizer.load_state_dict(saved[1])

    def end(self, told: int = 0) -> str:
        """A hash of what a run ends with: weights, averaged weights, events but the first ones."""
        digest = hashlib.sha256(repr(list(map(timeless, self.history.rows[told:]))).encode())
        for weights in (self.optimizer.eval_weights(), contextlib.nullcontext()):
            with weights:
                for p in self.ps:
                    digest.update(p.detach().numpy().tobytes())
        return digest.hexdigest()


def train(case: Case, file: Path) -> list[str]:
    """The run left alone; its checkpoints, before each step, go to a file."""
    run, saved, told = Run(case), [], []
    for t in range(STEPS):
        saved.append(run.save())
        told.append(len(run.history.rows))
        run.step(t)
    torch.save(saved, file)
    return [run.end(seen) for seen in told]


def resume(case: Case, file: Path) -> list[str]:
    """What the run ends with when it goes on from each of its checkpoints, in fresh objects."""
    ends = []
    for cut, saved in enumerate(torch.load(file)):
        run = Run(case, seed=9)
        run.load(saved)
        for t in range(cut, STEPS):
            run.step(t)
        ends.append(run.end())
    return ends


def resume_elsewhere(cases: Sequence[Case], folder: Path) -> list[list[str]]:
    """The same in a new process, another one for every few cases."""
    code = (
        "import json, sys, torch; torch.set_num_threads(1); from pathlib import Path; "
        "from test_resume import resume; "
        "print(json.dumps([resume(tuple(c), Path(f)) for c, f in json.load(sys.stdin)]))"
    )
    given = [(case, str(folder / f"{i}.pt")) for i, case in enumerate(cases)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        input=json.dumps(given), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: list[list[str]] = json.loads(done.stdout)
    return found


def fits(case: Case) -> bool:
    """Whether the parts go together: the halves of a cycle of one step cannot be compared."""
    gate = None if case[1] == "LossCheck" else GATES_OF_RUNS[case[1]]()
    return gate is None or not gate.agreement or PREDICTORS[case[0]]().every >= 2


def check(cases: Sequence[Case], folder: Path) -> None:
    expected = [train(case, folder / f"{i}.pt") for i, case in enumerate(cases)]
    for case, ends, found in zip(cases, expected, resume_elsewhere(cases, folder), strict=True):
        cuts = [cut for cut in range(STEPS) if found[cut] != ends[cut]]
        assert not cuts, f"{case} differs when it is resumed before steps {cuts}"


NAMES = [*GATES, *(name for name in GATES_OF_RUNS if name not in GATES)]
BASE_NAMES = ("momentum", "adamw")


def test_every_part_resumes_in_a_new_process(tmp_path: Path) -> None:
    """Each predictor, with the gate, average and base that were used least."""
    cases: list[Case] = []

    def least_used(part: int, names: Iterable[str]) -> str:
        return min(names, key=lambda name: sum(case[part] == name for case in cases))

    for name in PREDICTORS:
        gate = least_used(1, [gate for gate in NAMES if fits((name, gate, "", ""))])
        cases.append((name, gate, least_used(2, AVERAGES_OF_RUNS), least_used(3, BASE_NAMES)))
    assert {case[1] for case in cases} == set(NAMES)
    assert {case[2] for case in cases} == set(AVERAGES_OF_RUNS)
    check(cases, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_combination_resumes_in_a_new_process(predictor: str, tmp_path: Path) -> None:
    cases = [
        case for gate, average, base in itertools.product(NAMES, AVERAGES_OF_RUNS, BASE_NAMES)
        if fits(case := (predictor, gate, average, base))
    ]  # fmt: skip
    assert len(cases) >= 100
    check(cases, tmp_path)
