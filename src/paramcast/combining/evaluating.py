"""The user's functions: what a combination is worth, and batch norm estimated again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._checks import scalar
from .._directions import known_direction
from ..errors import ArgumentError, CheckpointError, TaskError

Function = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Own:
    """A function of the user's.

    Attributes:
        function: takes a state dict.
        name: what to call it.
        path: its file.
        module: the variables of its file, if it was named by its file.
    """

    function: Function
    name: str
    path: Path
    module: Mapping[str, Any]

    def __call__(self, state: dict[str, Any]) -> Any:
        """Call it.

        Raises:
            TaskError: it failed; the message names the line.
        """
        from ..study.tasks.own_file import line_of

        try:
            return self.function(state)
        except (Exception, SystemExit) as error:
            raise TaskError(
                f"{self.name} failed with {type(error).__name__}: {str(error)[:200]}"
                f"{line_of(error, self.path)}"
            ) from error


def own(
    what: str, given: str | Function, modules: dict[Path, ModuleType], tell: Callable[[str], None]
) -> Own:
    """Find a function.

    Args:
        what: the argument's name.
        given: the function, or "file.py:function".
        modules: of the files that have run; a file runs once.
        tell: told whose code runs.

    Raises:
        TaskError: there is no such file or function.
    """
    if callable(given):
        code = getattr(given, "__code__", None)
        name = getattr(given, "__name__", type(given).__name__)
        return Own(given, name, Path(code.co_filename if code else ""), {})
    from ..study.tasks.data.files import sha256_of
    from ..study.tasks.own_file import function_in, module_from_file

    file, _, item = str(given).rpartition(":") if ".py:" in str(given) else (given, "", "")
    path = Path(file)
    if path.suffix != ".py" or not item:
        raise TaskError(f"{what} must be FILE.py:FUNCTION, got {str(given)[:80]!r}")
    if not path.is_file():
        raise TaskError(f"{what}: there is no file {path}; check the path")
    path = path.resolve()
    if path not in modules:
        tell(f"running the code in {path}, with your rights")
        modules[path] = module_from_file(path, sha256_of(path))
    return Own(function_in(modules[path], path, item), item, path, vars(modules[path]))


@dataclass(frozen=True)
class Metric:
    """What decides.

    Attributes:
        name: the name of the result.
        higher_is_better: its direction.
    """

    name: str
    higher_is_better: bool

    def better(self, a: float | None, b: float | None) -> bool:
        """Whether a is better than b; what is not finite is better than nothing."""
        if a is None or not math.isfinite(a):
            return False
        if b is None or not math.isfinite(b):
            return True
        return a > b if self.higher_is_better else a < b


def results_of(function: Own, state: dict[str, Any]) -> dict[str, float]:
    """What the function says of a state dict: numbers by name; one number is called after it.

    Raises:
        TaskError: it failed, or returned something else.
    """
    returned = function(state)
    values = returned if isinstance(returned, Mapping) else {function.name: returned}
    try:
        if not values:
            raise ArgumentError("it returned nothing")
        return {str(name): scalar(str(name), _item(value)) for name, value in values.items()}
    except ArgumentError as error:
        raise TaskError(
            f"{function.name} must return a number, or numbers by name: {error}"
        ) from None


def _item(value: Any) -> Any:
    """An array of one number as that number."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "size", None) == 1 else value


def metric_of(
    function: Own, results: Mapping[str, float], metric: str, higher: bool | None
) -> Metric:
    """Which result decides, and in which direction: as the user says, or its file, or its name.

    Raises:
        TaskError: nothing says.
    """
    own_name = function.module.get("metric", "")
    chosen = metric or (own_name if own_name in results else "")
    if not chosen and len(results) == 1:
        chosen = next(iter(results))
    if chosen not in results:
        which = f"it has no {chosen!r}" if chosen else "say which decides: metric (--metric NAME)"
        raise TaskError(f"{function.name} returned {', '.join(results)}; {which}")
    if higher is None:
        higher = function.module.get("higher_is_better")
    if higher is None:
        higher = known_direction(chosen)
    if not isinstance(higher, bool):
        raise TaskError(
            f"is a higher {chosen} better? Say higher_is_better=True or False "
            '(--higher-is-better or --lower-is-better), or return {"accuracy": ...}'
        )
    return Metric(chosen, higher)


def statistics_of(function: Own, state: dict[str, Any], names: list[str]) -> dict[str, Tensor]:
    """The running statistics of batch norm that the function estimates for a state dict.

    Args:
        function: takes the state dict and returns one, such as `model.state_dict()`.
        state: the state dict; the function may change it.
        names: of the statistics.

    Raises:
        TaskError: it failed, or returned no statistics that fit.
    """
    before = {name: (state[name].shape, state[name].dtype) for name in names}
    returned = function(state)
    if not isinstance(returned, Mapping):
        raise TaskError(
            f"{function.name} must return the state dict with new statistics of batch norm, got "
            f"{type(returned).__name__}; end it with: return model.state_dict()"
        )
    found = {}
    for name, (shape, dtype) in before.items():
        value = returned.get(name)
        if not isinstance(value, Tensor) or value.shape != shape:
            raise TaskError(
                f"{function.name} returned no {name} of shape {tuple(shape)}; return the state "
                "dict of the same model"
            )
        found[name] = value.detach().to("cpu", dtype, copy=True)
        if not bool(torch.isfinite(found[name]).all()):
            raise CheckpointError(f"{function.name} returned a {name} that is not finite")
    return found
