"""The command line of a task's template: `paramcast new-task`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import StudyError
from ..study.options import PATH


@click.command("new-task")
@click.argument("file", type=PATH)
@click.option("--own-loop", is_flag=True, help="A function that trains by itself, not a task.")
def new_task(file: Path, own_loop: bool) -> None:
    """Write a commented example task to FILE, which runs as it is.

    With --own-loop it is a training with a loop of its own, for code that fits no task.

    \b
    Examples:
      paramcast new-task my_task.py
      paramcast pilot my_task.py:task --quick
      paramcast new-task --own-loop train.py
      paramcast pilot train.py:train --quick
    """
    from importlib.resources import files

    if file.suffix != ".py":
        raise StudyError(f"FILE must end in .py, got {str(file)!r}")
    # the templates are files of the package, which the tests train
    package, name, function = "tasks", "example_task.py", "task"
    if own_loop:
        package, name, function = "own", "example_training.py", "train"
    template = files(f"paramcast.study.{package}").joinpath(name).read_text("utf-8")
    try:
        # mode x never overwrites a file
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template)
    except FileExistsError:
        raise StudyError(f"{file} exists already and was left alone; choose another name") from None
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {file}; run it with: paramcast pilot {file}:{function} --quick")
