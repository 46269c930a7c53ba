"""What the user declares about a training: which result tunes, which is judged, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._directions import known_direction, share_named
from ...errors import TaskError
from ..reading import is_text, shown
from ..tasks.source import Source
from ..tasks.task import check_lr_range

TUNE_BY = "validation_loss"
"""The result by which learning rates are chosen unless the user names another."""


@dataclass(frozen=True)
class Declared:
    """What is judged and what tunes.

    Attributes:
        metric: the name of the result that is judged; `judged` is the metric that it means.
        higher_is_better: its direction.
        tune_by, tune_higher: the result by which learning rates are chosen, and its direction.
        margin: as --margin takes it; "" for the usual one.
        lr_range: the learning rates to search; None if only the command line says.
        test_examples: how many examples the judged result counts; 0 if nobody says.
    """

    metric: str
    higher_is_better: bool
    tune_by: str
    tune_higher: bool
    margin: str = ""
    lr_range: tuple[float, float] | None = None
    test_examples: int = 0

    @property
    def judged(self) -> str:
        """The metric: accuracy for "val_acc", which is shown in per cent, else its own name."""
        share = share_named(self.metric) if self.higher_is_better else None
        return share or self.metric


def declare(source: Source, module: Mapping[str, Any]) -> Declared:
    """Put together what the command line and the file's variables say.

    Args:
        source: what the command line says, which takes precedence.
        module: the variables of the file; those named like fields of `Declared` are read.

    Raises:
        TaskError: nothing says what is judged, or in which direction; or a variable is invalid.
    """
    where = Path(source.where).name if source.kind == "trial" else "the command"

    def text(name: str, given: str) -> str:
        value = given or module.get(name, "")
        if not isinstance(value, str) or not is_text(value):
            raise TaskError(f"{name} in {where} must be a name in quotes, got {shown(value)}")
        return value

    metric, tune_by = text("metric", source.metric), text("tune_by", source.tune_by) or TUNE_BY
    if not metric:
        raise TaskError(
            f"which result of {where} is judged? Name it with --metric NAME"
            + (', or metric = "NAME" in the file' if module else "")
        )
    # directions
    higher = source.higher_is_better
    if higher is None:
        higher = module.get("higher_is_better")
    if higher is None:
        higher = known_direction(metric)
    if not isinstance(higher, bool):
        raise TaskError(
            f"is a higher {metric} better? Say so with --higher-is-better or --lower-is-better"
            + (", or higher_is_better = True or False in the file" if module else "")
        )
    # tuning minimises, so the direction of what tunes must be known, too
    tune_higher = higher if tune_by == metric else known_direction(tune_by)
    if tune_higher is None:
        raise TaskError(
            f"learning rates are chosen by {tune_by}, and its name does not say whether higher or "
            f"lower is better; return it as a loss ({tune_by}_loss = ... or -...), where lower is"
        )
    # the margin and the learning rates
    margin = module.get("margin", "")
    if isinstance(margin, bool) or not isinstance(margin, (str, int, float)):
        raise TaskError(f'margin in {where} must be a number, or a text such as "5%"')
    examples = source.test_examples or module.get("test_examples", 0)
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 0:
        raise TaskError(
            f"test_examples in {where} must be a whole number from 1, got {shown(examples)}"
        )
    lr_range = module.get("lr_range")
    if lr_range is not None:
        check_lr_range(lr_range, f"lr_range in {where}")
        lr_range = tuple(map(float, lr_range))
    return Declared(metric, higher, tune_by, tune_higher, str(margin), lr_range, examples)
