"""Evaluation weights: the running average, and swapping it in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from . import functional as F
from .averaging import Average
from .errors import ArgumentError, CheckpointError
from .saving import LARGEST, is_buffer_of
from .segments import (
    Segment,
    all_parameters,
    carry_over,
    make_segments,
    members,
    pack,
    unpack,
    views,
)

NAMES = ("buffers", "slower")
"""Of the averages in a state dict: the average, and the slower one where there is one."""


def held(rule: Average) -> list[Average]:
    """The averages that a rule needs, each with a buffer of its own."""
    return [rule] if rule.slower is None else [rule, rule.slower]


class Averager:
    """The state of an average: its buffers, its number of updates, whether it is in the model."""

    def __init__(self) -> None:
        self.updates = 0
        self.open = False
        self.segments: list[Segment] = []

    def update(
        self, rule: Average, parameters: Sequence[Tensor], step: int, total_steps: int | None
    ) -> None:
        """Move the average on to the parameters as they are now."""
        averages = held(rule)
        weights = [average.weight(step, self.updates, total_steps) for average in averages]
        if weights[0] is None:
            return
        self._enroll(parameters, len(averages))
        for i, weight in enumerate(weights):
            if weight is None:
                continue
            first = self.updates == 0
            fold = F.Fold(F.COPY) if first else F.Fold(F.AVERAGE, weight, 1.0 - weight)
            for segment in self.segments:
                segment.fold_(fold, i)
        self.updates += 1

    def _enroll(self, parameters: Sequence[Tensor], buffers: int) -> None:
        """Follow the learnable parameters; a new one starts with its present value."""
        known = members(self.segments)
        if len(known) == len(parameters) and set(map(id, known)) == set(map(id, parameters)):
            return
        old, self.segments = self.segments, make_segments(parameters, buffers, torch.float32)
        for buffer in range(buffers):
            for segment in self.segments:
                segment.fold_(F.Fold(F.COPY), buffer)
            carry_over(old, self.segments, buffer)

    @contextmanager
    def swapped_in(
        self, rule: Average, model: nn.Module | None, data: Iterable[Any] | None
    ) -> Iterator[None]:
        """Put the average into the parameters; on leaving, restore them bitwise."""
        if self.updates == 0:
            raise ArgumentError(
                "the average has no weights yet; train until its first update, then evaluate"
            )
        with self.shown(self.segments, lambda segment: _show_(rule, segment), model, data):
            yield

    @contextmanager
    def shown(
        self,
        segments: Sequence[Segment],
        show_: Callable[[Segment], None],
        model: nn.Module | None,
        data: Iterable[Any] | None,
    ) -> Iterator[None]:
        """Let `show_` write other weights into the parameters; on leaving, restore them bitwise."""
        if self.open:
            raise ArgumentError("eval_weights() is open already; leave it before opening it again")
        if data is not None and model is None:
            raise ArgumentError("update_bn needs the model too: eval_weights(model, update_bn=...)")
        if model is None and any(segment.groups for segment in segments):
            raise ArgumentError(
                "the parameters are sharded, and their modules keep whole copies of them: give the "
                "model, eval_weights(model)"
            )
        with torch.no_grad():
            live = [[point.clone() for point in segment.points] for segment in segments]
        self.open = True
        try:
            with torch.no_grad():
                for segment in segments:
                    show_(segment)
            if model is None:
                yield
                return
            F.reshard_(model)  # or a sharded one shows the parameters of its last forward
            with batch_norm_of(model, data):
                yield
        finally:
            with torch.no_grad():
                for segment, kept in zip(segments, live, strict=True):
                    torch._foreach_copy_(segment.points, kept)
                self.open = False
                if model is not None:
                    F.reshard_(model)

    def state_dict(self, groups: Iterable[Mapping[str, Any]], rule: Average) -> dict[str, Any]:
        """The averages, in group order; the keys depend on the rule alone."""
        parameters = all_parameters(groups)
        state: dict[str, Any] = {"updates": self.updates}
        for i, name in enumerate(NAMES[: len(held(rule))]):
            mine = views(self.segments, i) if self.segments else {}
            state[name] = [mine.get(id(p)) for p in parameters]
        return state

    def load_state_dict(
        self, saved: Mapping[str, Any], parameters: Sequence[Tensor], rule: Average
    ) -> None:
        """Take over a state that `check_average` has accepted."""
        self.updates = saved["updates"]
        kept = [p for p, b in zip(parameters, saved["buffers"], strict=True) if b is not None]
        averages = len(held(rule))
        self.segments = make_segments(kept, averages, torch.float32)
        for i, name in enumerate(NAMES[:averages] if kept else ()):
            mine = views(self.segments, i)
            for p, buffer in zip(parameters, saved[name], strict=True):
                if buffer is not None:
                    mine[id(p)].copy_(buffer)

    def __getstate__(self) -> dict[str, Any]:
        return {"updates": self.updates, "segments": pack(self.segments)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.updates, self.open = state["updates"], False
        self.segments = unpack(state["segments"], torch.float32)


def _show_(rule: Average, segment: Segment) -> None:
    """Write what is evaluated into the parameters."""
    if rule.slower is None:
        torch._foreach_copy_(segment.points, segment.buffers[0])
        return
    for point, average, slower in zip(segment.points, *segment.buffers, strict=True):
        point.copy_(average.lerp(slower, -rule.ahead))  # one at a time, so that only one is made


@contextmanager
def batch_norm_of(model: nn.Module, data: Iterable[Any] | None) -> Iterator[None]:
    """Batch-norm statistics estimated from data, for the weights that the model has now.

    On leaving, all buffers of the model are as they were. Without data they are only restored.
    """
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        if data is not None:
            update_bn(data, model)
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in statistics and statistics[name].shape == buffer.shape:
                    buffer.copy_(statistics[name])


def check_average(saved: Any, parameters: Sequence[Tensor], rule: Average) -> None:
    """Refuse a saved average that does not fit, before anything is loaded."""
    damaged = CheckpointError("the average in the state dict is damaged; drop it to start anew")
    if not isinstance(saved, dict) or {"updates", "buffers"} - saved.keys():
        raise damaged
    present = [name for name in NAMES if name in saved]
    if len(present) != len(held(rule)) and saved["updates"] != 0:
        raise CheckpointError(
            f"the average in the state dict is of another kind than {rule!r}; load it into "
            "the kind that it was saved from, or drop it to start anew"
        )
    updates = saved["updates"]
    if type(updates) is not int or not 0 <= updates <= LARGEST:
        raise damaged
    for name in present:
        _check_buffers(saved[name], updates, parameters, damaged)
    missing = [[b is None for b in saved[name]] for name in present]
    if any(gaps != missing[0] for gaps in missing):
        raise damaged


def _check_buffers(
    buffers: Any, updates: int, parameters: Sequence[Tensor], damaged: CheckpointError
) -> None:
    if not isinstance(buffers, list) or not all(
        b is None or isinstance(b, Tensor) for b in buffers
    ):
        raise damaged
    if updates > 0 and all(b is None for b in buffers):
        raise damaged
    shapes = [None if b is None else tuple(b.shape) for b in buffers]
    wanted = [tuple(F.local(p).shape) for p in parameters]
    if len(shapes) != len(wanted) or any(
        a not in (None, b) for a, b in zip(shapes, wanted, strict=True)
    ):
        raise CheckpointError(
            f"the average in the state dict has {len(shapes)} parameters of other shapes than "
            f"these {len(wanted)}; load it into the model that it was saved from"
        )
    if not all(b is None or is_buffer_of(b, p) for b, p in zip(buffers, parameters, strict=True)):
        raise damaged
