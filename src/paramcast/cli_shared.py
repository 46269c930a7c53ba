"""What the commands share: workers, devices, limits, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from .errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .report.terminal import LiveProgress


class Interrupted(Exception):  # noqa: N818 - no error
    """The user stopped a command that can go on later."""


@contextlib.contextmanager
def interruptible(kept: str) -> Iterator[LiveProgress]:
    """Progress on standard error; Ctrl-C ends in a sentence that says what is kept."""
    from rich.console import Console

    from .report.terminal import WIDE, LiveProgress

    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDE
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with LiveProgress(console) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {progress.done} of {progress.total} runs are {kept}; "
                "the same command goes on from there"
            ) from None


def store_option(command: Any) -> Any:
    """The option --store, of every command that opens a store."""
    import click

    return click.option(
        "--store",
        metavar="URL",
        callback=_check_store,
        help="postgresql://USER@HOST/DATABASE, which drivers may share [a file in the folder].",
    )(command)


def _check_store(context: Any, parameter: Any, given: str | None) -> str | None:
    if given is not None:
        from .study.folder import check_url

        check_url(given)
    return given


def check_timeout(given: float | None) -> float | None:
    """Seconds that one run may take, above 0; None for no limit."""
    if given is not None and not given > 0:
        raise StudyError(f"--timeout must be above 0 seconds, got {given:g}")
    return given


def count_workers(given: int | None) -> int:
    """Worker processes, at least 1; one per core if not given."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = given if given is not None else available or 1
    if workers < 1:
        raise StudyError(f"--workers must be at least 1, got {workers}")
    return workers


def check_device(text: str) -> str:
    """A device that is there: cpu, cuda or cuda:N."""
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        raise StudyError(f"--device must be cpu, cuda or cuda:N, got {text!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise StudyError(
            f"--device {text} is not there ({torch.cuda.device_count()} CUDA devices); use cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise StudyError(f"--device must be cpu, cuda or cuda:N, got {text!r}")
    return text
