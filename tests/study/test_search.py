"""What is searched beside the learning rate: how it is shared, and that every run gets its own."""

from __future__ import annotations

import json
import pickle
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paramcast as pc
from blobs import BLOBS
from command import call
from paramcast.errors import StudyError
from paramcast.study.judging.tune import learning_rates
from paramcast.study.search import Rate, Searched, named, parse_search, settings_at, shared

RATES = learning_rates(0.01, 1.0, 8)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("weight_decay=1e-5:1e-2", Searched("weight_decay", 1e-5, 1e-2)),
        ("beta=0.6,0.9", Searched("beta", values=(0.6, 0.9))),
        ("kind=mean, sum", Searched("kind", values=("mean", "sum"))),
        ("n=0,1", Searched("n", values=(0.0, 1.0))),
    ],
)
def test_a_setting_is_read_and_written_again(text: str, searched: Searched) -> None:
    assert parse_search(text) == searched
    assert parse_search(searched.text) == searched


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("beta", "--search must be NAME=LOW:HIGH or NAME=A,B, got 'beta'"),
        ("be ta=1,2", "--search must be NAME=LOW:HIGH or NAME=A,B, got 'be ta=1,2'"),
        ("a.b=1,2", "--search must be NAME=LOW:HIGH or NAME=A,B, got 'a.b=1,2'"),
        ("beta=", "--search beta needs two or more different values, or LOW:HIGH, got ''"),
        ("beta=1", "--search beta needs two or more different values, or LOW:HIGH, got '1'"),
        ("beta=1,1.0", "--search beta needs two or more different values"),
        ("beta=1,,2", "--search beta needs two or more different values"),
        ("beta=2:1", "--search beta must satisfy 0 < LOW < HIGH < infinity, got '2:1'; list other"),
        ("beta=0:1", "--search beta must satisfy 0 < LOW < HIGH < infinity, got '0:1'"),
        ("beta=1:inf", "--search beta must satisfy 0 < LOW < HIGH < infinity, got '1:inf'"),
        ("beta=a:b", "--search beta must satisfy 0 < LOW < HIGH < infinity, got 'a:b'"),
        ("lr=1:2", "--search is for what is tuned beside the learning rate; use --lr-range"),
    ],
)
def test_a_setting_that_cannot_be_searched(text: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_search(text)
    assert says in str(caught.value)


# --- sharing --------------------------------------------------------------------------------------


def test_without_a_search_the_rates_are_the_rates() -> None:
    assert shared([], RATES) == RATES
    assert {settings_at(rate) for rate in shared([], RATES)} == {()}
    assert settings_at(0.1) == ()


def test_by_pencil() -> None:
    """Four points: each value of the range at one of them, the two listed ones at two each."""
    searched = [Searched("decay", 0.001, 1.0), Searched("beta", values=(0.6, 0.9))]
    points = shared(searched, [0.1, 0.2, 0.4, 0.8])
    decays, betas = ([dict(p.settings)[name] for p in points] for name in ("decay", "beta"))
    assert sorted(map(float, decays)) == pytest.approx([0.001, 0.01, 0.1, 1.0])
    assert sorted(betas) == [0.6, 0.6, 0.9, 0.9]
    assert [*points] == [0.1, 0.2, 0.4, 0.8]
    (point,) = shared([Searched("decay", 0.01, 1.0)], [0.1])
    assert point.settings == (("decay", pytest.approx(0.1)),)


@given(n=st.integers(2, 32), names=st.lists(st.sampled_from("abcdef"), max_size=3, unique=True))
def test_points_are_a_latin_hypercube_that_depends_on_names_and_number_alone(
    n: int, names: list[str]
) -> None:
    searched = [Searched(name, 0.001, 1.0) for name in names]
    points = shared(searched, learning_rates(0.01, 1.0, n))
    assert points == shared(searched, learning_rates(0.01, 1.0, n))
    for name in names:
        values = [dict(point.settings)[name] for point in points]
        assert len(set(values)) == n  # each value once
        assert values == [dict(p.settings)[name] for p in shared(searched, range(1, n + 1))]


@pytest.mark.parametrize("n", [8, 16])
def test_a_setting_follows_neither_the_rates_nor_another_setting(n: int) -> None:
    searched = [Searched("weight_decay", 1e-5, 1e-2), Searched("momentum", 0.5, 0.99)]
    points = shared(searched, learning_rates(0.01, 1.0, n))
    columns = [
        [*range(n)],
        *(
            [sorted(own).index(value) for value in own]
            for own in ([dict(p.settings)[s.name] for p in points] for s in searched)
        ),
    ]
    for i, a in enumerate(columns):
        for b in columns[:i]:
            assert abs(statistics.correlation(a, b)) < 0.2


def test_a_rate_is_a_number_that_travels() -> None:
    rate = Rate(0.1, (("beta", 0.9),))
    assert json.dumps(rate) == "0.1"
    again = pickle.loads(pickle.dumps(rate))
    assert (again, again.settings) == (0.1, rate.settings)
    assert named(dict(rate.settings)) == "beta=0.9"


# --- runs -----------------------------------------------------------------------------------------


def test_a_trial_outside_a_pilot_has_the_settings_that_it_is_given() -> None:
    assert pc.Trial(lr=0.1).settings == {}
    assert pc.trial(lr=0.1, settings={"beta": 0.9}).settings == {"beta": 0.9}


TRAIN = """
import json

metric, lr_range, margin = "accuracy", (0.01, 1.0), "0.5"

def train(trial):
    import torch
    torch.manual_seed(trial.seed)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = trial.wrap(torch.optim.SGD([weight], lr=trial.lr))
    decay = SETTING
    with open("log.jsonl", "a") as log:
        log.write(json.dumps([trial.phase, trial.method, trial.lr, decay]) + "\\n")
    for _ in range(trial.steps(6)):
        optimizer.zero_grad()
        ((weight - 1).square() + decay * weight.square()).sum().backward()
        optimizer.step()
    off = (weight.item() - 1) ** 2 + 0.01 * torch.rand(1).item()
    return {"validation_loss": off, "accuracy": 1 / (1 + off)}
"""


def searched_pilot(folder: Path, setting: str, *more: Any) -> Any:
    (folder / "train.py").write_text(TRAIN.replace("SETTING", setting))
    words = ("--methods", "plp", "--trials", 4, "--trial-seeds", 2, "--seeds", 6, "--workers", 1)
    return call(folder, "pilot", "train.py:train", *words, "--out", "out", *more, "--json")


def test_every_run_of_an_own_training_gets_the_settings_of_its_point(tmp_path: Path) -> None:
    done = searched_pilot(tmp_path, 'trial.settings["decay"]', "--search", "decay=0.001:1")
    assert done.code == 0, done.err
    (cell,) = done.result["cells"]
    rates = cell["learning_rates"]
    tried = {lr: own["decay"] for lr, own in zip(rates["tried"], rates["settings"], strict=True)}
    assert len(set(tried.values())) == 4
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {(lr, decay) for phase, _, lr, decay in log if phase == "tune"} <= set(tried.items())
    # final runs at the chosen point; the lr-matched control at another rate and the same settings
    for row in cell["table"]:
        own = {decay for phase, _, lr, decay in log if phase == "final" and lr == row["lr"]}
        assert own == {row["settings"]["decay"]}
    assert cell["specification"]["search"] == ["decay=0.001:1.0"]
    assert "--search decay=0.001:1.0" in done.result["command"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Searched beside it" in page
    # continuing it runs nothing anew
    before = len(log)
    again = searched_pilot(tmp_path, 'trial.settings["decay"]', "--search", "decay=0.001:1")
    assert again.code == 0, again.err
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == before


def test_a_training_that_never_asks_for_a_setting_is_refused(tmp_path: Path) -> None:
    done = searched_pilot(tmp_path, "0.1", "--search", "decay=0.001:1")
    assert done.code == 2
    assert "the training never asked for decay, which --search tries; use" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="commands are run on Linux and macOS")
def test_a_command_takes_settings_by_placeholders(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import json, random, sys\n"
        "lr, seed, beta = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]\n"
        "loss = abs(lr - 0.1) + (beta == 'low') + 0.001 * random.Random(seed).random()\n"
        "loss += float(sys.argv[4])\n"
        "print(json.dumps({'validation_loss': loss, 'score': -loss}))\n"
    )
    commands = ("--base", "python train.py {lr} {seed} {beta} 0.1",
                "--candidate", "new=python train.py {lr} {seed} {beta} 0")  # fmt: skip
    words = ("--metric", "score", "--margin", 0.1, "--lr-range", "0.01:1", "--trials", 4,
             "--trial-seeds", 1, "--seeds", 6)  # fmt: skip
    done = call(tmp_path, "pilot", *commands, *words, "--search", "beta=low,high", "--json")
    assert done.code == 0, done.err
    assert {row["settings"]["beta"] for row in done.result["cells"][0]["table"]} == {"high"}
    refused = call(tmp_path, "pilot", *commands, *words)
    assert "the unknown placeholder {beta}" in refused.err


def test_a_task_searches_beta2_and_a_study_crosses_it(tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(BLOBS)
    words = ("--base", "muon", "--methods", "ema", "--trials", 2, "--trial-seeds", 1, "--seeds", 2)
    search = ("--search", "beta2=0.5,0.99", "--json")
    done = call(tmp_path, "pilot", "blobs.py", *words, *search, "--out", "out")
    assert done.code == 0, done.err
    assert {row["settings"]["beta2"] for row in done.result["cells"][0]["table"]} <= {0.5, 0.99}
    (tmp_path / "study.toml").write_text(
        'name = "s"\nquestion = "q"\n[[grid]]\ntask = "blobs.py"\nbase = "adamw"\n'
        "beta2 = [0.5, 0.99]\nlr = 0.1\nmethods = []\nseeds = 2\n"
    )
    done = call(tmp_path, "study", "run", "study.toml", "--json", "--out", "s")
    assert done.code == 0, done.err
    one, other = done.result["cells"]
    assert (one["settings"]["beta2"], other["settings"]["beta2"]) == (0.5, 0.99)
    assert one["table"][0]["loss"] != other["table"][0]["loss"]


def test_a_study_tunes_by_the_vertex_of_what_is_judged(tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(BLOBS)
    (tmp_path / "study.toml").write_text(
        'name = "s"\nquestion = "q"\n[[grid]]\ntask = "blobs.py"\n'
        'methods = ["ema", "no-momentum"]\n'
        'tune = { trials = 4, seeds = 2, rule = "vertex" }\nseeds = 2\n'
    )
    words = ("study", "run", "study.toml", "--json", "--out", "s")
    planned = call(tmp_path, *words, "--dry-run")
    done = call(tmp_path, *words)
    assert done.code == 0, done.err
    (cell,) = done.result["cells"]
    rates = cell["learning_rates"]
    assert rates["chosen"].keys() == {"base", "ema", "no-momentum"}
    # every rate on every seed, for all alike
    assert all([len(own) for own in keys] == [2] * 4 for keys in rates["keys"].values())
    assert cell["trainings"] == 3 * 8 + 3 * 2
    assert cell["trainings"] in json.loads(planned.out).values(), planned.out


def test_an_optimizer_of_the_users_gets_the_arguments_that_are_searched(tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(BLOBS)
    (tmp_path / "my.py").write_text(
        "import torch\n"
        "def sgd(parameters, lr, weight_decay=0.0, dampening=0.0):\n"
        "    with open('log', 'a') as log:\n"
        "        print(float(lr), weight_decay, dampening, file=log)\n"
        "    return torch.optim.SGD(parameters, lr, 0.9, dampening, weight_decay)\n"
    )
    words = ("--methods", "my.py:sgd(dampening=0.25)", "--trials", 4, "--trial-seeds", 1,
             "--seeds", 6, "--all-arms", "--json")  # fmt: skip
    done = call(tmp_path, "pilot", "blobs.py", *words, "--search", "weight_decay=0,0.001,0.1,0.5")
    assert done.code == 0, done.err
    rates = done.result["cells"][0]["learning_rates"]
    log = {tuple(map(float, line.split())) for line in (tmp_path / "log").read_text().splitlines()}
    pairs = zip(rates["tried"], rates["settings"], strict=True)
    assert {(lr, own["weight_decay"], 0.25) for lr, own in pairs} <= log
    alone = call(tmp_path, "pilot", "blobs.py", *words, "--search", "eps=1,2")
    assert "--search eps: of base sgd" in alone.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--search", "dropout=0.1,0.2"], "of base sgd momentum and weight_decay can be searched"),
        (["--search", "momentum=0.9,1"], "--search momentum must be below 1, got momentum=0.9,1.0"),
        (["--search", "weight_decay=a,b"], "--search weight_decay needs numbers from 0 on"),
        (["--search", "momentum=0.1,0.9", "--base", "adamw"],
         "of base adamw beta2 and weight_decay can be searched"),
        (["--search", "beta2=0.9,1", "--base", "muon"], "--search beta2 must be below 1, got"),
        (["--search", "momentum=0,0.9", "--base", "nesterov"], "nesterov needs a momentum above 0"),
        (["--search", "weight_decay=0,1", "--lr", "0.1"], "--lr tunes nothing, so --search has no"),
        (["--search", "momentum=0.1,0.2"] * 2, "--search momentum is given twice; give it once"),
        (["--search", "gamma=0.5,1", "--methods", "torch.optim:RAdam"],
         "--search gamma: of base sgd momentum and weight_decay can be searched, of an optimizer"),
        (["--search", "eps=0.5,1", "--methods", "torch.optim:RAdam(eps=0.1)"], "--search eps: of"),
    ],
)  # fmt: skip
def test_what_a_task_cannot_search(words: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(BLOBS)
    refused = call(tmp_path, "pilot", "blobs.py", *words, "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert says in refused.err
