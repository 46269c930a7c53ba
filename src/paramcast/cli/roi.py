"""The command line of the return on investment: `paramcast roi`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import StudyError
from ..study.options import PATH
from ..study.reading import RUNS


@click.command()
@click.argument("folder", type=PATH, required=False)
@click.option("--inputs", type=PATH, help="Your costs and values, a TOML file [defaults].")
@click.option("--template", is_flag=True, help="Print that file with its defaults and comments.")
@click.option("--full", is_flag=True, help="Also print key figures, inputs and formulas.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON and only that.")
@click.option("--out", type=PATH, help="Write to this file instead of standard output.")
def roi(
    folder: Path | None,
    inputs: Path | None,
    template: bool,
    full: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Say in five lines what the method in the pilot of FOLDER is worth.

    Without FOLDER it is the one in paramcast-runs that finished last.

    A return is counted over the best free alternative, and only where the pilot's verdict is
    "adopt" (same steps, better model) or "faster" (fewer steps, same model).

    \b
    Examples:
      paramcast roi --template > roi.toml
      paramcast roi --inputs roi.toml
      paramcast roi paramcast-runs/digits-1a2b3c4d --full
    """
    from ..report import roi as found

    # the file of inputs, and nothing else
    if template:
        if folder is not None or inputs is not None or full or as_json:
            raise StudyError("--template prints the file of inputs and takes nothing but --out")
        if out is not None and out.is_file():
            raise StudyError(f"{out} exists already and was left alone; choose another name")
        _put(found.template(), out)
        return
    if full and as_json:
        raise StudyError("--json holds all that --full prints; give one of the two")
    from ..study.store.folder import RESULT, finished_last, to_json

    folder = finished_last(folder or RUNS)
    # the inputs first: a mistake in them is said before the store is read
    checked = found.defaults() if inputs is None else found.open_inputs(inputs)
    result = found.read(folder)
    from ..report.roi.terminal import render
    from ..study.reading import as_written
    from ..study.stored import AGAIN

    with as_written(folder / RESULT, AGAIN):
        summary = found.summary(result, checked)
        text = to_json(summary) + "\n" if as_json else render(summary, full=full)
    _put(text, out)


def _put(text: str, out: Path | None) -> None:
    """Print, or write to a file."""
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"--out {out} cannot be written ({error.strerror}); choose another file"
        ) from None
    click.echo(f"wrote {out}")
