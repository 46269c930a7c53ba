"""The margin within which a difference does not matter, in the metric's own unit."""

from __future__ import annotations

from ...errors import StudyError

POINTS_MARGIN, RELATIVE_MARGIN = 0.005, 0.05
"""The default margin: half a point of a metric in per cent, 5 % of the base's median of others."""


def margin_of(
    name: str, level: float, given: float | None, *, relative: bool, percent: bool
) -> float:
    """The margin in the metric's own unit, where one point of a metric in per cent is 0.01.

    Args:
        name: of the metric, for the message.
        level: the base's median.
        given: as the user gave it: in points or in the metric's unit, or in per cent of the level.
        relative: whether it is in per cent of the level.
        percent: whether the metric is shown in per cent.

    Raises:
        StudyError: the margin is a share of a level of 0.
    """
    # in the unit of the values, whatever unit it was given in
    if given is None:
        margin = POINTS_MARGIN if percent else RELATIVE_MARGIN * abs(level)
    elif relative:
        margin = given / 100 * abs(level)
    else:
        margin = given / 100 if percent else given
    if margin == 0.0:
        raise StudyError(
            f"the base's median {name} is 0, and a share of it is not a margin; "
            "say which difference matters with --margin"
        )
    return margin
