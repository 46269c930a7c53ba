"""Run a pilot or study in front of the user: progress, Ctrl-C, TensorBoard, and the report."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..study.reading import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..report.progress import LiveProgress
    from ..study.plan import Plan
    from .options import AnyEngine, OutputOptions, RunOptions


T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped a command that can be continued."""


def say_loading(what: str) -> None:
    """Say on a terminal what is loaded, before anything slow is imported."""
    if sys.stderr.isatty():
        click.echo(f"loading {what} ...", err=True)


@contextlib.contextmanager
def starting(what: str, given: RunOptions) -> Iterator[None]:
    """Say what is loaded, start the fork server, and keep a task's prints out of our output."""
    say_loading(what)
    # the fork server imports torch while this process does
    if not given.dry_run and given.engine == "local":
        from ..study.engines.server import start_early

        start_early()
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def followed(
    out: Path,
    engine: AnyEngine,
    given: OutputOptions,
    progress: LiveProgress | None = None,
    again: str = "the same command",
) -> Iterator[LiveProgress]:
    """Enter the engine, progress and TensorBoard; when interrupted, say how many runs are kept.

    Args:
        out, engine, given: of the comparison.
        progress: where its progress is shown; None for the terminal of a command.
        again: what goes on from there, in words.

    Raises:
        Interrupted: the user interrupted it.
    """
    from ..report.progress import progress_on_stderr

    if progress is None:
        interrupt_once()
        progress = progress_on_stderr()
        if not sys.stderr.isatty():  # where no line shows how far it is
            where = printable(shlex.quote(str(out)))
            click.echo(f"paramcast: to see how far it is: paramcast watch {where}", err=True)

    # first, because its package may be missing
    board: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if given.tensorboard:
        from ..report.tensorboard import TensorBoard

        board = TensorBoard(out, given.store, progress.say)
    with progress:
        try:
            with engine, board:
                engine.say = progress.say
                yield progress
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {progress.done} of {progress.total} runs are kept in {out}; "
                f"{again} goes on from there"
            ) from None


def planned(
    plans: Sequence[Plan], workers: int, out: Path, facts: dict[str, Any], *, as_json: bool
) -> str:
    """The text of a dry run: the trainings, the time they take and, as JSON, more facts."""
    from ..report.watch.terminal import duration
    from ..study.grid.run import estimate
    from ..study.price import price, within

    each = estimate(plans, workers)
    prices, fitted = [], ""
    for plan in plans:
        o = plan.options
        # what a budget allows, if it is known before the first training has run
        allowed = o.max_runs or math.inf
        if o.budget is not None and not math.isnan(each):
            allowed = min(allowed, o.budget / each)
        if allowed < math.inf:
            prices.append(within(o, int(allowed))[0])
            fitted = f" (the budget allows {int(allowed)})"
        else:
            prices.append(price(o))
    # of all cells together
    least, usual, most = (sum(counts) for counts in zip(*prices, strict=True))
    if as_json:
        counts = {"least_runs": least, "usual_runs": usual, "most_runs": most, "workers": workers}
        seconds = None if math.isnan(each) else round(each, 3)
        more = {"seconds_per_run": seconds, **facts, "out": str(out)}
        return json.dumps(counts | more, indent=1) + "\n"
    runs = f"{most} trainings"
    if least != most:
        runs = f"{least} trainings at least, usually about {usual}, {most} at most{fitted}"
    time = "the first one will tell how long they take"
    if not math.isnan(each):
        time = f"on {workers} workers about {duration(each * usual)}"
    return f"{runs}, {time}; results would go to {out}\n"


def finished(result: T, render: Callable[[T], str], out: Path, *, as_json: bool) -> str:
    """Write the report beside the result; return what goes to standard output."""
    from ..study.store.folder import to_json

    note = beside(out)
    if as_json:
        return to_json(result) + "\n"
    return render(result) + note


def beside(folder: Path) -> str:
    """Write report.html into the folder of a finished pilot or study; return the line that says so.

    If the page fails, a note on standard error says so; the verdict still counts.
    """
    try:
        from ..report.html.write import write_report

        return f"Report: {write_report(folder)}\n"
    except Exception as error:
        click.echo(f"paramcast: no report was written: {printable(str(error))}", err=True)
        return ""


def interrupt_once() -> None:
    """Interrupt on the first Ctrl-C or SIGTERM, ignore a second one, end at once on a third.

    Even then nothing is lost: workers end with this process, and the store writes each run in one
    transaction.
    """
    presses: list[int] = []

    def handle(number: int, frame: Any) -> None:
        presses.append(number)
        if len(presses) == 1:
            raise KeyboardInterrupt
        if len(presses) > 2:
            leave()

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def leave(*_: object) -> None:
    """End this process at once, with the message of an interrupted command."""
    os.write(2, b"paramcast: interrupted\n")
    os._exit(130)
