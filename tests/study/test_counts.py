"""Right and wrong predictions per class, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from paramcast.study.tasks.task import Examples, Prepared
from paramcast.study.training.evaluating import MOST_CLASSES, class_counts
from paramcast.study.training.loop import run
from runs import run_spec


@pytest.mark.parametrize(
    ("targets", "chosen", "found"),
    [
        # hits: two of class 0, one of class 1
        ([0, 0, 0, 1, 1, 2], [0, 1, 0, 1, 2, 0], ([3, 2, 1], [3, 2, 1], [2, 1, 0])),
        # (examples, length), as of a language model: each position counts
        ([[0, 1], [2, 2]], [[0, 2], [2, 1]], ([1, 1, 2], [1, 1, 2], [1, 0, 1])),
    ],
)
def test_counts_by_hand(
    prepared: Callable[..., Prepared], targets: Any, chosen: Any, found: tuple[list[int], ...]
) -> None:
    small = replace(prepared(), test=Examples(torch.zeros(len(targets), 4), torch.tensor(targets)))
    outputs = torch.nn.functional.one_hot(torch.tensor(chosen), 3).float().movedim(-1, 1)
    counted = class_counts(small, outputs)
    assert counted == dict(zip(("actual", "predicted", "hits"), found, strict=True))


def test_no_counts_without_classes_or_with_too_many(prepared: Callable[..., Prepared]) -> None:
    made = prepared()
    many = torch.zeros(len(made.test), MOST_CLASSES + 1)
    assert class_counts(made, many) is None
    assert class_counts(replace(made, classes=None), many[:, :3]) is None


@pytest.mark.parametrize(("lr", "status"), [(0.05, "done"), (1e30, "diverged")])
def test_a_final_run_counts_what_it_scores(
    prepared: Callable[..., Prepared], lr: float, status: str
) -> None:
    """A diverged run is scored and counted as the constant predictor."""
    spec = run_spec(prepared(), lr=lr, schedule="constant")
    outcome = run(spec, prepared())
    counts = outcome["class_counts"]
    assert outcome["status"] == status
    assert counts["actual"] == [27, 27, 26]
    assert sum(counts["predicted"]) == 80
    assert sum(counts["hits"]) / 80 == pytest.approx(outcome["test"]["metric"])
    if status == "diverged":
        assert sorted(counts["predicted"]) == [0, 0, 80]
    assert "class_counts" not in run(replace(spec, phase="tune"), prepared())
