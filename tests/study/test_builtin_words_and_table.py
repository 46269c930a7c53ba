"""The built-in tasks with words and with a table, on synthetic files and the real ones."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paramcast.errors import TaskError
from paramcast.study.tasks import housing, intents
from paramcast.study.tasks.builtin import BUILTIN
from paramcast.study.tasks.data.download import Remote
from paramcast.study.tasks.data.places import DataSet, search
from paramcast.study.tasks.networks import TABLES, WORDS
from paramcast.study.tasks.networks.tabular import Periodic
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import prepare
from paramcast.study.training.loop import run
from runs import run_spec

Paramcast = Callable[..., Any]


def small(data: DataSet, content: bytes, folder: Path) -> DataSet:
    """The data set with another content, which lies in a folder."""
    (remote,) = data.remotes
    (folder / remote.file).write_bytes(content)
    known = Remote(remote.url, hashlib.sha256(content).hexdigest(), len(content))
    return replace(data, remotes=(known,))


def real(name: str) -> None:
    data = BUILTIN[name].data
    assert data is not None
    if search(data) is None:
        pytest.skip(f"the data of {name} are not on this machine; see docs/tasks.md")


# --- words ----------------------------------------------------------------------------------------


@pytest.fixture
def sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three intents, each with a verb of its own."""
    draw = random.Random(0)
    verbs = {"play": "play_music", "call": "make_call", "stop": "cancel"}

    def pairs(count: int) -> list[list[str]]:
        chosen = [draw.choice([*verbs]) for _ in range(count)]
        return [[f"please {v} {draw.choice(['it', 'him', '42'])} now", verbs[v]] for v in chosen]

    content = {"train": pairs(60), "val": pairs(20), "test": pairs(30), "oos_test": [["hm", "oos"]]}
    data = small(intents.CLINC150, json.dumps(content).encode(), tmp_path)
    monkeypatch.setattr(intents, "CLINC150", data)
    return tmp_path


def test_sentences_become_numbers(sentences: Path) -> None:
    task = intents.clinc150("clinc150", WORDS["lstm"], sentences, None)
    inputs, targets = task.train  # type: ignore[misc]
    assert inputs.shape == (60, 5)  # "please call 4 2 now"
    assert sorted(set(targets.tolist())) == [0, 1, 2]
    # 2, 4, call, him, it, now, play, please, stop are 2 to 10; 0 fills up
    assert set(inputs.flatten().tolist()) == {0, *range(2, 11)}
    assert bool((inputs[:, 0] == 9).all())
    sizes = [len(part[0]) for part in (task.train, task.validation, task.test)]  # type: ignore[index]
    assert sizes == [60, 20, 30]


def test_an_unknown_word_is_one_of_the_unknown_and_a_long_text_is_cut() -> None:
    inputs, targets = intents.numbered(
        [("play a tune now", "b"), ("stop", "a")], {"play": 2, "stop": 3}, {"a": 0, "b": 1}, 3
    )
    assert inputs.tolist() == [[2, 1, 1], [3, 0, 0]]
    assert targets.tolist() == [1, 0]


def test_a_network_learns_the_intents(sentences: Path) -> None:
    prepared = prepare(intents.clinc150("clinc150", WORDS["lstm"], sentences, None))
    spec = run_spec(prepared, base="adamw", lr=0.01, epochs=6, batch_size=8)
    assert run(spec, prepared)["test"]["metric"] == 1.0


def test_what_fills_up_is_not_read() -> None:
    torch.manual_seed(0)
    net = WORDS["lstm"].make(10, 3).eval()
    short, longer = torch.tensor([[2, 3]]), torch.tensor([[2, 3, 0, 0]])
    assert torch.equal(net(short), net(longer))
    beside = torch.tensor([[2, 3, 0, 0], [4, 5, 6, 7]])
    torch.testing.assert_close(net(beside)[:1], net(short))  # whatever stands beside it
    assert not torch.allclose(net(short), net(short.flip(1)))  # the order of words counts
    assert net(torch.zeros(1, 4, dtype=torch.long)).isfinite().all()


def test_other_sentences_are_refused(paramcast: Paramcast, tmp_path: Path) -> None:
    (tmp_path / "data_full.json").write_text("{}")
    ran = paramcast("pilot", "clinc150", "--data-dir", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "data_full.json cannot be used: its sha256 is" in ran.err


def test_clinc150_is_the_official_one() -> None:
    real("clinc150")
    prepared = load(find("clinc150"))
    sizes = [len(s) for s in (prepared.train, prepared.validation, prepared.test)]
    assert sizes == [15_000, 3_000, 4_500]
    assert torch.bincount(prepared.test.targets).tolist() == [30] * 150


# --- a table --------------------------------------------------------------------------------------

HEAD = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,"
    "median_income,median_house_value,ocean_proximity\n"
)


def districts(count: int) -> bytes:
    """Prices that follow the income, 20,000 dollars a unit, with an empty cell now and then."""
    draw, lines = random.Random(0), [HEAD]
    for i in range(count):
        income = draw.uniform(1, 9)
        numbers = [f"{draw.uniform(0, 100):.2f}" for _ in range(7)]
        numbers[4] = "" if i % 50 == 0 else numbers[4]
        near = draw.choice(["INLAND", "NEAR BAY"])
        price = 20_000 * income + draw.gauss(0, 1000)
        lines.append(",".join([*numbers, f"{income:.4f}", f"{price:.1f}", near]) + "\n")
    return "".join(lines).encode()


def test_a_network_learns_the_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small(housing.HOUSING, districts(400), tmp_path)
    monkeypatch.setattr(housing, "HOUSING", data)
    task = housing.california("california", TABLES["mlp-plr"], tmp_path, None)
    prepared = prepare(task)
    assert prepared.train.inputs.shape == (240, 10)  # eight numbers, two words
    spec = run_spec(prepared, base="adamw", lr=0.003, epochs=30, batch_size=16)
    outcome = run(spec, prepared)
    assert outcome["metric_name"] == "rmse"
    # a constant errs by 20,000 x 8 / sqrt(12) = 46,000 dollars
    assert outcome["test"]["metric"] < 15_000


def test_periodic_embeddings_by_pencil() -> None:
    layer = Periodic(1, 1, 1, 1.0)
    with torch.no_grad():
        layer.frequencies.fill_(0.25)
        layer.weight.copy_(torch.tensor([[[2.0], [3.0]]]))
        layer.bias.fill_(0.5)
    # at x = 1 the angle is a quarter turn: cos 0, sin 1; at 2 a half: cos -1, sin 0
    out = layer(torch.tensor([[1.0, 7.0], [2.0, 7.0]]))
    torch.testing.assert_close(out, torch.tensor([[3.5, 1.0, 7.0], [0.0, 2.0, 7.0]]))


def test_another_table_is_refused(paramcast: Paramcast, tmp_path: Path) -> None:
    (tmp_path / "housing.csv").write_bytes(districts(100))
    ran = paramcast("pilot", "california", "--data-dir", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "housing.csv cannot be used: its sha256 is" in ran.err


def test_california_is_the_known_one() -> None:
    real("california")
    prepared = load(find("california"))
    assert [len(s) for s in (prepared.train, prepared.validation)] == [12_384, 4_128]
    assert prepared.train.inputs.shape[1] == 13
    assert prepared.task.target_scale == pytest.approx(115_993.65, abs=0.01)


def test_the_folder_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"housing\.csv"):
        housing.california("california", TABLES["mlp"], tmp_path, None)
