"""The running cycle: who takes part, their buffers, the decision, and what is saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import functional as F
from .events import Decision, ForecastEvent, Proposal
from .predictors import Workspace
from .rules import Rules
from .saving import FORMAT, NUMBERS
from .segments import Segment, all_parameters, carry_over, dot, make_segments, members, norm, total

NOT_FINITE = "the prediction is not finite"


class _Raw(NamedTuple):
    """A prediction whose norms may still be on their devices."""

    step: int
    cycle: int
    decision: Decision
    scale: float
    norms: list[Tensor]
    horizon: float | None
    agreement: list[float]
    scored: ForecastEvent | None = None

    def event(self) -> ForecastEvent:
        jump = abs(self.scale * self.decision.scale) * total(self.norms)
        finite = math.isfinite(jump)
        return ForecastEvent(
            self.step,
            self.cycle,
            self.decision.apply and finite,
            self.decision.reason if finite else NOT_FINITE,
            jump,
            self.horizon,
            self.agreement[0] if self.agreement else None,
        )


class Cycle:
    """Everything that changes while a Forecast runs.

    One object, held for good and mutated in place: frameworks copy the wrapper's attributes into
    objects of their own and run our methods on those.
    """

    def __init__(self) -> None:
        self.steps = 0  # completed steps, over all cycles
        self.cycles = 0  # finished cycles
        self.done = 0  # completed steps of the running cycle
        self.horizon: float | None = None  # of the running cycle
        self.written = 0.0  # how much of the last jump was written
        self.filled = False  # whether the buffers hold points of the running cycle
        self.pending: ForecastEvent | None = None  # waits to be scored by the next step
        self.learnable: list[Tensor] = []  # learnable parameters at the last step
        self.live: list[Tensor] = []  # those of them that are predicted
        self.idle: list[Tensor] = []  # those of them that have had no gradient so far
        self.seen: dict[int, Tensor] = {}  # all that have had one, by id
        self.precision: torch.dtype | None = None  # the narrowest dtype of the buffers
        self.segments: list[Segment] = []  # of the parameters that take part
        self.joined: set[int] = set()  # ids of those that joined since the last prediction
        self.last: _Raw | None = None

    def begin(self) -> None:
        """Start a new cycle where the last one ended."""
        self.done, self.filled = 0, False

    def restart(self) -> None:
        """Forget the running cycle and, with it, what was learnt in earlier ones."""
        self.begin()
        self.pending, self.written = None, 0.0
        for segment in self.segments:
            for flat in segment.flats:
                flat.zero_()

    def follow(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Note which parameters are learnable now; who left the cycle is not predicted in it."""
        groups = list(groups)
        self.learnable = live = [p for g in groups for p in g["params"] if p.requires_grad]
        if not all(group.get("forecast", True) for group in groups):
            out = {id(p) for g in groups if not g.get("forecast", True) for p in g["params"]}
            live = [p for p in live if id(p) not in out]
        if len(live) == len(self.live) and all(map(_same, live, self.live)):
            return
        self.live, self.idle = live, [p for p in live if id(p) not in self.seen]
        if self.filled:
            leaving = {id(p) for p in members(self.segments)} - set(map(id, live))
            left = [segment.without(leaving) for segment in self.segments]
            self.segments = [segment for segment in left if segment.parameters]

    def moved(self) -> bool:
        """Whether any learnable parameter has a gradient; note those that have their first."""
        if self.idle:
            self.seen.update((id(p), p) for p in self.idle if p.grad is not None)
            self.idle = [p for p in self.idle if p.grad is None]
        return any(p.grad is not None for p in self.learnable)

    def observe(
        self, point: int, rules: Rules, state: Mapping[Any, Any], *, gradients_to_come: bool = False
    ) -> None:
        """Take in one point of the cycle."""
        if point == 0:
            self.horizon = rules.horizon(self.steps)
        first = rules.predictor.first_point(self.horizon)
        if first is None:
            return
        start, middle = rules.half_points()
        if point == (min(first, start) if rules.halves else first):
            self._enroll(rules, gradients_to_come)
            self.filled = bool(self.segments)
        if not self.filled:
            return
        rules.predictor.observe_(point, self._work(rules, state))
        if rules.halves:
            self._observe_halves(point, start, middle, rules)

    def _observe_halves(self, point: int, start: int, middle: int, rules: Rules) -> None:
        """Build minus the displacements of both halves in two buffers."""
        a = rules.predictor.buffers
        copy, subtract = F.Fold(F.COPY), F.Fold(F.SUBTRACT)
        for segment in self.segments:
            if point == start:
                F.fold_(copy, segment.buffers[a], segment.points)
            if point == middle:
                F.fold_(subtract, segment.buffers[a], segment.points)
                F.fold_(copy, segment.buffers[a + 1], segment.points)
            if point == rules.predictor.every:
                F.fold_(subtract, segment.buffers[a + 1], segment.points)

    def _enroll(self, rules: Rules, gradients_to_come: bool) -> None:
        """Choose who takes part: learnable, and has had a gradient."""
        before = set(map(id, members(self.segments)))
        idle = set() if gradients_to_come else set(map(id, self.idle))
        chosen = {id(p): p for p in self.live if id(p) not in idle}  # one listed twice joins once
        if chosen.keys() == before and all(segment.current() for segment in self.segments):
            return
        old, self.precision = self.segments, rules.precision()
        self.segments = make_segments(list(chosen.values()), rules.buffers(), self.precision)
        if self.pending is not None:  # they are no part of the prediction that waits for its score
            self.joined |= chosen.keys() - before
        for buffer in self._lasting(rules):
            carry_over(old, self.segments, buffer)

    def _lasting(self, rules: Rules) -> list[int]:
        """The buffers whose content is needed beyond the running cycle."""
        score = [rules.buffers() - 2, rules.buffers() - 1] if self.pending is not None else []
        withdraws = any(anomaly.withdraws for anomaly in rules.anomalies)
        kept = [rules.predictor.buffers + 2 * rules.halves] if withdraws else []
        return [*rules.predictor.persistent, *kept, *score]

    def _work(self, rules: Rules, state: Mapping[Any, Any]) -> Workspace:
        """What the predictor sees: its own buffers, not those of the gate or of scoring."""
        own = rules.predictor.buffers
        segments = [s._replace(flats=s.flats[:own], buffers=s.buffers[:own]) for s in self.segments]
        return Workspace(segments, self.horizon, self.cycles + 1, state, self.written)

    def close(self, rules: Rules, state: Mapping[Any, Any]) -> None:
        """The cycle is complete: decide, write, and say so."""
        predictor, work = rules.predictor, self._work(rules, state)
        self.cycles += 1
        scale = predictor.finish_(work)
        norms = norm(self.segments)
        on_cpu = all(value.device.type == "cpu" for value in norms)
        finite = math.isfinite(scale) and (not on_cpu or math.isfinite(total(norms)))
        if not on_cpu:  # decided on the devices, for all segments alike, without waiting
            for segment in self.segments:
                device = segment.flats[0].device
                all_norms = sum(value.to(device, non_blocking=True) for value in norms)
                F.zero_unless_finite_(segment.flats[0], all_norms)  # type: ignore[arg-type]
        agreement: list[float] = []
        decision = Decision(False, NOT_FINITE)
        if finite:
            decision = self._decide(rules, scale, norms, agreement)
        else:  # nor may it last in what the predictor remembers
            for segment in self.segments:
                for buffer in predictor.persistent:
                    segment.flats[buffer].zero_()
        if rules.shadow and finite:
            decision = Decision(False, "shadow")
        if decision.apply:
            decision = self._write(rules, scale, decision)
        self.written = decision.scale if decision.apply else 0.0
        if decision.apply:
            predictor.written_(work)
        self.last = _Raw(self.steps, self.cycles, decision, scale, norms, self.horizon, agreement)
        if rules.scored:
            self._keep_for_scoring(rules, scale)
        elif rules.monitors:
            self._tell(rules, self.last.event())

    def _decide(
        self, rules: Rules, scale: float, norms: list[Tensor], agreement: list[float]
    ) -> Decision:
        if rules.gate is None:
            return Decision(True, "predicted")
        a = rules.predictor.buffers

        def cosine() -> float:
            if not agreement:
                agreement.append(_cosine(self.segments, a, a + 1))
            return agreement[0]

        proposal = Proposal(
            self.steps,
            self.cycles,
            rules.progress(self.steps),
            jump_norm=lambda: abs(scale) * total(norms),
            parameter_norm=lambda: total(
                F.buffer_norm(point) for segment in self.segments for point in segment.points
            ),
            agreement=cosine,
        )
        decision = rules.gate.decide(proposal)
        if decision.apply and rules.halves:
            for segment in self.segments:
                rules.gate.refine_(segment.buffers[0], segment.buffers[a], segment.buffers[a + 1])
            if rules.gate.refines:  # parts of the jump are gone
                norms[:] = norm(self.segments)
        return decision

    def _write(self, rules: Rules, scale: float, decision: Decision) -> Decision:
        """Write the jump; take it back if a loss says so."""
        checks = rules.gate.losses() if rules.gate is not None else []
        kept = rules.predictor.buffers + 2 * rules.halves
        before = [check.measure() for check in checks]
        for segment in self.segments:
            if rules.checks:
                torch._foreach_copy_(segment.buffers[kept], segment.points)
            F.jump_(segment.points, segment.buffers[0], scale * decision.scale)
        for check, loss in zip(checks, before, strict=True):
            try:
                after = check.measure()
            except BaseException:  # nobody judged it, so it is not kept
                self._take_back(kept)
                raise
            if not after <= loss + check.tolerance:
                self._take_back(kept)
                return Decision(False, f"the loss rose from {loss:.4g} to {after:.4g}")
            decision = decision._replace(reason=f"the loss went from {loss:.4g} to {after:.4g}")
        for anomaly in rules.anomalies:
            anomaly.written()
        return decision

    def _take_back(self, kept: int) -> None:
        for segment in self.segments:
            torch._foreach_copy_(segment.points, segment.buffers[kept])

    def watch_loss(self, loss: float, rules: Rules) -> None:
        """Take in a loss at the present parameters; withdraw the last prediction if a rule says so.

        Only the first loss after a prediction, before the next step, can withdraw it.
        """
        first = self.done == 0 and self.written > 0.0
        withdraw = [a.observe(self.steps, loss, first=first) for a in rules.anomalies]
        if any(withdraw):
            self._take_back(rules.predictor.buffers + 2 * rules.halves)
            self.written = 0.0
            self.pending = None
            if self.last is not None:
                reason = f"withdrawn: the loss jumped to {loss:.4g}"
                event = self.last.event()._replace(applied=False, reason=reason)
                self.last = self.last._replace(scored=event)
                self._tell(rules, event)

    def _keep_for_scoring(self, rules: Rules, scale: float) -> None:
        jump, point = rules.buffers() - 2, rules.buffers() - 1
        for segment in self.segments:
            torch._foreach_copy_(segment.buffers[jump], segment.buffers[0])
            torch._foreach_mul_(segment.buffers[jump], scale)
            F.fold_(F.Fold(F.COPY), segment.buffers[point], segment.points)
        self.pending = self.last.event() if self.last is not None else None

    def score(self, rules: Rules) -> None:
        """Compare the waiting prediction with the step that followed it."""
        if self.pending is None:
            return
        jump, point = rules.buffers() - 2, rules.buffers() - 1
        for segment in self.segments:
            F.fold_(F.Fold(F.SUBTRACT), segment.buffers[point], segment.points)  # minus d
            for p, view in zip(segment.parameters, segment.buffers[point], strict=True):
                if id(p) in self.joined:
                    view.zero_()
        self.joined = set()
        along = -dot(self.segments, jump, point)
        length, step = total(norm(self.segments, jump)), total(norm(self.segments, point))
        e = rules.predictor.extra_steps_at(self.pending.horizon)
        error = cosine = None
        if math.isfinite(self.pending.jump_norm) and math.isfinite(step):
            gap = math.sqrt(max(0.0, length**2 - 2 * e * along + (e * step) ** 2))
            error = gap / abs(e * step) if e * step else None
            cosine = along / (length * step) if length * step else None
        event = self.pending._replace(error=error, cosine=cosine)
        self.pending = None
        if self.last is not None:
            self.last = self.last._replace(scored=event)
        for anomaly in rules.anomalies:
            anomaly.score(event)
        self._tell(rules, event)

    def _tell(self, rules: Rules, event: ForecastEvent) -> None:
        for monitor in rules.monitors:
            monitor(event)

    def event(self) -> ForecastEvent | None:
        """The last prediction."""
        return None if self.last is None else self.last.scored or self.last.event()

    # --- saving and loading ---------------------------------------------------------------------

    def state_dict(self, rules: Rules, groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The cycle as plain values and tensors, in group order."""
        parameters = all_parameters(groups)
        rows = {
            id(p): [views[i] for views in segment.buffers]
            for segment in self.segments
            for i, p in enumerate(segment.parameters)
        }
        needed = self.filled or bool(self._lasting(rules))
        return {
            "format": FORMAT,
            "predictor": repr(rules.predictor),
            **{name: getattr(self, name) for name in NUMBERS},
            "pending": None if self.pending is None else list(self.pending),
            "members": [id(p) in rows for p in parameters],
            "seen": [id(p) in self.seen for p in parameters],
            "buffers": [rows.get(id(p)) if needed else None for p in parameters],
            "anomalies": [anomaly.state_dict() for anomaly in rules.anomalies],
        }

    def load_state_dict(
        self, saved: Mapping[str, Any], rules: Rules, parameters: Sequence[Tensor]
    ) -> None:
        """Take over a state that `check_saved` has accepted."""
        for name in NUMBERS:
            setattr(self, name, saved[name])
        self.pending = None if saved["pending"] is None else ForecastEvent(*saved["pending"])
        taking_part = [p for p, m in zip(parameters, saved["members"], strict=True) if m]
        self.precision = rules.precision()
        self.segments = make_segments(taking_part, rules.buffers(), self.precision)
        self.seen = {id(p): p for p, s in zip(parameters, saved["seen"], strict=True) if s}
        self.live, self.idle = [], []  # whoever was frozen since then leaves at the next step
        self.last = None
        for anomaly, state in zip(rules.anomalies, saved["anomalies"], strict=True):
            anomaly.load_state_dict(state)
        rows = {id(p): row for p, row in zip(parameters, saved["buffers"], strict=True)}
        for segment in self.segments:
            for i, p in enumerate(segment.parameters):
                for views, buffer in zip(segment.buffers, rows[id(p)] or [], strict=False):
                    views[i].copy_(buffer)

    def __getstate__(self) -> dict[str, Any]:
        # Pickle would tear the views from their flat tensors, so each parameter's buffers travel.
        return {
            **{name: getattr(self, name) for name in NUMBERS},
            "pending": self.pending,
            "seen": list(self.seen.values()),
            "members": members(self.segments),
            "rows": [
                [views[i].clone() for views in segment.buffers]
                for segment in self.segments
                for i in range(len(segment.parameters))
            ],
            "precision": self.precision,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        taking_part, rows = state.pop("members"), state.pop("rows")
        self.__dict__.update(state)
        self.seen = {id(p): p for p in state["seen"]}
        self.live, self.learnable, self.idle, self.joined = [], [], [], set()
        count = len(rows[0]) if rows else 0
        self.last = None
        self.segments = make_segments(taking_part, count, self.precision)
        by_id = dict(zip(map(id, taking_part), rows, strict=True))
        for segment in self.segments:
            for i, p in enumerate(segment.parameters):
                for views, buffer in zip(segment.buffers, by_id[id(p)], strict=True):
                    views[i].copy_(buffer)


def _cosine(segments: Sequence[Segment], a: int, b: int) -> float:
    lengths = total(norm(segments, a)) * total(norm(segments, b))
    return dot(segments, a, b) / lengths if lengths else 0.0


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b
