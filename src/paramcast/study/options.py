"""The options of a pilot, each declared once: to read it from a command and to write it into one.

`paramcast pilot` makes its click options from the fields below (cli/options.py); the command that
continues a pilot is written from those that the user gave (`continuing`).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StudyError
from .reading import MOST_SEEDS, shown, usable_path
from .search import Searched, parse_search
from .spec import BASES, FORMATS, SCHEDULES
from .tasks.frames import KINDS, MISSING, READ, TableOptions, read_setting

if TYPE_CHECKING:
    from .spec import Numerics
    from .tasks.source import Source

TASK, COMPARISON, MACHINE, OUTPUT = "Task", "Comparison", "Computation", "Output"
"""The headings of `paramcast pilot --help`, in this order."""


def option(
    group: str,
    line: str,
    again: Callable[[Any], object] | None = None,
    *,
    flag: str = "",
    **settings: Any,
) -> Any:
    """Declare a field of a class of options: how click reads it, and how a command repeats it.

    Args:
        group: its heading in --help.
        line: its help, with the default in brackets unless click shows it.
        again: makes of a value what a command repeats, if that is not the value itself; `not_again`
            leaves it out.
        flag: its spelling, unless that is --name-of-the-field; or several, with spaces between.
        settings: of `click.option`.
    """
    usual = settings.get("default", () if settings.get("multiple") else None)
    usual = False if settings.get("is_flag") else usual
    settings["help"] = line
    metadata = {"group": group, "again": again, "flag": flag, "click": settings}
    return field(default=usual, metadata=metadata)


def flag_of(name: str) -> str:
    """How a command line spells an option."""
    return "--" + name.replace("_", "-")


def not_again(_: object) -> None:
    """Leave an option out of the continuing command: the runs are the same without it."""


def given_options(form: type, given: object) -> Iterator[tuple[Field[Any], Any]]:
    """The options of a class that were given, with what a command repeats: a list for several."""
    for each in fields(form):
        value = getattr(given, each.name)
        if value == each.default:
            continue
        if each.metadata["click"].get("multiple"):
            value = list(value)
        if (again := each.metadata["again"]) is not None:
            value = again(value)
        if value is not None:
            yield each, value


def written(form: type, given: object) -> Iterator[str]:
    """The options of a class that were given, as words for a shell."""
    for each, value in given_options(form, given):
        flag = each.metadata["flag"] or flag_of(each.name)
        on, _, off = flag.partition("/")
        if isinstance(value, bool):  # a switch
            yield on if value else off
            continue
        # once for each item of a list; a tuple is a range
        for one in value if isinstance(value, list) else [value]:
            text = ":".join(map(str, one)) if isinstance(one, tuple) else str(one)
            yield f"{on} {shlex.quote(text)}"


def continuing(given: PilotOptions, source: Source, seeds: int, out: Path) -> str:
    """The command, or the call from Python, that goes on with a pilot to that many seeds."""
    from .tasks.own_file import HERE

    more: Any = {"seeds" if given.splits is None else "splits": seeds}
    given = replace(given, **more)
    if source.where in HERE:  # only a call in the process that has it can name it
        name = source.item if source.item.isidentifier() else "task"
        named = (f"{each.name}={value!r}" for each, value in given_options(PilotOptions, given))
        return f"paramcast.pilot({', '.join([name, *named, f'out={str(out)!r}'])})"
    words = [*written(PilotOptions, given), "--out", shlex.quote(str(out))]
    if not source.commands:
        words.insert(0, shlex.quote(source.argument))
    elif len(source.commands) == 1:  # with candidates, --base and --candidate have them all
        words += ["--", shlex.join(source.commands[0][1])]
    return " ".join(["paramcast pilot", *words])


def as_pairs(pairs: list[tuple[str, str]]) -> list[str]:
    """Pairs as --read takes them."""
    return [f"{key}={value}" for key, value in pairs]


def margin_text(margin: tuple[float, bool]) -> str:
    """A margin as `parse_margin` reads it."""
    return f"{margin[0]!r}{'%' if margin[1] else ''}"


# --- types of values ------------------------------------------------------------------------------


class Finite(click.FloatRange):
    """A finite number in a range."""

    name = "number"  # "number range" reads badly in messages

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number in a range."""

    name = "integer"


class UsablePath(click.ParamType):  # type: ignore[type-arg] # generic in newer versions
    """A path that can be looked up, whether or not anything is there."""

    name = "path"

    def convert(self, value: Any, parameter: Any, context: Any) -> Path:
        option = isinstance(parameter, click.Option)
        return usable_path(value, parameter.opts[-1] if option else parameter.human_readable_name)


PATH = UsablePath()
ABOVE_0 = Finite(min=0, min_open=True)
COUNT = Whole(1, MOST_SEEDS)


def parse_margin(text: str) -> tuple[float, bool]:
    """Read a margin: its number, and whether that is in per cent of the base's value.

    Raises:
        StudyError: it is not a number above 0.
    """
    number = text.strip().removesuffix("%")
    try:
        margin = float(number)
    except ValueError:
        margin = math.nan
    if not 0 < margin < math.inf:
        raise StudyError(f"--margin must be a number above 0, such as 0.5 or 5%, got {shown(text)}")
    return margin, number != text.strip()


def parse_range(text: str) -> tuple[float, float]:
    """Read a range of learning rates, LOW:HIGH.

    Raises:
        StudyError: it is not two numbers.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise StudyError(
            f"--lr-range must be LOW:HIGH, such as 1e-4:1e-1, got {shown(text)}"
        ) from None


def parse_duration(text: str) -> float:
    """Read a time such as 90s, 30m, 3h or 1.5h, in seconds.

    Raises:
        StudyError: it is not one.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)", text.strip())
    if found is None or float(found[1]) == 0:
        raise StudyError(f"--budget must be a time such as 90s, 30m or 3h, got {shown(text)}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def parse_device(text: str) -> str:
    """Check a device's name, whether or not this machine has the device.

    Raises:
        StudyError: no device can have that name.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", text):
        raise StudyError(f"--device must be cpu, cuda or cuda:N, got {shown(text)}")
    return text


# --- the options ----------------------------------------------------------------------------------


# fmt: off
@dataclass(frozen=True)
class ComputingOptions:
    """The device, and how it computes; None leaves that to the device."""

    device: str = option(MACHINE, "cpu, cuda or cuda:N.",
        type=parse_device, metavar="DEVICE", default="cpu", show_default=True)
    precision: str | None = option(
        MACHINE, "Number format of the forward pass [float32; bfloat16 on cuda].",
        type=click.Choice(FORMATS))
    compile: bool | None = option(MACHINE, "Compile the training step [on cuda].",
        flag="--compile/--no-compile", default=None)
    channels_last: bool | None = option(MACHINE, "Memory layout of images [on cuda].",
        flag="--channels-last/--no-channels-last", default=None)

    def numerics(self) -> Numerics:
        """The numerics that were asked for, with the device's defaults for the rest."""
        from .training.precision import choose

        return choose(self.device, self.precision, self.compile, self.channels_last)


@dataclass(frozen=True)
class PilotOptions(ComputingOptions):
    """What decides which runs a pilot has, and so what the continuing command must name.

    None leaves a setting to the task.
    """

    target: str | None = option(TASK, "The column to predict, if TASK is a table.",
        metavar="COLUMN")
    kind: str | None = option(TASK, "What a table's task is [by the target's values].",
        type=click.Choice(KINDS))
    missing: str | None = option(TASK, "What to do with a table's empty cells [refuse them].",
        type=click.Choice(MISSING))
    read: tuple[tuple[str, str], ...] = option(
        TASK, f"How a table is written: {', '.join(READ)}; may be repeated.",
        as_pairs, type=read_setting, metavar="KEY=VALUE", multiple=True)
    data_dir: str | None = option(TASK, "Where a built-in task's data are.", metavar="FOLDER")
    methods: str | None = option(COMPARISON,
        "What to compare with the base, also FILE.py:FUNCTION [plp].", metavar="LIST")
    base: str | None = option(
        COMPARISON, f"The optimizer to compare with: {', '.join(BASES)}, own [the task's].",
        metavar="NAME|COMMAND")
    candidate: tuple[str, ...] = option(
        COMPARISON, "With --base COMMAND: another command to judge; may be repeated.",
        metavar="NAME=COMMAND", multiple=True)
    lr: float | None = option(COMPARISON, "Tune nothing: everything runs at this learning rate.",
        type=ABOVE_0)
    lr_range: tuple[float, float] | None = option(COMPARISON,
        "Learning rates to search [the task's].", type=parse_range, metavar="LOW:HIGH")
    search: tuple[Searched, ...] = option(
        COMPARISON, "What else to tune: NAME=LOW:HIGH or NAME=A,B; may be repeated.",
        lambda several: [each.text for each in several], type=parse_search, metavar="NAME=...",
        multiple=True)
    trials: int | None = option(COMPARISON, "Learning rates to try [8].",
        type=click.Choice([2**n for n in range(11)]))
    trial_seeds: int | None = option(COMPARISON, "Seeds per learning rate [3].", type=COUNT)
    epochs: int | None = option(
        COMPARISON, "Passes over the training data [the task's].", type=COUNT)
    batch_size: int | None = option(COMPARISON, "Examples per step [the task's].", type=COUNT)
    schedule: str | None = option(COMPARISON, "How the learning rate changes [the task's].",
        type=click.Choice(SCHEDULES))
    metric: str | None = option(
        COMPARISON, "What is judged, such as auroc or r2 (docs/tasks.md) [the task's].")
    higher_is_better: bool | None = option(
        COMPARISON, "Which values of your training's metric are better [by its name].",
        flag="--higher-is-better/--lower-is-better", default=None)
    tune_by: str | None = option(
        COMPARISON, "Which result of your training chooses the learning rates [validation_loss].",
        metavar="NAME")
    test_examples: int | None = option(
        COMPARISON, "How many examples its metric counts, so that one of them decides nothing.",
        type=Whole(1), metavar="N")
    tuned_base: float | None = option(
        COMPARISON, "The base's learning rate, which you have tuned; methods search around it.",
        type=ABOVE_0, metavar="LR")
    max_runs: int | None = option(COMPARISON, "The most trainings to run in all.", type=COUNT)
    budget: float | None = option(
        COMPARISON, "The most time for all trainings, such as 90s, 30m or 3h.",
        lambda seconds: f"{seconds:g}s", type=parse_duration, metavar="TIME")
    all_arms: bool = option(
        COMPARISON, "Run every control and all with 0.8 T, even if that cannot change a verdict.",
        is_flag=True)
    speed: bool | None = option(
        COMPARISON, "Ask whether a method is faster [where its quality leaves the question open].",
        flag="--speed/--no-speed", default=None)
    margin: tuple[float, bool] | None = option(
        COMPARISON, "Differences within it do not matter, X% of the base's value [0.5 points; 5%].",
        margin_text, type=parse_margin, metavar="X|X%")
    quick: bool = option(
        COMPARISON, "4 learning rates x 2 seeds; judged once, at 8 seeds.", is_flag=True)
    seeds: int | None = option(
        COMPARISON, "The most paired final seeds; 24 are judged at 6, 12 and 24 [24].",
        type=Whole(2, MOST_SEEDS))
    splits: int | None = option(
        COMPARISON, "Final seeds, each with its own random split (for small data).",
        type=Whole(2, MOST_SEEDS))
    # fmt: on

    @property
    def table(self) -> TableOptions:
        """How the task's table is read."""
        return TableOptions(self.kind, self.missing, tuple(sorted(dict(self.read).items())))
