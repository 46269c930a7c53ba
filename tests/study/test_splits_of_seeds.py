"""`--splits`: every seed has a random split of its own, the same for all arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command import Ran
from paramcast.report.html.comparison import cells_of
from paramcast.report.html.load import load as load_report
from paramcast.study.course import Course
from paramcast.study.judging.looks import Look
from paramcast.study.judging.sentences import note
from paramcast.study.judging.verdict import Metric
from paramcast.study.options import PilotOptions, continuing
from paramcast.study.plan import Plan
from paramcast.study.result import cautions
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import Source, find, load
from paramcast.study.words import Words

ROWS = 50


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A straight line with noise: 30 rows train, 10 validate, 10 test."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    y = x @ [1.0, 2.0] + 0.3 * rng.normal(size=ROWS)
    file = tmp_path / "line.csv"
    np.savetxt(file, np.c_[x, y], delimiter=",", header="a,b,price", comments="", fmt="%.4f")
    return file


@pytest.fixture
def planned(table: Path, plan: Callable[..., Plan], task_file: Callable[..., Path]) -> Any:
    """planned(splits=4): a plan over the table."""
    options = plan(task_file(), methods="plp", lr=0.1, batch_size=10).options

    def make(splits: int, seeds: int) -> Plan:
        source = find(str(table), "price")
        changed = replace(options, source=source, seeds=seeds, splits=splits > 1)
        others = (load(replace(source, split=i)) for i in range(1, splits))
        return Plan(changed, load(source), table.parent / f"out{splits}", others)

    return make


def every_run(made: Plan) -> list[RunSpec]:
    """All runs of a pilot that looks once, at every arm."""
    course = Course(made, [Look(made.options.seeds, 0.95)])
    wanted = course.next({})
    assert wanted is not None
    return wanted.specs


def test_arms_are_paired_within_a_split_and_seeds_are_not(planned: Any) -> None:
    made = planned(4, 4)
    specs = every_run(made)
    by_seed: dict[int, set[str]] = {}
    for spec in specs:
        by_seed.setdefault(spec.seed, set()).add(spec.fingerprint)
    assert [len(by_seed[seed]) for seed in range(4)] == [1] * 4
    assert len(set.union(*by_seed.values())) == 4
    assert {job.source.split for job in made.jobs(specs)} == {0, 1, 2, 3}
    assert all(job.source.split == job.spec.seed for job in made.jobs(specs))
    assert (made.overlap, made.pooled) == (10 / 30, 4)
    assert planned(20, 20).pooled == 5  # there are no more than 50 rows
    again = continuing(PilotOptions(splits=4), made.options.source, 8, made.out)
    assert again.startswith(f"paramcast pilot {made.options.source.where} --splits 8 --out ")


def test_one_split_for_all_seeds_is_what_it_was(planned: Any) -> None:
    made = planned(1, 4)
    specs = every_run(made)
    assert {spec.fingerprint for spec in specs} == {made.common.fingerprint}
    assert (made.overlap, made.pooled, made.specification().get("splits")) == (0.0, 1.0, None)
    assert "--seeds 8" in made.command(8)


def test_splits_differ_and_each_row_is_tested_in_some(table: Path) -> None:
    source = find(str(table), "price")
    tests = [load(replace(source, split=i)).test.targets for i in range(12)]
    assert torch.equal(tests[3], load(replace(source, split=3)).test.targets)
    assert not any(torch.equal(tests[0], other) for other in tests[1:])


def test_a_small_table_is_told_of_splits(planned: Any) -> None:
    made = planned(1, 6)
    assert made.subject.example_share == 0.1
    few = replace(made.options, margin=1.0, relative_margin=True)
    made.options = few
    said = note(cautions(made)[0], Metric("mse", False, 0.01), Words("en"))
    assert "Use --splits 12, add test examples" in said


def test_a_pilot_with_splits_is_judged_and_reported(
    table: Path, paramcast: Callable[..., Ran], tmp_path: Path
) -> None:
    words = ("--target", "price", "--lr", 0.1, "--epochs", 8, "--methods", "plp", "--out", "out")
    ran = paramcast("pilot", table, *words, "--splits", 6, "--json")
    assert ran.code == 0, ran.err
    result = ran.cell
    assert result["metric"]["overlap"] == pytest.approx(1 / 3)
    assert {"note": "splits"} in result["notes"]
    c = result["table"][-1]["to_base"]
    # t(5) = 2.5706; the variance of the mean is sd^2 (1/6 + 1/3)
    half = max(2.5706 * c["sd"] * 0.5**0.5, result["metric"]["half_example"])
    assert c["sd"] > 0
    assert (c["high"] - c["low"]) / 2 == pytest.approx(half, rel=1e-3)
    (cell,) = cells_of(load_report(tmp_path / "out"), Words("en"))
    assert len({run.spec["fingerprint"] for run in cell.arms[0].final if run}) == 6
    assert all(run is not None for arm in cell.arms for run in (*arm.final, *arm.early))


def test_the_split_is_a_part_of_the_source() -> None:
    assert Source("table", "x.csv", split=1) != Source("table", "x.csv")
