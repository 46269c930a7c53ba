"""Options that commands share: classes of options, and the types of their values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import StudyError
from ..study.options import (
    ABOVE_0,
    COMPARISON,
    MACHINE,
    OUTPUT,
    PATH,
    TASK,
    ComputingOptions,
    Finite,
    Whole,
    flag_of,
    not_again,
    option,
)

if TYPE_CHECKING:
    from ..study.engines.here import HereEngine
    from ..study.engines.local import LocalEngine
    from ..study.engines.ray import RayEngine

    AnyEngine = HereEngine | LocalEngine | RayEngine

Command = TypeVar("Command", bound=Callable[..., Any])


def parse_store(text: str) -> str:
    """Check the URL of a store.

    Raises:
        StoreError: it cannot be one.
    """
    from ..study.store.database import parse

    parse(text)
    return text


STORE = "postgresql://USER@HOST/DATABASE of the runs [a file in the folder]."
store_option = click.option("--store", metavar="URL", type=parse_store, help=STORE)
"""The option of commands that open a store."""


# --- classes of options ---------------------------------------------------------------------------


COMMAND = "command"
"""Where a context keeps the words after "--", in its `meta`; None if there was no "--"."""


class GroupedCommand(click.Command):
    """A command whose --help groups its options, and after whose "--" comes one of the user's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = args[rest + 1 :] if rest < len(args) else None
        return super().parse_args(ctx, args[:rest])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        group = getattr(self.callback, "groups", {})
        records: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record and isinstance(each, click.Option):
                records.setdefault(group.get(each.name, "Other"), []).append(record)
        ends = (OUTPUT, "Other")
        between = [name for name in records if name not in (TASK, COMPARISON, MACHINE, *ends)]
        for name in filter(records.get, (TASK, COMPARISON, MACHINE, *between, *ends)):
            with formatter.section(name):
                formatter.write_dl(records[name])


def takes(form: type) -> Callable[[Command], Command]:
    """Give a command the options that a class declares; it receives an object of it as `given`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> Any:
            # the form takes its own options; arguments go on to the command
            chosen = form(**{each.name: given.pop(each.name) for each in fields(form)})
            return command(**given, given=chosen)

        made: Any = call
        made.groups = {each.name: each.metadata["group"] for each in fields(form)}
        # as a stack of decorators would, from the last option in --help to the first
        for each in reversed(fields(form)):
            flag = each.metadata["flag"] or flag_of(each.name)
            made = click.option(*flag.split(), each.name, **each.metadata["click"])(made)
        return made  # type: ignore[no-any-return]

    return decorate


aside = functools.partial(option, again=not_again)
"""Declares an option that does not change a pilot's runs."""


# fmt: off
@dataclass(frozen=True)
class EngineOptions:
    """Where, and how many at once, runs go on."""

    workers: int | None = aside(MACHINE, "Runs at once [one per core; two per GPU].",
        type=Whole(1))
    timeout: float | None = aside(MACHINE, "Seconds that one run may take [no limit].",
        type=ABOVE_0)
    engine: str = aside(MACHINE, "This machine, or a Ray cluster.",
        type=click.Choice(["local", "ray"]), default="local", show_default=True)
    address: str | None = aside(
        MACHINE, "Of Ray: auto, HOST:6379 or ray://HOST:10001 [auto].")
    cpus_per_run: float | None = aside(MACHINE, "What Ray reserves for a run [1].",
        type=Finite(0, 10**6, min_open=True))
    gpus_per_run: float | None = aside(MACHINE, "Such as 0.25: four runs share one [0].",
        type=Finite(0, 10**6))


@dataclass(frozen=True)
class OutputOptions:
    """Where results are stored and shown."""

    store: str | None = aside(OUTPUT, STORE, type=parse_store, metavar="URL")
    tensorboard: bool = aside(
        OUTPUT, "Write curves and predictions for TensorBoard, to OUT/tensorboard.",
        is_flag=True)
    as_json: bool = aside(OUTPUT, "Print the result as JSON and only that.",
        flag="--json", is_flag=True)


@dataclass(frozen=True)
class RunOptions(ComputingOptions, EngineOptions, OutputOptions):
    """The options that a pilot and a study share."""

    out: Path | None = aside(  # noqa: RUF009 - it makes a field
        OUTPUT, "Folder for the results [one in paramcast-runs].", type=PATH)
    dry_run: bool = aside(OUTPUT, "Show the runs and the time they take, run nothing.",
        is_flag=True)
# fmt: on


def check_device(given: RunOptions) -> None:
    """Refuse a device that this machine lacks; on Ray, "cuda" is the GPU that a run gets.

    Raises:
        StudyError: there is no such device.
    """
    import torch

    device, there = given.device, torch.cuda.device_count()
    if given.engine == "ray":
        if ":" in device:
            raise StudyError(f"with --engine ray, --device must be cpu or cuda, got {device!r}")
    elif device != "cpu" and int(device.partition(":")[2] or 0) >= there:
        raise StudyError(f"--device {device} is not there ({there} CUDA devices); use cpu")


def make_engine(given: RunOptions, *, here: bool = False) -> AnyEngine:
    """Make the engine that the options name, without starting or connecting it.

    Args:
        given: the options.
        here: whether only this process can load what is trained.

    Raises:
        StudyError: options that do not fit the engine.
    """
    if here:
        from ..study.engines.here import HereEngine

        for name in ("engine", "workers", "timeout"):
            if getattr(given, name) not in (None, "local"):
                raise StudyError(
                    f"{name} is for other processes, and only this one can load what is trained; "
                    "write it into a file, or leave the option out"
                )
        return HereEngine()
    if given.engine == "local":
        # this machine
        for name in ("address", "cpus_per_run", "gpus_per_run"):
            if getattr(given, name) is not None:
                raise StudyError(f"{flag_of(name)} is for Ray; add --engine ray, or leave it out")
        import joblib
        import torch

        from ..study.engines.devices import usual_workers
        from ..study.engines.local import LocalEngine

        usual = usual_workers(given.device, joblib.cpu_count(), torch.cuda.device_count())
        return LocalEngine(given.workers or usual, given.timeout)
    from ..study.engines.ray import RayEngine

    # Ray, which shares one GPU or gives whole ones
    cpus, gpus = given.cpus_per_run or 1.0, given.gpus_per_run or 0.0
    if gpus > 1 and gpus % 1:
        raise StudyError(f"--gpus-per-run must be from 0 to 1 or a whole number, got {gpus:g}")
    if given.device.startswith("cuda") != (gpus > 0):
        raise StudyError(
            f"--device {given.device} and --gpus-per-run {gpus:g} do not fit: runs on GPUs need "
            "--device cuda and --gpus-per-run above 0"
        )
    return RayEngine(
        given.address or "auto", given.timeout,
        cpus_per_run=cpus, gpus_per_run=gpus, workers=given.workers,
    )  # fmt: skip
