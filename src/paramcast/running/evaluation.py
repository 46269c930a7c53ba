"""Evaluation weights: the running average, and swapping it in and out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..averaging import Average
from ..errors import ArgumentError, CheckpointError
from ..tensors import functional as F
from ..tensors.segments import (
    Segment,
    all_parameters,
    carry_over,
    fill,
    forget_copies,
    make_segments,
    members,
    pack,
    rows,
    unpack,
)
from .batch_norm import batch_norm_of
from .checking import check_rows, count, fits

_log = logging.getLogger("paramcast")
# Keys of the averages in a state dict: the average, and the slower one if there is one.
NAMES = ("buffers", "slower")


def held(rule: Average) -> list[Average]:
    """The averages that a rule needs, each with a buffer of its own."""
    return [rule] if rule.slower is None else [rule, rule.slower]


class Averager:
    """The state of an average: its buffers, its number of updates, whether it is in the model.

    It covers every parameter that has ever been learnable, even if frozen since, and in groups with
    "forecast": False too: evaluation must see one whole model.
    """

    def __init__(self, rule: Average | None = None, total_steps: int | None = None) -> None:
        self.rule, self.total_steps = rule, total_steps
        self.updates = 0
        self.open = False
        self.told: bool | None = None  # what `nothing_to_show` has said
        self.learnable: list[Tensor] = []  # at the last step
        self.covered: list[Tensor] = []  # all that have been learnable
        self.segments: list[Segment] = []

    @property
    def identity(self) -> str:
        """The rule as a checkpoint names it: all that its buffers depend on."""
        bounded = self.rule is not None and self.rule.progress
        return f"{self.rule!r}" + (f" over {self.total_steps} steps" if bounded else "")

    def restart(self) -> None:
        """Forget the average; the next update starts a new one."""
        self.updates, self.segments = 0, []

    def follow(self, learnable: list[Tensor], groups: Iterable[Mapping[str, Any]]) -> None:
        """Before a step: cover new parameters; `learnable` is one list while nothing changes."""
        if self.rule is None or learnable is self.learnable:
            return
        self.learnable = learnable
        # once covered, a parameter stays so, frozen or not, while it is in the groups
        present = {id(p): p for p in all_parameters(groups)}
        now = set(map(id, learnable))
        known = set(map(id, self.covered))
        self.covered = [p for key, p in present.items() if key in now or key in known]
        # before the first update nothing is kept, so nobody pays for an average that begins late
        if self.updates > 0:
            self._enroll()

    def update(self, step: int) -> None:
        """After a step (counted from 1): move the average toward the current parameters."""
        if self.rule is None:
            return
        averages = held(self.rule)
        weights = [rule.weight(step, self.updates, self.total_steps) for rule in averages]
        if weights[0] is None:
            return
        if self.updates == 0:
            self._enroll()
        for i, weight in enumerate(weights):
            if weight is None:
                continue
            # whatever the rule weighs it with, the average of one point is that point
            first = self.updates == 0
            fold = F.Fold(F.COPY) if first else F.Fold(F.AVERAGE, weight, 1.0 - weight)
            for segment in self.segments:
                segment.fold_(fold, i)
        self.updates += 1

    def _enroll(self) -> None:
        """Give the covered parameters their buffers; a new one starts with its current value."""
        if set(map(id, members(self.segments))) == set(map(id, self.covered)):
            return
        buffers = len(held(self.rule)) if self.rule is not None else 0
        old, self.segments = self.segments, make_segments(self.covered, buffers, torch.float32)
        for buffer in range(buffers):
            for segment in self.segments:
                segment.fold_(F.Fold(F.COPY), buffer)
            carry_over(old, self.segments, buffer)

    @contextmanager
    def swapped_in(
        self, step: int, model: nn.Module | None, data: Iterable[Any] | None
    ) -> Iterator[None]:
        """Put the average into the parameters; on leaving, restore them bitwise."""
        rule = self.rule
        if rule is None or self.updates == 0:
            self.nothing_to_show(promised=rule is not None)
            yield
            return
        # a rule between two snapshots weighs the current parameters too
        own = rule.weight_of_present(step, self.updates, self.total_steps)
        with self.shown(self.segments, lambda segment: _show_(rule, own, segment), model, data):
            yield

    def nothing_to_show(self, *, promised: bool) -> None:
        """Say once that evaluation uses the live weights: is an average to come, or none at all?"""
        # once for each reason, not at every evaluation
        if self.told == promised:
            return
        self.told = promised
        _log.warning(
            "eval_weights() shows the live weights: the average has none before its first update"
            if promised
            else "eval_weights() has nothing to switch, so it shows the live weights: give the "
            "wrapper average=..., such as paramcast.averaging.EMA(0.999)"
        )

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
        # live weights out, average in
        with torch.no_grad():
            live = [[point.clone() for point in segment.points] for segment in segments]
        self.open = True
        try:
            with torch.no_grad():
                for segment in segments:
                    show_(segment)
            forget_copies()
            if model is None:
                yield
                return
            F.reshard_(model)  # or a sharded one shows the parameters of its last forward pass
            with batch_norm_of(model, data):
                yield
        finally:
            with torch.no_grad():
                for segment, kept in zip(segments, live, strict=True):
                    torch._foreach_copy_(segment.points, kept)
                forget_copies()
                self.open = False
                if model is not None:
                    F.reshard_(model)

    def state_dict(self, parameters: Sequence[Tensor]) -> dict[str, Any]:
        """Copies of the averages, in the parameters' order; the keys depend only on the rule."""
        state: dict[str, Any] = {"rule": self.identity, "updates": self.updates}
        kept = rows(self.segments)
        for i, name in enumerate(NAMES[: len(held(self.rule))] if self.rule else ()):
            mine = [kept.get(id(p)) for p in parameters]
            state[name] = [None if row is None else row[i].clone() for row in mine]
        return state

    def load_state_dict(
        self, saved: Mapping[str, Any] | None, parameters: Sequence[Tensor]
    ) -> list[str]:
        """Load a state that `check` has accepted; return what starts over."""
        self.restart()
        self.learnable, self.covered = [], []
        if saved is None or self.rule is None:
            if saved is not None:
                return [f"the average {saved['rule']} is dropped"]
            return [] if self.rule is None else [f"the average {self.rule!r} starts over"]
        names = NAMES[: len(held(self.rule))]
        columns = zip(*(saved[name] for name in names), strict=True)
        kept = {
            id(p): row for p, row in zip(parameters, columns, strict=True) if row[0] is not None
        }
        self.updates, self.covered = saved["updates"], [p for p in parameters if id(p) in kept]
        self.segments = make_segments(self.covered, len(names), torch.float32)
        fill(self.segments, kept)
        return []

    def check(self, saved: Any, parameters: Sequence[Tensor]) -> None:
        """Refuse a saved average that does not fit, before anything is loaded."""
        damaged = CheckpointError(
            "the average in the state dict is damaged or another model's; delete "
            'state_dict["paramcast"]["average"] to start a new one'
        )
        if not fits(saved, {"rule": str}):
            raise damaged
        if self.rule is None:
            return  # it will be dropped
        if saved["rule"] != self.identity:
            raise CheckpointError(
                f"the state dict was written with the average {saved['rule']}, but this optimizer "
                f"has {self.identity}; use the same average, or delete "
                'state_dict["paramcast"]["average"] to start a new one'
            )
        names = NAMES[: len(held(self.rule))]
        if not fits(saved, {"updates": count, **dict.fromkeys(names, list)}):
            raise damaged
        covered = [[buffer is not None for buffer in saved[name]] for name in names]
        # both averages cover the same parameters, and after an update at least one
        if len(covered[0]) != len(parameters) or any(each != covered[0] for each in covered):
            raise damaged
        if saved["updates"] and not any(covered[0]):
            raise damaged
        try:
            for name in names:
                one_each = [None if buffer is None else [buffer] for buffer in saved[name]]
                check_rows(one_each, name, 1, parameters)
        except CheckpointError as error:
            raise damaged from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "learnable": [], "segments": pack(self.segments)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.segments = unpack(state["segments"], torch.float32)


def _show_(rule: Average, own: float | None, segment: Segment) -> None:
    """Write what is evaluated into the parameters; `own` is the weight of what they are now."""
    if own is not None:
        for point, average in zip(segment.points, segment.buffers[0], strict=True):
            point.copy_(average.lerp(point.to(average.dtype), own))
    elif rule.slower is None:
        torch._foreach_copy_(segment.points, segment.buffers[0])
    else:
        for point, average, slower in zip(segment.points, *segment.buffers, strict=True):
            point.copy_(average.lerp(slower, -rule.ahead))  # one at a time: only one copy exists
