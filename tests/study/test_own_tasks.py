"""The user's own tasks: files, tables, folders of images, datasets; and what becomes of them."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from paramcast.errors import TaskError
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Prepared, Task, prepare

Paramcast = Callable[..., Any]
TaskFile = Callable[..., Path]
QUICK = ("--lr", 0.1, "--seeds", 6, "--json")


def result_of(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.cell
    assert all(row["diverged"] == 0 for row in found["table"])
    return found


# --- files --------------------------------------------------------------------------------------


def test_the_example_task_runs_as_it_is(paramcast: Paramcast, tmp_path: Path) -> None:
    wrote = paramcast("new-task", "mine.py")
    assert (wrote.code, wrote.err) == (0, "")
    assert wrote.out == "wrote mine.py; run it with: paramcast pilot mine.py:task --quick\n"
    found = result_of(paramcast("pilot", "mine.py:task", "--quick", "--json"))
    assert found["task"] == "my-digits"
    assert found["table"][0]["mean"] > 0.9
    assert found["description"]["split"]["test"] >= 1000
    # what it is told to run answers: the first verdict that a user sees is not "inconclusive"
    verdicts = found["verdicts"]["plp"]
    assert verdicts["quality"]["kind"] != "inconclusive"


def test_a_task_file_may_lie_anywhere_and_name_its_function(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "my_net.py").write_text("WIDTH = 5\n")  # beside it, and imported
    more = """
    from my_net import WIDTH
    def make_model():
        return torch.nn.Sequential(torch.nn.Linear(4, WIDTH), torch.nn.Linear(WIDTH, 3))
    def other():
        return task()
    """
    task_file(more=more, name="a b/it's.py")
    one = result_of(paramcast("pilot", "a b/it's.py:other", *QUICK))
    two = result_of(paramcast("pilot", tmp_path / "a b" / "it's.py", *QUICK))
    assert [row["values"] for row in one["table"]] == [row["values"] for row in two["table"]]


REGRESSION = """
    import torch.nn.functional as nnf
    def points(count, seed):
        x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
        return x, x.sum(1, keepdim=True).tanh()
    def make_model():
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    def root_mean_square(outputs, targets):
        return (outputs - targets).square().mean().sqrt()
    def r2(outputs, targets):
        return 1 - (outputs - targets).square().mean() / targets.var()
    """
POINTS = "train=points(40, 1), validation=points(40, 2), test=points(60, 3), loss=nnf.mse_loss, "


@pytest.mark.parametrize(
    ("metric", "name", "higher"),
    [
        ("metric='mse'", "mse", False),
        ("metric=root_mean_square, higher_is_better=False", "root_mean_square", False),
        ("metric=r2", "r2()", True),
    ],
)
def test_a_regression_is_judged_in_the_direction_of_its_metric(
    paramcast: Paramcast, task_file: TaskFile, metric: str, name: str, higher: bool
) -> None:
    task_file(changes=POINTS + metric, more=REGRESSION)
    result = result_of(paramcast("pilot", "blobs.py", *QUICK))
    assert (result["metric"]["name"], result["metric"]["higher_is_better"]) == (name, higher)
    base = result["table"][0]["values"]
    if not higher:
        share = 0.5 / 60 if name == "mse" else 0.0  # of a mean over 60 test examples
        assert result["metric"]["half_example"] == pytest.approx(share * float(np.median(base)))
        assert result["metric"]["margin"] == pytest.approx(0.05 * float(np.median(base)))
    for row in result["table"][1:]:
        sign = 1 if higher else -1  # plus = better
        gains = [sign * (a - b) for a, b in zip(row["values"], base, strict=True)]
        assert row["to_base"]["mean"] == pytest.approx(float(np.mean(gains)))
        assert row["top1_error"] is None
    if name == "mse":
        assert result["table"][0]["mean"] == pytest.approx(result["table"][0]["loss"])


@pytest.mark.parametrize(
    ("changes", "margin", "shown"),
    [("", 2, 0.02), (POINTS + "metric='mse'", 0.25, 0.25)],
    ids=["points of accuracy", "its own unit"],
)
def test_a_margin_is_in_the_unit_of_the_metric(
    paramcast: Paramcast, task_file: TaskFile, changes: str, margin: float, shown: float
) -> None:
    task_file(changes=changes, more=REGRESSION if changes else "")
    metric = result_of(paramcast("pilot", "blobs.py", *QUICK, "--margin", margin))["metric"]
    assert metric["margin"] == pytest.approx(shown)


def test_a_base_of_ones_own(paramcast: Paramcast, task_file: TaskFile) -> None:
    own = "base=lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr)"
    task_file(changes=own)
    words = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 2, "--epochs", 4, "--all-arms", "--json")
    result = result_of(paramcast(*words))
    names = [row["method"] for row in result["table"]]
    assert names == ["base", "base-lr-matched", "random-jump", "plp"]
    assert result["specification"]["common"]["base"] == "own"
    replaced = result_of(paramcast(*words, "--base", "sgd"))
    assert replaced["table"][0]["method"] == "sgd"
    assert replaced["table"][0]["values"] != result["table"][0]["values"]


# --- datasets -----------------------------------------------------------------------------------


def blobs_task(**changes: Any) -> Task:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    split = (x, torch.arange(30) % 3)
    settings: dict[str, Any] = {
        "name": "t", "model": lambda: torch.nn.Linear(4, 3),
        "train": split, "validation": split, "test": split,
    }  # fmt: skip
    return Task(**(settings | changes))


class Pairs(Dataset[Any]):
    """As users write them: NumPy inputs, plain integer labels."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x.numpy(), y.tolist()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.x[i], self.y[i]


@pytest.mark.parametrize(
    "wrap",
    [
        TensorDataset,
        Pairs,
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: [x.tolist(), y.tolist()],
        lambda x, y: (x.double(), y),
        lambda x, y: list(zip(x, y, strict=True)),
    ],
    ids=["TensorDataset", "Dataset", "arrays", "lists", "doubles", "pairs"],
)
def test_every_way_to_give_data_is_the_same_data(wrap: Callable[..., Any]) -> None:
    plain = blobs_task()
    x, y = plain.train
    prepared = prepare(blobs_task(train=wrap(x, y)))
    assert torch.equal(prepared.train.inputs, x)
    assert torch.equal(prepared.train.targets, y)
    assert prepared.fingerprint() == prepare(plain).fingerprint()


def test_the_fingerprint_changes_with_data_and_settings() -> None:
    x, y = blobs_task().train
    nudged = x.clone()
    nudged[0, 0] += 1e-6
    moved = y.roll(1)
    tasks = [
        blobs_task(), blobs_task(train=(nudged, y)), blobs_task(validation=(nudged, y)),
        blobs_task(test=(x, moved)), blobs_task(name="u"), blobs_task(momentum=0.8),
        blobs_task(weight_decay=0.0), blobs_task(model=lambda: torch.nn.Linear(4, 4)),
        blobs_task(loss=nnf.multi_margin_loss, metric=lambda o, t: 0.0, higher_is_better=False),
    ]  # fmt: skip
    assert len({prepare(task).fingerprint() for task in tasks}) == len(tasks)


# --- tables -------------------------------------------------------------------------------------


def table(folder: Path, lines: list[str], name: str = "data.csv") -> Path:
    file = folder / name
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def flowers(target: str) -> list[str]:
    """Numbers, texts, and a target that follows from both."""
    rng = np.random.default_rng(0)
    lines = ["length,colour,y"]
    for i in range(120):
        colour = ("red", "blue", "grün")[i % 3]
        length = rng.normal()
        high = length + (colour == "red") > 0.3
        value = {"class": "ja" if high else "nein", "number": f"{length + (colour == 'red'):.6f}"}
        lines.append(f"{length:.6f},{colour},{value[target]}")
    return lines


@pytest.mark.parametrize("target", ["class", "number"])
def test_a_table_of_classes_or_numbers(paramcast: Paramcast, tmp_path: Path, target: str) -> None:
    table(tmp_path, flowers(target))
    result = result_of(paramcast("pilot", "data.csv", "--target", "y", "--epochs", 8, *QUICK))
    metric = result["metric"]
    assert (result["task"], metric["name"]) == ("data", "accuracy" if target == "class" else "mse")
    mean = result["table"][0]["mean"]
    if target == "class":
        assert mean > 0.8
        assert metric["half_example"] == pytest.approx(0.5 / 24)
    else:
        assert not metric["higher_is_better"]
        assert mean < 0.3  # of a target with variance 1


def loaded(folder: Path, lines: list[str]) -> Prepared:
    return load(find(str(table(folder, lines)), "y"))


def test_a_table_is_split_60_20_20_and_scaled_by_what_training_knows(tmp_path: Path) -> None:
    prepared = loaded(tmp_path, flowers("class"))
    splits = (prepared.train, prepared.validation, prepared.test)
    assert [len(split) for split in splits] == [72, 24, 24]
    assert prepared.train.inputs.shape[1] == 4  # one number, three colours
    np.testing.assert_allclose(prepared.train.inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.train.inputs.std(0), 1, atol=1e-5)
    shares = [split.targets.float().mean() for split in splits]
    assert max(shares) - min(shares) < 0.05  # classes in equal shares


def test_a_text_that_training_never_saw_does_not_blow_up(tmp_path: Path) -> None:
    # 25 rare towns: some of them lie in the other splits only, where training saw no spread.
    towns = [f"town {i}" if i < 25 else "elsewhere" for i in range(200)]
    lines = ["town,y", *(f"{town},{i % 2}" for i, town in enumerate(towns))]
    prepared = loaded(tmp_path, lines)
    for split in (prepared.train, prepared.validation, prepared.test):
        assert float(split.inputs.abs().max()) < 1e3


# --- images -------------------------------------------------------------------------------------


def photos(folder: Path, per_class: int = 15) -> Path:
    root, rng = folder / "photos", np.random.default_rng(0)
    for level, name in ((60, "dark"), (180, "light")):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(level - 50, level + 50, (20 + i, 24, 3), dtype=np.uint8)
            ending = ("png", "jpg", "bmp")[i % 3]
            Image.fromarray(pixels).save(root / name / f"{i}.{ending}")
    return root


def test_a_folder_of_images(paramcast: Paramcast, tmp_path: Path) -> None:
    root = photos(tmp_path)
    words = ("pilot", "photos", "--lr", 0.05, "--seeds", 2, "--epochs", 4, "--out", "out")
    result = result_of(paramcast(*words, "--json"))
    assert result["task"] == "photos"
    assert result["table"][0]["mean"] > 0.9
    # an image more is another task
    Image.new("RGB", (9, 9)).save(root / "dark" / "black.png")
    refused = paramcast(*words)
    assert refused.code == 2
    assert "another specification" in refused.err


# --- divergence ---------------------------------------------------------------------------------


def test_diverged_runs_are_results(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    task_file(changes=POINTS + "metric='mse'", more=REGRESSION.replace("torch.nn.Tanh(), ", ""))
    ran = paramcast("pilot", "blobs.py", "--lr", 1000, "--seeds", 6, "--out", "out", "--json")
    assert (ran.code, ran.said) == (0, "")
    row = ran.cell["table"][-1]
    assert row["diverged"] == 6
    assert len(row["divergences"]) == 6
    assert {found["how"] for found in row["divergences"]} == {"step"}
    assert row["gap"] is None
    assert row["low"] == row["mean"] == row["high"]  # every one scores as the constant predictor
    verdict = ran.cell["verdicts"]["plp"]["quality"]
    assert verdict["kind"] == "inconclusive"
    assert (verdict["rule"], verdict["facts"]["diverged"]) == ("diverged", 12)  # all of both arms
    with closing(sqlite3.connect(tmp_path / "out" / "runs.db")) as connection:
        runs = connection.execute("SELECT status, outcome FROM runs").fetchall()
    assert len(runs) == 12
    for status, outcome in runs:
        assert status == "diverged"
        assert json.loads(outcome)["divergence"]["step"] >= 1
    shown = paramcast("pilot", "blobs.py", "--lr", 1000, "--seeds", 6, "--out", "out")
    assert shown.code == 0
    assert "6/6" in shown.out


def test_a_metric_without_a_value_for_the_constant_predictor_is_refused_in_words(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    # A correlation with a constant does not exist; a diverged run would have no score.
    more = REGRESSION + (
        "\n    def correlation(o, t):\n"
        "        return torch.corrcoef(torch.stack([o.flatten(), t.flatten()]))[0, 1]\n"
    )
    task_file(changes=POINTS + "metric=correlation", more=more)
    ran = paramcast("pilot", "blobs.py", "--lr", 1000, "--seeds", 2)
    assert ran.code in (1, 2)
    assert ran.err.splitlines()[-1].startswith("paramcast: ")
    assert "correlation" in ran.err


def test_a_metric_whose_base_value_is_zero_asks_for_a_margin(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    # 5 % of a median of 0 is no margin.
    task_file(changes="metric=lambda outputs, targets: 0.0, higher_is_better=False")
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert ran.code == 2
    assert "--margin" in ran.err


def test_whole_number_targets_of_a_regression_may_be_negative() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    split = (x, torch.arange(30)[:, None] - 20)
    prepared = prepare(
        blobs_task(
            train=split, validation=split, test=split,
            model=lambda: torch.nn.Linear(4, 1),
            loss=lambda outputs, targets: nnf.mse_loss(outputs, targets.float()),
            metric=lambda outputs, targets: float((outputs - targets).abs().mean()),
            higher_is_better=False,
        )
    )  # fmt: skip
    variance = float(split[1].double().var(correction=0))
    assert prepared.constant(prepared.test)["loss"] == pytest.approx(variance, rel=1e-4)


def test_a_task_error_of_the_users_own_keeps_its_words(task_file: TaskFile) -> None:
    file = task_file(
        more="""
        from paramcast.errors import TaskError
        def mine():
            raise TaskError("the disc is not mounted")
        """
    )
    with pytest.raises(TaskError, match=r"^the disc is not mounted$"):
        load(find(f"{file}:mine"))


def test_constant_loss_of_three_even_classes_is_log_3() -> None:
    prepared = prepare(blobs_task())
    assert prepared.constant(prepared.test)["loss"] == pytest.approx(math.log(3), rel=1e-4)
    assert prepared.constant(prepared.test)["metric"] == pytest.approx(1 / 3)
