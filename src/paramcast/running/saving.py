"""What a checkpoint holds of a wrapper.

The "paramcast" entry of a state dict has these parts:

    steps        completed steps, over the whole run
    model_holds  "live", or "average" where the state was saved inside `eval_weights()`
    settings     what the wrapper was told to do, for the log line about what changed
    cycle        the predictor's name, counters, the members, and the buffers
    anomalies    the memory of each `Anomaly` in the gate
    average      the average's name and its buffers

A part that is missing starts over, whatever the others hold. The tensors are copies. Sharded
checkpoints (`integrations.checkpoint`) pack the same entry into tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..events import ForecastEvent
from ..tensors.segments import all_parameters, fill, make_segments, members, rows
from .checking import FORMAT
from .settings import Settings

if TYPE_CHECKING:
    from .cycle import Cycle
    from .evaluation import Averager

_log = logging.getLogger("paramcast")


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
        # only the predictor remembers what is frozen
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
    """Load an entry that `check` has accepted; one log line says what starts over."""
    settings = cycle.settings
    then, now = saved.get("settings", {}), settings.changeable()
    changed = [name for name in now if name in then and then[name] != now[name]]
    notes = [f"{name} was {then[name]}, is {now[name]}" for name in changed]
    # from here on nothing fails: `check` has seen all of it
    cycle.__init__(settings, cycle.base)  # type: ignore[misc] # the buffers are left alone
    cycle.steps = saved["steps"]
    if "cycle" in saved:
        notes += _load_cycle(cycle, saved, parameters)
    else:
        notes.append("the cycle starts over")
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


def _load_cycle(cycle: Cycle, entry: Mapping[str, Any], parameters: Sequence[Tensor]) -> list[str]:
    saved, settings = entry["cycle"], cycle.settings
    layout, who, telling = settings.layout, cycle.members, cycle.telling
    # counters, and which parameters have had a gradient
    cycle.set_numbers(saved)
    telling.pending = None if saved["pending"] is None else _event(saved["pending"])
    who.seen = {id(p): p for p, s in zip(parameters, saved["seen"], strict=True) if s}
    who.precision = settings.precision()
    # a part that this wrapper needs but the saved one did not have is missing
    present = {part: saved[part] for part in layout.parts() if part in saved}

    def stored(chosen: Sequence[bool]) -> list[Any]:
        """New segments of some parameters, with what was saved for them."""
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

    # those that take part, and what a predictor remembers of frozen ones
    who.segments = stored(saved["members"])
    if settings.predictor.persistent:
        member, row = saved["members"], saved["buffers"]
        who.resting = stored([r is not None and not m for r, m in zip(row, member, strict=True)])
    # what cannot go on without a part that is missing
    notes = []
    cycle.copied = cycle.copied and "copy" in present
    if telling.pending is not None and telling.scoring and "score" not in present:
        telling.scoring = False
        notes.append("the last prediction is reported without its score")
    if cycle.done > 0 and (
        entry.get("settings", {}).get("horizon") != settings.changeable()["horizon"]
        or ("halves" in layout.parts() and "halves" not in present)
    ):
        cycle.begin()
        notes.append("the running cycle starts over")
    return notes


def _load_anomalies(saved: Sequence[Mapping[str, Any]], settings: Settings) -> list[str]:
    """Each rule inherits the memory of the first saved one like it."""
    left, notes = list(saved), []
    for anomaly in settings.anomalies:
        alike = [state for state in left if state["rule"] == repr(anomaly)]
        anomaly.reset()
        if alike:
            anomaly.load_state_dict(alike[0])
            left.remove(alike[0])
        elif saved:  # otherwise the note about the gate says so
            notes.append(f"{anomaly!r} starts over")
    return notes


def _plain(event: ForecastEvent) -> list[Any]:
    fired = [list(each) for each in event.fired]
    return [*event._replace(fired=fired), None]  # type: ignore[arg-type] # None: see `checking`


def _event(saved: Sequence[Any]) -> ForecastEvent:
    event = ForecastEvent(*saved[:-1])
    return event._replace(fired=tuple((rule, action) for rule, action in event.fired))
