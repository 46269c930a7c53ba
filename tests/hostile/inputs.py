"""The table of bad inputs, and what must be said of each."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


class Bad(NamedTuple):
    """A bad input.

    Args:
        name: what it is.
        says: what comes back, with an ellipsis for what varies.
        make: called with an empty folder, it puts the input there and returns the words of the
            command that reads it, or a function that does.
    """

    name: str
    says: str
    make: Callable[[Path], tuple[Any, ...] | Callable[[], Any]]

    def fits(self, message: str) -> bool:
        pattern = ".*".join(map(re.escape, self.says.split("…")))
        return re.fullmatch(pattern, message, re.DOTALL) is not None


BOMBS = (
    "a parquet file that claims ten million million images",
    "a parquet file whose images claim ten terabytes",
    "a parquet file with a column that claims ten terabytes",
    "a parquet file of 1.4 kilobytes whose rows repeat ten megabytes each",
    "a parquet file of 7 kilobytes with a page of 200 megabytes, which its footer denies",
    "a labels file that unpacks to 100 megabytes",
    "a labels file that claims four thousand million labels",
    "a table of a megabyte that unpacks to 200",
    "a Parquet table of a kilobyte whose rows repeat a text of ten megabytes",
    "a Parquet table that claims ten terabytes",
    "an image that claims 100,000 x 100,000 pixels",
    "an image that claims 15,000 x 10,000 pixels",
    "a key of 20,000 parts, which would take minutes and gigabytes",
    "a sharded cycle whose header is one number, 10^12",
    "a window of a thousand million points",
)
"""Rows that test_memory.py reads with little memory left, where memory can be limited."""


def table() -> list[Bad]:
    """All rows."""
    import bad_checkpoints
    import bad_data
    import bad_files
    import bad_states
    import bad_stores
    import bad_words

    return [
        *bad_words.COMMAND_LINE,
        *bad_words.TASK_FILES,
        *bad_words.OPTIMIZERS_OF_USERS,
        *bad_files.STUDY_FILES,
        *bad_files.GRIDS,
        *bad_files.ROI_FILES,
        *bad_files.COSTS,
        *bad_data.TABLES,
        *bad_data.CELLS,
        *bad_data.JUDGED,
        *bad_data.NO_TEXT,
        *bad_data.IMAGES,
        *bad_data.FOLDERS,
        *bad_data.DATA_FILES,
        *bad_checkpoints.COMBINED,
        *bad_stores.STORES,
        *bad_stores.RESULTS,
        *bad_states.STATES,
    ]
