"""The built-in tasks: their names, their data, their splits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramcast.study.tasks.builtin import BUILTIN, choose
from paramcast.study.tasks.data.places import search
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.vision import CIFAR100, crop_and_flip
from paramcast.study.training.loop import run
from runs import run_spec

Paramcast = Callable[..., Any]


ROOT = Path(__file__).parents[2]


def present(task: str) -> Path:
    """The folder of a built-in task's data; skips where they are not on this machine."""
    data = BUILTIN[task].data
    assert data is not None
    found = data.inside(ROOT.parent / "shared" / "data") or search(data)
    if found is None:
        pytest.skip(
            f"the data of {task} are not on this machine; {data.advice or 'see docs/tasks.md'}"
        )
    return found


def assert_refused(ran: Any, message: str) -> None:
    """Exit code 2, nothing on standard output, one line that matches."""
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert re.search(message, ran.err), ran.err


@pytest.fixture(scope="session")
def fashion_folder() -> Path:
    return present("fashion")


@pytest.fixture(scope="session")
def cifar_folder() -> Path:
    return present("cifar100")


@pytest.fixture(scope="session")
def shakespeare_folder() -> Path:
    return present("shakespeare")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "network", "limit", "name"),
    [
        ("digits/cnn", "cnn", None, "digits"),
        ("digits/mlp", "mlp", None, "digits/mlp"),
        ("fashion@1000", "cnn", 1000, "fashion@1000"),
        ("fashion/mlp@01000", "mlp", 1000, "fashion/mlp@1000"),
        ("cifar100/resnet8@10000", "resnet8", 10_000, "cifar100@10000"),
        ("cifar10/vgg16", "vgg16", None, "cifar10/vgg16"),
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
        ("digits/vgg", r"task digits has no network 'vgg'; it has cnn, mlp, resnet8"),
        ("fashion/", r"task fashion has no network ''; it has cnn"),
        ("fashion/cnn/x", r"task fashion has no network 'cnn/x'"),
        ("fashion@", r"N of fashion@N must be a whole number of examples, got ''"),
        ("fashion@0", r"got '0'"),
        ("fashion@٣", r"got '٣'"),
        ("fashion@9999999999", r"got '9999999999'"),
        ("digits@100", r"task digits is small and takes no @N"),
        ("clinc150@100", r"task clinc150 is small and takes no @N"),
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
    other = load(find("fashion/mlp@1000"))  # another network is another task on the same data
    assert small.fingerprint() != other.fingerprint()
    assert torch.equal(small.train.inputs, other.train.inputs)


def test_the_pilot_runs_on_fashion_and_its_folder_does_not_matter(
    paramcast: Paramcast, fashion_folder: Path, tmp_path: Path
) -> None:
    words = ("--lr", 0.05, "--seeds", 2, "--epochs", 1, "--out", "out", "--json")
    first = paramcast("pilot", "fashion@500", *words)
    assert first.code == 0, first.err
    assert first.cell["table"][0]["mean"] > 0.1
    elsewhere = tmp_path / "it's here" / "fashion"
    shutil.copytree(fashion_folder, elsewhere)
    second = paramcast("pilot", "fashion@500", "--data-dir", elsewhere.parent, *words)
    assert second.code == 0, second.err
    assert first.result["reused_runs"] == 0
    assert second.result["reused_runs"] == first.cell["trainings"] > 0
    assert second.cell["table"] == first.cell["table"]
    assert "--data-dir" not in first.result["command"]
    assert "--data-dir" in second.result["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fashion", "--data-dir", "."), r"--data-dir \. does not hold fashion-mnist: no .*idx"),
        (("fashion", "--data-dir", "nowhere"), r"--data-dir nowhere is not a folder"),
        (("digits", "--data-dir", "."), r"task digits comes with its data"),
        (("x.py", "--data-dir", "."), r"--data-dir is for built-in tasks"),
    ],
)
def test_data_folders_that_do_not_fit(
    paramcast: Paramcast, words: tuple[str, ...], message: str
) -> None:
    ran = paramcast("pilot", *words)
    assert_refused(ran, message)


def test_damage_and_what_is_missing_are_told_by_the_command(
    paramcast: Paramcast, fashion_folder: Path, tmp_path: Path
) -> None:
    for file in fashion_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    broken = tmp_path / "train-images-idx3-ubyte.gz"
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(content[:1_000_000])
    ran = paramcast("pilot", "fashion", "--data-dir", tmp_path)
    assert_refused(
        ran, r"train-images-idx3-ubyte.gz cannot be used: it cannot be read \(Compressed"
    )
    broken.unlink()
    ran = paramcast("pilot", "fashion", "--data-dir", tmp_path)
    assert_refused(ran, r"train-images-idx3-ubyte.gz is missing")


# --- CIFAR-100 ----------------------------------------------------------------------------------


def test_cifar_100_is_the_official_one(cifar_folder: Path) -> None:
    images, labels = CIFAR100.read(cifar_folder, "test")
    assert images.shape == (10_000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [100] * 100
    assert len({image.tobytes() for image in images}) > 9_900  # a few of them appear twice
    assert 60 < images.std() < 75
    # red, green, blue: the published means of CIFAR-100 are 129.3, 124.1 and 112.4
    assert images.mean((0, 2, 3)) == pytest.approx([129.3, 124.1, 112.4], abs=1.5)


@pytest.mark.slow
def test_the_task_of_cifar_100(cifar_folder: Path) -> None:
    prepared = load(find("cifar100/resnet8@10000", data_dir=str(cifar_folder)))
    assert prepared.task.name == "cifar100@10000"
    assert prepared.train.inputs.shape == (8000, 3, 32, 32)
    for split, each in ((prepared.train, 80), (prepared.validation, 20), (prepared.test, 100)):
        assert torch.bincount(split.targets).tolist() == [each] * 100
    mean, std = prepared.train.inputs.mean((0, 2, 3)), prepared.train.inputs.std((0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(std, torch.ones(3), rtol=0, atol=1e-4)
    assert prepared.classes == 100
    assert prepared.task.augment is crop_and_flip


# --- Shakespeare --------------------------------------------------------------------------------


def test_shakespeare_predicts_each_next_character(shakespeare_folder: Path) -> None:
    prepared = load(find("shakespeare@20000", data_dir=str(shakespeare_folder)))
    inputs, targets = prepared.train.inputs, prepared.train.targets
    assert inputs.shape == targets.shape == (249, 64)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(inputs[1:, 0], targets[:-1, -1])  # the windows follow one another
    text = (shakespeare_folder / "input.txt").read_text("ascii")
    alphabet = sorted(set(text))
    assert "".join(alphabet[c] for c in inputs.flatten().tolist()) == text[: 249 * 64]
    test = "".join(alphabet[c] for c in prepared.test.inputs.flatten().tolist())
    assert test == text[1_003_855:][: len(test)]
    assert len(test) > 111_000
    assert prepared.classes == 65


def test_the_chance_of_a_character_is_known_exactly(shakespeare_folder: Path) -> None:
    prepared = load(find("shakespeare@20000", data_dir=str(shakespeare_folder)))
    shares = torch.bincount(prepared.train.targets.flatten(), minlength=65) / (249 * 64)
    entropy = -(shares * shares.clamp(min=1e-9).log()).sum().item()
    assert prepared.constant(prepared.train)["loss"] == pytest.approx(entropy, abs=1e-4)
    assert prepared.constant(prepared.train)["metric"] == pytest.approx(shares.max().item())


def test_a_run_learns_characters(shakespeare_folder: Path) -> None:
    prepared = load(find("shakespeare@10000", data_dir=str(shakespeare_folder)))
    spec = run_spec(method="plp", base="adamw", lr=0.003, epochs=4, batch_size=4, phase="tune")
    one, two = run(spec, prepared), run(spec, prepared)
    assert one["status"] == "done"  # better than the best constant
    assert one["steps"] == 124
    assert one["validation"] == two["validation"]


def test_another_text_is_refused(
    paramcast: Paramcast, shakespeare_folder: Path, tmp_path: Path
) -> None:
    text = (shakespeare_folder / "input.txt").read_bytes()
    (tmp_path / "input.txt").write_bytes(text[:-1] + b"?")
    ran = paramcast("pilot", "shakespeare", "--data-dir", tmp_path)
    assert_refused(ran, r"input.txt cannot be used: its sha256 is .*, not 86c4e6aa")


@pytest.mark.parametrize("count", [9_999, 1_003_856])
def test_a_text_has_so_many_characters(
    paramcast: Paramcast, shakespeare_folder: Path, count: int
) -> None:
    ran = paramcast("pilot", f"shakespeare@{count}", "--data-dir", shakespeare_folder)
    assert_refused(ran, rf"uses the first N of the 1003855 training characters.*; got {count}")


# --- the list of tasks --------------------------------------------------------------------------


def test_tasks_are_listed_with_their_networks_and_data(
    paramcast: Paramcast, fashion_folder: Path, tmp_path: Path
) -> None:
    ran = paramcast("tasks")
    assert (ran.code, ran.err) == (0, "")
    for name, task in BUILTIN.items():
        assert f"\n{name:12} " in "\n" + ran.out
        assert f"networks: {', '.join(task.networks)}\n" in ran.out
    (tmp_path / "fashion").symlink_to(fashion_folder)
    there = paramcast("tasks", "--data-dir", tmp_path).out
    assert f"data: {fashion_folder}\n" in there
    assert there.count(f"data: not in {tmp_path}\n") == 6
    assert_refused(paramcast("tasks", "--data-dir", tmp_path / "gone"), "gone is not a folder")


@pytest.mark.slow
def test_a_language_model_that_has_only_begun_to_learn_is_judged(
    paramcast: Paramcast, tmp_path: Path
) -> None:
    """It stands near the constant prediction: too few steps, not too high a rate."""
    words = ("--methods", "primal-averaging", "--quick", "--out", "out")
    ran = paramcast("pilot", "shakespeare@60000", *words)
    assert ran.code == 0, ran.err
    assert "ower the learning rate" not in ran.out
    assert "diverged on" not in ran.out
