"""A function from a Python file of the user's, and the task that it may return."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from ...errors import TaskError
from .data.files import sha256_of

PACKAGE = Path(__file__).resolve().parents[2]
IMPORTED = "paramcast_task_"
"""How the names begin that files get when they are imported here."""


def function_from_file(path: Path, item: str, sha256: str) -> Callable[..., Any]:
    """Run the file, and find its function.

    Raises:
        TaskError: it changed, cannot be imported, or has no such function; with the line.
    """
    if sha256_of(path) != sha256:
        raise TaskError(f"{path.name} was changed while it was in use; start the command again")
    # import it under a name of its own, with its folder on the path
    name = f"{IMPORTED}{sha256[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    if spec is None or spec.loader is None:
        raise TaskError(f"{path.name} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as `python file.py` does
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TaskError(
            f"{path.name} cannot be imported: {type(error).__name__}: {error}{line_of(error, path)}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, item, None)
    if not callable(function):
        names = [
            n for n, v in vars(module).items() if callable(v) and v.__module__ == module.__name__
        ]
        raise TaskError(
            f"{path.name} has no function {item!r}; it has {', '.join(names) or 'none'}; "
            f"name it as {path.name}:FUNCTION"
        )
    return function


def takes_trial(function: Callable[..., Any], path: Path, item: str) -> bool:
    """Whether it is a function of one trial (one argument), and not one that returns a task (none).

    Raises:
        TaskError: it is neither.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    needed = [
        p for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    if len(needed) > 1 or any(p.kind == p.KEYWORD_ONLY for p in needed):
        names = ", ".join(p.name for p in needed)
        raise TaskError(
            f"{path.name}:{item} needs the arguments {names}; a function that trains takes one, "
            "the trial, and a function that returns a Task takes none"
        )
    return len(needed) == 1


def task_of(function: Callable[..., Any], path: Path, item: str) -> Any:
    """Call a function that returns a task.

    Raises:
        TaskError: it fails; with the line.
    """
    try:
        return function()
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(
            f"{path.name}:{item} failed with {type(error).__name__}: {error}{line_of(error, path)}"
        ) from error


class _Fresh(SourceFileLoader):
    """Compiles what the file says now: cached byte code is trusted by size and time alone."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(path)


def code_files(where: str) -> list[str]:
    """A task file and the modules beside it that were imported, sorted.

    Not paramcast's own, of which each process imports others: a task may lie in its clone. Nor
    other files that were named on a command line, such as those of optimizers.
    """
    folder = Path(where).parent
    files = {where}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or "site-packages" in file or Path(file).is_relative_to(PACKAGE):
            continue
        if getattr(module, "__name__", "").startswith(IMPORTED):
            continue
        if Path(file).is_relative_to(folder):
            files.add(str(file))
    return [file for file in sorted(files) if Path(file).is_file()]


def line_of(error: BaseException, path: Path) -> str:
    """Where in the user's file an error came from."""
    line = getattr(error, "lineno", None)
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == str(path):
            line = number
    return f" (line {line})" if line else ""
