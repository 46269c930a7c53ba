"""Optimizers of the user's as methods: `my.py:muon`, `torch.optim:Muon`.

Of a function (or class) that takes `lr` the parameters and the rate make an optimizer; of one that
takes an optimizer alone the base's is wrapped.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ...errors import ParamcastError, StudyError
from ..reading import shown, tell, usable_path
from ..tasks.data.files import sha256_of
from ..tasks.own_file import function_from_file, hash_of_code, line_of

RATES = ("lr", "learning_rate")  # what the learning rate is called
Function = Callable[..., Any]


def identity(name: str) -> str:
    """What a method's results depend on beside its knobs: its code, or its package's version."""
    where, _, _ = name.rpartition(":")
    if where.endswith(".py"):
        return f"sha256 {hash_of_code(_file(where, name))}"
    top = where.partition(".")[0]
    for package in metadata.packages_distributions().get(top, []):
        return f"{package} {metadata.version(package)}"
    # a module that no package installed: its file
    file = getattr(_module(where, name), "__file__", None)
    return f"sha256 {sha256_of(Path(file))}" if file else top


def check(name: str, knobs: Mapping[str, Any]) -> bool:
    """Load the function, say whose code runs, and tell whether it wraps an optimizer."""
    where, _, _ = name.rpartition(":")
    if where.endswith(".py"):
        _announce(_file(where, name))
    return _wraps(name, function_of(name), knobs)[0]


def takes(name: str, knobs: Mapping[str, Any], setting: str) -> bool:
    """Whether the function has an argument of a setting's name that no knob fixes."""
    arguments = inspect.signature(function_of(name)).parameters
    return setting in [*arguments][1:] and setting not in knobs


@lru_cache
def _announce(file: Path) -> None:
    tell(f"running the code in {file}, with your rights")


def verify(method: str, code: str) -> None:
    """Check in a worker that a method's code is still what it was in the driver."""
    if code and identity(method.partition("(")[0]) != code:
        raise StudyError(f"{method} was changed while it was in use; start the command again")


def make(
    name: str,
    knobs: Mapping[str, Any],
    parameters: Sequence[Tensor],
    lr: float,
    base: Callable[[], Optimizer],
) -> Optimizer:
    """The optimizer that a function of the user's makes.

    Args:
        name, knobs: where it is, such as "my.py:muon", and its keyword arguments.
        parameters, lr: what to train, and the learning rate.
        base: makes the base optimizer, for a function that wraps one.
    """
    function = function_of(name)
    wraps, rate = _wraps(name, function, knobs)
    # the base is made outside, so that its own errors are not taken for the function's
    given: tuple[Any, ...] = (base(),) if wraps else (parameters, *([] if rate else [lr]))
    rates = {rate: lr} if rate and not wraps else {}
    try:
        made = function(*given, **rates, **knobs)
    except ParamcastError:
        raise
    except (Exception, SystemExit) as error:
        place = line_of(error, Path(name.rpartition(":")[0]).resolve())
        raise StudyError(f"{name} failed with {type(error).__name__}: {error}{place}") from error
    if not isinstance(made, Optimizer):
        raise StudyError(
            f"{name} must return a torch.optim.Optimizer, it returned {type(made).__name__}"
        )
    # LBFGS, for one, calls a closure that runs the model again
    needed = _needed(made.step)
    if needed:
        raise StudyError(
            f"the optimizer of {name} needs {needed[0].name} in each step, and the training loop "
            "calls step() alone; name another"
        )
    # weights that it leaves out would stay as they began, and nothing would say so
    trained = {id(p) for group in made.param_groups for p in group["params"]}
    missing = [p for p in parameters if id(p) not in trained]
    if missing:
        shapes = ", ".join(str(tuple(p.shape)) for p in missing[:3])
        raise StudyError(
            f"the optimizer of {name} leaves out {len(missing)} of {len(parameters)} parameters, "
            f"such as {shapes}; give it all of them"
        )
    return made


def function_of(name: str) -> Function:
    """The function or class that a name such as "my.py:muon" means."""
    where, _, item = name.rpartition(":")
    if where.endswith(".py"):
        path = _file(where, name)
        return _from_file(path, item, sha256_of(path))
    found: Any = _module(where, name)
    for part in item.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise StudyError(f"{where} has no function or class {shown(item)}; name it as {where}:NAME")
    function: Function = found
    return function


# A file runs once per process, however many runs it makes
_from_file = lru_cache(maxsize=64)(function_from_file)


def _file(where: str, name: str) -> Path:
    path = usable_path(where, "method", home=True)
    if not path.is_file():
        raise StudyError(f"method {name}: there is no file {where}; name it as FILE.py:FUNCTION")
    return path.resolve()


def _module(where: str, name: str) -> Any:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        what = where if error.name in (where, where.partition(".")[0]) else f"{where} ({error})"
        raise StudyError(
            f"method {name}: {what} cannot be imported; install its package, or name a file as "
            "FILE.py:FUNCTION"
        ) from None
    except (Exception, SystemExit) as error:
        raise StudyError(
            f"method {name}: {where} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _wraps(name: str, function: Function, knobs: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a function wraps an optimizer, and what it calls the learning rate ("" by place)."""
    try:
        arguments = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise StudyError(
            f"the arguments of {name} cannot be read; write a function (parameters, lr) around it"
        ) from None
    own = [n for n, p in arguments.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    anything = any(p.kind == p.VAR_KEYWORD for p in arguments.values())
    for knob in knobs:
        if knob in RATES:
            raise StudyError(f"method {name}: {knob} is what the comparison sets; leave it out")
        # **kwargs takes any knob; what they are called cannot be checked
        if knob not in arguments and not anything:
            has = ", ".join(own[1:]) or "none"
            raise StudyError(f"method {name} has no knob {shown(knob)}; it has {has}")
    # what is left for us to give: (optimizer), (parameters), or (parameters, lr)
    needed = [p.name for p in _needed(function) if p.name not in knobs]
    rate = next((r for r in RATES if r in own), "")
    left = len([each for each in needed if each != rate])
    first = own[0].lower() if own else ""
    if left == 1 and "optim" in first:
        return True, ""
    if left == (1 if rate else 2):
        return False, rate
    if left == 1 and not first.startswith("param"):
        return True, ""
    raise StudyError(
        f"{name} needs the arguments ({', '.join(needed)}); needed is a function (parameters, lr) "
        "that returns a torch optimizer, or (optimizer) that wraps one"
    )


def _needed(function: Function) -> list[inspect.Parameter]:
    """The arguments without a default."""
    return [
        p for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
