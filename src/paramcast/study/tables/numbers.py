"""A column of numbers as people write them: per cent, decimal commas, and runs that diverged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import StudyError
from ..reading import shown

DIVERGED = ("", "nan", "na", "n/a", "none", "null", "-", "inf", "+inf", "-inf", "infinity",
            "-infinity", "+infinity", "diverged")  # fmt: skip
"""What stands for the value of a run that has none, in lower case."""
LARGEST = 1e100
"""Beyond it squares overflow."""


class Numbers(NamedTuple):
    """A column's numbers, NaN where there is none, and how they were written.

    Attributes:
        values: without their percent signs, divided by 100 if they had one.
        empty: where a cell holds nothing at all.
        percent: whether every number had a percent sign.
        comma: whether every fraction has a decimal comma.
    """

    values: npt.NDArray[np.float64]
    empty: npt.NDArray[np.bool_]
    percent: bool
    comma: bool


def numbers_of(column: Any, *, decimal: str | None = None, thousands: str | None = None) -> Numbers:
    """Read a column.

    Args:
        column: a pandas series whose index says where a cell stands.
        decimal, thousands: how numbers are written; None leaves it to the column.

    Raises:
        StudyError: a cell holds text that is not a number, or cells are written differently.
    """
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        raise StudyError(f"column {column.name!r} holds true and false, not numbers; name another")
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        return _checked(column, Numbers(values, np.isnan(values), percent=False, comma=False))
    texts = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    empty = (texts == "").to_numpy()
    missing = texts.str.lower().isin(DIVERGED).to_numpy()
    written = texts[~missing]
    # a percent sign: all cells have one, or none has
    signed = written.str.endswith("%")
    percent = bool(len(signed)) and bool(signed.all())
    if signed.any() and not percent:
        one, other = signed.idxmax(), (~signed).idxmax()
        raise StudyError(
            f"column {column.name!r} holds {shown(written[one])} in {place(column, one)} and "
            f"{shown(written[other])} in {place(column, other)}; write all of them with a percent "
            "sign, or none"
        )
    bare = written.str.removesuffix("%").str.strip() if percent else written
    if thousands:
        bare = bare.str.replace(thousands, "", regex=False)
    # a decimal comma: if every cell that is not a whole number has one
    points = bare.str.contains(".", regex=False)
    commas = bare.str.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
    comma = decimal == "," or bool(commas.any() and not points.any())
    # "1,234" alone is either 1.234 or 1234; "0,85" or "12,5" elsewhere in the column decides
    groups = bare.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}")
    if comma and decimal is None and groups[commas].all():
        raise StudyError(
            f"column {column.name!r} holds {shown(bare[commas].iloc[0])}, which may be read in two "
            "ways; say which with --read decimal=, or with --read thousands=,"
        )
    parsed = pd.to_numeric(bare.str.replace(",", ".") if comma else bare, errors="coerce")
    wrong = parsed.isna()
    if wrong.any():
        at = wrong.idxmax()
        raise StudyError(
            f"column {column.name!r} holds {shown(written[at])} in {place(column, at)}, which is "
            "not a number; correct it, or name another column"
        )
    # what stands for a diverged run stays NaN, as an empty cell does
    values = np.full(len(column), np.nan)
    values[~missing] = parsed.to_numpy(dtype=float)
    return _checked(column, Numbers(values / 100 if percent else values, empty, percent, comma))


def _checked(column: Any, numbers: Numbers) -> Numbers:
    """Infinite values are those of diverged runs; other numbers must be small enough to square."""
    values = np.where(np.isfinite(numbers.values), numbers.values, np.nan)
    large = np.abs(values) > LARGEST
    if large.any():
        at = column.index[int(large.argmax())]
        raise StudyError(
            f"column {column.name!r} holds {values[large][0]:g} in {place(column, at)}; values "
            f"beyond {LARGEST:g} cannot be judged, use another scale"
        )
    return numbers._replace(values=values)


def place(frame: Any, label: object) -> str:
    """Where a cell stands, such as "line 3"."""
    return f"{frame.index.name or 'row'} {label}"
