"""Build the optimizer of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...errors import ParamcastError, StudyError, TaskError
from ...forecast import Forecast
from ..judging.table import PREDICTOR
from ..search import Searched, settings_of
from ..tasks.task import Task
from . import own
from .methods import DERIVED, Method, OwnOptimizer
from .muon import MOMENTUM, Muon, matrices_of
from .predictions import Predictions
from .wrapping import chosen, wrap


def check_methods(task: Task, base: str, methods: Sequence[Method]) -> None:
    """Refuse a method that does not fit the base, before 200 runs fail on it."""
    # the base
    if task.momentum <= 0 and (base == "nesterov" or any(m.name == "nesterov" for m in methods)):
        raise StudyError("nesterov needs a momentum, Task.momentum is 0; use base sgd or raise it")
    if base == "own":
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
    # each method by itself
    for method in methods:
        if method.on_drift and task.stream is None:
            raise StudyError(
                f"method {method.label} reacts to drift, but task {task.name} is not a stream; "
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
        # what the rules above do not cover shows when the method is built
        if isinstance(method, OwnOptimizer):
            if own.check(method.name, method.own) and base in ("demon", "ema"):
                raise StudyError(
                    f"method {method.label} wraps an optimizer, and {base} is more than one; "
                    "choose another --base"
                )
        elif method.kind.role == DERIVED or (base != "own" and task.momentum > 0):
            continue
        try:
            build(task, base, method.label, task.model(), lr=0.1, steps=1, noise_seed=0)
        except ParamcastError as error:
            raise StudyError(
                f"method {method.label} does not fit base {base}: {error}; "
                "leave it out with --methods"
            ) from None


def check_search(base: str, methods: Sequence[Method], searched: Sequence[Searched]) -> None:
    """Refuse a setting that nothing takes, or values that the base cannot have."""
    taken = settings_of(base)
    optimizers = [method for method in methods if isinstance(method, OwnOptimizer)]
    nesterov = "nesterov" in (base, *(method.name for method in methods))
    for each in searched:
        name, values = each.name, each.values or (each.low, each.high)
        if name not in taken and not any(own.takes(o.name, o.own, name) for o in optimizers):
            has = " and ".join(taken) or "nothing"
            raise StudyError(
                f"--search {name}: of base {base} {has} can be searched, of an optimizer of yours "
                "its arguments, in a training of your own anything (trial.settings)"
            )
        if name not in ("weight_decay", "momentum", "beta2"):
            continue
        if not all(isinstance(value, float) and value >= 0 for value in values):
            raise StudyError(f"--search {name} needs numbers from 0 on, got {each.text}")
        if name != "weight_decay" and not all(float(value) < 1 for value in values):
            raise StudyError(f"--search {name} must be below 1, got {each.text}")
        if name == "momentum" and 0.0 in values and nesterov:
            raise StudyError("nesterov needs a momentum above 0; leave 0 out of --search momentum")


def base_of(optimizer: Optimizer) -> Optimizer:
    """The optimizer that a Forecast wraps, or the optimizer itself."""
    return optimizer.base if isinstance(optimizer, Forecast) else optimizer


def switches(optimizer: Optimizer) -> bool:
    """Whether an optimizer, or the one it wraps, evaluates with other weights than it trains."""
    base = base_of(optimizer)
    return callable(getattr(base, "eval", None)) and callable(getattr(base, "train", None))


def make_base(
    task: Task, base: str, model: nn.Module, lr: float, *, momentum: bool = True
) -> Optimizer:
    """Make the base optimizer of a task: a named one, or the task's own.

    Without momentum SGD takes the rate lr / (1 - momentum), which moves as far on a straight path;
    the task's own optimizer keeps its momentum.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if callable(task.base) and base == "own":
        return task.base(parameters, lr)
    decay = task.weight_decay
    betas = (0.9 if momentum else 0.0, task.beta2)
    if base == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay)
    if base == "muon":
        first = MOMENTUM if momentum else 0.0
        return Muon(*matrices_of(model), lr, weight_decay=decay, momentum=first, betas=betas)
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
    """Lookahead inside a base's step (every 5 steps, halfway back), as the base of hybrids."""

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
    settings: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Build the optimizer of a run.

    Args:
        task, base, model, lr: the task, the name of its base, its model and the learning rate.
        method, steps, noise_seed, settings: as for `wrap`; the seed is also that of perturbed.
        watch: the monitor that receives each prediction.
    """
    _, found, kind = chosen(method)
    name, knobs = (found.name, found.own) if found else ("", {})

    # the start comes first, because some bases copy the weights
    if kind.start is not None:
        kind.start(**knobs).apply(model, noise_seed)

    # the base
    if name == "schedule-free":
        optimizer = _schedule_free(base, model, task, lr)
    else:
        start = "nesterov" if name == "nesterov" else base
        optimizer = make_base(task, start, model, lr, momentum=kind.momentum)

    # what the method puts on it
    made = wrap(optimizer, method, steps, noise_seed, base=base, watch=watch, settings=settings)
    if switches(made):
        base_of(made).train()  # type: ignore[attr-defined]
    return made


def _schedule_free(optimizer: str, model: nn.Module, task: Task, lr: float) -> Optimizer:
    """Schedule-Free of the base's kind; with SGD it takes the rate lr / (1 - momentum)."""
    try:
        import schedulefree  # type: ignore[import-untyped]
    except ImportError:
        raise StudyError(
            "method schedule-free needs the package schedulefree: pip install schedulefree"
        ) from None
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind, settings = schedulefree.AdamWScheduleFree, {"lr": lr}
    if optimizer != "adamw":
        kind = schedulefree.SGDScheduleFree
        settings = {"lr": lr / (1.0 - task.momentum), "momentum": task.momentum}
    made: Optimizer = kind(parameters, weight_decay=task.weight_decay, **settings)
    return made
