"""Which parameters take part in predictions, and their buffers."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..tensors.segments import (
    Segment,
    any_nonzero,
    carry_over,
    make_segments,
    members,
    pack,
    unpack,
    without,
)
from .settings import Settings

_LEARNABLE = operator.attrgetter("requires_grad")


class _Listed(NamedTuple):
    """A parameter group as it was at the last step."""

    parameters: list[Tensor]
    learnable: list[bool]
    predicted: bool

    def learning(self) -> list[Tensor]:
        return [p for p, on in zip(self.parameters, self.learnable, strict=True) if on]


class Members:
    """The parameters of a cycle: learnable, in a predicted group, and with a gradient so far.

    They join at the point where a cycle first needs buffers, and may leave at any step.

    Attributes:
        segments: those that take part, with their buffers.
        resting: what a predictor remembers of frozen ones, for when they return.
        filled: whether the buffers hold points of the running cycle.
        learnable: at the last step; the same list object while nothing changes.
        seen: all predicted ones that have had a gradient, by id.
        joined: ids of those that joined since the last prediction.
        precision: the narrowest dtype of the buffers.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.segments: list[Segment] = []
        self.resting: list[Segment] = []
        self.filled = False
        self.learnable: list[Tensor] = []
        self.seen: dict[int, Tensor] = {}
        self.joined: set[int] = set()
        self.precision: torch.dtype | None = None
        self._listed: list[_Listed] = []  # the groups at the last step
        self._live: list[Tensor] = []  # learnable and in a predicted group
        self._idle: list[Tensor] = []  # of these, those without a gradient so far
        self._enrolled: tuple[list[Tensor], list[Tensor]] | None = None  # live, and which were idle

    def follow(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Before a step: note which are learnable; those that left miss this cycle's prediction."""
        if len(groups) == len(self._listed):
            for group, (then, learnable, predicted) in zip(groups, self._listed, strict=True):
                now = group["params"]
                if (
                    len(now) != len(then)
                    or bool(group.get("forecast", True)) is not predicted
                    or not all(map(operator.is_, now, then))
                    or list(map(_LEARNABLE, now)) != learnable
                ):
                    break
            else:
                return  # nothing changed; the checks run in C, as they look at every parameter
        self._listed = [
            _Listed(
                list(group["params"]),
                list(map(_LEARNABLE, group["params"])),
                bool(group.get("forecast", True)),
            )
            for group in groups
        ]
        self.learnable = live = [p for listed in self._listed for p in listed.learning()]
        if not all(listed.predicted for listed in self._listed):
            out = {id(p) for one in self._listed if not one.predicted for p in one.parameters}
            live = [p for p in live if id(p) not in out]
        if len(live) == len(self._live) and all(map(operator.is_, live, self._live)):
            return
        # another list object tells `enroll` that something changed
        self._live, self._idle = live, [p for p in live if id(p) not in self.seen]
        if self.filled:  # mid-cycle: cut those that left out of the segments
            staying = set(map(id, live))
            self._rest(staying)
            leaving = {id(p) for p in members(self.segments)} - staying
            self.segments = without(self.segments, leaving)

    def moved(self) -> bool:
        """Whether any learnable parameter has a gradient; note those that have their first."""
        if self._idle:
            first = {id(p): p for p in self._idle if p.grad is not None}
            if first:
                self.seen.update(first)
                self._idle = [p for p in self._idle if id(p) not in first]
        for p in self.learnable:  # noqa: SIM110 - a generator would be called once more each step
            if p.grad is not None:
                return True
        return False

    def enroll(self, lasting: Sequence[int], *, gradients_to_come: bool, waiting: bool) -> None:
        """Settle which parameters take part in this cycle.

        The content of the buffers `lasting` is still needed. Where a closure computes the gradients
        (`gradients_to_come`) none counts as missing yet. New members do not count in the score of a
        prediction that is `waiting` for it.
        """
        idle = [] if gradients_to_come else self._idle
        current = all(segment.current() for segment in self.segments)
        if current and self._enrolled is not None:
            live, left_out = self._enrolled
            if live is self._live and (left_out is idle or not (left_out or idle)):
                self.filled = bool(self.segments)
                return  # the same lists as last time
        # the members now: the live ones, without those that never had a gradient
        before = set(map(id, members(self.segments)))
        out = set(map(id, idle))
        chosen = {id(p): p for p in self._live if id(p) not in out}  # one listed twice joins once
        self._enrolled = self._live, idle
        if chosen.keys() != before or not current:
            self._allocate(chosen, lasting)
            if waiting:
                self.joined |= chosen.keys() - before
        self.filled = bool(self.segments)

    def _allocate(self, chosen: Mapping[int, Tensor], lasting: Sequence[int]) -> None:
        """Make new buffers; carry over what lasts, even from parameters that were frozen."""
        settings = self.settings
        self._rest(set(chosen))
        old, self.precision = self.segments, settings.precision()
        self.segments = make_segments(list(chosen.values()), settings.layout.total, self.precision)
        for buffer in (*settings.predictor.persistent, *lasting):
            carry_over(old, self.segments, buffer)
        for buffer in settings.predictor.persistent:
            carry_over(self.resting, self.segments, buffer)
        self.resting = without(self.resting, set(chosen))

    def _rest(self, staying: set[int]) -> None:
        """Keep what a predictor remembers of parameters that leave, for when they return."""
        leaving = [p for p in members(self.segments) if id(p) not in staying]
        persistent = self.settings.predictor.persistent
        if leaving and persistent:
            kept = make_segments(leaving, self.settings.layout.own, self.precision)
            for buffer in persistent:
                carry_over(self.segments, kept, buffer)
            self.resting += kept
        # what has left the groups for good is not remembered
        there = {id(p) for listed in self._listed for p in listed.parameters}
        gone = {id(p) for p in members(self.resting)} - there
        self.resting = without(self.resting, gone)

    def forget(self) -> None:
        """Empty all buffers, those of earlier cycles too."""
        self.filled, self.resting = False, []
        for segment in self.segments:
            for flat in segment.flats:
                flat.zero_()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "filled": self.filled,
            "precision": self.precision,
            "seen": list(self.seen.values()),
            "segments": pack(self.segments),
            "resting": pack(self.resting),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]
        self.filled, self.precision = state["filled"], state["precision"]
        self.seen = {id(p): p for p in state["seen"]}
        self.segments = unpack(state["segments"], self.precision)
        self.resting = unpack(state["resting"], self.precision)


def is_phantom(base: Optimizer) -> bool:
    """Whether a step only serves to create the base's state: every lr and every gradient is 0.

    `torch.distributed.checkpoint` makes one whenever the state is empty: for plain SGD, at every
    save. A tensor learning rate on an accelerator counts as non-zero: torch sets a CPU tensor.
    """
    for group in base.param_groups:
        lr = group.get("lr", 1.0)
        if isinstance(lr, Tensor):
            lr = lr.any() if lr.device.type == "cpu" else 1.0
        if lr != 0:  # None too: Adafactor, for one, chooses its own
            return False
    parameters = (p for group in base.param_groups for p in group["params"])
    with torch.no_grad():
        return not any_nonzero(p.grad for p in parameters if p.grad is not None)
