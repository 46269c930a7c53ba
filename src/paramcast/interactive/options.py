"""The options of a command as arguments of a function: read by the command's own declarations."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import StudyError
from ..study.reading import shown

Form = TypeVar("Form")

NOT_HERE = {
    "dry_run": "add --dry-run to the command",
    "as_json": "the result has it as `stored`",
}
"""Options of the command line alone, and what to do instead."""


def options_of(command: click.Command, form: type[Form], options: Mapping[str, Any]) -> Form:
    """Read the options of a command.

    Args:
        command: declares them.
        form: the class that it receives them in.
        options: the values, by name.

    Raises:
        StudyError: there is no such option, or its value is invalid; with the command's message.
    """
    known = {each.name: each for each in command.params if isinstance(each, click.Option)}
    values = {}
    for name, value in options.items():
        if name in NOT_HERE:
            raise StudyError(f"{name} is an option of the command line alone; {NOT_HERE[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known.keys() - NOT_HERE.keys())
            meant = f"did you mean {' or '.join(near)}?" if near else ""
            raise StudyError(
                f"there is no option {shown(name, 40)}; "
                f"{meant or f'see `paramcast {command.name} --help`'}"
            )
        if value is not None:  # None: leave it to the default
            values[name] = _read(command, known[name], value)
    return form(**values)


def _read(command: click.Command, option: click.Option, value: Any) -> Any:
    """A value as the command reads the words that stand for it."""
    flag = option.is_flag or option.is_bool_flag
    if isinstance(value, bool) is not flag:
        needed = "True or False" if flag else "a value"
        raise StudyError(f"{option.name} needs {needed}, got {shown(value, 40)}")
    if flag:
        return value
    # a mapping, or one item, where an option is repeated
    if isinstance(value, Mapping):
        value = [f"{key}={_range_or_list(each)}" for key, each in value.items()]
    # then as the words that click converts and checks
    if option.multiple and not _several(value):
        value = [value]
    if option.name == "lr_range" and _several(value):
        value = _range_or_list(tuple(value))
    if option.name == "methods":
        value = ", ".join(map(_method, value if _several(value) else [value]))
    try:
        words = [*map(str, value)] if _several(value) else str(value)
        return option.type_cast_value(click.Context(command), words)
    except click.ClickException as error:
        raise StudyError(error.format_message().rstrip(".")) from None


def _range_or_list(value: Any) -> str:
    """As --search is written: a pair for a range, a list for values."""
    between = ":" if isinstance(value, tuple) else ","
    return between.join(map(str, value)) if _several(value) else str(value)


def _method(value: Any) -> str:
    """A method by its name, or a user's optimizer by its file or module."""
    if not callable(value):
        return str(value)
    file, name = file_of(value), getattr(value, "__name__", "")
    if file is None:
        raise StudyError(
            f"method {shown(name or value, 40)} has no file that workers could import; write it "
            "into one, such as my.py, and name it 'my.py:FUNCTION'"
        )
    if "." in value.__module__:  # from a package
        return f"{value.__module__}:{name}"
    return f"{os.path.relpath(file)}:{name}"


def file_of(function: Any) -> Path | None:
    """The file from which another process can import the function, if it has one."""
    name, module = getattr(function, "__name__", ""), sys.modules.get(function.__module__ or "")
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or getattr(module, name, None) is not function:
        return None
    return Path(file)


def _several(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))
