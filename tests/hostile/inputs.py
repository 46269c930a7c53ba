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


def table() -> list[Bad]:
    """All rows."""
    import bad_data
    import bad_files
    import bad_states
    import bad_stores
    import bad_words

    return [
        *bad_words.COMMAND_LINE,
        *bad_words.TASK_FILES,
        *bad_files.STUDY_FILES,
        *bad_files.GRIDS,
        *bad_files.ROI_FILES,
        *bad_files.COSTS,
        *bad_data.TABLES,
        *bad_data.CELLS,
        *bad_data.NO_TEXT,
        *bad_data.IMAGES,
        *bad_data.FOLDERS,
        *bad_data.DATA_FILES,
        *bad_stores.STORES,
        *bad_stores.RESULTS,
        *bad_states.STATES,
    ]
