"""What the commands share: workers, devices, limits, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StudyError
from ..study.reading import usable_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..report.terminal import LiveProgress
    from ..study.engines.local import LocalEngine
    from ..study.engines.ray import RayEngine
    from ..study.spec import Numerics


class Interrupted(Exception):  # noqa: N818 - no error
    """The user stopped a command that can go on later."""


class UsablePath(click.ParamType):  # type: ignore[type-arg] # generic in newer versions
    """A path that can be looked up, whatever is there or not."""

    name = "path"

    def convert(self, value: Any, parameter: Any, context: Any) -> Path:
        option = isinstance(parameter, click.Option)
        return usable_path(value, parameter.opts[-1] if option else parameter.human_readable_name)


PATH = UsablePath()


@contextlib.contextmanager
def interruptible(kept: str) -> Iterator[LiveProgress]:
    """Progress on standard error; Ctrl-C ends in a sentence that says what is kept."""
    from rich.console import Console

    from ..report.terminal import WIDE, LiveProgress

    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDE
    interrupt_once()
    with LiveProgress(console) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {progress.done} of {progress.total} runs are {kept}; "
                "the same command goes on from there"
            ) from None


def first_line(what: str) -> None:
    """The first line of progress, before anything slow is imported; only on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"loading torch and {what} ...", err=True)


def interrupt_once() -> None:
    """Ctrl-C and SIGTERM interrupt; a second one lets the tidying go on, a third ends at once.

    Nothing is lost then either: workers end with this process, and the store is used to it.
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
    """End this process with the sentence of an interrupted command, whatever it does."""
    os.write(2, b"paramcast: interrupted\n")
    os._exit(130)


def store_option(command: Any) -> Any:
    """The option --store, of every command that opens a store."""
    return click.option(
        "--store",
        metavar="URL",
        callback=_check_store,
        help="postgresql://USER@HOST/DATABASE of the runs [a file in the folder].",
    )(command)


def _check_store(context: Any, parameter: Any, given: str | None) -> str | None:
    if given is not None:
        from ..study.store.folder import check_url

        check_url(given)
    return given


def check_timeout(given: float | None) -> float | None:
    """Seconds that one run may take, above 0; None for no limit."""
    if given is not None and not given > 0:
        raise StudyError(f"--timeout must be above 0 seconds, got {given:g}")
    return given


def count_workers(given: int | None, device: str = "cpu") -> int:
    """Runs at once, at least 1; if not given, one per core that may be used, or two per GPU."""
    import joblib
    import torch

    from ..study.engines.devices import usual_workers

    usual = usual_workers(device, joblib.cpu_count(), torch.cuda.device_count())
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
    return _with(options, command)


RAY_OPTIONS = ("address", "cpus_per_run", "gpus_per_run")


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where runs go on."""
    options = (
        click.option("--workers", type=int, help="Runs at once [one per core; two per GPU]."),
        click.option("--timeout", type=float, help="Seconds that one run may take [no limit]."),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="This machine, or a Ray cluster.",
        ),
        click.option(
            "--address", help="Of Ray: auto, local, HOST:6379 or ray://HOST:10001 [auto]."
        ),
        click.option("--cpus-per-run", type=float, help="What Ray reserves for a run [1]."),
        click.option("--gpus-per-run", type=float, help="Such as 0.25: four runs share one [0]."),
    )
    return _with(options, command)


def _with(options: Iterable[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(tuple(options)):
        command = option(command)
    return command


def check_numerics(given: Mapping[str, Any], device: str) -> Numerics:
    """What the user chose of `computing_options`, the rest as is usual for the device."""
    from ..study.training.precision import choose

    return choose(device, given["precision"], given["compile"], given["channels_last"])


def make_engine(given: dict[str, Any]) -> LocalEngine | RayEngine:
    """The engine that the options name; nothing is started or connected yet."""
    timeout = check_timeout(given["timeout"])
    if given["engine"] == "local":
        from ..study.engines.local import LocalEngine

        for name in RAY_OPTIONS:
            if given[name] is not None:
                option = "--" + name.replace("_", "-")
                raise StudyError(f"{option} is for Ray; add --engine ray, or leave it out")
        return LocalEngine(count_workers(given["workers"]), timeout)
    from ..study.engines.ray import RayEngine

    cpus = 1.0 if given["cpus_per_run"] is None else given["cpus_per_run"]
    gpus = given["gpus_per_run"] or 0.0
    if not 0 < cpus < 1e6:
        raise StudyError(f"--cpus-per-run must be above 0, got {cpus:g}")
    if not 0 <= gpus < 1e6 or (gpus > 1 and gpus % 1):
        raise StudyError(f"--gpus-per-run must be from 0 to 1 or a whole number, got {gpus:g}")
    if given["device"].startswith("cuda") != (gpus > 0):
        raise StudyError(
            f"--device {given['device']} and --gpus-per-run {gpus:g} do not fit: runs on GPUs need "
            "--device cuda and --gpus-per-run above 0"
        )
    workers = None if given["workers"] is None else count_workers(given["workers"])
    address = given["address"] or "auto"
    return RayEngine(address, timeout, cpus_per_run=cpus, gpus_per_run=gpus, workers=workers)


def check_device(text: str, engine: str = "local") -> str:
    """A device that is there: cpu, cuda or cuda:N. On Ray "cuda" is the GPU that a run is given."""
    if engine == "ray":
        if text not in ("cpu", "cuda"):
            raise StudyError(f"with --engine ray, --device must be cpu or cuda, got {text!r}")
        return text
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
