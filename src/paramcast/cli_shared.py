"""What the commands share: workers, devices, limits, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import click

from .errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .report.terminal import LiveProgress
    from .study.spec import Numerics


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


def count_workers(given: int | None, device: str = "cpu") -> int:
    """Worker processes, at least 1; if not given, one per core or two per GPU."""
    import torch

    from .study.devices import usual_workers

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    usual = usual_workers(device, available or 1, torch.cuda.device_count())
    workers = usual if given is None else given
    if workers < 1:
        raise StudyError(f"--workers must be at least 1, got {workers}")
    return workers


def computing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say on what and how runs compute."""
    options = (
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
        click.option("--precision", help="float32 or bfloat16 [float32; bfloat16 on cuda]."),
        click.option(
            "--compile/--no-compile", default=None, help="Compile the training step [on cuda]."
        ),
        click.option(
            "--channels-last/--no-channels-last",
            default=None,
            help="Memory layout of images [on cuda].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_numerics(given: Mapping[str, Any], device: str) -> Numerics:
    """What the user chose of `computing_options`, the rest as is usual for the device."""
    from .study.precision import choose

    return choose(device, given["precision"], given["compile"], given["channels_last"])


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
