"""The command line of what can be compared: `paramcast methods`."""

from __future__ import annotations

import shutil

import click


@click.command()
def methods() -> None:
    """List the methods by their roles, with their knobs."""
    from ..study.judging.table import METHOD
    from ..study.training.methods import METHODS, knobs
    from ..study.words import Words

    say = Words("en").section("method")
    of: dict[str, list[tuple[str, str]]] = {}
    for name, kind in METHODS.items():
        call = f"{name}({', '.join(knobs(name))})" if knobs(name) else name
        of.setdefault(kind.role, []).append((call, say[name]))
    of[METHOD] = [("FILE.py:FUNCTION, package.module:Name", say["own-optimizer"])]
    page = click.HelpFormatter(max_width=shutil.get_terminal_size().columns)
    for role, rows in of.items():
        with page.section(role):
            page.write_dl(rows, col_max=24)
    click.echo(page.getvalue().strip())
