"""The command line for checkpoints that exist already: `paramcast combine`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import StudyError
from ..study.options import OUTPUT, PATH, Finite, Whole
from ..study.reading import printable, tell
from .options import GroupedCommand, aside, takes
from .running import say_loading

if TYPE_CHECKING:
    from ..combining.combination import Combination
    from ..combining.rules import Candidate


COMBINATION, CHOICE = "Combination", "Choice"
"""Headings of --help."""


# fmt: off
@dataclass(frozen=True)
class CombineOptions:
    """All options of the command."""

    predictor: tuple[str, ...] = aside(
        COMBINATION, "mean, ema, rre or line; may be repeated [all].",
        metavar="NAME", multiple=True)
    last: tuple[int, ...] = aside(
        COMBINATION, "Checkpoints that mean, rre and line read; may be repeated [several].",
        type=Whole(2), metavar="K", multiple=True)
    decay: tuple[float, ...] = aside(
        COMBINATION, "Of ema, per checkpoint; may be repeated [several].",
        type=Finite(0, 1, min_open=True, max_open=True), metavar="D", multiple=True)
    horizon: tuple[float, ...] = aside(
        COMBINATION, "Of line, in checkpoints past the last; may be repeated [0, 1, 2].",
        type=Finite(-10**6, 10**6), metavar="H", multiple=True)
    key: str = aside(
        COMBINATION, "Where the weights lie in a file, such as ema.model [found].", default="",
        metavar="A.B")
    as_given: bool = aside(COMBINATION, "Keep the order of the words [by step, else by name].",
        is_flag=True)
    evaluate: str | None = aside(
        CHOICE, "Takes a state dict, returns a number or numbers by name, on validation data.",
        flag="--eval", metavar="FILE.py:FUNCTION")
    test: str | None = aside(
        CHOICE, "The same on test data, for the last checkpoint and the chosen one.",
        metavar="FILE.py:FUNCTION")
    batch_norm: str | None = aside(
        CHOICE, "Takes a state dict, returns it with batch-norm statistics estimated again.",
        metavar="FILE.py:FUNCTION")
    metric: str = aside(CHOICE, "The result that decides [the only one].", default="",
        metavar="NAME")
    higher_is_better: bool | None = aside(
        CHOICE, "Which values are better [by the name].",
        flag="--higher-is-better/--lower-is-better", default=None)
    out: Path | None = aside(  # noqa: RUF009 - it makes a field
        OUTPUT, "The new checkpoint: .pt, .pth, .bin, .ckpt or .safetensors [none].",
        flag="-o --out", type=PATH)
    as_json: bool = aside(OUTPUT, "Print only the result, as JSON.", flag="--json", is_flag=True)
# fmt: on


@click.command(cls=GroupedCommand)
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINTS...")
@takes(CombineOptions)
def combine(checkpoints: tuple[str, ...], given: CombineOptions) -> None:
    """Average or extrapolate saved checkpoints of one training; choose the best on validation.

    CHECKPOINTS are files of torch (.pt, .pth, .bin, .ckpt) or safetensors, or Hugging Face folders;
    at least 2. They are sorted by the step stored in them, else by the numbers in their names. No
    code in them is run. Without --eval, name one predictor, which is written unjudged.

    \b
    Examples:
      paramcast combine ckpt_*.pt --eval my.py:evaluate -o best.pt
      paramcast combine ckpt_*.pt --eval my.py:evaluate --test my.py:test -o best.safetensors
      paramcast combine checkpoint-*/ --predictor mean --last 5 -o new/model.safetensors
      paramcast combine ckpt_*.pt --predictor ema --decay 0.7 --key ema.model -o ema.pt
      paramcast combine ckpt_*.pt --eval my.py:loss --batch-norm my.py:estimate -o best.pt

    Exit codes: 0 done, also when nothing beats the last checkpoint and so nothing is written; 2 bad
    input.
    """
    if given.out is None and given.evaluate is None:
        raise StudyError("nothing to do: give -o FILE for the result, --eval to choose, or both")
    say_loading("torch")
    from ..combining.combine import combine as combined

    options = {**vars(given), "predictor": given.predictor or None}
    options.pop("as_json")
    with contextlib.redirect_stdout(sys.stderr):  # of the user's functions
        found = combined(checkpoints, watch=_watch, tell=tell, **options)
    click.echo(_text(found, given), nl=False)


def _text(found: Combination, given: CombineOptions) -> str:
    if given.as_json:
        out = None if found.out is None else str(found.out)
        return json.dumps(found.record() | {"out": out}, indent=1, allow_nan=False) + "\n"
    left = given.out is not None and found.out is None
    text = printable(f"{found}\n")
    return text + (f"{given.out} was not written.\n" if left else "")


def _watch(tried: Sequence[Candidate]) -> Iterable[Candidate]:
    """A bar on standard error, where a terminal shows it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(tried, "evaluating", console=console, transient=True, disable=hidden)
