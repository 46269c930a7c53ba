"""The command line of a task's template: `paramcast new-task`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import StudyError
from .options import PATH


@click.command("new-task")
@click.argument("file", type=PATH)
def new_task(file: Path) -> None:
    """Write a commented example task to FILE, which runs as it is.

    \b
    Example:
      paramcast new-task my_task.py
      paramcast pilot my_task.py:task --quick
    """
    from importlib.resources import files

    if file.suffix != ".py":
        raise StudyError(f"FILE must end in .py, got {str(file)!r}")
    template = files("paramcast.study.tasks").joinpath("example_task.py").read_text("utf-8")
    try:
        # mode x never overwrites a file
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template)
    except FileExistsError:
        raise StudyError(f"{file} exists already and was left alone; choose another name") from None
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {file}; run it with: paramcast pilot {file}:task --quick")
