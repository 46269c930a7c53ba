"""What a comparison trains, as its plan sees it: `tasks.task.Prepared` or `own.training`."""

from __future__ import annotations

from typing import NamedTuple


class Usual(NamedTuple):
    """A subject's own settings, which a comparison takes unless the user names others."""

    base: str
    lr_range: tuple[float, float] | None  # None: the user must name it
    epochs: int = 0  # 0, and no schedule: the training decides these itself
    batch_size: int = 0
    schedule: str = ""


class Sizes(NamedTuple):
    """The number of examples in each split; 0 where that is not known."""

    train: int = 0
    validation: int = 0
    test: int = 0
