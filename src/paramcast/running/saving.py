"""What a checkpoint holds of a wrapper, and what is refused before anything is loaded.

The "paramcast" entry of a state dict has parts of their own:

    steps        completed steps, over the whole run
    model_holds  "live", or "average" where the state was saved inside `eval_weights()`
    settings     what the wrapper was told to do, for the log line about what changed
    cycle        the predictor's name, counters, who takes part, and the buffers
    anomalies    the memory of each `Anomaly` in the gate
    average      the average's name and its buffers

A part that is missing starts anew, whatever the others hold. The tensors are copies. Sharded
checkpoints (`integrations.checkpoint`) pack the same entry into tensors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..events import ForecastEvent, TensorMetrics
from ..tensors import functional as F
from ..tensors.contents import fill, rows
from ..tensors.segments import all_parameters, make_segments, members
from .settings import Settings

if TYPE_CHECKING:
    from .cycle import Cycle
    from .evaluation import Averager

_log = logging.getLogger("paramcast")
LARGEST = 2**53
"""The largest whole number that a float can hold exactly."""
FORMAT = 2
"""Version of the "paramcast" entry of a state dict."""

COUNTS = ("cycles", "forgotten", "done", "writes")
FLAGS = ("filled", "scoring", "copied")
PLAIN = {*COUNTS, *FLAGS, "horizon", "written", "size"}
LISTS = ("members", "seen")
DAMAGED = 'the "paramcast" entry of the state dict is damaged: '


def save(cycle: Cycle, averager: Averager, groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry as plain values and copies of tensors, in group order."""
    settings, parameters = cycle.settings, all_parameters(groups)
    waiting = cycle.telling.waiting()
    members_now = set(map(id, members(cycle.members.segments)))
    saved = {
        "format": FORMAT,
        "steps": cycle.steps,
        "model_holds": "average" if averager.open else "live",
        "settings": settings.changeable(),
        "cycle": {
            "predictor": settings.predictor.identity,
            **cycle.numbers(),
            "pending": None if waiting is None else _plain(waiting),
            "members": [id(p) in members_now for p in parameters],
            "seen": [id(p) in cycle.members.seen for p in parameters],
            **_buffers(cycle, parameters),
        },
        "anomalies": [{"rule": repr(rule), **rule.state_dict()} for rule in settings.anomalies],
    }
    if settings.average is not None:
        saved["average"] = averager.state_dict(parameters)
    return saved


def _buffers(cycle: Cycle, parameters: Sequence[Tensor]) -> dict[str, list[list[Tensor] | None]]:
    """Each part's buffers, where they hold something that is needed later."""
    settings, who, telling = cycle.settings, cycle.members, cycle.telling
    active, resting = rows(who.segments), rows(who.resting)
    needed = {
        "buffers": who.filled or bool(settings.predictor.persistent),
        "halves": who.filled,
        "copy": cycle.copied,
        "score": telling.pending is not None and telling.scoring,
    }
    saved = {}
    for part, place in settings.layout.parts().items():
        kept = {**resting, **active} if part == "buffers" else active
        kept = kept if needed[part] else {}
        saved[part] = [
            [kept[id(p)][i].clone() for i in place] if id(p) in kept else None for p in parameters
        ]
    return saved


def load(
    cycle: Cycle,
    averager: Averager,
    saved: Mapping[str, Any],
    parameters: Sequence[Tensor],
) -> None:
    """Take over an entry that `check` has accepted; one log line says what starts anew."""
    settings = cycle.settings
    notes = _changes(saved.get("settings", {}), settings.changeable())
    cycle.__init__(settings, cycle.base)  # type: ignore[misc] # the buffers are left alone
    cycle.steps = saved["steps"]
    if "cycle" in saved:
        notes += _load_cycle(cycle, saved, parameters)
    else:
        notes.append("the cycle starts anew")
    notes += _load_anomalies(saved.get("anomalies", []), settings)
    notes += averager.load_state_dict(saved.get("average"), parameters)
    if saved.get("model_holds") == "average":
        _log.warning(
            "this state was saved inside eval_weights(), so a model saved with it holds the "
            "average: training goes on from there, with a new cycle"
        )
        cycle.restart()
    if notes:
        _log.warning("resumed with other settings: %s", "; ".join(notes))


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, each with its old and its new value."""
    return [
        f"{name} was {then[name]}, is {value}"
        for name, value in now.items()
        if name in then and then[name] != value
    ]


def _load_cycle(cycle: Cycle, entry: Mapping[str, Any], parameters: Sequence[Tensor]) -> list[str]:
    saved, settings = entry["cycle"], cycle.settings
    layout, who, telling = settings.layout, cycle.members, cycle.telling
    cycle.set_numbers(saved)
    telling.pending = None if saved["pending"] is None else _event(saved["pending"])
    who.seen = {id(p): p for p, s in zip(parameters, saved["seen"], strict=True) if s}
    who.precision = settings.precision()
    present = {part: saved[part] for part in layout.parts() if part in saved}

    def stored(chosen: Sequence[bool]) -> list[Any]:
        """New segments of some parameters, with what is saved of them."""
        taken = [p for p, c in zip(parameters, chosen, strict=True) if c]
        kept: dict[int, list[Tensor | None]] = {}
        for i, p in enumerate(parameters):
            kept[id(p)] = [None] * layout.total
            for part, place in layout.parts().items():
                if part in present and present[part][i] is not None:
                    kept[id(p)][place.start : place.stop] = present[part][i]
        segments = make_segments(taken, layout.total, who.precision)
        fill(segments, kept)
        return segments

    who.segments = stored(saved["members"])
    if settings.predictor.persistent:
        member, row = saved["members"], saved["buffers"]
        who.resting = stored([r is not None and not m for r, m in zip(row, member, strict=True)])
    notes = []
    cycle.copied = cycle.copied and "copy" in present
    if telling.pending is not None and telling.scoring and "score" not in present:
        telling.scoring = False
        notes.append("the last prediction is told without its score")
    if cycle.done > 0 and (
        entry.get("settings", {}).get("horizon") != settings.changeable()["horizon"]
        or ("halves" in layout.parts() and "halves" not in present)
    ):
        cycle.begin()
        notes.append("the running cycle starts anew")
    return notes


def _load_anomalies(saved: Sequence[Mapping[str, Any]], settings: Settings) -> list[str]:
    """Each rule takes over the memory of the first one like it."""
    left, notes = list(saved), []
    for anomaly in settings.anomalies:
        alike = [state for state in left if state["rule"] == repr(anomaly)]
        anomaly.reset()
        if alike:
            anomaly.load_state_dict(alike[0])
            left.remove(alike[0])
        elif saved:  # else the changed gate says it
            notes.append(f"{anomaly!r} starts anew")
    return notes


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


# --- what is refused ----------------------------------------------------------------------------


def check(saved: Any, averager: Averager, settings: Settings, parameters: Sequence[Tensor]) -> None:
    """Refuse an entry that does not fit, before anything is loaded."""
    if not isinstance(saved, dict) or not _is_whole(saved.get("format"), 1):
        raise CheckpointError(DAMAGED + "it has no format number")
    if saved["format"] != FORMAT:
        raise CheckpointError(
            f"the state dict has paramcast format {saved['format']}, this version reads "
            f"{FORMAT}; load it with the version that wrote it, or delete the entry "
            'state_dict["paramcast"] to start anew'
        )
    if not _is_whole(saved.get("steps")):
        raise CheckpointError(f"{DAMAGED}steps has the wrong type")
    if not isinstance(saved.get("settings", {}), dict):
        raise CheckpointError(f"{DAMAGED}settings has the wrong type")
    if "cycle" in saved:
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
            f"the state dict was written with {saved['predictor']}, this optimizer has "
            f"{settings.predictor.identity}; use the same predictor, or delete "
            'state_dict["paramcast"]["cycle"] to start a new cycle and keep the rest'
        )
    right = {
        **{name: _is_whole(saved[name]) for name in COUNTS},
        **{name: isinstance(saved[name], bool) for name in FLAGS},
        **{name: _is_list_of(saved[name], bool) for name in LISTS},
        "horizon": saved["horizon"] is None or _is_finite(saved["horizon"]),
        "size": _is_number_or_none(saved["size"]),
        "written": _is_finite(saved["written"]),
        "pending": saved["pending"] is None or _is_event(saved["pending"]),
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
    lengths = {len(saved[name]) for name in LISTS}
    for part, place in settings.layout.parts().items():
        if part in saved:
            _check_rows(saved[part], part, len(place), parameters)
            lengths.add(len(saved[part]))
    if lengths != {len(parameters)}:
        raise CheckpointError(
            f"the state dict has buffers for {len(saved['buffers'])} parameters, this optimizer "
            f"has {len(parameters)}; load it into the model that it was saved from"
        )
    _check_members(saved, settings)


def _check_members(saved: Mapping[str, Any], settings: Settings) -> None:
    """Whoever takes part must have the buffers that are needed, and nobody else."""
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
    """Whether it holds, for each parameter, None or as many tensors like it as the part needs."""
    if not isinstance(saved, list):
        raise CheckpointError(f"{DAMAGED}{part} has the wrong type")
    for i, (p, row) in enumerate(zip(parameters, saved, strict=False)):
        if row is None:
            continue
        if not isinstance(row, list) or not all(isinstance(buffer, Tensor) for buffer in row):
            raise CheckpointError(f"{DAMAGED}the {part} of parameter {i} are not a list of tensors")
        if len(row) != count:
            raise CheckpointError(
                f"{DAMAGED}parameter {i} has {len(row)} {part}, this optimizer needs {count}"
            )
        for buffer in row:
            if not is_buffer_of(buffer, p):
                raise CheckpointError(
                    f"{DAMAGED}a buffer of parameter {i} is {buffer.layout} of {buffer.dtype}"
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
