"""The options of `paramcast judge`, each declared once, as those of a pilot (study/options.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import (
    COMPARISON,
    OUTPUT,
    PATH,
    TASK,
    Whole,
    as_pairs,
    margin_text,
    not_again,
    option,
    parse_margin,
)
from ..tasks.frames import READ, read_setting

OF_VALUES = ("decimal", "thousands")
"""How numbers are written, which is for the values; the rest of --read is for the file."""


# fmt: off
@dataclass(frozen=True)
class JudgeOptions:
    """What a table's columns hold, and what is compared; None and () leave it to the table."""

    method: tuple[str, ...] = option(
        TASK, "The one that names the method; may be repeated [by its name].", metavar="COLUMN",
        multiple=True)
    seed: tuple[str, ...] = option(
        TASK, "The one that pairs the rows; may be repeated [by its name].", metavar="COLUMN",
        multiple=True)
    value: str | None = option(
        TASK, "The one that is judged [by its name]; with --wide, its name.", metavar="COLUMN")
    lr: str | None = option(TASK, "The learning rate [by its name].", metavar="COLUMN")
    seconds: str | None = option(TASK, "Each training's time [by its name].", metavar="COLUMN")
    wide: bool = option(TASK, "Every method has a column, every pair a row.", is_flag=True)
    unpaired: bool = option(TASK, "Compare groups, although seeds pair the rows.", is_flag=True)
    read: tuple[tuple[str, str], ...] = option(
        TASK, f"How the table is written: {', '.join(READ)}; may be repeated.",
        as_pairs, type=read_setting, metavar="KEY=VALUE", multiple=True)
    base: str | None = option(
        COMPARISON, "The method that the others are compared with.", metavar="METHOD")
    only: tuple[str, ...] = option(
        COMPARISON, "Judge this method and no other; may be repeated.", metavar="METHOD",
        multiple=True)
    control: tuple[str, ...] = option(
        COMPARISON, "A cheap explanation that the others, or the one named, must beat.",
        metavar="METHOD[=OF]", multiple=True)
    reference: tuple[str, ...] = option(
        COMPARISON, "Shown and not judged; may be repeated.", metavar="METHOD", multiple=True)
    higher: bool | None = option(
        COMPARISON, "Which values are better [by the value's name].",
        flag="--higher-is-better/--lower-is-better", default=None)
    margin: tuple[float, bool] | None = option(
        COMPARISON, "Differences within it do not matter, X% of the base's value [0.5 points; 5%].",
        margin_text, type=parse_margin, metavar="X|X%")
    test_examples: int | None = option(
        COMPARISON, "How many the test split has: a difference of one then decides nothing.",
        type=Whole(1))
    out: Path | None = option(  # noqa: RUF009 - it makes a field
        OUTPUT, "Folder for the result [one in paramcast-runs].", not_again, type=PATH)
    as_json: bool = option(OUTPUT, "Print only the result, as JSON.", not_again,
        flag="--json", is_flag=True)
# fmt: on
