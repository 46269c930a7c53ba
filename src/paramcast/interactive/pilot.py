"""`paramcast.pilot`: the command `paramcast pilot` from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import needs_study

if TYPE_CHECKING:
    from ..study.tasks.task import Task
    from .findings import Findings

    Trained = str | Path | Task | Callable[..., Any] | Sequence[str]
    """What can be compared."""


class Stopped(KeyboardInterrupt):
    """The user interrupted a comparison that can be continued."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the sentence alone."""
        return [str(self)]


def pilot(task: Trained | None = None, **options: Any) -> Findings:
    """Compare methods on a task, and say whether they help: `paramcast pilot` from Python.

    Finished runs are kept in a folder: after an interrupt, repeat the call to continue.

    Args:
        task: what the command takes (a built-in name, "my_task.py:task", a table, a folder of
            images; "digits" if nothing is named), a `Task`, a function that returns one or trains
            one `Trial`, or the words of a command. A function of a file is imported by the workers;
            a `Task`, and a function of a notebook, are trained in this process, one run after the
            other.
        options: the command's, by name, as `paramcast pilot --help` lists them: `lr=0.1` is --lr
            0.1, `lr_range=(1e-4, 1e-1)` is --lr-range 1e-4:1e-1, `quick=True` is --quick.

    Returns:
        The verdicts, with the table and the report.

    Raises:
        ParamcastError: with the command's message.
        KeyboardInterrupt: it was interrupted; the message says how many runs are kept.

    Example::

        result = paramcast.pilot("digits", methods="plp", quick=True)
        result.verdicts["plp"]["quality"].kind
        result.report("report.html")
    """
    with needs_study("paramcast.pilot"):
        from ..cli import pilot as command
        from ..cli.running import Interrupted, beside, followed
        from .around import progress_here, started
        from .findings import Findings
        from .options import options_of
        from .sources import source_of
    given = options_of(command.pilot, command.PilotCommand, options)
    with started(workers=given.engine == "local" and isinstance(task, (str, Path, type(None)))):
        plan, engine = command.plan_of(source_of(task, given), given)
        try:
            with followed(plan.out, engine, given, progress_here(), "the same call") as progress:
                stored = command.run(plan, engine, given, progress)
        except Interrupted as error:
            raise Stopped(str(error)) from None
        # as the command leaves a folder: with its report
        beside(plan.out)
    return Findings(stored)
