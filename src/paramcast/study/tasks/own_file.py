"""A function from the user's Python file, and the task that it may return."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import TaskError
from .data.files import sha256_of

PACKAGE = Path(__file__).resolve().parents[2]
# functions that only this process has, by a stand-in for their file's name
HERE: dict[str, Callable[..., Any]] = {}


def function_from_file(path: Path, item: str, sha256: str) -> Callable[..., Any]:
    """Run the file, and find its function."""
    if str(path) in HERE:
        return HERE[str(path)]
    if sha256_of(path) != sha256:
        raise TaskError(f"{path.name} was changed while it was in use; start the command again")
    return function_in(module_from_file(path, sha256), path, item)


def module_from_file(path: Path, sha256: str) -> ModuleType:
    """Run the file under a name of its own, with its folder on Python's path.

    Raises:
        TaskError: it cannot be imported; it names the line.
    """
    name = f"paramcast_task_{sha256[:12]}"
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
    return module


def function_in(module: ModuleType, path: Path, item: str) -> Callable[..., Any]:
    """The function of a module that was made of the file."""
    function: Callable[..., Any] | None = getattr(module, item, None)
    if callable(function):
        return function
    names = [n for n, v in vars(module).items() if callable(v) and v.__module__ == module.__name__]
    raise TaskError(
        f"{path.name} has no function {item!r}; it has {', '.join(names) or 'none'}; "
        f"name it as {path.name}:FUNCTION"
    )


def takes_trial(function: Callable[..., Any], path: Path, item: str) -> bool:
    """Whether it is a function of one trial (one argument), not one that returns a task (none)."""
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
    """Call a function that returns a task; what it raises becomes a sentence with the line."""
    try:
        return function()
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(
            f"{path.name}:{item} failed with {type(error).__name__}: {error}{line_of(error, path)}"
        ) from error


class _Fresh(SourceFileLoader):
    """Compiles the file as it is now: cached bytecode is checked by size and time alone."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(path)


def hash_of_code(where: str | Path) -> str:
    """A hash of a file and of the modules beside it that it imports."""
    hashes = [sha256_of(Path(file)) for file in code_files(str(where))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def code_files(where: str) -> list[str]:
    """A task file and the files beside it that it imports, directly or indirectly, sorted."""
    # read, not run: which modules a process has loaded differs from process to process;
    # paramcast's own are left out, because a task may be in its clone
    folder = Path(where).parent
    left, files = [Path(where)], set()
    while left:
        file = left.pop()
        beside = file.is_relative_to(folder) and not file.is_relative_to(PACKAGE)
        if str(file) in files or not beside or not file.is_file():
            continue
        files.add(str(file))
        left += [
            path
            for parts, start in _imports(file, folder)
            for n in range(1, len(parts) + 1)
            for path in (start.joinpath(*parts[:n], "__init__.py"),
                         start.joinpath(*parts[:n]).with_suffix(".py"))
        ]  # fmt: skip
    return sorted(files)


def _imports(file: Path, folder: Path) -> Iterator[tuple[list[str], Path]]:
    """The names that a file imports, in parts, and the folder from which they start."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the process that runs it says why
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), folder) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[min(node.level, len(file.parents)) - 1] if node.level else folder
            parts = node.module.split(".") if node.module else []
            yield from (([*parts, alias.name], start) for alias in node.names)


def line_of(error: BaseException, path: Path) -> str:
    """Where in the user's file an error came from."""
    line = getattr(error, "lineno", None)
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == str(path):
            line = number
    return f" (line {line})" if line else ""
