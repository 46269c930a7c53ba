"""The digits at the level that people know: 400 images train, 397 validate, 1,000 test."""

from paramcast.study.tasks.builtin import SMALL_CNN, split_digits
from paramcast.study.tasks.task import Task


def task() -> Task:
    return split_digits("digits-400", SMALL_CNN, train=400, test=1000)
