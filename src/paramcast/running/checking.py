"""Checks of a saved state, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..events import ForecastEvent, TensorMetrics
from ..tensors import functional as F
from .settings import Settings

if TYPE_CHECKING:
    from .evaluation import Averager

LARGEST = 2**53
"""The largest whole number that a float can hold exactly."""
FORMAT = 2
"""Version of the "paramcast" entry of a state dict."""

COUNTS = ("cycles", "forgotten", "done", "writes")
FLAGS = ("filled", "scoring", "copied")
PLAIN = {*COUNTS, *FLAGS, "horizon", "written", "size"}
LISTS = ("members", "seen")
DAMAGED = 'the "paramcast" entry of the state dict is damaged: '


def check(saved: Any, averager: Averager, settings: Settings, parameters: Sequence[Tensor]) -> None:
    """Refuse an entry that does not fit, before anything is loaded."""
    if not isinstance(saved, dict) or not _is_whole(saved.get("format"), 1):
        raise CheckpointError(DAMAGED + "it has no format number")
    if saved["format"] != FORMAT:
        raise CheckpointError(
            f"the state dict has paramcast format {saved['format']}, but this version reads "
            f"{FORMAT}; load it with the version that wrote it, or delete the entry "
            'state_dict["paramcast"] to start over'
        )
    if not _is_whole(saved.get("steps")):
        raise CheckpointError(f"{DAMAGED}steps has the wrong type")
    if not isinstance(saved.get("settings", {}), dict):
        raise CheckpointError(f"{DAMAGED}settings has the wrong type")
    if "cycle" in saved:  # each part may have been deleted, to start over
        _check_cycle(saved["cycle"], settings, parameters)
    anomalies = saved.get("anomalies", [])
    if not isinstance(anomalies, list) or not all(map(_is_anomaly, anomalies)):
        raise CheckpointError(f"{DAMAGED}anomalies has the wrong type")
    if "average" in saved:
        averager.check(saved["average"], parameters)


def _check_cycle(saved: Any, settings: Settings, parameters: Sequence[Tensor]) -> None:
    if not isinstance(saved, dict):
        raise CheckpointError(f"{DAMAGED}cycle has the wrong type")
    missing = {"predictor", "pending", "buffers", *LISTS, *PLAIN} - saved.keys()
    if missing:
        raise CheckpointError(f"{DAMAGED}it lacks {', '.join(sorted(missing))}")
    if not isinstance(saved["predictor"], str):
        raise CheckpointError(f"{DAMAGED}predictor has the wrong type")
    if saved["predictor"] != settings.predictor.identity:
        raise CheckpointError(
            f"the state dict was written with {saved['predictor']}, but this optimizer has "
            f"{settings.predictor.identity}; use the same predictor, or delete "
            'state_dict["paramcast"]["cycle"] to start a new cycle and keep the rest'
        )
    # the plain values, each of the type that the comparisons below need
    right = {
        **{name: _is_whole(saved[name]) for name in COUNTS},
        **{name: isinstance(saved[name], bool) for name in FLAGS},
        **{
            name: isinstance(saved[name], list) and {*map(type, saved[name])} <= {bool}
            for name in LISTS
        },
        "horizon": saved["horizon"] is None or _is_finite(saved["horizon"]),
        "size": _is_number_or_none(saved["size"]),
        "written": _is_finite(saved["written"]),
        "pending": saved["pending"] is None or _is_row(saved["pending"], *_FITS.values()),
    }
    for name, fits in right.items():
        if not fits:
            raise CheckpointError(f"{DAMAGED}{name} has the wrong type")
    if saved["forgotten"] > saved["cycles"]:
        raise CheckpointError(
            f"{DAMAGED}{saved['forgotten']} of {saved['cycles']} cycles are forgotten"
        )
    if not 0 <= saved["done"] < settings.predictor.every:
        raise CheckpointError(
            f"{DAMAGED}{saved['done']} steps into a cycle of {settings.predictor.every}"
        )
    # whatever is listed by parameter, in group order
    lengths = {len(saved[name]) for name in LISTS}
    for part, place in settings.layout.parts().items():
        if part in saved:
            _check_rows(saved[part], part, len(place), parameters)
            lengths.add(len(saved[part]))
    if lengths != {len(parameters)}:
        raise CheckpointError(
            f"the state dict has buffers for {len(saved['buffers'])} parameters, but this "
            f"optimizer has {len(parameters)}; load it into the model that it was saved from"
        )
    _check_members(saved, settings)


def _check_members(saved: Mapping[str, Any], settings: Settings) -> None:
    """Members must have the buffers that are needed, and no other parameter may."""
    # the cycle's counters say which parts must be there
    first = settings.predictor.first_point(saved["horizon"])
    holds = first is not None and saved["done"] >= max(first, 1)
    persistent = bool(settings.predictor.persistent)
    needed = {
        "buffers": holds or saved["filled"] or persistent,
        "halves": saved["filled"],
        "copy": saved["copied"],
        "score": saved["pending"] is not None and saved["scoring"],
    }
    for part in settings.layout.parts():
        if part not in saved or not needed[part]:
            continue
        for i, (member, row) in enumerate(zip(saved["members"], saved[part], strict=True)):
            if member and row is None:
                raise CheckpointError(f"{DAMAGED}parameter {i} lacks its {part}")
            if row is not None and not member and not (part == "buffers" and persistent):
                raise CheckpointError(f"{DAMAGED}parameter {i} should have no {part}")


def _check_rows(saved: Any, part: str, count: int, parameters: Sequence[Tensor]) -> None:
    """Refuse rows other than None or, per parameter, the tensors like it that the part needs."""
    if not isinstance(saved, list):
        raise CheckpointError(f"{DAMAGED}{part} has the wrong type")
    # the caller compares the number of rows with the number of parameters
    for i, (p, row) in enumerate(zip(parameters, saved, strict=False)):
        if row is None:
            continue
        if not isinstance(row, list) or not all(isinstance(buffer, Tensor) for buffer in row):
            raise CheckpointError(f"{DAMAGED}the {part} of parameter {i} are not a list of tensors")
        if len(row) != count:
            raise CheckpointError(
                f"{DAMAGED}parameter {i} has {len(row)} {part}, but this optimizer needs {count}"
            )
        for buffer in row:
            if not is_buffer_of(buffer, p):
                raise CheckpointError(
                    f"{DAMAGED}a buffer of parameter {i} is {buffer.layout} of {buffer.dtype}"
                )
            if buffer.shape != F.local(p).shape:
                raise CheckpointError(
                    f"the state dict's buffer {i} has shape {tuple(buffer.shape)}, but the "
                    f"parameter has {tuple(F.local(p).shape)}; load it into the model that it was "
                    "saved from"
                )


def is_buffer_of(buffer: Tensor, parameter: Tensor) -> bool:
    """Whether a saved tensor can be copied into a buffer of this parameter."""
    number = buffer.is_floating_point() or (buffer.is_complex() and parameter.is_complex())
    return number and buffer.layout == torch.strided and not buffer.is_meta


def _is_whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value <= LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value, -LARGEST)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_row(value: Any, *fits: Callable[[Any], bool]) -> bool:
    """Whether it is a list with one value per condition, each of which holds."""
    return (
        isinstance(value, list)
        and len(value) == len(fits)
        and all(fit(each) for fit, each in zip(fits, value, strict=True))
    )


def _is_action(value: Any) -> bool:
    """Whether it is an anomaly rule and what it did."""
    return isinstance(value, list) and [type(each) for each in value] == [str, str]


def _are_tensors(value: Any) -> bool:
    """Whether it holds the numbers of each parameter, by name."""
    fits = [_is_number_or_none] * len(TensorMetrics._fields)
    return isinstance(value, dict) and all(
        isinstance(name, str) and _is_row(row, *fits) for name, row in value.items()
    )


_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(ForecastEvent._fields, _is_number_or_none),
    **dict.fromkeys(("step", "cycle"), _is_whole),
    "applied": lambda value: isinstance(value, bool),
    "reason": lambda value: isinstance(value, str),
    "fired": lambda value: isinstance(value, list) and all(map(_is_action, value)),
    **dict.fromkeys(("jump_norm", "accepted", "milliseconds"), _is_number),
    "tensors": lambda value: value is None or _are_tensors(value),
}
"""What the fields of an event must be, in their order."""


def _is_anomaly(value: Any) -> bool:
    """Whether it is a rule's name and what `Anomaly.state_dict` returns."""
    least = {"paused_until": -1, "against": 0, "unobserved": 0}
    return (
        isinstance(value, dict)
        and isinstance(value.get("rule"), str)
        and all(_is_whole(value.get(name), low) for name, low in least.items())
        and all(_is_mean(value.get(name)) for name in ("losses", "errors"))
    )


def _is_mean(value: Any) -> bool:
    """Whether it is a count, a mean and a variance."""
    return _is_row(value, _is_whole, _is_number, _is_number) and value[2] >= 0
