"""The saved form of a running cycle, and what is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import functional as F
from .errors import CheckpointError
from .events import ForecastEvent
from .rules import Rules

FORMAT = 1
"""Version of the "paramcast" entry of a state dict."""

NUMBERS = ("steps", "cycles", "done", "horizon", "written", "filled")
LISTS = ("members", "seen", "buffers")


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
    if saved["predictor"] != repr(rules.predictor):
        raise CheckpointError(
            f"the state dict was written with {saved['predictor']}, this optimizer has "
            f"{rules.predictor!r}; use the same predictor, or drop the entry to start a new cycle"
        )
    right = {
        **{name: _is_whole(saved[name]) for name in ("steps", "cycles", "done")},
        **{name: isinstance(saved[name], list) for name in (*LISTS, "anomalies")},
        "horizon": saved["horizon"] is None or _is_number(saved["horizon"]),
        "written": _is_number(saved["written"]),
        "filled": isinstance(saved["filled"], bool),
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
        if row is not None and len(row) != rules.buffers():
            raise CheckpointError(
                f"the state dict has {len(row)} buffers per parameter, this optimizer needs "
                f"{rules.buffers()}; use the same gate and monitors, or drop the entry"
            )
        for buffer in row or []:
            if buffer.shape != F.local(p).shape:
                raise CheckpointError(
                    f"the state dict's buffer {i} has shape {tuple(buffer.shape)}, the parameter "
                    f"has {tuple(F.local(p).shape)}; load it into the model that it was saved from"
                )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_event(value: Any) -> bool:
    return isinstance(value, list) and len(value) == len(ForecastEvent._fields)


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
