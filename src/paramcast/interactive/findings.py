"""What a comparison found, for Python and notebooks."""

from __future__ import annotations

import functools
import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ParamcastError
from ..study.store.folder import remembers
from ..study.stored import Judged, Result

if TYPE_CHECKING:
    from ..report.html.load import Run
    from ..study.judging.verdict import Verdict


@dataclass(frozen=True, repr=False)
class Findings:
    """The verdicts of a comparison, its values and its report.

    In a notebook it shows the first screen of the report, in a shell the table.

    Attributes:
        stored: the content of result.json.
    """

    stored: Result

    @property
    def folder(self) -> Path:
        """The folder that holds the result and its runs."""
        return Path(self.stored["out"])

    @property
    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """The verdicts by method and question ("quality", and "speed" where it was judged)."""
        return self._cell["verdicts"]

    @property
    def _cell(self) -> Judged:
        return self.stored["cells"][0]

    @functools.cached_property
    def frame(self) -> Any:
        """A pandas frame with a row for each arm and seed.

        Its columns are method, role, lr, seed (of a table: the name of the pair), value and
        early_value (with 0.8 T steps), and, of runs that are stored, their status, loss and
        seconds. Columns that would be empty are left out.
        """
        import pandas as pd

        runs, pairs = self._runs(), self._cell["specification"].get("pairs", [])
        rows = []
        # an arm of a table of results has no stored runs
        for row in self._cell["table"]:
            for i, value in enumerate(row["values"]):
                run = runs.get(row["keys"][i])
                seed = pairs[i] if pairs else i
                early = row["early_values"]
                rows.append(
                    {
                        "method": row["method"],
                        "role": row["role"],
                        "lr": row["lr"],
                        "seed": seed if run is None else run.spec["seed"],
                        "value": value,
                        "early_value": early[i] if early else None,
                        "status": run and run.outcome["status"],
                        "loss": run and run.outcome["test"].get("loss"),
                        "seconds": run and run.outcome["seconds"],
                    }
                )
        return pd.DataFrame(rows).dropna(axis="columns", how="all")

    def _runs(self) -> dict[str, Run]:
        if not remembers(self.folder):
            return {}
        from ..report.html.load import read_runs

        return {run.key: run for run in read_runs(self.folder)[0]}

    def report(self, path: str | Path | None = None, *, language: str = "en") -> Path:
        """Write the report.

        Args:
            path: its file, whose ending makes it HTML, Markdown (.md) or PDF; None
                for report.html in the folder.
            language: "en" or "ja".

        Returns:
            The file.

        Raises:
            StudyError: the file cannot be written.
        """
        from ..report.html.write import form_of, write_report

        out = None if path is None else Path(path)
        return write_report(self.folder, out, language=language, form=form_of(out))

    def __str__(self) -> str:
        from ..report.terminal import as_text

        return as_text(self.stored)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from ..report.html.first import first_screen

        try:
            return first_screen(self.folder)
        except ParamcastError:  # the folder is gone; what is in memory stays
            return f"<pre>{html.escape(str(self))}</pre>"
