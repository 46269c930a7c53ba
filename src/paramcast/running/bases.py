"""Which optimizers can be wrapped."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from ..errors import BaseOptimizerError
from ..tensors import functional as F
from ..tensors.segments import all_parameters
from .second_points import second_point

_log = logging.getLogger("paramcast")
_FRAMEWORKS = ("accelerate", "lightning", "pytorch_lightning", "lightning_fabric", "deepspeed")


def check_base(base: object, wrapper: type[Optimizer]) -> None:
    """Refuse what is not an optimizer, or cannot be wrapped."""
    name = type(base).__name__
    if isinstance(base, type) and issubclass(base, Optimizer):
        raise BaseOptimizerError(
            f"base is the class {base.__name__}; "
            f"construct it first: PLP({base.__name__}(model.parameters(), ...))"
        )
    # Lightning's and Fabric's wrappers pose as the class that they hold
    modules = {cls.__module__.split(".")[0] for cls in type(base).__mro__}
    framework = modules.intersection(_FRAMEWORKS)
    if framework:
        raise BaseOptimizerError(
            f"base is {name} of {framework.pop()}, which counts micro-batches as steps; "
            "wrap the plain optimizer first and hand the wrapper to the framework"
        )
    if not isinstance(base, Optimizer):
        raise BaseOptimizerError(
            f"base must be a torch.optim.Optimizer, got {name}; "
            "construct one first: PLP(torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    for inner in _inside(base):  # another library's wrapper may be in between
        if isinstance(inner, wrapper):
            raise BaseOptimizerError(
                f"base is already wrapped ({type(inner).__name__}); "
                "wrap the plain optimizer once, with the one predictor that you want"
            )
    # optimizers of torch for which a jump has no meaning
    if isinstance(base, LBFGS):
        raise BaseOptimizerError(
            "base must not be LBFGS: a predicted jump invalidates its curvature pairs; "
            "use LBFGS without paramcast, or a first-order optimizer"
        )
    if any(group.get("differentiable") for group in base.param_groups):
        raise BaseOptimizerError(
            "base must not be differentiable: predictions are written in place, outside autograd; "
            "construct it with differentiable=False"
        )


def check_second_points(base: Optimizer) -> None:
    """Refuse a base that keeps a point of its own that predictions do not move."""
    for name in (cls.__name__ for inner in _inside(base) for cls in type(inner).__mro__):
        if (found := second_point(name)) is not None:
            raise BaseOptimizerError(f"base must not be {name}: it {found.why}; {found.instead}")


def advice_on_momentum(base: Optimizer) -> str:
    """What to change in a base with a momentum, for a rule that replaces it; "" if it has none."""
    name = type(base).__name__
    for group in base.param_groups:
        # Adam's first beta is a momentum, the others are not
        first, *others = group.get("betas") or (0.0,)
        if first:
            rest = "".join(f", {beta:g}" for beta in others)
            return f"{name} has betas=({first:g}{rest}); construct it with betas=(0.0{rest})"
        momentum = group.get("momentum") or 0.0
        if momentum:
            # these sum their steps up, and move 1 / (1 - momentum) times as far
            summing = isinstance(base, (torch.optim.SGD, torch.optim.RMSprop))
            rate = f" and its learning rate divided by 1 - {momentum:g}" if summing else ""
            return f"{name} has momentum={momentum:g}; construct it with momentum=0{rate}"
    return ""


def warn_of_momentum(base: Optimizer, predictor: object) -> None:
    """Log, once for a wrapper, that the base keeps a momentum that this predictor replaces."""
    if advice := advice_on_momentum(base):
        _log.warning(
            "%s takes the place of the base's momentum, which hurts beside it: %s",
            type(predictor).__name__,
            advice,
        )


def check_master_weights(base: Optimizer) -> None:
    """Refuse a base whose state holds wider copies of its 16-bit parameters.

    The next step would write the copies into the parameters and so undo every prediction. After a
    step, such a copy rounds to its parameter; state that only started as a copy no longer does.
    """
    copies: dict[str, bool] = {}
    for p in all_parameters(base.param_groups):
        point = F.local(p)
        for name, value in base.state.get(p, {}).items():
            if isinstance(value, Tensor) and _is_wider(shard := F.local(value), point):
                same = torch.equal(shard.to(point.dtype), point)
                copies[name] = copies.get(name, True) and same
    for name in (name for name, all_same in copies.items() if all_same):
        raise BaseOptimizerError(
            f"base keeps wider copies of its 16-bit parameters (state {name!r}), which undo every "
            "prediction; wrap an optimizer without such master weights, or use float32 parameters"
        )


def _is_wider(value: Tensor, point: Tensor) -> bool:
    """Whether it could be a wider copy of this parameter; no where the parameter is all zero."""
    return (
        value.shape == point.shape
        and value.is_floating_point()
        and value.dtype.itemsize > point.dtype.itemsize
        and bool(point.any())
    )


def _inside(base: object) -> Iterator[object]:
    """The base, and the optimizers nested inside it."""
    names = ("optimizer", "base", "base_optimizer", "_base_optimizer")
    seen: set[int] = set()
    while base is not None and id(base) not in seen:
        seen.add(id(base))
        yield base
        held = (getattr(base, name, None) for name in names)
        base = next((each for each in held if isinstance(each, Optimizer)), None)
