"""What a comparison trains, as its plan and its verdict see it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .tasks.description import Description


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


class Subject(Protocol):
    """A task of ours (`tasks.task.Prepared`), or a training of the user's (`own.training`)."""

    @property
    def name(self) -> str:
        """Shown in tables, and part of the folder's name."""

    @property
    def usual(self) -> Usual:
        """The settings of the comparison unless the user names others."""

    @property
    def metric_name(self) -> str:
        """The label of the values that are judged."""

    @property
    def higher_is_better(self) -> bool:
        """The direction of these values."""

    @property
    def description(self) -> Description:
        """What was read of the data, for the reader of a verdict."""

    @property
    def sizes(self) -> Sizes:
        """How many examples there are."""

    @property
    def example_share(self) -> float:
        """What one test example is worth: in the metric's own unit if in per cent, of a mean its
        share. 0 for a ranking and for a user's function, where this is not known."""

    @property
    def constant_value(self) -> float | None:
        """What the best constant prediction scores on test; None if there is none to compare."""

    def fingerprint(self) -> str:
        """A hash of all that determines a run beside its specification: data, code, settings."""

    def steps(self, epochs: int, batch_size: int, share: float = 1.0) -> int | None:
        """The optimizer steps of a run; None if only the training knows."""

    def work(self, epochs: int, share: float) -> float:
        """A measure of how long a run takes, among those of the subject's kind."""
