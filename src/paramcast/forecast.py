"""The optimizer wrapper: it counts steps, folds points, and writes the prediction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import schedules
from ._checks import scalar
from .averaging import Average
from .errors import ArgumentError, CheckpointError
from .events import ForecastEvent
from .gates import Gate
from .predictors import Midline, Predictor
from .running.bases import (
    check_base,
    check_master_weights,
    check_second_points,
    warn_of_momentum,
)
from .running.checking import check
from .running.cycle import Cycle
from .running.evaluation import Averager
from .running.members import is_phantom
from .running.saving import load, save
from .running.settings import NOTHING, Settings
from .tensors import functional as F
from .tensors.segments import all_parameters, jump_

_log = logging.getLogger("paramcast")


class _OfBase:
    """A method that the wrapper has only if its base has one: frameworks ask with `hasattr`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, forecast: Forecast | None, owner: type) -> Any:
        return self if forecast is None else getattr(forecast.base, self.name)


class Forecast(Optimizer):
    r"""Wrap an optimizer so that its parameters are predicted every few steps.

    A cycle is k = predictor.every completed steps of the base. After the last one the prediction
    theta_plus = sum_j w_j theta_j over the points of the cycle overwrites the parameters; the next
    step starts there. The base's own state (momentum, moments, step counts) is not touched. All
    learnable parameters are predicted; buffers such as running statistics never are.

    It is a `torch.optim.Optimizer`: `param_groups`, `state` and `defaults` are the base's, so
    learning-rate schedulers, gradient scalers and clipping work as before. Use it everywhere in
    place of the base. Global step hooks (`register_optimizer_step_*_hook`) fire once per step, with
    the base as their optimizer; hooks registered on the wrapper fire around the whole step. It has
    `train()` and `eval()` if the base does, and forwards them.

    A step counts once the base has completed it. A step that a `GradScaler` skips does not count,
    nor does one in which no parameter has a gradient, nor the empty step with learning rate 0 by
    which `torch.distributed.checkpoint` makes an optimizer create its state.

    Args:
        base: the optimizer to wrap, constructed as usual.
        predictor: what is predicted, one of `paramcast.predictors`; None predicts nothing.
        horizon: how far to predict, if not as far as the predictor's own horizon: a number of
            steps, or a function of progress (one of `paramcast.schedules`), read at the start of
            each cycle.
        total_steps: the length of the run, for whatever depends on progress.
        gate: whether each prediction is written, one of `paramcast.gates`.
        average: an average of the weights for `eval_weights`, one of `paramcast.averaging`.
        monitors: functions called with each `ForecastEvent`.
        shadow: predict and score, but write nothing: bitwise the base.

    A parameter group with "forecast": False is left out.

    Memory: `predictor.buffers` elements per parameter, one for PLP; in the parameter's dtype where
    the predictor needs only a difference of two points (PLP, Secant, Lookahead), else in at least
    float32. Gates, scoring and averages say what they add; on a CPU, many short vectors (biases)
    share at most 32,767 more elements of each dtype. In pure bfloat16, a jump below half a unit in
    the last place of a parameter rounds away.

    Raises:
        BaseOptimizerError: `base` is not an optimizer, is already wrapped, is LBFGS, is
            `differentiable`, belongs to a framework that must wrap last, or keeps a second point of
            its own that a prediction does not move (Schedule-Free, Lookahead, MADGRAD and others).
            After its first step: it keeps full copies of 16-bit parameters (master weights).
        ArgumentError: another argument does not fit; the message says what is needed.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> optimizer = Forecast(torch.optim.SGD([weight], lr=1.0), Midline())
        >>> for gradient in (1.0, 2.0, 4.0):
        ...     weight.grad = torch.tensor([gradient])
        ...     optimizer.step()
        >>> weight.item()  # -1, -3, -7, and then the prediction
        -8.0
    """

    def __init__(
        self,
        base: Optimizer,
        predictor: Predictor | None = None,
        *,
        horizon: float | schedules.Horizon | None = None,
        total_steps: int | None = None,
        gate: Gate | None = None,
        average: Average | None = None,
        monitors: Sequence[Callable[[ForecastEvent], None]] = (),
        shadow: bool = False,
    ) -> None:
        check_base(base, Forecast)
        if predictor is not None and not shadow:
            check_second_points(base)
        settings = Settings(predictor, horizon, total_steps, gate, average, monitors, shadow)
        if settings.predictor.replaces_momentum and not shadow:
            warn_of_momentum(base, predictor)
        # Optimizer.__init__ would copy the base's groups, and their learning rates would fall out
        # of step when the base loads a state. __setstate__ creates the hook dictionaries.
        self.__setstate__(
            {
                "base": base,
                "_settings": settings,
                "_cycle": Cycle(settings, base),
                "_averager": Averager(average, settings.total_steps),
            }
        )

    # --- a torch optimizer, forwarding what belongs to the base ---------------------------------
    # There is no __getattr__ on purpose: flags such as _step_supports_amp_scaling must not leak.

    base: Optimizer
    _settings: Settings
    _cycle: Cycle
    _averager: Averager

    @property
    def predictor(self) -> Predictor:
        """What is predicted."""
        return self._settings.predictor

    @property
    def average(self) -> Average | None:
        """The average for evaluation that was given."""
        return self._settings.average

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

    train, eval = _OfBase(), _OfBase()

    def __repr__(self) -> str:
        average = "" if self.average is None else f", average={self.average!r}"
        return f"{type(self).__name__}({self.predictor!r}{average})\n{self.base!r}"

    def __getstate__(self) -> dict[str, Any]:
        # An allowlist: a scheduler patches `step` on the instance, which cannot be copied.
        return {name: getattr(self, name) for name in ("base", "_settings", "_cycle", "_averager")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._averager.open:
            _log.warning(
                "this copy was made inside eval_weights(), so its parameters are the average: "
                "training goes on from there, with a new cycle"
            )
            self._averager.open = False
            self._cycle.restart()

    # --- stepping -------------------------------------------------------------------------------

    # `torch.compile` compiles the base's step and leaves the bookkeeping around it alone.
    @partial(torch._disable_dynamo, recursive=False)  # type: ignore[attr-defined]
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of the base; the last one of a cycle also writes the prediction.

        Args:
            closure: re-evaluates the model and returns the loss; passed on to the base.

        Returns:
            What the base returns.
        """
        args: Any = (self,) if closure is None else (self, closure)
        args, kwargs, moved = self._before(args, {})
        value = self.base.step(*args[1:], **kwargs)
        self._after(args, kwargs, moved)
        return value

    # torch would otherwise wrap `step` so that global hooks fire here and in the base's step.
    step.hooked = True  # type: ignore[attr-defined]

    @torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator]
    def _before(self, args: Any, kwargs: Any) -> tuple[Any, Any, bool | None]:
        """Prepare a step of the base; return whether it will move anything, None if unknown."""
        for pre_hook in self._optimizer_step_pre_hooks.values():
            changed = pre_hook(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        # the model holds the average: a step would start from it
        if self._averager.open:
            raise ArgumentError("step() inside eval_weights(): leave it first, then train on")
        cycle, groups = self._cycle, self.base.param_groups
        cycle.members.follow(groups)
        if self._averager.rule is not None:
            with torch.no_grad():
                self._averager.follow(cycle.members.learnable, groups)
        moved = not is_phantom(self.base) and cycle.members.moved()
        to_come = (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
        if cycle.done == 0:
            with torch.no_grad():
                cycle.start(gradients_to_come=to_come)
        return args, kwargs, None if to_come else moved

    @torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator]
    def _after(self, args: Any, kwargs: Any, moved: bool | None) -> None:
        """Follow up a step of the base: the cycle's next point, a prediction, the average."""
        cycle = self._cycle
        # a step that moved nothing is passed on but not counted
        if moved is None:  # the gradients came with the closure
            moved = cycle.members.moved()
        if moved:
            with torch.no_grad():
                if cycle.steps == 0 and self.predictor is not NOTHING:
                    check_master_weights(self.base)
                try:
                    cycle.count()
                finally:  # the average takes in this step even if a monitor fails
                    if self._averager.rule is not None:
                        self._averager.update(cycle.steps)
                if cycle.steps == self._settings.total_steps:
                    cycle.ended()
        for post_hook in self._optimizer_step_post_hooks.values():
            post_hook(self, args, kwargs)

    def restart_cycle(self) -> None:
        """Forget the points of the running cycle; the next step starts a new one.

        Call it after changing the weights from outside, for example by restoring an earlier
        checkpoint of the model: points of two different trajectories do not lie on one line. A
        prediction that is still waiting for its score is reported without it.
        """
        self.flush()
        self._cycle.restart()

    def restart_average(self) -> None:
        """Forget the average given by `average`; its next update starts a new one.

        A predictor's own average, such as that of `PrimalAveraging`, starts over with
        `restart_cycle()`.
        """
        if self._averager.open:
            raise ArgumentError("restart_average() inside eval_weights(): leave it first")
        self._averager.restart()

    def observe(self, loss: float | Tensor) -> None:
        """Report a training loss, before `step()`, to the anomaly rules that watch it.

        Args:
            loss: the loss at the current parameters; reading a tensor waits for an accelerator.
                With several processes, all must report theirs, and the mean counts.
        """
        if not self._settings.anomalies:
            raise ArgumentError(
                "nothing watches the loss; construct the wrapper with gate=Anomaly(loss=...)"
            )
        with torch.no_grad():
            self._cycle.watch_loss(F.mean_over_ranks(scalar("loss", loss)))

    def flush(self) -> None:
        """At the end of a run: report the predictions that the monitors have not seen yet.

        A prediction to be scored waits for the next step, which never comes. If anomaly rules
        refused every prediction of the run, a warning in the log says so.
        """
        with torch.no_grad():
            self._cycle.telling.flush()
        self._cycle.ended()

    @property
    def last_event(self) -> ForecastEvent | None:
        """The last prediction; None before the first. Reading it waits for an accelerator."""
        return self._cycle.telling.event()

    @property
    def has_average(self) -> bool:
        """Whether there are averaged weights to evaluate with: an average's or the predictor's."""
        return self._averager.updates > 0 or self._shown is not None

    @property
    def averages(self) -> bool:
        """Whether there is, or will be, an average: `average` or one that the predictor keeps."""
        return self.average is not None or self.predictor.evaluated is not None

    @contextmanager
    def eval_weights(
        self, model: nn.Module | None = None, *, update_bn: Iterable[Any] | None = None
    ) -> Iterator[None]:
        """Evaluate with the averaged weights if there are some, else with the live ones.

        Before an average's first update, and where there is none at all, the live weights stay, and
        the log says so once.

        Without `average`, a predictor that keeps the model near an average of its own shows that
        one. On leaving, even through an exception, the live weights are restored, bitwise. Nothing
        else is touched without `update_bn`: call `model.eval()` as for any evaluation.

        Copies that torch itself keeps of the weights follow them (`torch.autocast`, compiled
        models, `parametrize.cached()`). Your own do not: a model that was quantised, copied or
        frozen by Inductor's `freezing` beforehand shows what it was made from. Make it inside.

        Args:
            model: needed for `update_bn`, and if it is sharded with `fully_shard`.
            update_bn: batches from which to re-estimate the batch-norm statistics, as
                `torch.optim.swa_utils.update_bn` does: those of the model belong to the live
                weights. A batch is a tensor, a list or tuple whose first element counts, or a dict
                of the model's arguments; it is moved to the model's device. On leaving, the
                previous statistics are restored. Frozen layers keep theirs: those in evaluation
                mode while the model is in training mode; if the whole model is in evaluation mode,
                those whose weight is not learnable.

        Raises:
            ArgumentError: opened twice, without a model that is needed, or with an `update_bn`
                without batches, such as a spent generator.

        Example:
            >>> from paramcast.averaging import EMA
            >>> weight = torch.zeros(1, requires_grad=True)
            >>> base = torch.optim.SGD([weight], lr=1.0)
            >>> optimizer = Forecast(base, average=EMA(decay=0.5))
            >>> for _ in range(2):
            ...     weight.grad = torch.ones(1)
            ...     optimizer.step()
            >>> with optimizer.eval_weights():
            ...     round(weight.item(), 4)  # (0.25 * -1 + 0.5 * -2) / 0.75
            -1.6667
            >>> weight.item()
            -2.0
        """
        if self.average is not None:
            with self._averager.swapped_in(self._cycle.steps, model, update_bn):
                yield
        elif (shown := self._shown) is not None:
            buffer, factor = shown
            with self._averager.shown(
                [*self._cycle.members.segments, *self._cycle.members.resting],
                lambda segment: jump_(segment.points, segment.buffers[buffer], factor),
                model,
                update_bn,
            ):
                yield
        else:
            self._averager.nothing_to_show(promised=self.averages)
            yield

    @property
    def _shown(self) -> tuple[int, float] | None:
        """The predictor's own average (`Predictor.evaluated`), if that is what to evaluate with."""
        if self.average is not None or self._cycle.writes == 0:
            return None
        return self._settings.predictor.evaluated

    # --- saving and loading ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict and, under "paramcast", what the wrapper adds.

        The bare base can load it (it ignores the entry), and the wrapper can load the bare base's.
        The entry's tensors are copies; the base's are not, as everywhere in torch.
        """
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = self.base.state_dict()
        with torch.no_grad():
            ours = save(self._cycle, self._averager, self.param_groups)
        state_dict["paramcast"] = ours
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        return state_dict

    @torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator]
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this wrapper or of the bare base.

        Everything is checked first: if it does not fit, nothing changes. Gate, monitors, shadow
        mode and horizon may differ from those of the saved run, and an average may have been added
        or removed: what did not change is kept, what did starts over, and the logger "paramcast"
        says so in one line. A different predictor or average is refused, unless its part of the
        entry (`state_dict["paramcast"]["cycle"]` or `["average"]`) is deleted first.

        Without a "paramcast" entry, the base is loaded and a new cycle starts. A new cycle also
        starts, with a warning, if the state was saved inside `eval_weights()`, when the model held
        the average.

        Raises:
            CheckpointError: the entry has another format, predictor, average or shapes, or the
                base's part is damaged.
        """
        if self._averager.open:
            raise ArgumentError("load_state_dict() inside eval_weights(): leave it first")
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(f"a state dict must be a dict, got {type(state_dict).__name__}")
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        # check before anything changes, the base included
        ours = state_dict.get("paramcast")
        if ours is not None:
            check(ours, self._averager, self._settings, all_parameters(self.param_groups))
        # training goes on with what is loaded, so it must not consist of inference tensors
        with torch.inference_mode(False), torch.no_grad():
            self._load(state_dict, ours)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _load(self, state_dict: dict[str, Any], ours: Mapping[str, Any] | None) -> None:
        try:
            self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "paramcast"})
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the base's part of the state dict does not fit {type(self.base).__name__} "
                f"({type(error).__name__}: {error}); load what was saved with the same optimizer "
                "and model"
            ) from error
        if ours is not None:
            parameters = all_parameters(self.param_groups)
            load(self._cycle, self._averager, ours, parameters)
            return
        # the bare base's: points and averages of another run do not belong to it
        self._cycle.restart()
        self._cycle.telling.forget_last()
        self._averager.restart()


class PLP(Forecast):
    """Parameters Linear Prediction: `Forecast(base, Midline())`.

    Every three completed steps of the base, with theta_1, theta_2, theta_3 the parameters after
    each, the parameters become theta_3 + (theta_2 - theta_1) / 2.

    Args:
        base: the optimizer to wrap.
        horizon: steps from the start point (see `Midline`), or a schedule (see `Forecast`).
        start: "midpoint", "last" or "mean".
        every: optimizer steps per cycle, at least 3.
        options: total_steps, gate, average, monitors, shadow, as in `Forecast`.

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
        self,
        base: Optimizer,
        *,
        horizon: float | schedules.Horizon = 1.0,
        start: str = "midpoint",
        every: int = 3,
        **options: Any,
    ) -> None:
        # a schedule replaces the predictor's own horizon
        if callable(horizon):
            options["horizon"] = horizon
        own = 1.0 if callable(horizon) else horizon
        check_base(base, Forecast)  # before an argument of the base's, such as lr, is refused
        super().__init__(base, Midline(own, start=start, every=every), **options)
