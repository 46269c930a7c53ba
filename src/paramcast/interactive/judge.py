"""`paramcast.judge`: the command `paramcast judge` from Python, for files and frames."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import needs_study

if TYPE_CHECKING:
    from .findings import Findings


def judge(table: Any, **options: Any) -> Findings:
    """Judge results from anywhere: does a method beat the base, by more than chance?

    Args:
        table: a pandas or polars frame with a row per training (or, with `wide=True`, a column per
            method), or a file as the command takes it.
        options: the command's, by name, as `paramcast judge --help` lists them: `base="sgd"`,
            `method="model"`, `seed="seed"`, `value="accuracy"`, `margin=0.5`, `higher=False`.
            Columns that are not named are found by their names.

    Returns:
        The verdicts, with the table and the report.

    Raises:
        ParamcastError: with the command's message.

    Example::

        frame = pandas.DataFrame({"model": ["sgd", "plp"] * 8, "seed": [*range(8) for _ in "ab"],
                                  "accuracy": accuracies})
        paramcast.judge(frame, base="sgd").verdicts["plp"]["quality"].kind
    """
    with needs_study("paramcast.judge"):
        from ..cli.judge import judge as command
        from ..study.tables.judge import judge_results
        from ..study.tables.options import JudgeOptions
        from ..study.tables.saving import judge_file, save
        from .findings import Findings
        from .options import options_of
    begun = time.perf_counter()
    given = options_of(command, JudgeOptions, options)
    # a file is named in the command that repeats it; a frame cannot be
    if isinstance(table, (str, Path)):
        return Findings(judge_file(Path(table), given))
    judged = judge_results(_frame_of(table), given)
    return Findings(save(judged, "results", given.out, begun))


def _frame_of(table: Any) -> Any:
    """The table as a pandas frame whose columns can be named; a named index becomes columns.

    Raises:
        StudyError: it is not a frame, or its columns cannot be told apart.
    """
    import pandas as pd

    from ..errors import StudyError
    from ..study.reading import shown

    if hasattr(table, "to_pandas"):  # polars, and others
        table = table.to_pandas()
    if not isinstance(table, pd.DataFrame):
        raise StudyError(
            f"a table is a pandas or polars frame, or a file, got a {type(table).__name__}; "
            "put it into pandas.DataFrame(...)"
        )
    named = any(name is not None for name in table.index.names)
    frame = table.reset_index() if named else table
    twice = [*frame.columns[frame.columns.duplicated()]]
    if twice:
        raise StudyError(f"two columns of the table are called {shown(twice[0], 40)}; rename one")
    # complex numbers have no order
    for name in frame.columns:
        if frame[name].dtype.kind == "c":
            raise StudyError(f"column {shown(name, 40)} holds complex numbers; leave it out")
    return frame
