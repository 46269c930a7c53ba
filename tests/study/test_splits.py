"""Fixed splits and subsets of labelled examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import TaskError
from paramcast.study.tasks.splits import balanced_order, train_and_validation


def test_the_order_is_the_same_in_every_version() -> None:
    assert balanced_order(np.arange(12) % 3).tolist() == [6, 11, 4, 10, 2, 9, 8, 1, 3, 7, 0, 5]


@given(st.integers(2, 6), st.integers(5, 12), st.randoms(use_true_random=False))
def test_every_prefix_is_balanced(classes: int, each: int, random: object) -> None:
    labels = np.repeat(np.arange(classes), each)
    random.shuffle(labels)  # type: ignore[attr-defined]
    order = balanced_order(labels)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for size in range(1, len(labels) + 1):
        counts = np.bincount(labels[order[:size]], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_a_class_with_few_examples_ends_early() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    order = balanced_order(labels)
    assert labels[order[:4]].sum() == 2
    assert labels[order[4:]].sum() == 0


@pytest.mark.parametrize("limit", [None, 50, 100])
def test_a_fifth_validates_and_nothing_is_in_both(limit: int | None) -> None:
    labels = np.arange(200) % 5
    train, validation = train_and_validation(labels, limit, "letters")
    used = limit or 200
    assert (len(train), len(validation)) == (used * 4 // 5, used // 5)
    assert not set(train.tolist()) & set(validation.tolist())
    assert np.bincount(labels[validation]).tolist() == [used // 25] * 5
    larger = np.concatenate(train_and_validation(labels, None, "letters"))
    assert {*train.tolist(), *validation.tolist()} <= set(larger.tolist())


def test_a_smaller_subset_is_part_of_a_larger_one() -> None:
    labels = np.arange(200) % 5
    small, large = (
        {i for part in train_and_validation(labels, n, "letters") for i in part.tolist()}
        for n in (50, 125)
    )
    assert small < large


@pytest.mark.parametrize("limit", [24, 201])
def test_too_few_and_too_many(limit: int) -> None:
    with pytest.raises(TaskError, match=rf"letters@N uses N of the 200 .* from 25 .*got {limit}"):
        train_and_validation(np.arange(200) % 5, limit, "letters")
