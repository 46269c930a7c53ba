"""The command line as a user calls it, in this process."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from paramcast.cli import main as cli
from runs import cell


def without_notice(err: str) -> str:
    """Standard error without the lines that tell what the user should know: whose code runs, whose
    server is asked, how to watch it, what was read, and what the test split cannot show."""
    notices = (
        "running|to see how far|Learning rates are chosen|connecting to|data:|One of the|"
        "A constant answer"
    )
    return re.sub(rf"(?m)^paramcast: ({notices}) .*\n", "", err)


class Ran(NamedTuple):
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error without those notices."""
        return without_notice(self.err)

    @property
    def result(self) -> dict[str, Any]:
        """Standard output as strict JSON."""
        return strict_json(self.out)

    @property
    def cell(self) -> dict[str, Any]:
        """The one comparison of a pilot's result on standard output."""
        return cell(self.result)


def strict_json(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    loaded: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return loaded


def call(folder: Path, *words: Any, command: click.Command = cli.cli) -> Ran:
    """One command in this process (workers are real processes), started in `folder`.

    `command` is another one than `paramcast`: a script of research/.
    """
    out, err = io.StringIO(), io.StringIO()
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["paramcast", *map(str, words)])
        patch.setattr(sys.modules["__main__"], "__package__", None)  # click would name pytest's
        patch.setattr(sys, "path", [*sys.path])  # a task's folder is put there
        patch.setattr(sys, "stdin", io.StringIO())  # pytest's stand-in for a closed one asserts
        try:
            code = cli._main(command)
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
    return Ran(code, out.getvalue(), err.getvalue())
