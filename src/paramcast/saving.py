"""The saved form of a running cycle, and what is refused before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import functional as F
from .errors import CheckpointError
from .events import ForecastEvent, TensorMetrics
from .rules import Rules
from .segments import all_parameters, fill, make_segments, rows

if TYPE_CHECKING:
    from .cycle import Cycle

LARGEST = 2**53
"""The largest whole number that a float can hold exactly."""
FORMAT = 1
"""Version of the "paramcast" entry of a state dict."""

COUNTS = ("steps", "cycles", "forgotten", "done", "writes")
NUMBERS = (
    *COUNTS,
    *("horizon", "written", "size"),
    *("filled", "scoring"),
)
LISTS = ("members", "seen", "buffers")


def save(cycle: Cycle, rules: Rules, groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The cycle as plain values and tensors, in group order."""
    parameters, kept = all_parameters(groups), rows(cycle.segments)
    needed = cycle.filled or bool(cycle.lasting(rules))
    waiting = cycle.waiting()
    return {
        "format": FORMAT,
        "predictor": repr(rules.predictor),
        **cycle.numbers(),
        "pending": None if waiting is None else _plain(waiting),
        "members": [id(p) in kept for p in parameters],
        "seen": [id(p) in cycle.seen for p in parameters],
        "buffers": [kept.get(id(p)) if needed else None for p in parameters],
        "anomalies": [anomaly.state_dict() for anomaly in rules.anomalies],
    }


def load(
    cycle: Cycle, saved: Mapping[str, Any], rules: Rules, parameters: Sequence[Tensor]
) -> None:
    """Take over a state that `check_saved` has accepted."""
    for name in NUMBERS:
        setattr(cycle, name, saved[name])
    cycle.pending = None if saved["pending"] is None else _event(saved["pending"])
    taking_part = [p for p, m in zip(parameters, saved["members"], strict=True) if m]
    cycle.precision = rules.precision()
    cycle.segments = make_segments(taking_part, rules.layout.total, cycle.precision)
    fill(cycle.segments, dict(zip(map(id, parameters), saved["buffers"], strict=True)))
    cycle.seen = {id(p): p for p, s in zip(parameters, saved["seen"], strict=True) if s}
    cycle.listed, cycle.enrolled = [], None
    cycle.live, cycle.idle = [], []  # whoever was frozen since then leaves at the next step
    cycle.last, cycle.last_told, cycle.untold = None, None, None
    for anomaly, state in zip(rules.anomalies, saved["anomalies"], strict=True):
        anomaly.load_state_dict(state)


def _plain(event: ForecastEvent) -> list[Any]:
    tensors = event.tensors
    rows = None if tensors is None else {name: list(row) for name, row in tensors.items()}
    return list(event._replace(tensors=rows))  # type: ignore[arg-type]


def _event(saved: Sequence[Any]) -> ForecastEvent:
    event = ForecastEvent(*saved)
    if event.tensors is None:
        return event
    rows = {name: TensorMetrics(*row) for name, row in event.tensors.items()}
    return event._replace(tensors=rows)


def check_saved(saved: Any, rules: Rules, parameters: Sequence[Tensor]) -> None:
    """Refuse a saved cycle that does not fit, before anything is loaded."""
    keys = {"format", "predictor", "pending", "anomalies", *LISTS, *NUMBERS}
    damaged = 'the "paramcast" entry of the state dict is damaged: '
    if not isinstance(saved, dict) or not _is_whole(saved.get("format"), 1):
        raise CheckpointError(damaged + "it has no format number")
    if saved["format"] > FORMAT:
        raise CheckpointError(
            f"the state dict has paramcast format {saved['format']}, this version reads up to "
            f"{FORMAT}; update paramcast, or drop the entry to start a new cycle"
        )
    missing = keys - saved.keys()
    if missing:
        raise CheckpointError(f"{damaged}it lacks {', '.join(sorted(missing))}")
    if not isinstance(saved["predictor"], str):
        raise CheckpointError(f"{damaged}predictor has the wrong type")
    if saved["predictor"] != repr(rules.predictor):
        raise CheckpointError(
            f"the state dict was written with {saved['predictor']}, this optimizer has "
            f"{rules.predictor!r}; use the same predictor, or drop the entry to start a new cycle"
        )
    right = {
        **{name: _is_whole(saved[name]) for name in COUNTS},
        **{name: isinstance(saved[name], list) for name in ("buffers", "anomalies")},
        **{name: _is_list_of(saved[name], bool) for name in ("members", "seen")},
        "horizon": saved["horizon"] is None or _is_finite(saved["horizon"]),
        "size": _is_number_or_none(saved["size"]),
        "written": _is_finite(saved["written"]),
        **{name: isinstance(saved[name], bool) for name in ("filled", "scoring")},
        "pending": saved["pending"] is None or _is_event(saved["pending"]),
    }
    for name, fits in right.items():
        if not fits:
            raise CheckpointError(f"{damaged}{name} has the wrong type")
    if len(saved["anomalies"]) != len(rules.anomalies):
        raise CheckpointError(
            f"the state dict has {len(saved['anomalies'])} sets of anomaly rules, this optimizer "
            f"has {len(rules.anomalies)}; use the same gate, or drop the entry"
        )
    if not all(map(_is_anomaly, saved["anomalies"])):
        raise CheckpointError(f"{damaged}anomalies has the wrong type")
    if saved["forgotten"] > saved["cycles"]:
        raise CheckpointError(
            f"{damaged}{saved['forgotten']} of {saved['cycles']} cycles are forgotten"
        )
    if not 0 <= saved["done"] < rules.predictor.every:
        raise CheckpointError(
            f"{damaged}{saved['done']} steps into a cycle of {rules.predictor.every}"
        )
    if {len(saved[name]) for name in LISTS} != {len(parameters)}:
        raise CheckpointError(
            f"the state dict has buffers for {len(saved['buffers'])} parameters, this optimizer "
            f"has {len(parameters)}; load it into the model that it was saved from"
        )
    first = rules.predictor.first_point(saved["horizon"])
    holds = first is not None and saved["done"] >= max(first, 1)
    wanted = holds or saved["filled"] or bool(rules.predictor.persistent)
    for i, (p, member, row) in enumerate(
        zip(parameters, saved["members"], saved["buffers"], strict=True)
    ):
        if wanted and member != (row is not None):
            raise CheckpointError(
                f"{damaged}parameter {i} {'lacks' if member else 'should have no'} buffers"
            )
        if row is not None and not (
            isinstance(row, list) and all(isinstance(buffer, Tensor) for buffer in row)
        ):
            raise CheckpointError(f"{damaged}the buffers of parameter {i} are no list of tensors")
        if row is not None and len(row) != rules.layout.total:
            raise CheckpointError(
                f"the state dict has {len(row)} buffers per parameter, this optimizer needs "
                f"{rules.layout.total}; use the same gate and monitors, or drop the entry"
            )
        for buffer in row or []:
            if not is_buffer_of(buffer, p):
                raise CheckpointError(
                    f"{damaged}a buffer of parameter {i} is {buffer.layout} of {buffer.dtype}"
                )
            if buffer.shape != F.local(p).shape:
                raise CheckpointError(
                    f"the state dict's buffer {i} has shape {tuple(buffer.shape)}, the parameter "
                    f"has {tuple(F.local(p).shape)}; load it into the model that it was saved from"
                )


def is_buffer_of(buffer: Tensor, parameter: Tensor) -> bool:
    """Whether a saved tensor can be copied into a buffer of this parameter."""
    number = buffer.is_floating_point() or (buffer.is_complex() and parameter.is_complex())
    return number and buffer.layout == torch.strided and not buffer.is_meta


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value, -LARGEST) and not isinstance(value, bool))


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("step", "cycle"), lambda value: _is_whole(value)),
    "applied": lambda value: isinstance(value, bool),
    **dict.fromkeys(("reason", "anomaly"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("jump_norm", "accepted", "milliseconds"), _is_number),
    "tensors": lambda value: value is None or _are_tensors(value),
}
"""Fields of an event; all others are a number or None."""


def _is_event(value: Any) -> bool:
    return _has_length(value, len(ForecastEvent._fields)) and all(
        _FITS.get(name, _is_number_or_none)(field)
        for name, field in zip(ForecastEvent._fields, value, strict=True)
    )


def _are_tensors(value: Any) -> bool:
    """Whether it holds the numbers of each parameter, by name."""
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and _has_length(row, len(TensorMetrics._fields))
        and all(map(_is_number_or_none, row))
        for name, row in value.items()
    )


def _is_anomaly(value: Any) -> bool:
    """Whether it is what `Anomaly.state_dict` returns."""
    least = {"paused_until": -1, "against": 0, "unobserved": 0}
    return (
        isinstance(value, dict)
        and all(_is_whole(value.get(name), low) for name, low in least.items())
        and all(_is_mean(value.get(name)) for name in ("losses", "errors"))
    )


def _is_mean(value: Any) -> bool:
    """Whether it is a count, a mean and a variance."""
    return (
        _has_length(value, 3)
        and _is_whole(value[0])
        and all(map(_is_number, value[1:]))
        and value[2] >= 0
    )


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(each) is kind for each in value)


def _has_length(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
