"""Studies: the file, the cells, a run of the real thing, resuming, and the tables."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paramcast.errors import StudyError
from paramcast.study.course import Course
from paramcast.study.engines import Job
from paramcast.study.grid.cells import make_cells, once
from paramcast.study.grid.export import write
from paramcast.study.grid.file import open_study, read, ready_made
from paramcast.study.plan import Plan
from paramcast.study.price import price
from paramcast.study.training.probes import check_probes

TINY = """
name = "tiny"
question = "Does it work?"
[[grid]]
task = "digits"
methods = ["plp"]
schedule = "constant"
lr = [0.003, 0.01]
batch_size = [64, 128]
seeds = 6
epochs = 1
"""


def grid(text: str) -> str:
    return f'name = "x"\nquestion = "?"\n[[grid]]\ntask = "digits"\nmethods = "plp"\n{text}\n'


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not valid TOML"),
        ('name = "x"', "question is missing; grid is missing"),
        ('name = "x y"\nquestion = "?"\ngrid = []', "name String should match pattern"),
        ('name = "x"\nquestion = "?"\ngrid = []', "grid is empty"),
        ('nam = "x"', "unknown key nam; choose from name, question, notes, grid"),
        (grid("seeds = 8\nlearning_rate = 0.1"), r"unknown key grid\[1\].learning_rate; choose"),
        (grid("seeds = 1"), r"grid\[1\].seeds must be greater than or equal to 2, got 1"),
        (grid("seeds = 2.5"), r"grid\[1\].seeds must be a valid integer, got 2.5"),
        (grid("seeds = 8\nlr = []"), r"grid\[1\].lr is empty"),
        (grid("seeds = 8\nlr = [0.1, -1]"), r"grid\[1\].lr\[2\] must be greater than 0, got -1"),
        (grid("seeds = 8\nlr = nan"), r"grid\[1\].lr\[1\] must be"),
        (grid('seeds = 8\nbase = "sdg"'), r"grid\[1\].base\[1\] must be 'own', .* got 'sdg'"),
        (grid('seeds = 8\nschedule = "cos"'), r"must be 'constant', 'warmup', 'cosine', 'cyc"),
        (grid("seeds = 8\nmomentum = 1.0"), r"momentum\[1\] must be less than 1, got 1.0"),
        (grid("seeds = 8\nlr = 0.1\ntune = {}"), "give lr or tune, not both"),
        (grid("seeds = 8\nlr = [0.1, 0.2, 0.1]"), r"grid\[1\].lr: 0.1 is there twice"),
        (grid('seeds = 8\nspeed = "no"'), r"grid\[1\].speed must be a valid boolean, got 'no'"),
        ('name = "x"\nquestion = "?"\n[grid]\ntask = "digits"', r"grid: write \[\[grid\]\]"),
        (grid("seeds = 8\ntune = {trials = 3}"), r"grid\[1\].tune.trials must be 1, 2, 4"),
        (grid("seeds = 8\ntune = {tries = 4}"), r"unknown key grid\[1\].tune.tries; choose from"),
    ],
    ids=lambda value: None if "\n" in value else value[:40],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_key(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read(text, "my.toml")


def test_a_grid_is_every_combination_of_its_axes() -> None:
    (block,) = read(TINY, "tiny").grid
    cells = [(cell["batch_size"], cell["lr"]) for cell in block.cells()]
    assert cells == [(64, 0.003), (64, 0.01), (128, 0.003), (128, 0.01)]


def test_where_no_probe_is_known_the_message_names_the_script_that_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paramcast.study.training.probes.PROBES", {})
    with pytest.raises(
        StudyError, match=r"unknown probe 'jumps'; run the study by research/run\.py"
    ):
        check_probes(["jumps"])


def test_what_else_lies_beside_the_ready_made_studies_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "tiny.toml").write_text(TINY)
    (tmp_path / "ready" / ".DS_Store").write_bytes(b"\x00\xff")
    monkeypatch.setattr("paramcast.study.grid.file.files", lambda _: tmp_path)
    assert ready_made.__wrapped__() == {"tiny": TINY}


@pytest.mark.parametrize("name", ready_made())
def test_a_ready_made_study_can_be_read_and_says_what_it_asks(name: str) -> None:
    study = open_study(name)[0]
    assert study.name == name
    assert study.question.endswith(("?", "."))
    assert study.notes


@pytest.mark.parametrize("name", ["sensitivity", "hybrids"])
def test_the_digits_studies_have_cells_that_fit(name: str, tmp_path: Path) -> None:
    study, _ = open_study(name)
    cells = make_cells(study, tmp_path, device="cpu", data_dir=None)
    assert len(cells) == {"sensitivity": 65, "hybrids": 7}[name]
    labels = [cell.label for cell in cells]
    assert len(set(labels)) == len(labels) or name == "sensitivity"  # its blocks share a centre


def first_jobs(plans: Sequence[Plan]) -> list[Job]:
    """All runs of cells whose learning rate is given: those of their only look."""
    wanted = []
    for plan in plans:
        following = Course(plan, plan.options.looks).next({})
        assert following is not None
        wanted.append((plan, following.specs))
    return once(wanted)


def test_a_grid_without_methods_is_its_base_alone(tmp_path: Path) -> None:
    study = read(TINY.replace('methods = ["plp"]', "methods = []"), "tiny")
    plans = [c.plan for c in make_cells(study, tmp_path, device="cpu", data_dir=None)]
    assert {job.spec.method for job in first_jobs(plans)} == {"base"}


def test_cells_that_share_runs_run_them_once(tmp_path: Path) -> None:
    study = read(TINY + TINY.partition("[[grid]]")[1] + TINY.partition("[[grid]]")[2], "twice")
    plans = [c.plan for c in make_cells(study, tmp_path, device="cpu", data_dir=None)]
    assert len(plans) == 8
    assert len(first_jobs(plans)) == 4 * 6 * 4  # cells, seeds, methods


def test_the_longest_runs_start_first_task_by_task(tmp_path: Path) -> None:
    grid = TINY[TINY.index("[[grid]]") :]
    text = TINY.replace("epochs = 1", "epochs = [1, 2]")
    text += grid.replace('"digits"', '"digits/mlp"').replace("epochs = 1", "epochs = [1, 3]")
    cells = make_cells(read(text, "x"), tmp_path, device="cpu", data_dir=None)
    plans = [cell.plan for cell in cells]
    jobs = first_jobs(plans)
    begun = [(job.source.where, job.spec.epochs) for job in jobs]
    order = list(dict.fromkeys(begun))
    assert order == [("digits/mlp", 3), ("digits/mlp", 1), ("digits", 2), ("digits", 1)]
    assert begun == sorted(begun, key=order.index)


def test_counting_runs_hashes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = make_cells(read(TINY, "x"), tmp_path, device="cpu", data_dir=None)
    monkeypatch.setattr("paramcast.study.spec.hash_of", None)  # a study has very many
    assert sum(price(cell.plan.options).most for cell in cells) == 4 * 6 * 4


# --- a study, run -------------------------------------------------------------------------------


def test_a_study_runs_resumes_and_exports(paramcast: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    dry = paramcast("study", "run", "tiny.toml", "--dry-run", "--json", "--out", "out")
    facts = json.loads(dry.out)
    assert (facts["cells"], facts["least_runs"], facts["most_runs"]) == (4, 96, 96)
    assert not (tmp_path / "out").exists()

    ran = paramcast("study", "run", "tiny.toml", "--out", "out")
    assert ran.code == 0, ran.err
    assert "4 cells" in ran.out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["reused_runs"] == 0
    first = result["cells"][0]
    assert [row["method"] for row in first["table"]] == [
        "sgd", "sgd-lr-matched", "random-jump", "plp"
    ]  # fmt: skip
    assert first["settings"]["batch_size"] == 64
    assert first["settings"]["lr"] == first["table"][0]["lr"] == 0.003
    assert first["table"][1]["lr"] == pytest.approx(0.003 * 7 / 6)

    with sqlite3.connect(tmp_path / "out" / "runs.db") as database:  # as if a part had been lost
        database.execute("DELETE FROM runs WHERE rowid % 3 = 0")
    (tmp_path / "out" / "result.json").unlink()
    status = paramcast("study", "status", "out").out
    assert "study tiny, not finished; 0 of 0 tuning runs, 64 of at most 96 final runs" in status
    assert paramcast("study", "export", "out", "cells.csv").code == 2  # not finished

    again = paramcast("study", "resume", "out")
    assert again.code == 0, again.err
    repeated = json.loads((tmp_path / "out" / "result.json").read_text())
    assert repeated["reused_runs"] == 64
    for a, b in zip(result["cells"], repeated["cells"], strict=True):
        assert [row["values"] for row in a["table"]] == [row["values"] for row in b["table"]]

    assert paramcast("study", "export", "out", "cells.csv").code == 0
    assert paramcast("study", "export", "out", "runs.parquet", "--runs").code == 0
    cells = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    assert len(cells) == 16
    plp = next(row for row in cells if row["method"] == "plp")
    values = {row["method"]: row["mean"] for row in first["table"]}
    assert float(plp["median_seconds"]) > 0
    gap = values["plp"] - values["sgd-lr-matched"]
    assert math.isclose(float(plp["minus_lr_matched_mean"]), gap, abs_tol=1e-12)
    assert float(plp["minus_lr_matched_low"]) < gap < float(plp["minus_lr_matched_high"])
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    assert len(runs) == 96
    assert set(runs["method"]) == {"base", "plp", "random-jump:plp"}

    (tmp_path / "tiny.toml").write_text(TINY.replace("0.003", "0.004"))
    other = paramcast("study", "run", "tiny.toml", "--out", "out")
    assert other.code == 2
    assert "the study's file changed" in other.err
    pilot = paramcast("pilot", "digits/mlp", "--lr", 0.1, "--seeds", 2, "--out", "out")
    assert "another specification (it is of a study, not of a pilot)" in pilot.err


def test_momentum_and_weight_decay_are_those_of_the_cell(tmp_path: Path) -> None:
    text = TINY.replace("seeds = 6", "seeds = 6\nmomentum = [0.0, 0.9]\nweight_decay = 0.01")
    cells = make_cells(read(text, "x"), tmp_path, device="cpu", data_dir=None)
    plans = [cell.plan for cell in cells]
    specs = {job.spec for job in first_jobs(plans)}
    assert {spec.momentum for spec in specs} == {0.0, 0.9}
    assert {spec.weight_decay for spec in specs} == {0.01}


# --- bad input ----------------------------------------------------------------------------------


def test_a_table_holds_no_formula_and_needs_a_known_ending(tmp_path: Path) -> None:
    rows = [{"method": "=HYPERLINK(1)", "value": -1.5}, {"method": "plp", "value": 2.0}]
    write(rows, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines() == [
        "method,value", "'=HYPERLINK(1),-1.5", "plp,2.0"
    ]  # fmt: skip
    with pytest.raises(StudyError, match="must end in"):
        write(rows, tmp_path / "x.xlsx")
    with pytest.raises(StudyError, match="cannot be written"):
        write(rows, tmp_path / "no" / "x.csv")
