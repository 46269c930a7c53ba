"""Optimizers of the user's as methods: who makes what, their keys, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import paramcast as pc
from blobs import BLOBS
from command import call
from optimizers import OPTIMIZERS
from paramcast.errors import StudyError
from paramcast.study.training import own
from paramcast.study.training.methods import (
    METHOD,
    OwnOptimizer,
    derived_from,
    parse_methods,
    reaction,
)
from paramcast.study.training.wrapping import chosen, wrap


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the file."""
    (tmp_path / "my.py").write_text(OPTIMIZERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def base(*values: float, lr: float = 0.1) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.tensor(values))
    return weight, torch.optim.SGD([weight], lr=lr)


def stepped(method: str, gradient: list[float], lr: float = 0.1) -> list[float]:
    """A weight of 1, 1 after one step."""
    weight, optimizer = base(1.0, 1.0, lr=lr)
    made = wrap(optimizer, method, 10, 0)
    weight.grad = torch.tensor(gradient)
    made.step()
    return [float(x) for x in weight.detach()]


# --- reading names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "knobs"),
    [
        ("my.py:Lion", "my.py:Lion", {}),
        ("a/b.py:f", "a/b.py:f", {}),
        ("torch.optim:RAdam(weight_decay=0.1, betas='x')", "torch.optim:RAdam",
         {"weight_decay": 0.1, "betas": "x"}),
        ("pkg.sub:Outer.inner", "pkg.sub:Outer.inner", {}),
    ],
)  # fmt: skip
def test_names_and_knobs_are_read_without_running_any_code(
    text: str, name: str, knobs: dict[str, Any]
) -> None:
    (method,) = parse_methods(text)
    assert isinstance(method, OwnOptimizer)
    assert (method.name, method.own, method.kind.role) == (name, knobs, METHOD)
    (again,) = parse_methods(method.label)
    assert again == method
    assert chosen(method.label)[1] == method
    assert reaction(method.label) == ""


def test_a_control_is_told_from_a_file() -> None:
    assert derived_from("random-jump:plp(horizon=2)") == ("random-jump", "plp(horizon=2)")
    assert derived_from("my.py:same") == ("", "my.py:same")
    assert [m.label for m in parse_methods("plp, my.py:same, ema")] == ["plp", "my.py:same", "ema"]


# --- what is made ---------------------------------------------------------------------------------


def test_lion_by_pencil() -> None:
    """The first step is lr times the sign of the gradient; sign(0) is 0."""
    assert stepped("my.py:Lion", [3.0, -0.5]) == pytest.approx([0.9, 1.1])


def test_a_function_that_takes_an_optimizer_wraps_the_bases() -> None:
    assert stepped("my.py:halved", [1.0, 2.0]) == pytest.approx([0.95, 0.9])
    assert stepped("my.py:halved(by=0.25)", [4.0, 0.0]) == pytest.approx([0.9, 1.0])


@pytest.mark.parametrize("name", ["my.py:same", "my.py:rate_by_place", "torch.optim:SGD"])
def test_a_function_of_parameters_and_rate_takes_the_bases_place(name: str) -> None:
    weight, optimizer = base(1.0, lr=0.3)
    made = own.make(name, {}, [weight], 0.3, lambda: optimizer)
    assert made is not optimizer
    assert made.param_groups[0]["lr"] == 0.3
    assert made.param_groups[0]["params"] == [weight]


def test_a_trial_wraps_with_it() -> None:
    weight, optimizer = base(1.0)
    made: Any = pc.Trial(lr=0.1, method="my.py:Lion").wrap(optimizer)
    assert type(made).__name__ == "Lion"
    assert made.param_groups[0]["params"][0] is weight


@pytest.mark.parametrize(
    ("name", "knobs", "says"),
    [
        ("my.py:nothing", {}, "must return a torch.optim.Optimizer, it returned NoneType"),
        ("my.py:three", {}, "needs the arguments (a, b, c); needed is a function (parameters, lr)"),
        ("my.py:halved", {"x": 1}, "method my.py:halved has no knob 'x'; it has by"),
        ("torch.optim:Nope", {}, "torch.optim has no function or class 'Nope'"),
        ("torch.optim:Muon", {}, "failed with ValueError: Muon only supports 2D parameters"),
    ],
)
def test_what_cannot_be_a_method(name: str, knobs: dict[str, Any], says: str) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    with pytest.raises(pc.ParamcastError) as caught:
        own.make(name, knobs, parameters, 0.1, lambda: base(1.0)[1])
    assert says in str(caught.value)


# --- what a run is --------------------------------------------------------------------------------


def test_a_file_is_known_by_its_content_and_a_package_by_its_version(folder: Path) -> None:
    before = own.identity("my.py:same")
    assert before.startswith("sha256 ")
    own.verify("my.py:same", before)
    (folder / "my.py").write_text(OPTIMIZERS + "\n")
    assert own.identity("my.py:same") != before
    with pytest.raises(StudyError, match="was changed while it was in use; start the command"):
        own.verify("my.py:same(x=1)", before)
    assert own.identity("torch.optim:SGD") == f"torch {torch.__version__}"


def pilot(folder: Path, methods: str, *more: Any, out: str = "out") -> Any:
    (folder / "blobs.py").write_text(BLOBS)
    words = ("--lr", 0.1, "--seeds", 6, "--out", out, "--json")
    done = call(folder, "pilot", "blobs.py", "--methods", methods, *words, *more)
    assert done.code == 0, done.err
    return done


def test_a_copy_of_the_base_is_the_base_bitwise_and_a_pilot_says_what_it_ran(folder: Path) -> None:
    done = pilot(folder, "my.py:same, my.py:halved, torch.optim:RAdam")
    cell = done.result["cells"][0]
    rows = {each["method"]: each for each in cell["table"]}
    assert rows["my.py:same"]["values"] == rows["sgd"]["values"]
    assert rows["my.py:same"]["to_base"]["mean"] == 0
    assert rows["my.py:halved"]["values"] != rows["sgd"]["values"]
    assert set(cell["verdicts"]) == {"my.py:same", "my.py:halved", "torch.optim:RAdam"}
    assert {each["role"] for each in cell["table"][1:]} == {METHOD}  # no controls of theirs
    assert cell["confidence"] == pytest.approx(1 - 0.05 / 3)
    code = cell["specification"]["code"]
    assert code["my.py:same"] == own.identity("my.py:same")
    assert f"torch.optim:RAdam: torch {torch.__version__}" in done.result["environment"]["methods"]
    said = done.err.count("running the code in")
    assert said == 2  # the task's file, and this one
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "An optimizer of yours" in page


def test_an_edited_file_is_another_pilot_and_the_bases_runs_stay_what_they_are(
    folder: Path,
) -> None:
    first = pilot(folder, "my.py:same").result["cells"][0]["table"]
    (folder / "my.py").write_text(OPTIMIZERS.replace("momentum=0.9", "momentum=0.8"))
    refused = call(folder, "pilot", "blobs.py", "--methods", "my.py:same", "--lr", 0.1,
                   "--seeds", 6, "--out", "out")  # fmt: skip
    assert refused.code == 2
    assert "holds the results of another specification" in refused.err
    second = pilot(folder, "my.py:same", out="other").result["cells"][0]["table"]
    assert second[0]["keys"] == first[0]["keys"]
    assert set(second[1]["keys"]).isdisjoint(first[1]["keys"])


def test_an_optimizer_that_switches_its_weights_is_switched(folder: Path) -> None:
    """As the built-in schedule-free, bitwise."""
    pytest.importorskip("schedulefree")
    (folder / "free.py").write_text(
        "import schedulefree\n"
        "def free(parameters, lr):\n"
        "    return schedulefree.SGDScheduleFree(parameters, lr=lr / (1 - 0.9), momentum=0.9,\n"
        "                                        weight_decay=0.0)\n"
    )
    table = pilot(folder, "free.py:free, schedule-free", "--lr", 0.02, "--all-arms").result[
        "cells"
    ][0]["table"]
    rows = {each["method"]: each["values"] for each in table}
    assert rows["free.py:free"] == rows["schedule-free"]
    assert rows["free.py:free"] != rows["sgd"]
