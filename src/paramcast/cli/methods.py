"""The command line of what can be compared: `paramcast methods`."""

from __future__ import annotations

import click


@click.command()
def methods() -> None:
    """List the methods, their roles and knobs."""
    from ..study.training.methods import METHODS, knobs

    for name, kind in METHODS.items():
        inside = f"({', '.join(knobs(name))})" if knobs(name) else ""
        click.echo(f"{name + inside:42} {kind.role:10} {kind.line}")
