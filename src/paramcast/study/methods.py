"""The methods that a comparison knows: what each does to the base optimizer."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import ArgumentError, ParamcastError, StudyError
from ..forecast import Forecast
from ..predictors import (
    Affine,
    Interpolate,
    LeastSquares,
    Midline,
    RandomDirection,
    Secant,
    SignFlipped,
)
from ..schedules import Demon
from .tasks.task import Task

PREDICTOR, REFERENCE, CONTROL, DERIVED = "predictor", "reference", "control", "derived"


@dataclass(frozen=True)
class Kind:
    """A named method: its role, one line about it, and what makes it.

    A *predictor* gets a verdict and its controls beside it. A *control* is tuned like any other
    method and must be beaten too; a *derived* control is made from each predictor and runs at its
    learning rate. A *reference* is a row without a verdict.
    """

    role: str
    line: str
    predictor: Callable[..., Affine] | None = None


METHODS: dict[str, Kind] = {
    "plp": Kind(PREDICTOR, "Parameters Linear Prediction: midline of three points", Midline),
    "secant": Kind(PREDICTOR, "straight on from the last point", Secant),
    "least-squares": Kind(PREDICTOR, "least-squares line over a window", LeastSquares),
    "lookahead": Kind(PREDICTOR, "Lookahead: part of the way back every k steps", Interpolate),
    "nesterov": Kind(CONTROL, "SGD with Nesterov momentum (base sgd only)"),
    "sign-flipped": Kind(DERIVED, "each predictor's jump, backward"),
    "demon": Kind(REFERENCE, "decaying momentum"),
}
RANDOM_JUMP, SIGN_FLIPPED = "random-jump", "sign-flipped"
"""Controls made from a predictor; their runs are named like "random-jump:plp(horizon=0.5)"."""


@dataclass(frozen=True)
class Method:
    """A method with its knobs, parsed from text such as "plp(horizon=0.5)"."""

    name: str
    knobs: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.knobs)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def kind(self) -> Kind:
        return METHODS[self.name]

    def predictor(self) -> Affine:
        if self.kind.predictor is None:
            raise ArgumentError(f"{self.name} predicts nothing")
        return self.kind.predictor(**dict(self.knobs))


def parse_methods(text: str) -> tuple[Method, ...]:
    """Read a list such as "plp, lookahead(every=5, alpha=0.8), demon".

    Raises:
        StudyError: an unknown method or knob, a value that is not a literal, a method named twice.
    """
    methods: list[Method] = []
    rest = text.strip()
    while rest:
        match = re.match(r"([A-Za-z0-9-]+)\s*(\(([^()]*)\))?\s*(,|$)\s*", rest)
        if match is None:
            raise StudyError(
                f"methods cannot be read at {rest!r}; "
                "write them like 'plp, plp(horizon=0.5), demon'"
            )
        method = _method(match.group(1), match.group(3) or "")
        if method in methods:
            raise StudyError(f"method {method.label} is named twice; name each once")
        methods.append(method)
        rest = rest[match.end() :]
    if not methods:
        raise StudyError(f"no method was named; choose from {', '.join(METHODS)}")
    return tuple(methods)


def _method(name: str, inside: str) -> Method:
    if name not in METHODS:
        raise StudyError(
            f"unknown method {name!r}; choose from {', '.join(METHODS)} "
            "(the base and the controls of a predictor always run)"
        )
    known, values = knobs(name), []
    for part in filter(None, (piece.strip() for piece in inside.split(","))):
        knob, equals, value = part.partition("=")
        knob = knob.strip()
        if not equals or knob not in known:
            raise StudyError(
                f"method {name} has no knob {knob!r}; it has {', '.join(known) or 'none'}"
            )
        try:
            values.append((knob, ast.literal_eval(value.strip())))
        except (ValueError, SyntaxError):
            raise StudyError(
                f"the knob {knob} of {name} must be a number or a quoted word, "
                f"got {value.strip()!r}"
            ) from None
    method = Method(name, tuple(sorted(values)))
    if method.kind.predictor is not None:
        try:
            method.predictor()
        except ArgumentError as error:
            raise StudyError(f"method {method.label}: {error}") from None
    return method


def knobs(name: str) -> list[str]:
    """The knobs of a method, by name."""
    make = METHODS[name].predictor
    return list(inspect.signature(make).parameters) if make else []


def check_methods(task: Task, base: str, methods: Sequence[Method]) -> None:
    """Refuse a method that does not fit the base, here and not in 200 runs.

    Methods over the task's own optimizer are built once to find out.

    Raises:
        StudyError: a method that does not fit the base.
    """
    for method in methods:
        if method.name == "nesterov" and base != "sgd":
            raise StudyError(
                f"method nesterov compares with base sgd, got base {base}; leave it out"
            )
        if method.kind.role == DERIVED or (base != "own" and task.momentum > 0):
            continue
        try:
            build(task, base, method.label, task.model(), lr=0.1, steps=1, noise_seed=0)
        except ParamcastError as error:
            raise StudyError(
                f"method {method.label} does not fit base {base}: {error}; "
                "leave it out with --methods"
            ) from None


def make_base(task: Task, base: str, model: nn.Module, lr: float) -> Optimizer:
    """The base optimizer of a task: a named one, or what the task's own function makes."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if callable(task.base) and base == "own":
        return task.base(parameters, lr)
    decay = task.weight_decay
    if base == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    return torch.optim.SGD(
        parameters, lr=lr, momentum=task.momentum, weight_decay=decay, nesterov=base == "nesterov"
    )


def build(
    task: Task, base: str, method: str, model: nn.Module, lr: float, steps: int, noise_seed: int
) -> tuple[Optimizer, list[Demon]]:
    """The optimizer of a run, and what else takes a step after each of its steps.

    Args:
        method: "base", a label of `parse_methods`, or a derived control such as
            "random-jump:plp".
        steps: the run's total number of steps.
        noise_seed: of the random-jump control.
    """
    if method == "base":
        return make_base(task, base, model, lr), []
    derived, _, source = method.rpartition(":")
    (parsed,) = parse_methods(source)
    if parsed.name == "nesterov":
        return make_base(task, "nesterov", model, lr), []
    optimizer = make_base(task, base, model, lr)
    if parsed.name == "demon":
        return optimizer, [Demon(optimizer, steps)]
    predictor = parsed.predictor()
    if derived == RANDOM_JUMP:
        predictor = RandomDirection(predictor, seed=noise_seed)
    elif derived == SIGN_FLIPPED:
        predictor = SignFlipped(predictor)
    return Forecast(optimizer, predictor), []
