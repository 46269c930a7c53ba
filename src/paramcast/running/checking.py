"""Checks of a saved state, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._checks import MOST
from ..errors import CheckpointError
from ..events import ForecastEvent
from ..tensors import functional as F
from .settings import Settings

if TYPE_CHECKING:
    from .evaluation import Averager

# Version of the "paramcast" entry of a state dict.
FORMAT = 2
DAMAGED = 'the "paramcast" entry of the state dict is damaged: '


# --- kinds: what a plain value must be ------------------------------------------------------------


def count(value: Any) -> bool:
    """Whether it is a whole number from 0."""
    return type(value) is int and 0 <= value <= MOST


def _number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= MOST)


def _finite(value: Any) -> bool:
    return _number(value) and math.isfinite(value)


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a kind.

    A kind is a type, a condition, a frozenset for any of several kinds, [kind] for a list of them,
    (kind, ...) for a list with one of each, or a dict of kinds for one that has those keys.
    """
    if isinstance(kind, type):
        return isinstance(value, kind)  # Keras hands over dicts of its own
    if isinstance(kind, frozenset):
        return any(fits(value, each) for each in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(each, kind[0]) for each in value)
    if isinstance(kind, tuple):
        right = isinstance(value, list) and len(value) == len(kind)
        return right and all(map(fits, value, kind))
    if isinstance(kind, dict):
        right = isinstance(value, dict) and kind.keys() <= value.keys()
        return right and all(fits(value[name], each) for name, each in kind.items())
    return bool(kind(value))


_NONE = type(None)
_MAYBE = frozenset({_number, _NONE})
_MEAN = (count, _number, lambda value: _number(value) and value >= 0)  # and its variance
_ANOMALY = {
    "rule": str,
    "paused_until": lambda value: type(value) is int and -1 <= value <= MOST,
    **dict.fromkeys(("against", "unobserved"), count),
    **dict.fromkeys(("losses", "errors"), _MEAN),
}


_EVENT = {
    **dict.fromkeys(ForecastEvent._fields, _MAYBE),
    **dict.fromkeys(("step", "cycle"), count),
    **dict.fromkeys(("jump_norm", "accepted", "milliseconds"), _number),
    "applied": bool,
    "reason": str,
    "fired": [(str, str)],
    "": lambda value: True,  # a place that format 2 has and nothing uses
}
_CYCLE = {
    "predictor": str,
    **dict.fromkeys(("cycles", "forgotten", "done", "writes"), count),
    **dict.fromkeys(("filled", "scoring", "copied"), bool),
    "members": [bool],
    "seen": [bool],
    "horizon": frozenset({_finite, _NONE}),
    "size": _MAYBE,
    "written": _finite,
    "pending": lambda value: value is None or fits(value, tuple(_EVENT.values())),
}


# --- the entry ------------------------------------------------------------------------------------


def check(saved: Any, averager: Averager, settings: Settings, parameters: Sequence[Tensor]) -> None:
    """Refuse an entry that does not fit, before anything is loaded."""
    if not isinstance(saved, dict) or not count(saved.get("format")) or not saved["format"]:
        raise CheckpointError(DAMAGED + "it has no format number")
    if saved["format"] != FORMAT:
        raise CheckpointError(
            f"the state dict has paramcast format {saved['format']}, but this version reads "
            f"{FORMAT}; load it with the version that wrote it, or delete the entry "
            'state_dict["paramcast"] to start over'
        )
    _check_kinds(saved, {"steps": count})
    # each part may have been deleted, to start over
    parts = {"settings": dict, "cycle": dict, "anomalies": [_ANOMALY]}
    _check_kinds(saved, {name: kind for name, kind in parts.items() if name in saved})
    if "cycle" in saved:
        _check_cycle(saved["cycle"], settings, parameters)
    if "average" in saved:
        averager.check(saved["average"], parameters)


def _check_kinds(saved: dict[str, Any], kinds: dict[str, Any]) -> None:
    for name, kind in kinds.items():
        if not fits(saved.get(name), kind):
            raise CheckpointError(f"{DAMAGED}{name} has the wrong type")


def _check_cycle(saved: dict[str, Any], settings: Settings, parameters: Sequence[Tensor]) -> None:
    missing = {"buffers", *_CYCLE} - saved.keys()
    if missing:
        raise CheckpointError(f"{DAMAGED}it lacks {', '.join(sorted(missing))}")
    _check_kinds(saved, _CYCLE)
    predictor = settings.predictor
    if saved["predictor"] != predictor.identity:
        raise CheckpointError(
            f"the state dict was written with {saved['predictor']}, but this optimizer has "
            f"{predictor.identity}; use the same predictor, or delete "
            'state_dict["paramcast"]["cycle"] to start a new cycle and keep the rest'
        )
    # counters that contradict each other or the predictor
    if saved["forgotten"] > saved["cycles"]:
        raise CheckpointError(
            f"{DAMAGED}{saved['forgotten']} of {saved['cycles']} cycles are forgotten"
        )
    if saved["done"] >= predictor.every:
        raise CheckpointError(f"{DAMAGED}{saved['done']} steps into a cycle of {predictor.every}")
    # whatever is listed by parameter, in group order
    parts = {part: place for part, place in settings.layout.parts().items() if part in saved}
    for part, place in parts.items():
        check_rows(saved[part], part, len(place), parameters)
    if {len(saved[name]) for name in ("members", "seen", *parts)} != {len(parameters)}:
        raise CheckpointError(
            f"the state dict has buffers for {len(saved['buffers'])} parameters, but this "
            f"optimizer has {len(parameters)}; load it into the model that it was saved from"
        )
    # members must have the parts that the counters ask for, and no other parameter may
    first = predictor.first_point(saved["horizon"])
    holds = first is not None and saved["done"] >= max(first, 1)
    persistent = bool(predictor.persistent)
    needed = {
        "buffers": holds or saved["filled"] or persistent,
        "halves": saved["filled"],
        "copy": saved["copied"],
        "score": saved["pending"] is not None and saved["scoring"],
    }
    for part in (part for part in parts if needed[part]):
        for i, (member, row) in enumerate(zip(saved["members"], saved[part], strict=True)):
            if member and row is None:
                raise CheckpointError(f"{DAMAGED}parameter {i} lacks its {part}")
            if row is not None and not member and not (part == "buffers" and persistent):
                raise CheckpointError(f"{DAMAGED}parameter {i} should have no {part}")


def check_rows(saved: Any, part: str, number: int, parameters: Sequence[Tensor]) -> None:
    """Refuse rows other than None or, per parameter, the tensors like it that the part needs.

    The caller compares the number of rows with the number of parameters.
    """
    if not isinstance(saved, list):
        raise CheckpointError(f"{DAMAGED}{part} has the wrong type")
    for i, (p, row) in enumerate(zip(parameters, saved, strict=False)):
        if row is None:
            continue
        if not isinstance(row, list) or not all(isinstance(buffer, Tensor) for buffer in row):
            raise CheckpointError(f"{DAMAGED}the {part} of parameter {i} are not a list of tensors")
        if len(row) != number:
            raise CheckpointError(
                f"{DAMAGED}parameter {i} has {len(row)} {part}, but this optimizer needs {number}"
            )
        for buffer in row:
            # it must be possible to copy it into a buffer of this parameter
            plain = buffer.is_floating_point() or (buffer.is_complex() and p.is_complex())
            if not plain or buffer.layout != torch.strided or buffer.is_meta:
                raise CheckpointError(
                    f"{DAMAGED}a buffer of parameter {i} is {buffer.layout} of {buffer.dtype}"
                )
            if buffer.shape != F.local(p).shape:
                raise CheckpointError(
                    f"the state dict's buffer {i} has shape {tuple(buffer.shape)}, but the "
                    f"parameter has {tuple(F.local(p).shape)}; load it into the model that it was "
                    "saved from"
                )
