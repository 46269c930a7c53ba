"""The command line of watching: `paramcast watch`, and trackers beside a pilot or study."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StudyError
from ..study.reading import printable, usable_path
from .options import PATH, store_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

    from ..report.trackers import Tracker
    from ..report.watch.watching import Watching

DEFAULT = "default"
"""An option without its value."""


@click.command()
@click.argument("folder", type=PATH, default="paramcast-runs")
@store_option
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@click.option("--every", type=float, default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--web", is_flag=True, help="Serve the report so far on this machine.")
@click.option("--port", type=int, help="Of the page; 0 for a free one [8807, or a free one].")
@click.option("--lang", type=click.Choice(["en", "ja"]), help="Language of the page [en].")
def watch(
    folder: Path,
    store: str | None,
    once: bool,
    every: float,
    web: bool,
    port: int | None,
    lang: str | None,
) -> None:
    """Watch the pilot or study in FOLDER while it runs: runs, curves, events.

    It only reads. A folder of such folders stands for the one that changed last. It ends when the
    pilot or study does; Ctrl-C ends it at any time. Where standard output is no terminal it prints
    once.

    \b
    Examples:
      paramcast watch                                  the latest one in paramcast-runs
      paramcast watch paramcast-runs/digits-1a2b3c4d
      paramcast watch paramcast-runs/digits-1a2b3c4d --web
    """
    from ..report.watch.watching import Watching

    if not 0.1 <= every <= 3600:
        raise StudyError(f"--every must be from 0.1 to 3600 seconds, got {every:g}")
    if port is not None and (not web or not 0 <= port <= 65535):
        raise StudyError(f"--port is for --web and from 0 to 65535, got {port}")
    if lang is not None and not web:
        raise StudyError(f"--lang is for --web, got {lang} without it")
    if once and web:
        raise StudyError("--once prints and --web serves; give one of them")
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file; give the folder of a pilot or study")
    watching = Watching(folder, store)
    if web:
        from ..report.watch.server import serve

        _refuse_unreadable(watching)
        with _until_interrupted():
            serve(watching, port, every, lang or "en", lambda text: click.echo(printable(text)))
    elif once or not sys.stdout.isatty():
        _print(watching)
    else:
        _live(watching, every)


def _print(watching: Watching) -> None:
    from rich.console import Console

    from ..report.watch.terminal import draw

    console = Console()
    if not console.is_terminal:
        console.width = 150
    console.print(draw(watching.view(), console))


def _live(watching: Watching, every: float) -> None:
    """Redraw until the pilot or study has finished, then leave the last picture."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from ..report.watch.terminal import draw

    console = Console()

    def picture() -> tuple[RenderableType, bool]:
        try:
            view = watching.view()
        except StudyError as error:
            return Text(printable(f"{error}; waiting (Ctrl-C ends)")), False
        return draw(view, console, console.height), view["state"] == "finished"

    _refuse_unreadable(watching)
    ended = False
    with _until_interrupted(), Live(console=console, screen=True, auto_refresh=False) as live:
        while not ended:
            drawn, ended = picture()
            live.update(drawn, refresh=True)
            if not ended:
                time.sleep(every)
    if ended:
        _print(watching)


def _refuse_unreadable(watching: Watching) -> None:
    """One waits for a store that is not there yet, not for one that cannot be read."""
    if watching.is_there():
        watching.view()


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C is how watching ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield


# --- trackers beside a pilot or study -------------------------------------------------------------


def tracker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the runs are shown while they go on."""
    options = (
        ("--tensorboard", "DIR", "Write curves and predictions for TensorBoard [OUT/tensorboard]."),
        ("--mlflow", "URI", "Write the runs to MLflow [its own setting]."),
        ("--wandb", "PROJECT", "Write the final runs to Weights & Biases [paramcast]."),
    )
    for name, metavar, text in reversed(options):
        option = click.option(
            name, metavar=f"[{metavar}]", is_flag=False, flag_value=DEFAULT, help=text
        )
        command = option(command)
    return command


def make_trackers(given: Mapping[str, Any], out: Path) -> list[Tracker]:
    """The trackers that the options name.

    Raises:
        StudyError: a package is not installed, or a tracker cannot be used.
    """
    found: list[Tracker] = []
    if (folder := given["tensorboard"]) is not None:
        from ..report.trackers.tensorboard import TensorBoard

        given_folder = usable_path(folder, "--tensorboard")
        own = out / "tensorboard" if folder == DEFAULT else given_folder / out.name
        found.append(TensorBoard(own))
    if (uri := given["mlflow"]) is not None:
        from ..report.trackers.mlflow import MLflow

        found.append(MLflow(out.name, None if uri == DEFAULT else uri))
    if (project := given["wandb"]) is not None:
        from ..report.trackers.wandb import WandB

        found.append(WandB(out, "paramcast" if project == DEFAULT else project))
    return found


def check_task_was_not_taken(given: Mapping[str, Any]) -> None:
    """Refuse `paramcast pilot --tensorboard digits`, where the task became the option's value.

    Raises:
        StudyError: that happened.
    """
    from ..study.tasks.builtin import BUILTIN
    from ..study.tasks.source import is_table

    source = click.get_current_context().get_parameter_source("task")
    for name in ("tensorboard", "mlflow", "wandb"):
        value = str(given[name])
        task = value.partition("/")[0].partition("@")[0] in BUILTIN
        if source == click.core.ParameterSource.DEFAULT and (
            task or ".py:" in value or is_table(value)
        ):
            raise StudyError(
                f"--{name} took {value} as its own value; write the task before it: "
                f"paramcast pilot {value} --{name}"
            )
