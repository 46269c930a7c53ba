"""What was read of a task's data is said: before training, in the dry run, and in every result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paramcast.study.tasks.description import lines, listed
from paramcast.study.tasks.task import Prepared
from runs import cell

Paramcast = Callable[..., Any]
WORDS = ("pilot", "--lr", 0.1, "--seeds", 2, "--epochs", 1, "--methods", "plp")
SPLIT = "300 examples to train, 397 to validate, 1,100 to test."
CONSTANT = (
    "A constant answer scores 10.1 % on the test data, where one example is worth 0.091 points."
)


def test_lists_are_joined_and_cut() -> None:
    text = listed
    assert text(["a", "b"], "en") == "a, b"
    assert text([["a", 3], ["b", 1]], "en") == "a (3), b (1)"
    assert text([["a", 3], ["b", 1]], "ja") == "a（3）、b（1）"  # noqa: RUF001 - full-width
    assert text(list(range(9)), "en") == "0, 1, 2, 3, 4, 5, 6, 7, ... (9 in all)"


def test_names_in_a_fact_are_not_templates() -> None:
    name = "{train.__class__} {0}"
    assert name in lines({"test_metric": {"metric": name, "constant": 1.0}})[0]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "auroc", "average_precision"])
def test_the_constant_is_told_in_the_unit_of_the_table(
    prepared: Callable[..., Prepared], metric: str
) -> None:
    told = prepared(metric=metric).description["test_percent"]
    assert 0 < told["constant"] <= 100
    assert lines({"test_percent": {"metric": metric, "constant": 100 / 3}}) == [
        f"A constant answer scores 33.3 % on the test data ({metric})."
    ]
    if metric == "auroc":
        assert told["constant"] == 50.0


def test_what_a_task_tells_comes_first_and_is_not_part_of_what_a_run_is(
    prepared: Callable[..., Prepared],
) -> None:
    told = {"test_metric": {"metric": "of its own", "constant": 0.5}}
    plain, telling = prepared(), prepared(description=told)
    assert list(plain.description) == ["split", "test_accuracy"]
    assert list(telling.description) == ["test_metric", "split", "test_accuracy"]
    assert plain.fingerprint() == telling.fingerprint()


def test_a_pilot_says_what_was_read_before_it_trains_and_with_its_result(
    paramcast: Paramcast, tmp_path: Path
) -> None:
    ran = paramcast(*WORDS, "--out", "out")
    assert ran.err.splitlines()[:2] == [f"paramcast: data: {SPLIT}", f"paramcast: data: {CONSTANT}"]
    assert ran.out.splitlines()[2:4] == [SPLIT, CONSTANT]
    stored = cell(json.loads((tmp_path / "out" / "result.json").read_text("utf-8")))
    assert stored["description"]["split"] == {"train": 300, "validation": 397, "test": 1100}
    assert stored["description"]["test_accuracy"]["example"] == pytest.approx(100 / 1100)
    for language, sentence in (("en", SPLIT), ("ja", "学習 300 件")):
        assert paramcast("report", "out", "--lang", language, "-o", f"{language}.html").code == 0
        assert sentence in (tmp_path / f"{language}.html").read_text("utf-8")
    assert paramcast("report", "out", "-o", "out.md").code == 0
    assert f"- {SPLIT}" in (tmp_path / "out.md").read_text("utf-8")


def test_a_dry_run_says_what_was_read(paramcast: Paramcast) -> None:
    assert paramcast(*WORDS, "--dry-run").out.splitlines()[:2] == [SPLIT, CONSTANT]
    told = paramcast(*WORDS, "--dry-run", "--json")
    assert told.result["description"]["split"]["test"] == 1100
    assert SPLIT in told.err
