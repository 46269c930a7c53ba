"""Keras 3 on the torch back end: a torch optimizer, wrapped or not, in `model.compile`.

On this back end, a Keras variable holds a `torch.nn.Parameter`, and `fit` calls `loss.backward()`
and hands gradients and variables to the optimizer. So the step is torch's own; nothing is emulated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..forecast import Forecast
from .common import Averaged, numbers, unwrap
from .packing import pack, unpack

try:
    import keras
except ImportError as error:
    raise ArgumentError(
        "Keras is not installed: pip install 'paramcast[keras]'"
        if error.name == "keras"
        else f"Keras has no back end ({error}); set KERAS_BACKEND=torch before it is imported"
    ) from None

if keras.config.backend() != "torch":
    raise ArgumentError(
        f"Keras runs on {keras.config.backend()}, but PLP needs torch; "
        "set KERAS_BACKEND=torch before Keras is imported"
    )

Factory = Callable[[list[Tensor]], torch.optim.Optimizer]


@keras.saving.register_keras_serializable("paramcast")
class TorchOptimizer(keras.optimizers.Optimizer):
    """A torch optimizer as a Keras one.

    Keras owns the learning rate: its schedules and callbacks act on it, and it is written into all
    parameter groups before each step. The whole state of the torch optimizer, the running cycle
    included, goes into `model.save_weights`, `model.save` and `BackupAndRestore`. Clipping, weight
    decay and averages are those of torch and paramcast; gradient accumulation is not supported.

    Args:
        factory: a function from the list of parameters to the optimizer, such as
            `lambda parameters: PLP(torch.optim.SGD(parameters, lr=0.1))`. `model.save` needs a
            function registered by `keras.saving.register_keras_serializable`.
        learning_rate: a float or a Keras schedule.
        name: of the Keras optimizer.

    Attributes:
        inner: the torch optimizer; None until the model is built.

    Raises:
        ArgumentError: the factory does not return an optimizer, a variable has a constraint, or the
            optimizer is used for variables other than those it was built for.

    Example:
        model.compile(optimizer=TorchOptimizer(factory, learning_rate=0.1), loss=...)
    """

    def __init__(
        self, factory: Factory, learning_rate: Any = 0.01, *, name: str | None = None
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name)
        self.factory = factory
        self.inner: torch.optim.Optimizer | None = None
        self._pending: dict[str, Any] | None = None

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        for variable in variables:
            if getattr(variable, "constraint", None) is not None:
                raise ArgumentError(
                    f"variable {variable.path} has a constraint, which would move it between the "
                    "points of a cycle; build the layer without one"
                )
        # on this back end a variable's value is a torch parameter
        inner = self.factory([variable.value for variable in variables])
        if not isinstance(inner, torch.optim.Optimizer):
            raise ArgumentError(
                f"the factory must return a torch.optim.Optimizer, got {type(inner).__name__}"
            )
        self.inner = inner
        if self._pending is not None:
            inner.load_state_dict(self._pending)
            self._pending = None

    def apply(self, grads: Sequence[Tensor | None], trainable_variables: Any = None) -> None:
        """One step of the torch optimizer with these gradients."""
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        variables = list(trainable_variables)
        self.build(variables)
        # Keras may hand over variables other than those the optimizer was built for
        known = {id(p) for group in self.inner.param_groups for p in group["params"]}  # type: ignore[union-attr]
        # Keras owns the rate and the gradients, torch the step
        rate = float(self.learning_rate)
        for variable, grad in zip(variables, grads, strict=True):
            if id(variable.value) not in known:
                raise ArgumentError(
                    f"variable {variable.path} is unknown to this optimizer; "
                    "compile the model with a new TorchOptimizer after changing what is trainable"
                )
            variable.value.grad = grad
        for group in self.inner.param_groups:  # type: ignore[union-attr]
            group["lr"] = rate
        self.inner.step()  # type: ignore[union-attr]
        self.iterations.assign_add(1)

    # --- saving ---------------------------------------------------------------------------------

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.inner is not None:
            store["torch_state"] = pack(self.inner.state_dict())

    def load_own_variables(self, store: Any) -> None:
        for i, variable in enumerate(self.variables):
            variable.assign(store[str(i)])
        if "torch_state" not in store.keys():  # noqa: SIM118 - an HDF5 store, not a dict
            warnings.warn(
                "the file has no state of a torch optimizer; training starts with a new one",
                stacklevel=2,
            )
        elif self.inner is None:
            self._pending = unpack(store["torch_state"])
        else:
            self.inner.load_state_dict(unpack(store["torch_state"]))

    def get_config(self) -> dict[str, Any]:
        # a lambda has no name that another process could find
        name = getattr(self.factory, "__name__", None)
        if name is None or keras.saving.get_registered_name(self.factory) == name:
            raise ArgumentError(
                "model.save() needs the factory by name: decorate it with "
                "keras.saving.register_keras_serializable(), or use model.save_weights()"
            )
        whole = super().get_config()
        factory = keras.saving.serialize_keras_object(self.factory)
        return {"name": whole["name"], "learning_rate": whole["learning_rate"], "factory": factory}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TorchOptimizer:
        config = dict(config)
        for name in ("factory", "learning_rate"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)


class ForecastCallback(keras.callbacks.Callback):
    """Log the predictions at each epoch's end; evaluate with the averaged weights.

    The last event's numbers (`ForecastEvent`) go into the history as "forecast/jump_norm" and so
    on. Where the wrapper has an average, validation sees the averaged weights, as does `evaluate`
    with this callback. Files hold the live weights, with the average in the optimizer's state.

    Args:
        averaged: evaluate with the averaged weights.

    Raises:
        ArgumentError: when training starts, if the optimizer is not a paramcast wrapper.
    """

    def __init__(self, *, averaged: bool = True) -> None:
        super().__init__()
        self.averaged = averaged
        self._average = Averaged()

    def _forecast(self) -> Forecast:
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        if isinstance(optimizer, TorchOptimizer):
            optimizer.build(self.model.trainable_variables)
            return unwrap(optimizer.inner)
        return unwrap(optimizer)

    def on_train_begin(self, logs: Any = None) -> None:
        self._average.close([self._forecast()] if self.model.built else ())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(numbers(self._forecast().last_event))

    def on_test_begin(self, logs: Any = None) -> None:
        if self.averaged:
            self._average.open([self._forecast()])

    def on_test_end(self, logs: Any = None) -> None:
        self._average.close()
