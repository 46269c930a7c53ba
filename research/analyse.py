"""Tables and figures of a finished study: `python research/analyse.py STUDY FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from analyses import ANALYSES, analyse
from paramcast.cli.main import main
from paramcast.study.options import PATH
from paramcast.study.reading import printable
from paramcast.study.store.folder import write_text
from paramcast.study.stored import read_result

STUDIES = {
    **{name: [name] for name in ANALYSES},
    **{f"bar-{stage}": ["table"] for stage in ("base", "curve", "selection", "winner")},
    "bar-judge": ["fewer-steps"],
    "baselines": ["table"],
    "held-out": ["fewer-steps"],
    "hybrids": ["synergy"],
    "noise": ["measures"],
    "online": ["table", "online"],
    "paper": ["table"],
    "paper-small": ["table"],
    "sensitivity": ["heatmap"],
}
"""The analyses of each study; an analysis is its own name too, for studies of one's own."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("study", type=click.Choice(sorted(STUDIES)), metavar="STUDY")
@click.argument("folder", type=PATH)
@click.option("--out", type=PATH, help="Write NAME.md and its figures here.")
def command(study: str, folder: Path, out: Path | None) -> None:
    """Print the tables of the finished study in FOLDER as Markdown; with --out, draw figures too.

    STUDY is the study's name or, for a study of your own, an analysis: table (every arm of every
    cell), heatmap, measures, synergy, conditions, stability, online, rates, fewer-steps, anytime.

    \b
    Examples:
      python research/analyse.py sensitivity paramcast-runs/sensitivity-HASH
      python research/analyse.py conditions paramcast-runs/conditions-HASH --out results
      python research/analyse.py table paramcast-runs/my-study-HASH
    """
    result = read_result(folder, "study")
    text = analyse(result, STUDIES[study], out)
    if out is None:
        click.echo(printable(text), nl=False)
        return
    page = out / f"{result['name']}.md"
    name = result["name"]
    how = f"`python research/run.py {name}` and `python research/analyse.py {study} FOLDER`"
    write_text(page, f"# Study {name}\n\n{how}.\n\n{text}")
    click.echo(f"wrote {page}")


if __name__ == "__main__":
    main(command)
