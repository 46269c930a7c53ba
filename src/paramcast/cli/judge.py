"""The command line for results from anywhere: `paramcast judge`."""

from __future__ import annotations

from pathlib import Path

import click

from ..study.options import PATH
from ..study.tables.options import JudgeOptions
from .options import GroupedCommand, takes
from .running import finished


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
    from ..study.tables.saving import judge_file

    result = judge_file(table, given)
    click.echo(finished(result, render, Path(result["out"]), as_json=given.as_json), nl=False)
