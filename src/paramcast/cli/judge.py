"""The command line for results from anywhere: `paramcast judge`."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..study.options import COMPARISON, OUTPUT, TASK, Whole, parse_margin
from ..study.tasks.frames import READ, TableOptions, read_setting
from .options import PATH, GroupedCommand, aside, takes
from .running import finished

if TYPE_CHECKING:
    from ..study.stored import Judged, Result

OF_VALUES = ("decimal", "thousands")
"""How numbers are written, which is for the values; the rest of --read is for the file."""


# fmt: off
@dataclass(frozen=True)
class JudgeOptions:
    """All options of the command."""

    method: tuple[str, ...] = aside(
        TASK, "The one that names the method; may be repeated [by its name].", metavar="COLUMN",
        multiple=True)
    seed: tuple[str, ...] = aside(
        TASK, "The one that pairs the rows; may be repeated [by its name].", metavar="COLUMN",
        multiple=True)
    value: str | None = aside(
        TASK, "The one that is judged [by its name]; with --wide, its name.", metavar="COLUMN")
    lr: str | None = aside(TASK, "The learning rate [by its name].", metavar="COLUMN")
    seconds: str | None = aside(TASK, "Each training's time [by its name].", metavar="COLUMN")
    role: str | None = aside(
        TASK, "base, predictor, control, control of METHOD, or reference [by its name].",
        metavar="COLUMN")
    wide: bool = aside(TASK, "Every method has a column, every pair a row.", is_flag=True)
    unpaired: bool = aside(TASK, "Compare groups, although seeds pair the rows.", is_flag=True)
    read: tuple[tuple[str, str], ...] = aside(
        TASK, f"How the table is written: {', '.join(READ)}; may be repeated.",
        type=read_setting, metavar="KEY=VALUE", multiple=True)
    base: str | None = aside(
        COMPARISON, "The method that the others are compared with.", metavar="METHOD")
    only: tuple[str, ...] = aside(
        COMPARISON, "Judge this method and no other; may be repeated.", metavar="METHOD",
        multiple=True)
    control: tuple[str, ...] = aside(
        COMPARISON, "A cheap explanation that the others, or the one named, must beat.",
        metavar="METHOD[=OF]", multiple=True)
    reference: tuple[str, ...] = aside(
        COMPARISON, "Shown and not judged; may be repeated.", metavar="METHOD", multiple=True)
    higher: bool | None = aside(
        COMPARISON, "Which values are better [by the value's name].",
        flag="--higher-is-better/--lower-is-better", default=None)
    margin: tuple[float, bool] | None = aside(
        COMPARISON, "Differences within it do not matter, X% of the base's value [0.5 points; 5%].",
        type=parse_margin, metavar="X|X%")
    test_examples: int | None = aside(
        COMPARISON, "How many the test split has: a difference of one then decides nothing.",
        type=Whole(1))
    out: Path | None = aside(  # noqa: RUF009 - it makes a field
        OUTPUT, "Folder for the result [one in paramcast-runs].", type=PATH)
    as_json: bool = aside(OUTPUT, "Print only the result, as JSON.",
        flag="--json", is_flag=True)
# fmt: on


@click.command(cls=GroupedCommand)
@click.argument("table", type=PATH)
@takes(JudgeOptions)
def judge(table: Path, given: JudgeOptions) -> None:
    """Judge results from anywhere: does a method beat the base, by more than chance?

    TABLE has a row per training (.csv, .tsv, .parquet, .jsonl; an export of MLflow or Weights &
    Biases), or a column per method. Columns are found by their names, or named by the options.
    Values are compared seed by seed; without seeds, as groups.

    \b
    Examples:
      paramcast judge results.csv
      paramcast judge results.csv --method model --seed seed --value accuracy --base sgd
      paramcast judge runs.csv --method optimizer --method lr --value val_loss --lower-is-better
      paramcast judge wide.csv --wide --value accuracy --base sgd --control sgd-lr-matched
      paramcast judge results.csv --base sgd --margin 0.2 --out judged

    Exit codes: 0 judged, whatever the verdict; 2 bad input.
    """
    from ..report.terminal import render

    result = judged_file(table, given)
    click.echo(finished(result, render, Path(result["out"]), as_json=given.as_json), nl=False)


def judged_file(table: Path, given: JudgeOptions) -> Result:
    """Judge a table's file, and write the result.

    Raises:
        StudyError: it cannot be read, or cannot be judged.
    """
    from ..study.tables.reading import read_results
    from ..study.tables.saving import save

    begun = time.perf_counter()
    of_file = tuple((key, value) for key, value in given.read if key not in OF_VALUES)
    judged = judged_frame(read_results(table, TableOptions(read=of_file)), table.name, given)
    command = _again(table, given)
    return save(judged, table.stem, given.out, command=command, begun=begun, file=table)


def judged_frame(frame: Any, name: str, given: JudgeOptions) -> Judged:
    """Judge a pandas frame.

    Raises:
        StudyError: it cannot be judged.
    """
    from ..study.tables.columns import Columns
    from ..study.tables.judge import judge_results

    written = {key: value for key, value in given.read if key in OF_VALUES}
    return judge_results(
        frame,
        Columns(given.method, given.seed, given.value, given.lr, given.seconds, given.role),
        name=name,
        base=given.base,
        higher=given.higher,
        margin=given.margin,
        wide=given.wide,
        unpaired=given.unpaired,
        controls=given.control,
        references=given.reference,
        only=given.only,
        test_examples=given.test_examples,
        **written,
    )


def _again(table: Path, given: JudgeOptions) -> list[str]:
    """The words of the command, without its folder."""
    words = ["paramcast", "judge", str(table)]
    for each in fields(given):
        value, flag = getattr(given, each.name), f"--{each.name.replace('_', '-')}"
        if each.name in ("out", "as_json") or value == each.default:
            continue
        if each.name == "higher":
            words.append("--higher-is-better" if value else "--lower-is-better")
        elif each.name == "margin":
            words += [flag, f"{value[0]!r}{'%' if value[1] else ''}"]
        elif isinstance(value, bool):
            words.append(flag)
        elif isinstance(value, tuple):
            for one in value:
                words += [flag, "=".join(one) if isinstance(one, tuple) else one]
        else:
            words += [flag, str(value)]
    return words
