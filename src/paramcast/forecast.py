"""The optimizer wrapper: it counts steps, folds points, and writes the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from . import functional as F
from .cycle import Cycle, all_parameters, check_saved
from .errors import ArgumentError, BaseOptimizerError
from .events import ForecastEvent
from .predictors import Affine, Midline

_FRAMEWORKS = ("accelerate", "lightning", "pytorch_lightning", "lightning_fabric", "deepspeed")


class Forecast(Optimizer):
    r"""Wrap an optimizer so that its parameters are predicted every few steps.

    A cycle is k = predictor.every completed steps of the base. After the last one the prediction
    theta_plus = sum_j w_j theta_j over the points of the cycle overwrites the parameters; the next
    step starts there. The base's own state (momentum, moments, step counts) is not touched. All
    learnable parameters are predicted, buffers such as running statistics never are.

    It is a `torch.optim.Optimizer`: `param_groups`, `state` and `defaults` are the base's, so
    learning-rate schedulers, gradient scalers and clipping work as before. Use it everywhere in
    place of the base. Global step hooks (`register_optimizer_step_*_hook`) fire once per step, with
    the base as their optimizer; hooks registered on the wrapper fire around the whole step.

    A step counts when the base completed it: one skipped by a `GradScaler` does not, nor one in
    which no parameter has a gradient, nor the empty step with learning rate 0 by which
    `torch.distributed.checkpoint` makes an optimizer create its state.

    Args:
        base: the optimizer to wrap, constructed as usual.
        predictor: what is predicted, a `paramcast.predictors.Affine`.

    Memory: one element per parameter, in the parameter's dtype where the predictor needs only a
    difference of two points (PLP, Secant, Lookahead), else in float32 at least. In pure bfloat16 a
    jump below half a unit in the last place of a parameter rounds away.

    Raises:
        BaseOptimizerError: `base` is not an optimizer, is already wrapped, is LBFGS, is
            `differentiable`, or belongs to a framework that must wrap last.
        ArgumentError: `predictor` is not a predictor.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> optimizer = Forecast(torch.optim.SGD([weight], lr=1.0), Midline())
        >>> for gradient in (1.0, 2.0, 4.0):
        ...     weight.grad = torch.tensor([gradient])
        ...     optimizer.step()
        >>> weight.item()  # -1, -3, -7, and then the prediction
        -8.0
    """

    def __init__(self, base: Optimizer, predictor: Affine) -> None:
        _check_base(base)
        if not isinstance(predictor, Affine):
            raise ArgumentError(
                "predictor must be one of paramcast.predictors, such as Midline(), "
                f"got {predictor!r}"
            )
        # Optimizer.__init__ would copy the base's groups, and their learning rates would fall out
        # of step when the base loads a state. __setstate__ creates the hook dictionaries.
        self.__setstate__({"base": base, "predictor": predictor, "_cycle": Cycle()})

    # --- a torch optimizer, forwarding what belongs to the base ---------------------------------
    # There is no __getattr__ on purpose: flags such as _step_supports_amp_scaling must not leak.

    base: Optimizer
    predictor: Affine
    _cycle: Cycle

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base.param_groups = value

    @property
    def state(self) -> Any:
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        self.base.state = value

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base; its parameters are predicted from the next cycle on."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.predictor!r})\n{self.base!r}"

    def __getstate__(self) -> dict[str, Any]:
        # A white list: a scheduler patches `step` on the instance, which cannot be copied.
        return {"base": self.base, "predictor": self.predictor, "_cycle": self._cycle}

    # --- stepping -------------------------------------------------------------------------------

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of the base; the last one of a cycle also writes the prediction.

        Args:
            closure: re-evaluates the model and returns the loss, handed to the base.

        Returns:
            What the base returns.
        """
        args: Any = (self,) if closure is None else (self, closure)
        kwargs: Any = {}
        for pre_hook in self._optimizer_step_pre_hooks.values():
            changed = pre_hook(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        loss = _step(self.base, self.predictor, self._cycle, *args[1:], **kwargs)
        for post_hook in self._optimizer_step_post_hooks.values():
            post_hook(self, args, kwargs)
        return loss

    # torch would otherwise wrap `step` so that global hooks fire here and in the base's step.
    step.hooked = True  # type: ignore[attr-defined]

    def restart_cycle(self) -> None:
        """Forget the points of the running cycle; the next step starts a new one.

        Call it after changing the weights from outside, such as restoring an earlier checkpoint of
        the model: points of two different trajectories do not lie on one line.
        """
        self._cycle.restart()

    @property
    def last_event(self) -> ForecastEvent | None:
        """The last prediction, None before the first (asking waits for an accelerator)."""
        return self._cycle.event()

    # --- saving and loading ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict and, under "paramcast", the running cycle.

        The bare base can load it (it ignores the entry), and the wrapper can load the bare base's.
        """
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = self.base.state_dict()
        state_dict["paramcast"] = self._cycle.state_dict(self.predictor, self.param_groups)
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        return state_dict

    @torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator]
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this wrapper or of the bare base.

        Everything is checked first: nothing changes if it does not fit.
        Without a "paramcast" entry the base is loaded and a new cycle starts.

        Raises:
            CheckpointError: the entry is of a newer format, another predictor or other shapes.
        """
        state_dict = state_dict.copy()
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        ours = state_dict.get("paramcast")
        if ours is not None:
            check_saved(ours, self.predictor, all_parameters(self.param_groups))
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "paramcast"})
        self._cycle.restart()
        if ours is not None:
            self._cycle.load_state_dict(ours, all_parameters(self.param_groups))
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)


class PLP(Forecast):
    """Parameters Linear Prediction: `Forecast(base, Midline())`.

    Every three completed steps of the base, with theta_1, theta_2, theta_3 the parameters after
    each, the parameters become theta_3 + (theta_2 - theta_1) / 2.

    Args:
        base: the optimizer to wrap.
        horizon: steps from the start point to the prediction (see `Midline`).
        start: "midpoint", "last" or "mean".
        every: optimizer steps per cycle, at least 3.

    Raises:
        BaseOptimizerError, ArgumentError: as `Forecast` and `Midline` do.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = PLP(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        >>> round(optimizer.predictor.gain, 4)
        1.1667

    Source: Ying et al., Scientific Reports 14:15197 (2024), doi 10.1038/s41598-024-65691-0.
    """

    def __init__(
        self, base: Optimizer, *, horizon: float = 1.0, start: str = "midpoint", every: int = 3
    ) -> None:
        super().__init__(base, Midline(horizon, start=start, every=every))


def _step(base: Optimizer, predictor: Affine, cycle: Cycle, closure: Any = None) -> Any:
    """One base step within the cycle."""
    plan = F.plan(predictor.weights)
    with torch.no_grad():
        cycle.follow(base.param_groups)
        if cycle.done == 0 and plan.first == 0:
            cycle.fold(0, plan, gradients_to_come=closure is not None)
    if closure is None:
        counts = any(p.grad is not None for p in cycle.live) and not _is_phantom(base)
        loss = base.step()
    else:
        loss = base.step(closure)
        counts = any(p.grad is not None for p in cycle.live)
    if not counts:
        return loss
    with torch.no_grad():
        cycle.steps += 1
        cycle.done += 1
        cycle.fold(cycle.done, plan)
        if cycle.done == predictor.every:
            if plan.first is not None:
                cycle.write(predictor, plan)
            cycle.restart()
    return loss


def _is_phantom(base: Optimizer) -> bool:
    """Whether a step is only made to create the base's state: every lr 0 and every gradient 0.

    `torch.distributed.checkpoint` does that whenever the state is empty, for plain SGD at every
    save. A tensor learning rate on an accelerator is taken for non-zero: torch sets a CPU tensor.
    """
    for group in base.param_groups:
        lr = group.get("lr", 1.0)
        if (isinstance(lr, Tensor) and lr.device.type != "cpu") or float(lr) != 0.0:
            return False
    parameters = (p for group in base.param_groups for p in group["params"])
    grads = [p.grad for p in parameters if p.grad is not None]
    return not any(
        bool(torch.any(grad.coalesce().values() if grad.is_sparse else grad)) for grad in grads
    )


def _check_base(base: object) -> None:
    name = type(base).__name__
    if not isinstance(base, Optimizer):
        raise BaseOptimizerError(
            f"base must be a torch.optim.Optimizer, got {name}; "
            "construct one first: PLP(torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    modules = {cls.__module__.split(".")[0] for cls in type(base).__mro__}
    framework = modules.intersection(_FRAMEWORKS)
    if framework:
        raise BaseOptimizerError(
            f"base is a {name} of {framework.pop()}, which counts micro-batches as steps; "
            "wrap the plain optimizer first and hand the wrapper to the framework"
        )
    inner: object = base
    while inner is not None:
        if isinstance(inner, Forecast):
            raise BaseOptimizerError(
                f"base is already wrapped ({type(inner).__name__}); "
                "wrap the plain optimizer once, with the one predictor that you want"
            )
        inner = getattr(inner, "optimizer", None) or getattr(inner, "base", None)
    if isinstance(base, LBFGS):
        raise BaseOptimizerError(
            "base must not be LBFGS: a predicted jump falsifies its curvature pairs; "
            "use LBFGS without paramcast, or a first-order optimizer"
        )
    if any(group.get("differentiable") for group in base.param_groups):
        raise BaseOptimizerError(
            "base must not be differentiable: predictions are written in place, outside autograd; "
            "construct it with differentiable=False"
        )
