"""The command line of what can be compared: `paramcast methods`."""

from __future__ import annotations

import click


@click.command()
def methods() -> None:
    """List the methods, their roles and knobs."""
    from ..study.training.methods import METHOD, METHODS, OWN, knobs

    calls = {n: f"{n}({', '.join(knobs(n))})" if knobs(n) else n for n in METHODS}
    width = max(map(len, calls.values()))
    for name, kind in METHODS.items():
        click.echo(f"{calls[name]:{width}} {kind.role:9} {kind.line}")
    for name in ("FILE.py:FUNCTION", "package.module:Name"):
        click.echo(f"{name:{width}} {METHOD:9} {OWN}")
