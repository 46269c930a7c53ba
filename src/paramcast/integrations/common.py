"""What the integrations share: the wrapper inside a framework's own, its numbers, its average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from ..errors import ArgumentError
from ..events import ForecastEvent
from ..forecast import Forecast
from ..tensors.functional import sharding


def unwrap(optimizer: object) -> Forecast:
    """The paramcast wrapper inside whatever a framework made of it.

    Lightning, Fabric and Accelerate keep the optimizer that they are given in an attribute.

    Raises:
        ArgumentError: there is none.

    Example:
        >>> import torch
        >>> from paramcast import PLP
        >>> plp = PLP(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
        >>> unwrap(plp) is plp
        True
    """
    for inner in _inside(optimizer):
        # Lightning's and Fabric's wrappers pose as the class that they hold.
        if isinstance(inner, Forecast) and "base" in vars(inner):
            return inner
    raise ArgumentError(
        f"there is no paramcast wrapper in {type(optimizer).__name__}; "
        "give the framework PLP(optimizer) or Forecast(optimizer, ...) in place of the optimizer"
    )


def _inside(optimizer: object) -> Iterator[object]:
    """The optimizer, and those nested inside it, one in another."""
    seen: set[int] = set()
    while optimizer is not None and id(optimizer) not in seen:
        seen.add(id(optimizer))
        yield optimizer
        own = getattr(optimizer, "__dict__", {})
        optimizer = own.get("optimizer") or own.get("_optimizer")


def check_shows_average(optimizer: object) -> None:
    """Refuse an average that the model would not show.

    DeepSpeed's optimizers (ZeRO 1 to 3, bfloat16, float16) give the wrapper master weights of their
    own, which reach the model only at its next step.
    """
    # by the module of its class, so that DeepSpeed is not imported
    for outer in _inside(optimizer):
        if type(outer).__module__.startswith("deepspeed.") and unwrap(outer).averages:
            raise ArgumentError(
                f"{type(outer).__name__} of DeepSpeed keeps the averaged weights from the model; "
                "evaluate with the live ones (averaged=False), or train without ZeRO in float32"
            )


def wrappers(optimizers: Iterable[object]) -> list[Forecast]:
    """The paramcast wrappers among the optimizers; at least one is needed."""
    optimizers = list(optimizers)
    found = []
    for optimizer in optimizers:
        try:
            found.append(unwrap(optimizer))
        except ArgumentError:
            continue
    if not found:
        names = ", ".join(type(optimizer).__name__ for optimizer in optimizers) or "none"
        raise ArgumentError(
            f"no optimizer of the training is a paramcast wrapper (there is: {names}); "
            "give it PLP(optimizer) or Forecast(optimizer, ...)"
        )
    return found


def numbers(event: ForecastEvent | None, prefix: str = "forecast/") -> dict[str, float]:
    """The numeric fields of an event that are known, as floats under "forecast/<name>".

    Asking for an event (`optimizer.last_event`) waits for an accelerator.

    Example:
        >>> row = numbers(ForecastEvent(3, 1, True, "applied", jump_norm=0.5, horizon=None))
        >>> row["forecast/step"], row["forecast/jump_norm"], "forecast/horizon" in row
        (3.0, 0.5, False)
    """
    known = {} if event is None else event._asdict()
    return {prefix + k: float(v) for k, v in known.items() if isinstance(v, (bool, int, float))}


def numbers_of(optimizers: Sequence[Forecast]) -> dict[str, float]:
    """The numbers of each wrapper's last event; several wrappers are numbered."""
    found: dict[str, float] = {}
    for i, optimizer in enumerate(optimizers):
        prefix = "forecast/" if len(optimizers) == 1 else f"forecast/{i}/"
        found.update(numbers(optimizer.last_event, prefix))
    return found


def sharded(model: nn.Module) -> bool:
    """Whether each process holds only a part of some parameter (FSDP2, tensor parallel)."""
    return any(sharding(p) for p in model.parameters())


class Averaged:
    """Holds `eval_weights()` open from one call of a framework to another."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.is_open = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Averaged, ()  # a copy holds nothing open

    def open(
        self,
        optimizers: Iterable[Forecast],
        model: nn.Module | None = None,
        update_bn: Iterable[Any] | None = None,
    ) -> bool:
        """Put the averages into the model, if there are any; return whether there are."""
        optimizers = list(optimizers)
        self.close(optimizers)
        # of several optimizers, such as a GAN's, each shows its own average
        ready = [optimizer for optimizer in optimizers if optimizer.has_average]
        for i, optimizer in enumerate(ready):
            _HOLDERS[optimizer] = self
            last = i == len(ready) - 1  # the statistics belong to the whole averaged model
            data = update_bn if last else None
            self._open.enter_context(optimizer.eval_weights(model, update_bn=data))
        self.is_open = bool(ready)
        return self.is_open

    def close(self, optimizers: Iterable[Forecast] = ()) -> None:
        """Put the live weights back, bitwise; no effect if nothing is open.

        Another holder may have left the averages of `optimizers` in the model, because an
        evaluation failed in a framework that does not tell its callbacks.
        """
        for optimizer in optimizers:
            if (holder := _HOLDERS.pop(optimizer, None)) is not None:
                holder.close()
        self.is_open = False
        self._open.close()


# Which holder last opened each wrapper's average.
_HOLDERS: WeakKeyDictionary[Forecast, Averaged] = WeakKeyDictionary()
