"""The running cycle: who takes part, their buffers, and the decision at its end."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsFloat

import torch
from torch import Tensor

from ..events import Decision, ForecastEvent, Proposal, TensorMetrics
from ..predictors import Workspace
from ..tensors import functional as F
from ..tensors.readback import Readback
from ..tensors.segments import (
    Segment,
    carry_over,
    make_segments,
    members,
    norm,
    pack,
    total,
    unpack,
    without,
)
from . import scoring
from .saving import NUMBERS
from .settings import Rules

NOT_FINITE = "the prediction is not finite"
NORM_EVERY = 16
"""Cycles between two norms of the parameters: a norm costs a sixth of a prediction."""


class _Raw(NamedTuple):
    """A prediction whose norms may still be on their way from their devices."""

    step: int
    cycle: int
    decision: Decision
    scale: float
    norms: Sequence[SupportsFloat]
    horizon: float | None
    agreement: float | None
    size: SupportsFloat | None  # of the parameters
    accepted: float
    milliseconds: float
    tensors: Mapping[str, TensorMetrics] | None

    def event(self) -> ForecastEvent:
        jump = abs(self.scale * self.decision.scale) * total(self.norms)
        finite = math.isfinite(jump)
        size = None if self.size is None else float(self.size)
        return ForecastEvent(
            self.step,
            self.cycle,
            self.decision.apply and finite,
            self.decision.reason if finite else NOT_FINITE,
            jump,
            self.horizon,
            self.agreement,
            relative_jump=jump / size if size else None,
            accepted=self.accepted,
            milliseconds=self.milliseconds,
            anomaly=self.decision.anomaly if finite else "non-finite: skip",
            tensors=self.tensors,
        )


class _Listed(NamedTuple):
    """A parameter group as it was at the last step."""

    parameters: list[Tensor]
    learnable: list[bool]
    predicted: bool

    def learning(self) -> list[Tensor]:
        return [
            p for p, learnable in zip(self.parameters, self.learnable, strict=True) if learnable
        ]


class Cycle:
    """Everything that changes while a Forecast runs.

    One object, held for good and mutated in place: frameworks copy the wrapper's attributes into
    objects of their own and run our methods on those.
    """

    def __init__(self) -> None:
        self.steps = 0  # completed steps, over all cycles
        self.cycles = 0  # finished cycles
        self.forgotten = 0  # those of them before the last restart
        self.done = 0  # completed steps of the running cycle
        self.writes = 0  # predictions written
        self.horizon: float | None = None  # of the running cycle
        self.written = 0.0  # how much of the last jump was written
        self.size: SupportsFloat | None = None  # the parameters' norm when it was last taken
        self.filled = False  # whether the buffers hold points of the running cycle
        self.pending: ForecastEvent | None = None  # waits for the next step
        self.scoring = False  # whether that step scores it
        self.copied = False  # whether the copy from before the last jump may be restored
        self.listed: list[_Listed] = []  # the groups at the last step
        self.learnable: list[Tensor] = []  # learnable parameters at the last step
        self.live: list[Tensor] = []  # those of them that are predicted
        self.idle: list[Tensor] = []  # those of them that have had no gradient so far
        self.seen: dict[int, Tensor] = {}  # all that have had one, by id
        self.names: dict[int, str] = {}  # of the parameters, by id
        self.precision: torch.dtype | None = None  # the narrowest dtype of the buffers
        self.segments: list[Segment] = []  # of the parameters that take part
        self.resting: list[Segment] = []  # memory of frozen ones, for when they are back
        self.enrolled: tuple[list[Tensor], list[Tensor]] | None = None  # `live`, and who idled
        self.joined: set[int] = set()  # ids of those that joined since the last prediction
        self.last: _Raw | None = None
        self.last_told: ForecastEvent | None = None  # the last prediction as it was told
        self.untold: _Raw | None = None  # on an accelerator, told one cycle later

    def begin(self) -> None:
        """Start a new cycle where the last one ended."""
        self.done, self.filled = 0, False

    def forget_all(self) -> None:
        """Be as new; memory that others may hold is left alone."""
        self.__init__()  # type: ignore[misc]

    def restart(self) -> None:
        """Forget the running cycle and, with it, what was learnt in earlier ones."""
        self.begin()
        self.forgotten = self.cycles
        self.pending, self.written, self.size, self.copied = None, 0.0, None, False
        self.resting = []
        for segment in self.segments:
            for flat in segment.flats:
                flat.zero_()

    # --- who takes part -------------------------------------------------------------------------

    def follow(self, groups: Sequence[Mapping[str, Any]], rules: Rules) -> None:
        """Note which parameters are learnable now; who left the cycle is not predicted in it."""
        if len(groups) == len(self.listed) and all(map(_as_listed, groups, self.listed)):
            return
        self.listed = [_list(group) for group in groups]
        self.learnable = live = [p for seen in self.listed for p in seen.learning()]
        if not all(seen.predicted for seen in self.listed):
            out = {id(p) for seen in self.listed if not seen.predicted for p in seen.parameters}
            live = [p for p in live if id(p) not in out]
        if len(live) == len(self.live) and all(map(operator.is_, live, self.live)):
            return
        self.live, self.idle = live, [p for p in live if id(p) not in self.seen]
        self.names = scoring.parameter_names(groups)
        if self.filled:
            self._rest(set(map(id, live)), rules)
            leaving = {id(p) for p in members(self.segments)} - set(map(id, live))
            self.segments = without(self.segments, leaving)

    def _rest(self, staying: set[int], rules: Rules) -> None:
        """Keep what a predictor remembers of the parameters that leave: thawed, they go on."""
        leaving = [p for p in members(self.segments) if id(p) not in staying]
        if leaving and rules.predictor.persistent:
            kept = make_segments(leaving, rules.layout.own, self.precision)
            for buffer in rules.predictor.persistent:
                carry_over(self.segments, kept, buffer)
            self.resting += kept
        there = {id(p) for seen in self.listed for p in seen.parameters}
        gone = {id(p) for p in members(self.resting)} - there
        self.resting = without(self.resting, gone)

    def moved(self) -> bool:
        """Whether any learnable parameter has a gradient; note those that have their first."""
        if self.idle:
            first = {id(p): p for p in self.idle if p.grad is not None}
            if first:
                self.seen.update(first)
                self.idle = [p for p in self.idle if id(p) not in first]
        return any(p.grad is not None for p in self.learnable)

    def _enroll(self, rules: Rules, gradients_to_come: bool) -> None:
        """Choose who takes part: learnable, and has had a gradient."""
        idle = [] if gradients_to_come else self.idle
        current = all(segment.current() for segment in self.segments)
        if current and self.enrolled is not None:
            live, left_out = self.enrolled
            if live is self.live and (left_out is idle or not (left_out or idle)):
                return  # the same lists as last time
        before = set(map(id, members(self.segments)))
        out = set(map(id, idle))
        chosen = {id(p): p for p in self.live if id(p) not in out}  # one listed twice joins once
        self.enrolled = self.live, idle
        if chosen.keys() == before and current:
            return
        self._rest(set(chosen), rules)
        old, self.precision = self.segments, rules.precision()
        self.segments = make_segments(list(chosen.values()), rules.layout.total, self.precision)
        if self.pending is not None:  # they are no part of the prediction that waits for its score
            self.joined |= chosen.keys() - before
        for buffer in self.lasting(rules):
            carry_over(old, self.segments, buffer)
        for buffer in rules.predictor.persistent:
            carry_over(self.resting, self.segments, buffer)
        self.resting = without(self.resting, set(chosen))

    def lasting(self, rules: Rules) -> list[int]:
        """The buffers whose content is needed beyond the running cycle."""
        layout = rules.layout
        waits = self.pending is not None and self.scoring
        score = [layout.score, layout.score + 1] if waits else []
        copy = [layout.copy] if self.copied else []
        return [*rules.predictor.persistent, *copy, *score]

    # --- the points of a cycle ------------------------------------------------------------------

    def observe(
        self, point: int, rules: Rules, state: Mapping[Any, Any], *, gradients_to_come: bool = False
    ) -> None:
        """Take in one point of the cycle."""
        if point == 0:
            self.horizon = rules.horizon(self.steps)
        first = rules.predictor.first_point(self.horizon)
        if first is None:
            return
        if point == (min(first, rules.half_points()[0]) if rules.halves else first):
            self._enroll(rules, gradients_to_come)
            self.filled = bool(self.segments)
        if not self.filled:
            return
        rules.predictor.observe_(point, self._work(rules, state))
        if rules.halves:
            self._observe_halves(point, rules)

    def _observe_halves(self, point: int, rules: Rules) -> None:
        """Build minus the displacements of both halves in two buffers."""
        (start, middle), a = rules.half_points(), rules.layout.halves
        copy, subtract = F.Fold(F.COPY), F.Fold(F.SUBTRACT)
        for segment in self.segments:
            if point == start:
                segment.fold_(copy, a)
            if point == middle:
                segment.fold_(subtract, a)
                segment.fold_(copy, a + 1)
            if point == rules.predictor.every:
                segment.fold_(subtract, a + 1)

    def _work(self, rules: Rules, state: Mapping[Any, Any]) -> Workspace:
        """What the predictor sees: its own buffers, not those of the gate or of scoring."""
        own, segments = rules.layout.own, self.segments
        if own < rules.layout.total:
            segments = [s._replace(flats=s.flats[:own], buffers=s.buffers[:own]) for s in segments]
        cycle = self.cycles + 1
        age = cycle - self.forgotten
        return Workspace(segments, self.horizon, cycle, state, self.written, age)

    # --- its end --------------------------------------------------------------------------------

    def close(self, rules: Rules, state: Mapping[Any, Any]) -> None:
        """The cycle is complete: decide, write, and say so."""
        if not self.filled:
            self._pass(rules)
            return
        clock = time.perf_counter()
        predictor, work = rules.predictor, self._work(rules, state)
        self.cycles += 1
        scale = predictor.finish_(work)
        norms = norm(self.segments)
        finite = self._check_finite(scale, norms)
        # all processes take a sharded norm together, also those on which nobody watches
        wanted = rules.watched or any(segment.groups for segment in self.segments)
        if wanted and (self.size is None or self.cycles % NORM_EVERY == 1):
            self.size = _read(scoring.parameter_norms(self.segments))
        agreement: list[float] = []
        decision = Decision(False, NOT_FINITE, anomaly="non-finite: skip")
        if finite:
            decision = self._decide(rules, scale, norms, agreement)
        else:  # nor may it last in what the predictor remembers
            for segment in self.segments:
                for buffer in predictor.persistent:
                    segment.flats[buffer].zero_()
        if rules.shadow and finite:
            plain = decision.apply and not decision.anomaly
            reason = "shadow" if plain else f"shadow; {decision.reason}"
            decision = decision._replace(apply=False, reason=reason)
        tensors = None
        if rules.tells_tensors(self.cycles):
            tensors = scoring.tensor_metrics(self.segments, self.names, scale * decision.scale)
        if decision.apply:
            decision = self._write(rules, scale, decision)
        self.written = decision.scale if decision.apply else 0.0
        self.writes += decision.apply
        self.copied = decision.apply and rules.withdraws
        if decision.apply:
            predictor.written_(work)
        self.last = _Raw(
            self.steps,
            self.cycles,
            decision,
            scale,
            norms if _on_cpu(norms) else [Readback(value) for value in norms],
            self.horizon,
            agreement[0] if agreement else None,
            self.size if rules.watched else None,
            self.writes / self.cycles,
            1e3 * (time.perf_counter() - clock),
            tensors,
        )
        self._announce(rules, scale)

    def _pass(self, rules: Rules) -> None:
        """A cycle without a prediction: its horizon is 0, or nobody took part."""
        self.cycles += 1
        self.written = 0.0
        if self.cycles % NORM_EVERY == 1:
            self.size = None  # this cycle's turn to take it goes to the next with a prediction
        if rules.schedule is not None:
            self.flush(rules)
            decision = Decision(False, "nothing to predict at this horizon")
            share = self.writes / self.cycles
            self.last = _Raw(
                self.steps,
                self.cycles,
                decision,
                0.0,
                [],
                self.horizon,
                None,
                None,
                share,
                0.0,
                None,
            )
            self.last_told = None
            self._tell(rules, self.last.event())

    def _check_finite(self, scale: float, norms: list[Tensor]) -> bool:
        """Whether the prediction is finite, as far as can be said without waiting.

        On accelerators a jump that is not finite becomes 0, for all segments alike.
        """
        if _on_cpu(norms):
            return math.isfinite(scale) and math.isfinite(total(norms))
        for segment in self.segments:
            device = segment.flats[0].device
            all_norms = sum(value.to(device, non_blocking=True) for value in norms)
            F.zero_unless_finite_(segment.flats[0], all_norms)  # type: ignore[arg-type]
        return math.isfinite(scale)

    def _decide(
        self, rules: Rules, scale: float, norms: list[Tensor], agreement: list[float]
    ) -> Decision:
        if rules.gate is None:
            return Decision(True, "predicted")

        def cosine() -> float:
            if not agreement:
                agreement.append(scoring.halves_cosine(self.segments, rules.layout))
            return agreement[0]

        proposal = Proposal(
            self.steps,
            self.cycles,
            rules.progress(self.steps),
            jump_norm=lambda: abs(scale) * total(norms),
            parameter_norm=lambda: total(scoring.parameter_norms(self.segments)),
            recent_norm=lambda: float(self.size or 0.0),
            agreement=cosine,
        )
        decision = rules.gate.decide(proposal)
        if decision.apply and rules.halves:
            for segment in self.segments:
                rules.gate.refine_(segment, rules.layout.halves)
            if rules.gate.refines:  # parts of the jump are gone
                norms[:] = norm(self.segments)
        return decision

    def _write(self, rules: Rules, scale: float, decision: Decision) -> Decision:
        """Write the jump; take it back if a loss says so."""
        checks = rules.gate.losses() if rules.gate is not None else []
        before = [check.measure() for check in checks]
        for segment in self.segments:
            if rules.keeps_copy:
                segment.fold_(F.Fold(F.COPY), rules.layout.copy)
            F.jump_(segment.points, segment.buffers[0], scale * decision.scale)
        F.forget_copies()
        for check, loss in zip(checks, before, strict=True):
            try:
                after = check.measure()
            except BaseException:  # nobody judged it, so it is not kept
                self._take_back(rules)
                raise
            fired = f"{decision.reason}; " if decision.anomaly else ""
            if not after <= loss + check.tolerance:
                self._take_back(rules)
                reason = f"{fired}the loss rose from {loss:.4g} to {after:.4g}"
                return Decision(False, reason, anomaly=decision.anomaly)
            reason = f"{fired}the loss went from {loss:.4g} to {after:.4g}"
            decision = decision._replace(reason=reason)
        for anomaly in rules.anomalies:
            anomaly.written()
        return decision

    def _take_back(self, rules: Rules) -> None:
        for segment in self.segments:
            torch._foreach_copy_(segment.points, segment.buffers[rules.layout.copy])
        F.forget_copies()

    # --- telling --------------------------------------------------------------------------------

    def _announce(self, rules: Rules, scale: float) -> None:
        """Tell the monitors now, after the next step, or on an accelerator one cycle later."""
        self.joined = set()
        self.scoring = rules.scores(self.cycles)
        if self.scoring:
            scoring.keep(self.segments, rules.layout, scale)
        self.last_told = None
        earlier, self.untold = self.untold, None
        if self.last is not None and (self.scoring or rules.awaits_loss):
            self.pending = self.last.event()
        elif self.last is not None and rules.monitors:
            self.untold = self.last
        if earlier is not None:
            self._tell(rules, earlier.event())
        if self.untold is not None and _arrived(self.untold):
            self.flush(rules)

    def flush(self, rules: Rules) -> None:
        """Tell the monitors what they have not been told yet."""
        (untold, self.untold), (pending, self.pending) = (self.untold, None), (self.pending, None)
        if untold is not None:
            self._tell(rules, untold.event())
        if pending is not None:
            self._tell(rules, pending)

    def watch_loss(self, loss: float, rules: Rules) -> None:
        """Take in a loss at the present parameters; withdraw the last prediction if a rule says so.

        Only the first loss after a prediction, before the next step, can withdraw it.
        """
        first = self.done == 0 and self.written > 0.0
        for anomaly in rules.anomalies:
            fired = anomaly.observe(self.steps, self.cycles, loss, first=first)
            if fired is None:
                continue
            if self.pending is not None:
                self.pending = self.pending.noting(fired.what, fired.why)
            elif self.last_told is not None:  # `flush` has told it before its time
                self.last_told = self.last_told.noting(fired.what, fired.why)
            if fired.action == "withdraw" and self.copied:
                self._withdraw(rules)

    def _withdraw(self, rules: Rules) -> None:
        self._take_back(rules)
        self.written, self.copied = 0.0, False
        self.writes -= 1
        accepted = self.writes / self.cycles
        event, self.pending = self.pending, None
        if event is not None:
            self._tell(rules, event._replace(applied=False, accepted=accepted))
        elif self.last_told is not None:
            self.last_told = self.last_told._replace(applied=False, accepted=accepted)

    def after_step(self, rules: Rules) -> None:
        """The step after a prediction is done: score the prediction, and say so."""
        event, self.pending, self.copied = self.pending, None, False
        if event is None:
            return
        if self.scoring:
            scoring.measure_step(self.segments, rules.layout, self.joined)
            e = rules.predictor.extra_steps_at(event.horizon)
            error, cosine = scoring.score(self.segments, rules.layout, e)
            event = event._replace(error=error, cosine=cosine)
            if event.tensors is not None:
                tensors = scoring.score_tensors(
                    event.tensors, self.segments, self.names, rules.layout, e
                )
                event = event._replace(tensors=tensors)
            for anomaly in rules.anomalies:
                for fired in anomaly.score(event):
                    event = event.noting(fired.what, fired.why)
        self.joined = set()
        self._tell(rules, event)

    def _tell(self, rules: Rules, event: ForecastEvent) -> None:
        self.last_told = event
        for monitor in rules.monitors:
            monitor(event)

    def event(self) -> ForecastEvent | None:
        """The last prediction."""
        if self.pending is not None or self.last is None:
            return self.pending or self.last_told
        if self.last_told is not None and self.last_told.cycle == self.last.cycle:
            return self.last_told
        return self.last.event()

    def waiting(self) -> ForecastEvent | None:
        """The event that the monitors have not been told yet."""
        return self.pending if self.untold is None else self.untold.event()

    # --- copies ---------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            **self.numbers(),
            "pending": self.waiting(),
            "seen": list(self.seen.values()),
            "segments": pack(self.segments),
            "resting": pack(self.resting),
            "precision": self.precision,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.__dict__.update(state)
        self.seen = {id(p): p for p in state["seen"]}
        self.segments = unpack(state["segments"], self.precision)
        self.resting = unpack(state["resting"], self.precision)

    def numbers(self) -> dict[str, Any]:
        """Counters and the like, as plain values."""
        return {
            **{name: getattr(self, name) for name in NUMBERS},
            "size": None if self.size is None else float(self.size),
        }


def _on_cpu(norms: Iterable[Tensor]) -> bool:
    return all(value.device.type == "cpu" for value in norms)


def _arrived(raw: _Raw) -> bool:
    return not any(isinstance(value, Readback) for value in raw.norms)


def _read(norms: Sequence[Tensor]) -> SupportsFloat:
    """The joint norm; on one accelerator, on its way from there."""
    if _on_cpu(norms) or len({value.device for value in norms}) > 1:
        return total(norms)
    return Readback(torch.linalg.vector_norm(torch.stack([value.double() for value in norms])))


def _list(group: Mapping[str, Any]) -> _Listed:
    parameters = list(group["params"])
    learnable = [p.requires_grad for p in parameters]
    return _Listed(parameters, learnable, bool(group.get("forecast", True)))


def _as_listed(group: Mapping[str, Any], listed: _Listed) -> bool:
    """Whether the group is as it was. It looks at every parameter at every step, so it is terse."""
    now, (then, learnable, predicted) = group["params"], listed
    return (
        bool(group.get("forecast", True)) is predicted
        and len(now) == len(then)
        and all(map(operator.is_, now, then))
        and [p.requires_grad for p in now] == learnable
    )
