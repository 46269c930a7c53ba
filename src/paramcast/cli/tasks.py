"""The command line of what can be trained: `paramcast tasks`."""

from __future__ import annotations

import click


@click.command()
@click.option("--data-dir", metavar="FOLDER", help="Where to look for data first.")
def tasks(data_dir: str | None) -> None:
    """List the built-in tasks, their networks and where their data are.

    TASK means its first network, TASK/NETWORK another one, TASK@N or TASK/NETWORK@N the same with
    N examples of the training set, always the same ones: fashion, fashion/mlp, fashion/mlp@10000.
    """
    from ..study.tasks.builtin import BUILTIN

    # for each task its line, its networks, and where its data are
    lines, width = [], max(map(len, BUILTIN))
    for name, task in BUILTIN.items():
        lines.append(f"{name:{width}} {task.line}")
        lines.append(f"{'':{width}} networks: {', '.join(task.networks)}")
        if task.data is not None:
            lines.append(f"{'':{width}} data: {task.data.whereabouts(data_dir)}")
    click.echo("\n".join(lines))
