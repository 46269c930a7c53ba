"""The running cycle: which parameters take part, their buffers, and what is saved of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import functional as F
from .errors import CheckpointError
from .events import ForecastEvent
from .predictors import Affine

FORMAT = 1
"""Version of the "paramcast" entry of a state dict."""


class Segment(NamedTuple):
    """Parameters of one device and dtype, with their part of the buffer."""

    parameters: list[Tensor]
    points: list[Tensor]  # the parameters, or their local shards, or real views of complex ones
    flat: Tensor
    views: list[Tensor]
    addresses: list[int]  # of the points when the segment was made

    def current(self) -> bool:
        """Whether the parameters still own the same memory (`model.to(...)` moves it)."""
        return [F.local(p).data_ptr() for p in self.parameters] == self.addresses


class Cycle:
    """Everything that changes while a Forecast runs.

    One object, held for good and mutated in place: frameworks copy the wrapper's attributes into
    objects of their own and run our methods on those.
    """

    def __init__(self) -> None:
        self.steps = 0  # completed steps, over all cycles
        self.cycles = 0  # finished cycles
        self.done = 0  # completed steps of the running cycle
        self.live: list[Tensor] = []  # learnable parameters at the last step
        self.segments: list[Segment] = []  # of the parameters that take part in this cycle
        self.filled = False  # whether the segments hold points of this cycle
        self.last: tuple[int, int, float, list[Tensor], float | None] | None = None

    def restart(self) -> None:
        self.done = 0
        self.filled = False

    def follow(self, groups: Iterable[dict[str, Any]]) -> None:
        """Note which parameters are learnable now; who left the cycle is not predicted in it."""
        live = [p for group in groups for p in group["params"] if p.requires_grad]
        if len(live) == len(self.live) and all(map(_same, live, self.live)):
            return
        self.live = live
        if self.filled:
            staying = set(map(id, live))
            self.segments = [_keep(segment, staying) for segment in self.segments]

    def fold(self, point: int, plan: F.Plan, *, gradients_to_come: bool = False) -> None:
        """Fold one point of the cycle into the buffers."""
        if point == plan.first:
            self._enroll(plan.needs_mean, gradients_to_come)
            self.filled = True
        for segment in self.segments:
            F.fold_(plan.folds[point], segment.views, segment.points)

    def _enroll(self, needs_mean: bool, gradients_to_come: bool) -> None:
        """Choose who takes part: learnable, and has had a gradient."""
        before = {id(p) for segment in self.segments for p in segment.parameters}
        members: dict[int, Tensor] = {}
        for p in self.live:
            if p.grad is not None or gradients_to_come or id(p) in before:
                members[id(p)] = p  # a parameter listed twice is predicted once
        if members.keys() != before or not all(segment.current() for segment in self.segments):
            self.segments = _segments(list(members.values()), needs_mean)

    def write(self, predictor: Affine, plan: F.Plan) -> None:
        """Write the prediction unless it is not finite."""
        self.cycles += 1
        predictor.shape_jump_([v for s in self.segments for v in s.views], self.cycles)
        norms = [F.buffer_norm(segment.flat) for segment in self.segments]
        on_cpu = all(norm.device.type == "cpu" for norm in norms)
        if not on_cpu:  # decided on the device, without waiting for it
            for segment, norm in zip(self.segments, norms, strict=True):
                F.zero_unless_finite_(segment.flat, norm)
        if not on_cpu or math.isfinite(_total(norms)):
            for segment in self.segments:
                F.jump_(segment.points, segment.views, plan.scale)
        self.last = (self.steps, self.cycles, plan.scale, norms, predictor.horizon)

    def event(self) -> ForecastEvent | None:
        if self.last is None:
            return None
        step, cycle, scale, norms, horizon = self.last
        norm = abs(scale) * _total(norms)
        finite = math.isfinite(norm)
        reason = "predicted" if finite else "the prediction is not finite"
        return ForecastEvent(step, cycle, finite, reason, norm, horizon)

    def state_dict(self, predictor: Affine, groups: Iterable[dict[str, Any]]) -> dict[str, Any]:
        parameters = all_parameters(groups)
        views = {
            id(p): view
            for segment in self.segments
            for p, view in zip(segment.parameters, segment.views, strict=True)
        }
        return {
            "format": FORMAT,
            "predictor": repr(predictor),
            "weights": list(predictor.weights),
            "steps": self.steps,
            "cycles": self.cycles,
            "done": self.done,
            "members": [id(p) in views for p in parameters],
            "buffers": [views.get(id(p)) if self.filled else None for p in parameters],
        }

    def load_state_dict(self, saved: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        self.steps, self.cycles, self.done = saved["steps"], saved["cycles"], saved["done"]
        members = [p for p, member in zip(parameters, saved["members"], strict=True) if member]
        buffers = [b for b, m in zip(saved["buffers"], saved["members"], strict=True) if m]
        plan = F.plan(tuple(saved["weights"]))
        self.segments = _segments(members, plan.needs_mean)
        self.filled = any(buffer is not None for buffer in buffers)
        self.live = [p for p in parameters if p.requires_grad]
        self.last = None
        views = _views(self.segments)
        if self.filled:
            for p, buffer in zip(members, buffers, strict=True):
                views[id(p)].copy_(buffer)

    def __getstate__(self) -> dict[str, Any]:
        # Pickle would tear the views from their flat tensor, so per-parameter buffers travel.
        views = _views(self.segments)
        return {
            **{name: getattr(self, name) for name in ("steps", "cycles", "done", "live", "filled")},
            "members": [p for segment in self.segments for p in segment.parameters],
            "buffers": [view.clone() for view in views.values()],
            "needs_mean": any(s.flat.dtype != s.points[0].dtype for s in self.segments),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        members, buffers = state.pop("members"), state.pop("buffers")
        self.segments = _segments(members, state.pop("needs_mean"))
        self.last = None
        for view, buffer in zip(_views(self.segments).values(), buffers, strict=True):
            view.copy_(buffer)
        self.__dict__.update(state)


def check_saved(saved: Any, predictor: Affine, parameters: Sequence[Tensor]) -> None:
    """Refuse a saved cycle that does not fit, before anything is loaded."""
    keys = {"format", "predictor", "weights", "steps", "cycles", "done", "members", "buffers"}
    if not isinstance(saved, dict) or not isinstance(saved.get("format"), int):
        raise CheckpointError('the "paramcast" entry of the state dict is damaged: no format')
    if saved["format"] > FORMAT:
        raise CheckpointError(
            f"the state dict has paramcast format {saved['format']}, this version reads up to "
            f"{FORMAT}; update paramcast, or drop the entry to start a new cycle"
        )
    missing = keys - saved.keys()
    if missing:
        raise CheckpointError(
            'the "paramcast" entry of the state dict is damaged: '
            f"it lacks {', '.join(sorted(missing))}"
        )
    if tuple(saved["weights"]) != predictor.weights:
        raise CheckpointError(
            f"the state dict was written with {saved['predictor']}, this optimizer has "
            f"{predictor!r}; use the same predictor, or drop the entry to start a new cycle"
        )
    if not 0 <= saved["done"] < predictor.every:
        raise CheckpointError(
            f"the state dict is damaged: {saved['done']} steps into a cycle of {predictor.every}"
        )
    counts = {len(saved["members"]), len(saved["buffers"])}
    if counts != {len(parameters)}:
        raise CheckpointError(
            f"the state dict has buffers for {len(saved['buffers'])} parameters, this optimizer "
            f"has {len(parameters)}; load it into the model that it was saved from"
        )
    for i, (p, buffer) in enumerate(zip(parameters, saved["buffers"], strict=True)):
        if buffer is not None and buffer.shape != F.local(p).shape:
            raise CheckpointError(
                f"the state dict's buffer {i} has shape {tuple(buffer.shape)}, the parameter has "
                f"{tuple(F.local(p).shape)}; load it into the model that it was saved from"
            )


def _segments(members: Sequence[Tensor], needs_mean: bool) -> list[Segment]:
    """Group the members by device and dtype and give each group its buffer."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for p in members:
        kinds.setdefault((p.device, p.dtype), []).append(p)
    segments = []
    for parameters in kinds.values():
        points = [F.local(p) for p in parameters]
        dtype = points[0].dtype
        flat, views = F.allocate(
            points, torch.promote_types(dtype, torch.float32) if needs_mean else dtype
        )
        segments.append(Segment(parameters, points, flat, views, [p.data_ptr() for p in points]))
    return segments


def _keep(segment: Segment, staying: set[int]) -> Segment:
    """The segment without the parameters that left; it is made anew for the next cycle."""
    rows = zip(segment.parameters, segment.points, segment.views, strict=True)
    kept = [row for row in rows if id(row[0]) in staying]
    if len(kept) == len(segment.parameters):
        return segment
    for p, view in zip(segment.parameters, segment.views, strict=True):
        if id(p) not in staying:
            view.zero_()  # it no longer counts in the norm
    columns = [list(column) for column in zip(*kept, strict=True)] or [[], [], []]
    return Segment(columns[0], columns[1], segment.flat, columns[2], addresses=[])


def _views(segments: Iterable[Segment]) -> dict[int, Tensor]:
    return {id(p): v for s in segments for p, v in zip(s.parameters, s.views, strict=True)}


def all_parameters(groups: Iterable[dict[str, Any]]) -> list[Tensor]:
    """All parameters in group order, each once."""
    return list({id(p): p for group in groups for p in group["params"]}.values())


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b


def _total(norms: Iterable[Tensor]) -> float:
    return math.hypot(*(float(norm) for norm in norms))
