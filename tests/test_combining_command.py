"""`paramcast combine` on the checkpoints of a real training."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from command import call, strict_json

EXAMPLE = Path(__file__).parents[1] / "examples" / "17_combine.py"
CHECKPOINTS = [f"ckpt_{i}.pt" for i in range(1, 21)]
FUNCTIONS = ("--eval", "own.py:evaluate", "--test", "own.py:test", "--metric")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("combine_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 checkpoints of an MLP on digits, and the functions that evaluate it."""
    folder = tmp_path_factory.mktemp("digits")
    example.train(folder)
    shutil.copy(EXAMPLE, folder / "own.py")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "digits"))


def mean_of_last(folder: Path, count: int) -> dict[str, Any]:
    """As anyone would write it."""
    states = [torch.load(folder / f"ckpt_{20 - i}.pt")["model"] for i in range(count)]
    return {name: sum(state[name] for state in states) / count for name in states[0]}


def test_the_table_says_what_each_is_worth_and_the_best_is_written(
    folder: Path, example: ModuleType
) -> None:
    ran = call(
        folder, "combine", *CHECKPOINTS, *FUNCTIONS, "loss", "-o", "best.safetensors", "--json"
    )
    assert (ran.code, ran.said) == (0, ""), ran.err
    found = strict_json(ran.out)
    assert found["order"] == "by the epoch stored in them"
    assert found["checkpoints"] == [f"ckpt_{i}.pt" for i in range(1, 21)]
    values = {row["name"]: row["results"] for row in found["tried"]}
    assert len(values) == 33
    for count in (2, 13, 20):
        own = example.evaluate(mean_of_last(folder, count))
        for name, value in values[f"mean of the last {count}"].items():
            assert value == pytest.approx(
                float(own[name]), abs=2e-3 if name == "accuracy" else 1e-5
            )
    last = example.evaluate(torch.load(folder / "ckpt_20.pt")["model"])
    assert values["last checkpoint"]["loss"] == float(last["loss"])
    best = min(values, key=lambda name: values[name]["loss"])
    assert found["chosen"] == best != "last checkpoint"
    # what was written is worth what the table says, on both functions
    from safetensors.torch import load_file

    state = load_file(folder / "best.safetensors")
    assert float(example.evaluate(state)["loss"]) == values[best]["loss"]
    assert float(example.test(state)["loss"]) == found["test"]["chosen"]
    beside = json.loads((folder / "best.safetensors.json").read_text("utf-8"))
    assert beside | {"out": "best.safetensors"} == found
    # at a constant rate some average is better than the last point, on data that chose nothing too
    assert found["test"]["chosen"] < found["test"]["last"]


def test_what_it_prints(folder: Path) -> None:
    words = (
        "--predictor",
        "mean",
        "--predictor",
        "line",
        "--last",
        "3",
        "--horizon",
        "0",
        "--horizon",
        "2",
    )
    ran = call(folder, "combine", *CHECKPOINTS, *FUNCTIONS, "loss", *words, "-o", "best.pt")
    assert ran.code == 0, ran.err
    assert "running the code in" in ran.err
    lines = ran.out.splitlines()
    assert lines[0] == (
        "20 checkpoints, by the epoch stored in them: ckpt_1.pt (1) ... ckpt_20.pt (20)"
    )
    rows = [line[:32].strip() for line in lines[3 : lines.index("", 3)]]
    assert rows == [
        "last checkpoint",
        "mean of the last 3",
        "line through the last 3, 0 ahead",
        "line through the last 3, 2 ahead",
    ]
    assert sum(line.endswith("best") for line in lines) == 1
    assert "flatters it" in ran.out
    assert "On the test function, which chose nothing: loss" in ran.out
    assert lines[-1] == "Wrote best.pt and best.pt.json."
    assert all(len(line) <= 100 for line in lines)


def test_nothing_better_nothing_written(folder: Path) -> None:
    bad = "def worst(state):\n    return {'loss': float(-state['0.weight'].abs().sum())}\n"
    (folder / "bad.py").write_text(bad)  # averages have smaller norms than points
    words = ("combine", *CHECKPOINTS, "--eval", "bad.py:worst", "--predictor", "mean")
    ran = call(folder, *words, "-o", "best.pt")
    assert ran.code == 0, ran.err
    assert "None of 6 is better than the last checkpoint." in ran.out
    assert ran.out.endswith("best.pt was not written.\n")
    assert not (folder / "best.pt").exists()


def test_without_an_evaluation_one_predictor_is_written_unjudged(
    folder: Path, example: ModuleType
) -> None:
    ran = call(folder, "combine", *CHECKPOINTS, "--predictor", "mean", "--last", 5, "-o", "mean.pt")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "20 checkpoints, by the epoch stored in them: ckpt_1.pt (1) ... ckpt_20.pt (20); "
        "mean of the last 5",
        "Wrote mean.pt and mean.pt.json.",
    ]
    state = torch.load(folder / "mean.pt")["model"]
    for name, value in mean_of_last(folder, 5).items():
        torch.testing.assert_close(state[name], value)


def test_interrupting_leaves_nothing(folder: Path) -> None:
    (folder / "slow.py").write_text("def f(state):\n    raise KeyboardInterrupt\n")
    before = sorted(folder.iterdir())
    ran = call(folder, "combine", *CHECKPOINTS, "--eval", "slow.py:f", "-o", "best.pt")
    assert ran.code == 130
    assert [p for p in sorted(folder.iterdir()) if p.name != "__pycache__"] == before
