"""Run a study of this folder, or one whose runs have probes: `python research/run.py STUDY`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paramcast.cli.main import main
from paramcast.cli.study import run
from paramcast.study.grid.file import ready_made
from paramcast.study.reading import shown
from paramcast.study.training.probes import PROBES
from probes import Jumps, Linearity, Sharpness

STUDIES = {file.stem: str(file) for file in (Path(__file__).parent / "studies").glob("*.toml")}

# At the top level: worker processes import this file too, and then know the probes.
PROBES.update(linearity=Linearity, jumps=Jumps, sharpness=Sharpness)


def start(name: str, **given: Any) -> None:
    if given["engine"] != "local":
        raise click.UsageError("the workers of a cluster know no probes; leave --engine out")
    known = sorted([*STUDIES, *ready_made()])
    if name not in known and not name.endswith(".toml"):
        raise click.UsageError(
            f"no study {shown(name)}; give FILE.toml or one of {', '.join(known)}"
        )
    click.get_current_context().invoke(run, name=STUDIES.get(name, name), **given)


command = click.Command(
    "run",
    params=run.params,
    callback=start,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Run a study whose runs may have probes.

    NAME is a file in research/studies without its ending, a ready-made study of paramcast, or
    FILE.toml. The options are those of `paramcast study run`.

    \b
    Examples:
      python research/run.py conditions --dry-run
      python research/run.py stability --out runs     Ctrl-C keeps what has finished
    """,
)

if __name__ == "__main__":
    main(command)
