"""The table of bad inputs, by what is bad."""

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


def table() -> dict[str, list[Bad]]:
    """All rows, by what is bad."""
    import bad_data
    import bad_files
    import bad_states
    import bad_stores

    return {
        "The command line": bad_files.COMMAND_LINE,
        "Study files": bad_files.STUDY_FILES,
        "Files of costs for `paramcast roi`": bad_files.ROI_FILES,
        "Task files": bad_files.TASK_FILES,
        "Tables": bad_data.TABLES,
        "Folders of images": bad_data.IMAGES,
        "Data files of the built-in tasks": bad_data.DATA_FILES,
        "Stores of runs": bad_stores.STORES,
        "Results that reports, analyses and exports read": bad_stores.RESULTS,
        "Checkpoints": bad_states.STATES,
    }
