"""The methods that a comparison knows: what each does to the base optimizer."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...averaging import EMA, LAWA, SWA, Average, PolynomialDecay, Trend
from ...errors import ArgumentError, ParamcastError, StudyError, TaskError
from ...forecast import Forecast
from ...predictors import (
    RRE,
    Aitken,
    ForwardEMA,
    Interpolate,
    LeastSquares,
    Midline,
    OuterNesterov,
    Predictor,
    PrimalAveraging,
    Quadratic,
    RandomDirection,
    Secant,
    SignFlipped,
)
from ...schedules import Demon
from ..reading import shown
from ..tasks.task import Task
from .noise import GradientNoise, PerturbedStart
from .predictions import Predictions

PREDICTOR, AVERAGE = "predictor", "average"
REFERENCE, CONTROL, DERIVED = "reference", "control", "derived"
JUDGED = (PREDICTOR, AVERAGE)
"""The roles that get a verdict."""


MOST_CHARACTERS = 10_000


@dataclass(frozen=True)
class Kind:
    """A named method: its role, one line about it, and what makes it.

    A *predictor* gets a verdict, with its own controls beside it. An *average* of the weights is
    used for evaluation; it gets a verdict too and is a control of every predictor. A *control* is
    tuned like any other method and must be beaten too; a *derived* control is made from each
    predictor and runs at its learning rate. A *reference* is a row without a verdict.
    """

    role: str
    line: str
    predictor: Callable[..., Predictor] | None = None
    average: Callable[..., Average] | None = None
    noise: Callable[..., GradientNoise] | None = None
    start: Callable[..., PerturbedStart] | None = None
    momentum: bool = True  # whether the base keeps its own

    @property
    def make(self) -> Callable[..., Any] | None:
        """What the knobs belong to."""
        return self.predictor or self.average or self.noise or self.start


def _ema(decay: float | None = None, share: float = 0.05) -> EMA:
    return EMA(share=share) if decay is None else EMA(decay)


def _schedule_free(optimizer: str, model: nn.Module, task: Task, lr: float) -> Optimizer:
    """Schedule-Free over the base's own kind; SGD's rate means lr / (1 - momentum) in it."""
    try:
        import schedulefree  # type: ignore[import-untyped]
    except ImportError:
        raise StudyError(
            "method schedule-free needs the package schedulefree: pip install schedulefree"
        ) from None
    made: Optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "adamw":
        made = schedulefree.AdamWScheduleFree(parameters, lr=lr, weight_decay=task.weight_decay)
    else:
        made = schedulefree.SGDScheduleFree(
            parameters, lr=lr / (1.0 - task.momentum), momentum=task.momentum,
            weight_decay=task.weight_decay,
        )  # fmt: skip
    return made


def _swa(start_share: float = 0.75, every: int = 1) -> SWA:
    return SWA(start_share=start_share, every=every)


METHODS: dict[str, Kind] = {
    "plp": Kind(PREDICTOR, "Parameters Linear Prediction: midline of three points", Midline),
    "secant": Kind(PREDICTOR, "straight on from the last point", Secant),
    "least-squares": Kind(PREDICTOR, "least-squares line over a window", LeastSquares),
    "lookahead": Kind(PREDICTOR, "Lookahead: part of the way back every k steps", Interpolate),
    "quadratic": Kind(PREDICTOR, "parabola through the last three points", Quadratic),
    "outer-nesterov": Kind(PREDICTOR, "Nesterov momentum on whole cycles (SNOO)", OuterNesterov),
    "forward-ema": Kind(PREDICTOR, "gradients taken ahead, along an average", ForwardEMA),
    "primal-averaging": Kind(
        PREDICTOR,
        "gradients taken near an average, the base without momentum",
        PrimalAveraging,
        momentum=False,
    ),
    "rre": Kind(PREDICTOR, "reduced rank extrapolation", RRE),
    "aitken": Kind(PREDICTOR, "per tensor, the limit of a geometric sequence", Aitken),
    "ema": Kind(AVERAGE, "evaluate with a moving average of the weights", average=_ema),
    "lawa": Kind(AVERAGE, "evaluate with the mean of the last snapshots", average=LAWA),
    "polynomial-decay": Kind(
        AVERAGE,
        "evaluate with an average over a share of the steps so far",
        average=PolynomialDecay,
    ),
    "trend": Kind(AVERAGE, "evaluate on the line through two averages", average=Trend),
    "swa": Kind(AVERAGE, "evaluate with the mean from a share of the run on", average=_swa),
    "nesterov": Kind(CONTROL, "SGD with Nesterov momentum (base sgd only)"),
    "no-momentum": Kind(CONTROL, "the base without momentum", momentum=False),
    "gradient-noise": Kind(CONTROL, "Gaussian noise on every gradient", noise=GradientNoise),
    "sign-flipped": Kind(DERIVED, "each predictor's jump, backward"),
    "state-reset": Kind(CONTROL, "the base, its state cleared at detected drift (streams only)"),
    "schedule-free": Kind(
        CONTROL, "Schedule-Free instead of a schedule (base sgd, nesterov or adamw)"
    ),
    "demon": Kind(REFERENCE, "decaying momentum"),
    "perturbed": Kind(
        REFERENCE, "the base from initial weights moved by 0.1 %", start=PerturbedStart
    ),
}
RANDOM_JUMP, SIGN_FLIPPED = "random-jump", "sign-flipped"
"""Controls made from a predictor; their runs are named like "random-jump:plp(horizon=0.5)"."""
RESET, ORACLE = "reset", "oracle"
ON_DRIFT = "on_drift"
"""The knob of all predictors: on a stream, start a new cycle at detected drift, or at every real
one, which only the study knows."""


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

    def predictor(self) -> Predictor:
        if self.kind.predictor is None:
            raise ArgumentError(f"{self.name} predicts nothing")
        return self.kind.predictor(**self._own)

    @property
    def on_drift(self) -> str:
        """What it does at drift: "" (nothing), RESET or ORACLE."""
        return RESET if self.name == "state-reset" else dict(self.knobs).get(ON_DRIFT, "")

    @property
    def _own(self) -> dict[str, Any]:
        return {name: value for name, value in self.knobs if name != ON_DRIFT}

    def check(self) -> None:
        """Make what the knobs belong to once.

        Raises:
            ArgumentError, TypeError: a value that does not fit.
        """
        if ON_DRIFT in dict(self.knobs) and self.on_drift not in (RESET, ORACLE):
            raise ArgumentError(
                f"{ON_DRIFT} must be '{RESET}' or '{ORACLE}', got {self.on_drift!r}"
            )
        if self.kind.make is not None:
            self.kind.make(**self._own)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Read a list such as "plp, lookahead(every=5, alpha=0.8), demon".

    Raises:
        StudyError: an unknown method or knob, a value that is not a literal, a method named twice.
    """
    methods: list[Method] = []
    if len(text) > MOST_CHARACTERS:
        raise StudyError(
            f"methods are {len(text)} characters, more than {MOST_CHARACTERS}; name fewer"
        )
    rest = text.strip()
    while rest:
        match = re.match(r"([A-Za-z0-9-]+)\s*(?:\(([^()]*)\)\s*)?(?:,|$)\s*", rest)
        if match is None:
            raise StudyError(
                f"methods cannot be read at {shown(rest)}; "
                "write them like 'plp, plp(horizon=0.5), demon'"
            )
        method = _method(match.group(1), match.group(2) or "")
        if method in methods:
            raise StudyError(f"method {method.label} is named twice; name each once")
        methods.append(method)
        rest = rest[match.end() :]
    if not methods:
        raise StudyError(f"no method was named; choose from {', '.join(METHODS)} with --methods")
    return tuple(methods)


def _method(name: str, inside: str) -> Method:
    if name not in METHODS:
        raise StudyError(
            f"unknown method {shown(name)}; choose from {', '.join(METHODS)} "
            "(the base and the controls of a predictor always run)"
        )
    known = knobs(name)
    values: list[tuple[str, Any]] = []
    for part in filter(None, (piece.strip() for piece in inside.split(","))):
        knob, equals, value = part.partition("=")
        knob = knob.strip()
        if any(knob == name for name, _ in values):
            raise StudyError(f"the knob {knob} of {name} is given twice")
        if not equals or knob not in known:
            raise StudyError(
                f"method {name} has no knob {shown(knob)}; it has {', '.join(known) or 'none'}"
            )
        try:
            values.append((knob, ast.literal_eval(value.strip())))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise StudyError(
                f"the knob {knob} of {name} must be a number or a quoted word, "
                f"got {shown(value.strip())}"
            ) from None
    method = Method(name, tuple(sorted(values, key=lambda knob: knob[0])))
    try:
        method.check()
    except (ArgumentError, TypeError) as error:
        inside = ", ".join(f"{knob}={shown(value, 20)}" for knob, value in method.knobs)
        raise StudyError(f"method {name}({inside}): {error}") from None
    return method


def knobs(name: str) -> list[str]:
    """The knobs of a method, by name."""
    kind = METHODS[name]
    own = list(inspect.signature(kind.make).parameters) if kind.make else []
    return [*own, ON_DRIFT] if kind.predictor else own


def reaction(method: str) -> str:
    """What a run's method ("base" or as in `build`) does at drift: "", RESET or ORACLE."""
    return "" if method == "base" else parse_methods(method.rpartition(":")[2])[0].on_drift


def check_methods(task: Task, base: str, methods: Sequence[Method]) -> None:
    """Refuse a method that does not fit the base, here and not in 200 runs.

    Methods over the task's own optimizer are built once to find out.

    Raises:
        StudyError: a method that does not fit the base.
    """
    if task.momentum <= 0 and (base == "nesterov" or any(m.name == "nesterov" for m in methods)):
        raise StudyError("nesterov needs a momentum, Task.momentum is 0; use base sgd or raise it")
    if base == "own":
        _check_own_base(task)
    for method in methods:
        if method.on_drift and task.stream is None:
            raise StudyError(
                f"method {method.label} reacts to drift, but task {task.name} is no stream; "
                "choose a task such as digits-drift, or leave it out"
            )
        if method.label == base != "nesterov":
            raise StudyError(f"method {base} is the base itself; leave it out with --methods")
        if method.kind.role == PREDICTOR and method.predictor().gain <= 0:
            raise StudyError(
                f"method {method.label} moves backward on a straight path (velocity gain "
                f"{method.predictor().gain:.3g}), so its control, learning rate times gain, does "
                "not exist; choose a horizon nearer to 0"
            )
        if method.name == "nesterov" and base != "sgd":
            raise StudyError(
                f"method nesterov compares with base sgd, got base {base}; leave it out"
            )
        if method.name == "schedule-free" and base not in ("sgd", "nesterov", "adamw"):
            raise StudyError(
                f"method schedule-free is there for base sgd, nesterov and adamw, got base {base}; "
                "leave it out"
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


def _check_own_base(task: Task) -> None:
    """Call the task's own optimizer function once."""
    try:
        made = make_base(task, "own", task.model(), task.lr_range[0])
    except Exception as error:
        raise TaskError(
            f"Task.base(parameters, lr) failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Optimizer):
        raise TaskError(
            f"Task.base must return a torch.optim.Optimizer, it returned {type(made).__name__}"
        )


def base_of(optimizer: Optimizer) -> Optimizer:
    """What a Forecast wraps, or the optimizer itself."""
    return optimizer.base if isinstance(optimizer, Forecast) else optimizer


def switches(optimizer: Optimizer) -> bool:
    """Whether it, or what it wraps, evaluates with other weights than it trains with."""
    base = base_of(optimizer)
    return callable(getattr(base, "eval", None)) and callable(getattr(base, "train", None))


def make_base(
    task: Task, base: str, model: nn.Module, lr: float, *, momentum: bool = True
) -> Optimizer:
    """The base optimizer of a task: a named one, or what the task's own function makes.

    Without its momentum SGD's rate means lr / (1 - momentum); the task's own keeps it.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if callable(task.base) and base == "own":
        return task.base(parameters, lr)
    decay = task.weight_decay
    if base == "adamw":
        betas = (0.9 if momentum else 0.0, 0.999)
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay)
    if base == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, weight_decay=decay)
    optimizer = torch.optim.SGD(
        parameters,
        lr=lr if momentum else lr / (1.0 - task.momentum),
        momentum=task.momentum if momentum else 0.0,
        weight_decay=decay,
        nesterov=momentum and base == "nesterov",
    )
    if base == "lookahead":
        optimizer.register_step_post_hook(_Lookahead(parameters))
    return optimizer


class _Lookahead:
    """Lookahead (every 5 steps half of the way back) inside a base's step, as a base of hybrids."""

    def __init__(self, parameters: Sequence[Tensor], every: int = 5, alpha: float = 0.5) -> None:
        self.parameters, self.every, self.alpha, self.steps = list(parameters), every, alpha, 0
        self.slow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def __call__(self, *_: Any) -> None:
        self.steps += 1
        if self.steps % self.every == 0:
            torch._foreach_lerp_(self.slow, [p.detach() for p in self.parameters], self.alpha)
            torch._foreach_copy_(self.parameters, self.slow)


def build(
    task: Task,
    base: str,
    method: str,
    model: nn.Module,
    lr: float,
    steps: int,
    noise_seed: int,
    watch: Predictions | None = None,
) -> tuple[Optimizer, list[Demon]]:
    """The optimizer of a run, and what else takes a step after each of its steps.

    Args:
        method: "base", a label of `parse_methods`, or a derived control such as
            "random-jump:plp".
        steps: the run's total number of steps.
        noise_seed: of random-jump, gradient-noise and perturbed.
        watch: what is told of each prediction.
    """
    derived, _, source = method.rpartition(":")
    parsed = None if method == "base" else parse_methods(source)[0]
    named = parsed.name if parsed else ""
    if parsed is not None and parsed.kind.start is not None:  # first: some bases copy the weights
        parsed.kind.start(**dict(parsed.knobs)).apply(model, noise_seed)
    if named == "schedule-free":
        optimizer = _schedule_free(base, model, task, lr)
    else:
        momentum = parsed is None or parsed.kind.momentum
        kind = "nesterov" if named == "nesterov" else base
        optimizer = make_base(task, kind, model, lr, momentum=momentum)
    if switches(optimizer):
        base_of(optimizer).train()  # type: ignore[attr-defined]
    followers = [Demon(optimizer, steps)] if "demon" in (named, base) else []
    if parsed is not None and parsed.kind.noise is not None:
        parsed.kind.noise(**dict(parsed.knobs)).attach(optimizer, noise_seed)
    predictor: Predictor | None = None
    average: Average | None = _ema() if base == "ema" else None
    if parsed is not None and parsed.kind.average is not None:
        average = parsed.kind.average(**dict(parsed.knobs))
    elif parsed is not None and parsed.kind.predictor is not None:
        predictor = parsed.predictor()
        if derived == RANDOM_JUMP:
            predictor = RandomDirection(predictor, seed=noise_seed)
        elif derived == SIGN_FLIPPED:
            predictor = SignFlipped(predictor)
    if predictor is None and average is None:
        return optimizer, followers
    monitors = []
    if watch is not None and predictor is not None:
        learnable = (p for p in model.parameters() if p.requires_grad)
        monitors = [watch.begin(learnable, steps // predictor.every)]
    wrapped = Forecast(optimizer, predictor, average=average, total_steps=steps, monitors=monitors)
    return wrapped, followers
