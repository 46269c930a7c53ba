"""Where any process, or only this one, finds what a call names as its task."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..errors import TaskError
from ..study.own.command import of_candidates, of_command
from ..study.reading import shown, tell
from ..study.spec import hash_of
from ..study.tasks.own_file import HERE
from ..study.tasks.source import Source, find
from ..study.tasks.task import Task
from .options import file_of

if TYPE_CHECKING:
    from ..cli.pilot import PilotCommand

TASK_OPTIONS = ("target", "kind", "missing", "read", "data_dir")
"""Options that say how a named task is read."""


def source_of(task: Any, given: PilotCommand) -> Source:
    """Where the task comes from.

    A function of a file is found by the file's path, as on the command line. A `Task`, and a
    function that is in no file, stay in this process; a notice says so.

    Raises:
        TaskError: it is not a task, or names none.
    """
    if given.candidate:
        if task is not None:
            raise TaskError("candidate is for commands alone, beside base; leave out the task")
        return of_candidates(given.base, given.candidate)
    if task is None or isinstance(task, (str, Path)):
        return find(str(task or "digits"), given.target, given.data_dir, given.table)
    if isinstance(task, (list, tuple)):
        return of_command([*map(str, task)])
    if not (isinstance(task, Task) or callable(task)):
        raise TaskError(
            f"a task is a name, a file, a Task or a function, got {shown(task, 40)}; "
            "write the data into a Task, or give finished results to paramcast.judge"
        )
    for name in TASK_OPTIONS:
        if getattr(given, name):
            raise TaskError(f"{name} is for a task that is named by a text; leave it out")
    # code of a file goes to workers, which import that file
    file = None if isinstance(task, Task) else file_of(task)
    if file is not None:
        return find(f"{file}:{task.__name__}")
    name = task.name if isinstance(task, Task) else getattr(task, "__name__", "function")
    tell(
        f"{name} is trained in this process, one run after the other: it has no file that other "
        "processes could import"
    )
    # nothing to hash as a file: its run keys hold the code, so an edited function is another task
    parts = [getattr(task, f.name) for f in fields(Task)] if isinstance(task, Task) else [task]
    where = f"<python>/{name}"
    HERE[where] = (lambda: task) if isinstance(task, Task) else task
    return Source("file", where, name, hash_of([*_code_of(parts)]))


def _code_of(parts: list[Any]) -> Iterator[Any]:
    """What identifies code that is in no file: its instructions, and the plain values they name.

    Functions and classes of the parts' own modules are followed; others count by name.
    """
    own = {getattr(part, "__module__", "") for part in parts if callable(part)}
    left, seen = list(parts), set()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, functools.partial):
            left += [part.func, *part.args, *part.keywords.values()]
        elif isinstance(part, type):
            if part.__module__ in own:
                left += vars(part).values()
            yield part.__qualname__
        elif isinstance(getattr(part, "__code__", None), CodeType):
            if part.__module__ not in own:
                yield f"{part.__module__}.{part.__qualname__}"
                continue
            yield from _instructions(part.__code__)
            left += part.__defaults__ or ()
            left += [cell.cell_contents for cell in part.__closure__ or ()]
            # the globals that it reads, in an order that does not depend on the process
            names = {name for code in _codes(part.__code__) for name in code.co_names}
            left += [part.__globals__[name] for name in sorted(names) if name in part.__globals__]
        elif isinstance(part, (str, int, float, bool, tuple)):
            yield repr(part)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _instructions(code: CodeType) -> Iterator[Any]:
    for each in _codes(code):
        plain = [repr(c) for c in each.co_consts if not isinstance(c, CodeType)]
        yield [each.co_code.hex(), each.co_names, plain]
