"""Probes: what they measure against slow twins and known paths, and that they change nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import paramcast as pc
import run
from command import call
from paramcast.study.plan import Options, Plan
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Examples, Task
from paramcast.study.training import loop
from paramcast.study.training.methods import parse_methods
from paramcast.study.training.probes import PROBES, Watched
from probes import Jumps, Linearity, Sharpness

DATA = Examples(
    torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 4
)
TASK = Task("small", lambda: nn.Linear(3, 4), (DATA.inputs, DATA.targets), (1, 1), (1, 1))


class ByHand(nn.Module):
    """Two parameters that are moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Parameter(torch.zeros(2500))
        self.short = nn.Parameter(torch.zeros(3))


def follow(path: np.ndarray, spans: tuple[int, ...] = Linearity.SPANS) -> dict[str, float]:
    """What the probe finds on a path of (steps, 2503) points."""
    model = ByHand()
    run = Watched(model, torch.optim.SGD(model.parameters()), TASK, DATA, len(path))
    probe = Linearity(run)
    probe.spans = [w for w in probe.spans if w in spans]
    for number, point in enumerate(torch.tensor(path), 1):
        with torch.no_grad():
            model.long.copy_(point[:2500])
            model.short.copy_(point[2500:])
        probe.step(number)
    return probe.finish()


def test_a_straight_path_is_straight_at_every_span_phase_and_layer() -> None:
    direction = np.random.default_rng(0).normal(size=2503)
    found = follow(np.arange(1, 1301)[:, None] * direction)
    for span in Linearity.SPANS:
        for name in ("", "@1", "@4", ":long", ":short"):
            assert found[f"r2_{span}{name}"] == pytest.approx(1, abs=1e-4)
    assert all(found[f"cosine_{w}"] == pytest.approx(1, abs=1e-4) for w in Linearity.SPANS)
    assert "cosine_300" in found
    assert (
        "cosine_300@1" not in found
    )  # two displacements over 300 steps end with step 900 of 1,300


def test_a_path_to_and_fro_turns_at_its_span() -> None:
    """30 steps up, 30 down."""
    wave = np.abs((np.arange(1, 201) % 60) - 30.0)
    found = follow(wave[:, None] * np.ones(2503), (30,))
    assert found["cosine_30"] == pytest.approx(-1, abs=1e-6)


def test_every_number_is_that_of_a_slow_twin() -> None:
    rng = np.random.default_rng(3)
    path = rng.normal(size=(61, 2503)).cumsum(0) + 0.3 * np.arange(61)[:, None]
    found = follow(path)
    picks = {"long": np.arange(1000) * 2500 // 1000, "short": 2500 + np.arange(3)}
    weight = {"long": 2.5, "short": 1.0}
    for span in (3, 10, 30):
        r2, cosine = [], []
        for end in range(span, 62, span):
            a = b = 0.0
            for name, pick in picks.items():
                window = path[end - span : end, pick]
                time = np.arange(span)
                fit = np.polynomial.polynomial.polyfit(time, window, 1)
                residual = window - np.polynomial.polynomial.polyval(time, fit).T
                a += weight[name] * (residual**2).sum()
                b += weight[name] * ((window - window.mean(0)) ** 2).sum()
            r2.append(1 - a / b)
            if end > 2 * span:
                new, old = (
                    path[end - 1 - k * span] - path[end - 1 - (k + 1) * span] for k in (0, 1)
                )
                dot = {
                    (i, j): sum(weight[n] * (i_ * j_)[p].sum() for n, p in picks.items())
                    for i, i_ in (("n", new), ("o", old))
                    for j, j_ in (("n", new), ("o", old))
                }
                cosine.append(dot["n", "o"] / math.sqrt(dot["n", "n"] * dot["o", "o"]))
        assert found[f"r2_{span}"] == pytest.approx(np.mean(r2), rel=1e-5)
        assert found.get(f"cosine_{span}", 0) == pytest.approx(np.mean(cosine or [0]), rel=1e-5)


def test_parameters_that_stand_still_and_runs_that_are_too_short_have_no_straightness() -> None:
    assert follow(np.ones((20, 2503))) == {}
    assert follow(np.arange(5)[:, None] * np.ones(2503)) == {}


def test_sharpness_is_the_largest_eigenvalue_of_the_whole_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 4))
    run = Watched(model, torch.optim.SGD(model.parameters()), TASK, DATA, 27)
    probe = Sharpness(run)
    with torch.no_grad():  # less sharp once, at a step that is looked at
        model[3].weight.mul_(0.1)
        probe.step(3)
        model[3].weight.div_(0.1)
    probe.step(4)
    measured = probe.finish()
    found = measured["sharpness"]
    assert len(probe.seen) == 2
    assert probe.seen[0] != found
    assert measured["sharpness_most"] == max(probe.seen)
    assert model.training
    names = [name for name, _ in model.named_parameters()]

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        values = dict(zip(names, parameters, strict=True))
        outputs = torch.func.functional_call(model.eval(), values, (DATA.inputs,))
        return TASK.loss(outputs, DATA.targets)

    parts = torch.autograd.functional.hessian(loss, tuple(model.parameters()))
    sizes = [p.numel() for p in model.parameters()]
    rows = [
        torch.cat([parts[i][j].reshape(a, b) for j, b in enumerate(sizes)], 1)
        for i, a in enumerate(sizes)
    ]
    exact = torch.linalg.eigvalsh(torch.cat(rows))
    assert found == pytest.approx(float(exact[-1]), rel=0.03)


def test_a_jump_costs_the_loss_with_it_minus_the_loss_without() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=0.5))
    probe = Jumps(Watched(model, optimizer, TASK, DATA, 8))
    twin = nn.Linear(3, 4)
    twin.load_state_dict(model.state_dict())
    bare = torch.optim.SGD(twin.parameters(), lr=0.5)
    changes = []
    for number in range(1, 9):
        for net, opt in ((model, optimizer), (twin, bare)):
            opt.zero_grad()
            TASK.loss(net(DATA.inputs), DATA.targets).backward()
            opt.step()
        probe.step(number)
        if number % 3 == 0:  # the twin has not jumped
            after, before = (
                TASK.loss(n(DATA.inputs), DATA.targets).detach() for n in (model, twin)
            )
            changes.append(float(after - before))
        twin.load_state_dict(model.state_dict())
    found = probe.finish()
    assert found["jump_loss"] == pytest.approx(np.mean(changes), rel=1e-4)
    assert found["jump_loss_worst"] == pytest.approx(max(changes), rel=1e-4)
    assert found["jump_lowers_loss"] == np.mean([c < 0 for c in changes])
    assert found["jump_loss@2"] == pytest.approx(changes[0], rel=1e-4)


def test_without_predictions_there_are_no_jumps() -> None:
    model = nn.Linear(3, 4)
    probe = Jumps(Watched(model, torch.optim.SGD(model.parameters()), TASK, DATA, 8))
    probe.step(1)
    assert probe.finish() == {}


@pytest.mark.parametrize("method", ["base", "plp", "ema"])
def test_probes_change_nothing(digits_plan: Plan, method: str) -> None:
    spec = digits_plan.spec(method, 0.05, "final", 0, 1.0)
    outcomes = [
        loop.run(replace(spec, probes=probes), digits_plan.subject)
        for probes in ((), tuple(PROBES))
    ]
    for outcome in outcomes:
        for name in ("seconds", "peak_memory"):
            outcome.pop(name)
        for row in outcome["curve"]:
            row.pop("seconds")
    assert outcomes[0].pop("measures") == {}
    measured = outcomes[1].pop("measures")
    assert {"r2_3", "sharpness"} <= measured.keys()
    assert ("jump_loss" in measured) == (method == "plp")
    assert outcomes[0] == outcomes[1]


def test_only_final_runs_are_asked(digits_plan: Plan) -> None:
    digits_plan.common = replace(digits_plan.common, probes=("jumps",))
    assert digits_plan.spec("base", 0.1, "tune", 0, 1.0).probes == ()
    assert digits_plan.spec("base", 0.1, "final", 0, 1.0).probes == ("jumps",)


STUDY = """
name = "tiny"
question = "?"
[[grid]]
task = "digits/mlp"
methods = "plp"
seeds = 2
lr = 0.05
epochs = 1
probes = ["jumps"]
random_jump = false
"""


def test_worker_processes_know_the_probes(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, run.__file__, "tiny.toml", "--out", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert {row["method"]: "jump_loss" in row["measures"] for row in cell["table"]} == {
        "sgd": False, "sgd-lr-matched": False, "plp": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("noise", "--engine", "ray"), "a cluster know no probes; leave --engine out"),
        (("noises",), "no study 'noises'; give FILE.toml or one of anytime, bar-base"),
    ],
)
def test_what_the_script_cannot_run_is_said(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ran = call(tmp_path, *words, command=run.command)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.fixture
def digits_plan(tmp_path: Path) -> Plan:
    source = find("digits/mlp")
    options = Options(
        source=source, methods=parse_methods("plp, ema"), base="sgd", lr=0.05,
        lr_range=(0.01, 0.3), trials=1, trial_seeds=1, seeds=2, epochs=2, batch_size=32,
        schedule="cosine", margin=None, device="cpu",
    )  # fmt: skip
    return Plan(options, load(source), tmp_path)
