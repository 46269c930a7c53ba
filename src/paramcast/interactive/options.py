"""The options of a command as arguments of a function: read by the command's own declarations."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import click

from ..cli.pilot import PilotCommand, pilot
from ..errors import StudyError

NOT_HERE = {
    "dry_run": "run `paramcast pilot TASK --dry-run`",
    "as_json": "use the result's `stored`",
}
"""Options of the command line alone, and what to do instead."""


def options_of(options: Mapping[str, Any]) -> PilotCommand:
    """Read the options of a pilot.

    Raises:
        StudyError: there is no such option, or its value is not one; with the command's sentence.
    """
    known = {each.name: each for each in pilot.params if isinstance(each, click.Option)}
    values = {}
    for name, value in options.items():
        if name in NOT_HERE:
            raise StudyError(f"{name} is an option of the command line alone; {NOT_HERE[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known.keys() - NOT_HERE.keys())
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise StudyError(
                f"there is no option {name!r}{meant or '; see `paramcast pilot --help`'}"
            )
        if value is not None:  # None: leave it to the default
            values[name] = _read(known[name], value)
    return PilotCommand(**values)


def _read(option: click.Option, value: Any) -> Any:
    """A value as the command reads the words that stand for it."""
    flag = option.is_flag or option.is_bool_flag
    if isinstance(value, bool) is not flag:
        needed = "True or False" if flag else "a value"
        raise StudyError(f"{option.name} needs {needed}, got {value!r}")
    if option.name == "methods" and _several(value):
        value = ", ".join(map(str, value))
    if option.multiple and isinstance(value, Mapping):
        value = [f"{key}={each}" for key, each in value.items()]
    try:
        return option.type_cast_value(click.Context(pilot), value if flag else _words(value))
    except click.ClickException as error:
        raise StudyError(error.format_message().rstrip(".")) from None


def _words(value: Any) -> Any:
    return [str(each) for each in value] if _several(value) else str(value)


def _several(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))
