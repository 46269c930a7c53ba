"""The built-in tasks: their names, their data, their splits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paramcast.study.tasks.builtin import BUILTIN, choose
from paramcast.study.tasks.data.places import search
from paramcast.study.tasks.source import find, load

Paramcast = Callable[..., Any]


def present(task: str) -> Path:
    """The folder of a built-in task's data; skips where they are not on this machine."""
    data = BUILTIN[task].data
    assert data is not None
    found = search(data)
    if found is None:
        pytest.skip(f"the data of {task} are not on this machine: {data.advice}")
    return found


def assert_refused(ran: Any, message: str) -> None:
    """Exit code 2, nothing on standard output, one line that matches."""
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert re.search(message, ran.err), ran.err


@pytest.fixture(scope="session")
def fashion_folder() -> Path:
    return present("fashion")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "network", "limit", "name"),
    [
        ("digits", "cnn", None, "digits"),
        ("digits/cnn", "cnn", None, "digits"),
        ("digits/mlp", "mlp", None, "digits/mlp"),
        ("fashion@1000", "cnn", 1000, "fashion@1000"),
        ("fashion/mlp@01000", "mlp", 1000, "fashion/mlp@1000"),
    ],
)
def test_a_name_chooses_network_and_size(
    text: str, network: str, limit: int | None, name: str
) -> None:
    choice = choose(text)
    assert (choice.network, choice.limit, choice.name) == (network, limit, name)
    assert choose(choice.name) == choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits/vgg", r"task digits has no network 'vgg'; it has cnn, mlp"),
        ("fashion/", r"task fashion has no network ''; it has cnn"),
        ("fashion/cnn/x", r"task fashion has no network 'cnn/x'"),
        ("fashion@", r"N of fashion@N must be a whole number of examples, got ''"),
        ("fashion@-5", r"got '-5'"),
        ("fashion@0", r"got '0'"),
        ("fashion@1e4", r"got '1e4'"),
        ("fashion@٣", r"got '٣'"),
        ("fashion@9999999999", r"got '9999999999'"),
        ("digits@100", r"task digits is small and takes no @N"),
        ("fashion@49", r"fashion@N uses N of the 60000 training images, from 50 .* got 49"),
        ("fashion@60001", r"got 60001"),
    ],
)
def test_names_that_choose_nothing(
    paramcast: Paramcast, text: str, message: str, request: pytest.FixtureRequest
) -> None:
    if "uses N" in message or "60001" in message:
        request.getfixturevalue("fashion_folder")
    ran = paramcast("pilot", text)
    assert_refused(ran, message)


def test_a_folder_of_that_name_is_offered(paramcast: Paramcast, tmp_path: Path) -> None:
    (tmp_path / "digits" / "photos").mkdir(parents=True)
    assert "for the folder write ./digits/photos" in paramcast("pilot", "digits/photos").err


# --- Fashion-MNIST ------------------------------------------------------------------------------


def test_fashion_is_the_official_one(fashion_folder: Path) -> None:
    prepared = load(find("fashion"))
    sizes = [len(s) for s in (prepared.train, prepared.validation, prepared.test)]
    assert sizes == [48_000, 12_000, 10_000]
    for split in (prepared.train, prepared.validation, prepared.test):
        counts = torch.bincount(split.targets)
        assert counts.tolist() == [len(split) // 10] * 10
    assert prepared.train.inputs.shape[1:] == (1, 28, 28)
    assert prepared.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-4)
    assert prepared.train.inputs.double().std().item() == pytest.approx(1, abs=1e-4)
    assert prepared.test.targets[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as published


def test_a_subset_is_fixed_balanced_and_nested(fashion_folder: Path) -> None:
    small, again = load(find("fashion@1000")), load(find("fashion/cnn@1000"))
    assert small.fingerprint() == again.fingerprint()
    assert (len(small.train), len(small.validation), len(small.test)) == (800, 200, 10_000)
    assert torch.bincount(small.train.targets).tolist() == [80] * 10
    assert torch.bincount(small.validation.targets).tolist() == [20] * 10


def test_another_network_is_another_task(fashion_folder: Path) -> None:
    one, other = load(find("fashion@1000")), load(find("fashion/mlp@1000"))
    assert one.fingerprint() != other.fingerprint()
    assert torch.equal(one.train.inputs, other.train.inputs)


def test_the_pilot_runs_on_fashion_and_its_folder_does_not_matter(
    paramcast: Paramcast, fashion_folder: Path, tmp_path: Path
) -> None:
    words = ("--lr", 0.05, "--seeds", 2, "--epochs", 1, "--out", "out", "--json")
    first = paramcast("pilot", "fashion@500", *words)
    assert first.code == 0, first.err
    assert first.result["table"][0]["mean"] > 0.1
    elsewhere = tmp_path / "it's here" / "fashion"
    shutil.copytree(fashion_folder, elsewhere)
    second = paramcast("pilot", "fashion@500", "--data-dir", elsewhere.parent, *words)
    assert second.code == 0, second.err
    assert first.result["reused_runs"] == 0
    assert second.result["reused_runs"] == 2 * 5 * 2  # seeds, rows, lengths
    assert second.result["table"] == first.result["table"]
    assert "--data-dir" not in first.result["command"]
    assert "--data-dir" in second.result["command"]


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("train-images-idx3-ubyte.gz", r"train-images-idx3-ubyte.gz is missing"),
        ("t10k-labels-idx1-ubyte.gz", r"t10k-labels-idx1-ubyte.gz is missing"),
    ],
)
def test_a_folder_that_lacks_files(
    paramcast: Paramcast, fashion_folder: Path, tmp_path: Path, lacks: str, message: str
) -> None:
    for file in fashion_folder.iterdir():
        if file.name != lacks:
            (tmp_path / file.name).symlink_to(file)
    ran = paramcast("pilot", "fashion", "--data-dir", tmp_path)
    assert_refused(ran, message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fashion", "--data-dir", "."), r"--data-dir \. does not hold fashion-mnist: no .*idx"),
        (("fashion", "--data-dir", "nowhere"), r"--data-dir nowhere is no folder"),
        (("digits", "--data-dir", "."), r"task digits comes with its data"),
        (("x.py", "--data-dir", "."), r"--data-dir is for built-in tasks"),
    ],
)
def test_data_folders_that_do_not_fit(
    paramcast: Paramcast, words: tuple[str, ...], message: str
) -> None:
    ran = paramcast("pilot", *words)
    assert_refused(ran, message)
