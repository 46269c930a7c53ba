"""Named metrics by pencil, and what a pilot says of its test split before it trains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paramcast.errors import StudyError, TaskError
from paramcast.study.judging.sentences import note
from paramcast.study.judging.verdict import PERCENT, Metric
from paramcast.study.options import parse_margin
from paramcast.study.plan import Plan
from paramcast.study.result import cautions
from paramcast.study.tasks.scores import SCORES, measure
from paramcast.study.tasks.task import Prepared
from paramcast.study.words import Words

Make = Callable[..., Prepared]

# Six examples, four of class 0. By the score of class 1: 1 | 0 0 1 0 | 0; predicted 1 from 0.5 on.
LABELS = torch.tensor([1, 0, 0, 1, 0, 0])
CHANCES = torch.tensor([0.9, 0.7, 0.6, 0.55, 0.3, 0.1])
OUTPUTS = torch.stack([(1 - CHANCES).log(), CHANCES.log()], dim=1)
TARGETS = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
GUESSES = torch.tensor([[0.0], [2.0], [4.0], [5.0]])  # errors 0 1 2 0; variance 14 / 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 4 / 6),
        ("balanced_accuracy", (2 / 2 + 2 / 4) / 2),
        ("f1", 2 * 2 / (2 * 2 + 2 + 0)),
        (
            "auroc",
            (4 + 2) / 8,
        ),  # of 2 x 4 pairs, the first 1 is above four 0s, the second above two
        ("average_precision", (1 / 1 + 2 / 4) / 2),
        ("log_loss", -math.log(0.9 * 0.3 * 0.4 * 0.55 * 0.7 * 0.9) / 6),
        ("mse", 5 / 4),
        ("rmse", math.sqrt(5 / 4)),
        ("mae", 3 / 4),
        ("r2", 1 - 5 / 14),
    ],
)
def test_every_metric_by_pencil(name: str, value: float) -> None:
    given = (OUTPUTS, LABELS) if SCORES[name].of_classes else (GUESSES, TARGETS)
    assert measure(name, *given) == pytest.approx(value, rel=1e-6)
    spoilt = given[0].clone()
    spoilt[0] = math.nan
    assert name == "accuracy" or math.isnan(measure(name, spoilt, given[1]))


@pytest.mark.parametrize("name", ["auroc", "average_precision", "f1", "balanced_accuracy"])
def test_more_classes_are_each_against_the_rest(name: str) -> None:
    """A perfect model scores 1, and a class that the split lacks is left out."""
    targets = torch.tensor([0, 1, 3, 3, 1, 0])
    outputs = 9.0 * torch.nn.functional.one_hot(targets, 4)
    assert measure(name, outputs, targets) == 1.0
    shape = (3, 2)
    places = outputs.reshape(*shape, 4).movedim(-1, 1)  # (examples, classes, places)
    assert measure(name, places, targets.reshape(shape)) == 1.0


@pytest.mark.parametrize("name", SCORES)
def test_direction_and_scale_are_known_everywhere(name: str) -> None:
    higher = name in PERCENT or name == "r2"
    assert SCORES[name].higher_is_better == higher
    assert Metric(name, higher, 0.005).counts_errors == (name == "accuracy")


def test_a_constant_scores_chance(prepared: Make) -> None:
    for name, chance in (("balanced_accuracy", 1 / 3), ("auroc", 0.5), ("accuracy", 1 / 3)):
        task = prepared(metric=name)
        assert task.constant(task.test)["metric"] == pytest.approx(chance, abs=0.01)


def test_a_users_function_keeps_its_own_scale(prepared: Make) -> None:
    def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return 100.0 * float((outputs.argmax(1) == targets).float().mean())

    task = prepared(metric=accuracy)
    assert task.metric_name == "accuracy()"
    assert not Metric(task.metric_name, True, 0.5).percent


def test_a_ranking_needs_two_classes_in_every_split(prepared: Make) -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TaskError, match="the test targets hold only class 1; give it examples of"):
        prepared(metric="auroc", test=(x, torch.ones(9, dtype=torch.long)))


@pytest.mark.parametrize(
    ("text", "found"), [("0.5", (0.5, False)), ("5%", (5.0, True)), (" 2.5% ", (2.5, True))]
)
def test_a_margin_is_a_number_or_a_share(text: str, found: tuple[float, bool]) -> None:
    assert parse_margin(text) == found


@pytest.mark.parametrize("text", ["", "%", "0", "-1%", "nan", "inf", "5 percent", "5%%"])
def test_another_margin_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match=r"--margin must be a number above 0, such as 0.5 or 5%"):
        parse_margin(text)


# --- before training ----------------------------------------------------------------------------


@pytest.fixture
def said(plan: Callable[..., Plan], task_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """said(task, margin=...): the cautions of a pilot of it."""

    def of(task: Prepared, **options: Any) -> list[str]:
        made = plan(task_file(), **options)
        made.subject = task
        metric = Metric(task.task.metric, True, 0.005)
        return [note(found, metric, Words("en")) for found in cautions(made)]

    return of


def rows(count: int, ones: int) -> tuple[torch.Tensor, torch.Tensor]:
    targets = (torch.arange(count) < ones).long()
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1)), targets


def test_a_test_split_that_cannot_show_the_margin_is_said(prepared: Make, said: Any) -> None:
    few = prepared(classes=2, test=rows(6, 3))
    assert said(few) == [
        "One of the 6 test examples is worth 16.67 points. That is too coarse to show 'no "
        "difference' within a margin of 0.50 points. Add test examples, or widen --margin."
    ]
    assert said(few, margin=9.0) == []
    relative = said(few, margin=1.0, relative_margin=True)[0]
    assert "is worth 16.7 %" in relative
    assert "within a margin of 1 %" in relative
    assert said(prepared(classes=2, test=rows(400, 200))) == []
    # five of class 1: each is worth 1 / (2 x 5) of a balanced accuracy
    rare = prepared(classes=2, test=rows(400, 5), metric="balanced_accuracy")
    assert rare.example_share == pytest.approx(0.1)
    assert "is worth 10.00 points" in said(rare)[0]


def test_so_is_one_of_a_regression(prepared: Make, said: Any) -> None:
    def split(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 4, generator=torch.Generator().manual_seed(count))
        return x, x.sum(1, keepdim=True)

    settings = {
        "classes": 1, "metric": "mse", "loss": torch.nn.functional.mse_loss, "train": split(30),
        "validation": split(6),
    }  # fmt: skip
    found = said(prepared(**settings, test=split(6)))
    assert "is worth 16.7 %" in found[0]
    assert "within a margin of 5 %" in found[0]
    assert said(prepared(**settings, test=split(40))) == []


def test_accuracy_of_uneven_classes_names_a_better_metric(prepared: Make, said: Any) -> None:
    uneven = {"classes": 2, "train": rows(200, 2), "test": rows(200, 2)}
    assert said(prepared(**uneven)) == [
        "A constant answer is right on 99.00 % of the test examples, so accuracy says little: "
        "judge by --metric balanced_accuracy or --metric auroc."
    ]
    assert not any("constant" in text for text in said(prepared(**uneven, metric="auroc")))


def test_the_metric_is_part_of_what_a_run_is(prepared: Make) -> None:
    task = prepared()
    other = dataclasses.replace(task, task=dataclasses.replace(task.task, metric="auroc"))
    assert task.fingerprint() != other.fingerprint()
