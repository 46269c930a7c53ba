"""The table of bad inputs, by what is bad, and the page docs/bad-input.md that is made of it.

python tests/hostile/inputs.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
HEAD = """# Bad input, and what comes back

Made from the table that `tests/hostile/test_bad_inputs.py` runs; do not edit by hand:

    python tests/hostile/inputs.py

Each of these {count} inputs gives the one sentence beside it, on standard error behind
`paramcast: `, with exit code 2 and nothing on standard output; what lies in the folder is left as
it is. In Python the same sentence is the message of a `ParamcastError`; where an input is not one
of the command line (a state dict, a data file), that is what is tried. An ellipsis stands for what
differs from machine to machine.

Beside these, `tests/study/test_bad_input.py`, `tests/test_errors.py` and the tests of the parts
hold several hundred more, and `tests/fuzz` makes new ones ([SECURITY.md](../SECURITY.md)).
"""


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


def page() -> str:
    """The table as Markdown."""
    parts = [HEAD.format(count=sum(map(len, table().values())))]
    for kind, rows in table().items():
        lines = [f"## {kind}", "", "| input | what comes back |", "|---|---|"]
        lines += [f"| {_cell(row.name)} | {_cell(row.says)} |" for row in rows]
        parts.append("\n".join(lines))
    return "\n".join([parts[0], *(part + "\n" for part in parts[1:])])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
