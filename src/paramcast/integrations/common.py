"""What the integrations share: the wrapper inside a framework's own, its numbers, its average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from ..errors import ArgumentError
from ..events import ForecastEvent
from ..forecast import Forecast


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
    inner = optimizer
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        own = getattr(inner, "__dict__", {})
        # Lightning's and Fabric's wrappers pretend to be of the class that they hold.
        if isinstance(inner, Forecast) and "base" in own:
            return inner
        inner = own.get("optimizer") or own.get("_optimizer")
    raise ArgumentError(
        f"there is no paramcast wrapper in {type(optimizer).__name__}; "
        "give the framework PLP(optimizer) or Forecast(optimizer, ...) in place of the optimizer"
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


class Averaged:
    """Holds `eval_weights()` open from one call of a framework to another."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.is_open = False

    def open(
        self,
        optimizers: Iterable[Forecast],
        model: nn.Module | None = None,
        update_bn: Iterable[Any] | None = None,
    ) -> bool:
        """Put the averages into the model, where there are any; whether there are."""
        self.close()
        ready = [optimizer for optimizer in optimizers if optimizer.has_average]
        for i, optimizer in enumerate(ready):
            last = i == len(ready) - 1  # the statistics belong to the whole averaged model
            data = update_bn if last else None
            self._open.enter_context(optimizer.eval_weights(model, update_bn=data))
        self.is_open = bool(ready)
        return self.is_open

    def close(self) -> None:
        """Put the live weights back, bitwise; without effect where nothing is open."""
        self.is_open = False
        self._open.close()
