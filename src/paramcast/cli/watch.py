"""The command line of watching: `paramcast watch`."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import StudyError
from ..study.options import PATH, Finite, Whole
from ..study.reading import RUNS, printable
from .options import store_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report.watch.board import Board


@click.command()
@click.argument("folder", type=PATH, default=RUNS)
@store_option
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@click.option("--every", type=Finite(0.1, 3600), default=2.0, show_default=True,
              help="Seconds between looks.")  # fmt: skip
@click.option("--web", is_flag=True, help="Serve the report so far on this machine.")
@click.option("--port", type=Whole(0, 65535),
              help="Of the page; 0 for a free one [8807, or a free one].")  # fmt: skip
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
    pilot or study does; Ctrl-C ends it at any time. If standard output is not a terminal, it
    prints once.

    \b
    Examples:
      paramcast watch                                  the latest one in paramcast-runs
      paramcast watch paramcast-runs/digits-1a2b3c4d
      paramcast watch paramcast-runs/digits-1a2b3c4d --web
    """
    from ..report.watch.board import Board

    # options that exclude each other
    for name, value in {"port": port, "lang": lang}.items():
        if value is not None and not web:
            raise StudyError(f"--{name} is for --web, got {value} without it")
    if once and web:
        raise StudyError("--once prints and --web serves; give one of them")
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file; give the folder of a pilot or study")
    board = Board(folder, store, lang or "en")
    if web:
        from ..report.watch.server import serve

        _refuse_unreadable(board)
        with _until_interrupted():
            serve(board, port, every, lambda text: click.echo(printable(text)))
    # a pipe or a file gets one picture
    elif once or not sys.stdout.isatty():
        _print(board)
    else:
        _live(board, every)


def _print(board: Board) -> None:
    from rich.console import Console

    from ..report.watch.terminal import picture

    console = Console()
    if not console.is_terminal:
        console.width = 150
    console.print(picture(board, console)[0])


def _live(board: Board, every: float) -> None:
    """Redraw until the pilot or study has finished, then print the last picture."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from ..report.watch.terminal import picture

    console = Console()
    _refuse_unreadable(board)
    ended = False
    with _until_interrupted(), Live(console=console, screen=True, auto_refresh=False) as live:
        while not ended:
            try:
                drawn, ended = picture(board, console, console.height)
                live.update(drawn, refresh=True)
            except StudyError as error:  # the store may be readable at the next look
                waiting = Text(printable(f"{error}; waiting (Ctrl-C ends)"))  # no markup in paths
                live.update(waiting, refresh=True)
            if not ended:
                time.sleep(every)
    if ended:
        _print(board)


def _refuse_unreadable(board: Board) -> None:
    """Refuse a store that cannot be read; one that does not exist yet is waited for."""
    from ..study.reading import as_written

    if board.is_there():
        with as_written(board.folder, "start its command again, or move it away"):
            board.look()


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """End quietly on Ctrl-C or SIGTERM, the usual end of watching."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield
