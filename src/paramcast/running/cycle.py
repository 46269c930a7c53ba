"""The cycle: its points, and at its end the prediction, the decision and the write."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, SupportsFloat

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..anomalies import FEW
from ..events import NOT_FINITE_SKIPPED, Decision, Proposal
from ..predictors import Workspace
from ..tensors import functional as F
from ..tensors.segments import Readback, dot, forget_copies, jump_, norm, parameter_norms, total
from .members import Members
from .settings import Settings
from .telling import NOT_FINITE, Prediction, Telling

_log = logging.getLogger("paramcast")
# Cycles between two norms of the parameters: a norm costs a sixth of a prediction.
NORM_EVERY = 16


class Cycle:
    """What changes while a wrapper runs, except the average.

    Each step of the base runs `start` (only before the first of a cycle), the base's own step, and
    `count`; the last `count` of a cycle closes it. There is one object, kept for good and mutated
    in place: frameworks copy the wrapper's attributes into objects of their own and run our methods
    on those.

    Attributes:
        steps: completed steps, over all cycles.
        cycles, forgotten: finished cycles, and how many of them before the last restart.
        done: completed steps of the running cycle.
        writes: predictions written.
        horizon: of the running cycle.
        written: how much of the last jump was written.
        copied: whether the copy from before the last jump may be restored.
        size: the parameters' norm when it was last taken.
    """

    def __init__(self, settings: Settings, base: Optimizer) -> None:
        self.settings, self.base = settings, base
        self.members = Members(settings)
        self.telling = Telling(settings, self.members)
        self.warned = False  # that none was written
        self.steps = self.cycles = self.forgotten = self.done = self.writes = 0
        self.horizon: float | None = None
        self.written = 0.0
        self.copied = False
        self.size: SupportsFloat | None = None
        self._first: int | None = None  # the point that first needs buffers; None: nothing ever
        self._joining = 0  # the point at which the members are settled

    # --- from step to step ----------------------------------------------------------------------

    def start(self, *, gradients_to_come: bool) -> None:
        """Before the first step of a cycle: read the horizon, and take in the point theta_0."""
        horizon = self.settings.predictor.horizon
        if self.settings.schedule is not None:
            horizon = self.settings.scheduled(self.steps)
        self._aim(horizon)
        self._observe(0, gradients_to_come=gradients_to_come)

    def _aim(self, horizon: float | None) -> None:
        """Set the horizon of the running cycle, and what follows from it."""
        settings = self.settings
        self.horizon, self._first = horizon, settings.predictor.first_point(horizon)
        if self._first is not None:
            # parameters may join until the first point that a buffer must hold
            self._joining = self._first
            if settings.halves:
                self._joining = min(self._first, settings.half_points()[0])

    def count(self) -> None:
        """A step is complete; a loss or a monitor may fail, and the cycle still goes on."""
        self.steps += 1
        self.done += 1
        self.copied = False  # the parameters now differ from it by more than the last jump
        try:
            if self.telling.pending is not None:
                self.telling.after_step()
        finally:
            work = self._observe(self.done)
            if self.done == self.settings.predictor.every:
                try:
                    self._pass() if work is None else self._close(work)
                finally:
                    self.begin()

    def begin(self) -> None:
        """Start a new cycle where the last one ended."""
        self.done, self.members.filled = 0, False

    def restart(self) -> None:
        """Forget the running cycle and, with it, what was learnt in earlier ones."""
        self.done, self.forgotten = 0, self.cycles
        self.written, self.size, self.copied = 0.0, None, False
        self.telling.pending = None
        self.members.forget()

    # --- the points -----------------------------------------------------------------------------

    def _observe(self, point: int, *, gradients_to_come: bool = False) -> Workspace | None:
        """Take in one point of the cycle; return what the predictor sees, None if nothing yet."""
        if self._first is None:
            return None
        members, settings = self.members, self.settings
        if point == self._joining:
            waiting = self.telling.pending is not None
            # the buffers, besides the predictor's own, whose content outlasts the cycle
            layout = settings.layout
            lasting = [layout.copy] if self.copied else []
            if waiting and self.telling.scoring:
                lasting += [layout.score, layout.score + 1]
            members.enroll(lasting, gradients_to_come=gradients_to_come, waiting=waiting)
        if not members.filled:
            return None
        work = self._work()
        settings.predictor.observe_(point, work)
        if settings.halves:
            self._observe_halves(point)
        return work

    def _observe_halves(self, point: int) -> None:
        """Build minus the displacements of both halves in two buffers."""
        (start, middle), a = self.settings.half_points(), self.settings.layout.halves
        copy, subtract = F.Fold(F.COPY), F.Fold(F.SUBTRACT)
        for segment in self.members.segments:
            if point == start:
                segment.fold_(copy, a)
            if point == middle:
                segment.fold_(subtract, a)
                segment.fold_(copy, a + 1)
            if point == self.settings.predictor.every:
                segment.fold_(subtract, a + 1)

    def _work(self) -> Workspace:
        """What the predictor sees: its own buffers, not those of the gate or of scoring."""
        layout, segments = self.settings.layout, self.members.segments
        own = layout.own
        if own < layout.total:
            segments = [s._replace(flats=s.flats[:own], buffers=s.buffers[:own]) for s in segments]
        cycle = self.cycles + 1
        age = cycle - self.forgotten
        return Workspace(segments, self.horizon, cycle, self.base.state, self.written, age)

    # --- its end --------------------------------------------------------------------------------

    def _close(self, work: Workspace) -> None:
        """The cycle is complete: predict, decide, write, and report."""
        settings, members = self.settings, self.members
        clock = time.perf_counter()
        predictor, segments = settings.predictor, members.segments
        self.cycles += 1

        # predict: now the jump is scale times buffer 0
        scale = predictor.finish_(work)
        norms = norm(segments)
        finite, near = math.isfinite(scale), _on_cpu(norms)
        if near:
            finite = finite and math.isfinite(total(norms))
        else:  # without waiting: a jump that is not finite becomes 0, in all segments alike
            for segment in segments:
                device = segment.flats[0].device
                all_norms = sum(value.to(device, non_blocking=True) for value in norms)
                segment.flats[0].masked_fill_(~torch.isfinite(all_norms), 0.0)  # type: ignore[arg-type]
        # all processes take a sharded norm together, even those that are not watched
        if settings.watched or any(segment.groups for segment in segments):
            self._take_size()

        # decide
        agreement = None
        decision = Decision(False, NOT_FINITE, fired=NOT_FINITE_SKIPPED)
        if finite:
            decision, agreement = self._decide(scale, norms)
        else:  # nor may it persist in the predictor's memory
            for segment in segments:
                for buffer in predictor.persistent:
                    segment.flats[buffer].zero_()
        if settings.shadow and finite:
            plain = decision.apply and not decision.fired
            reason = "shadow" if plain else f"shadow; {decision.reason}"
            decision = decision._replace(apply=False, reason=reason)

        # write: now the parameters are where the next cycle starts
        if decision.apply:
            decision = self._write(scale, decision)
        self.written = decision.scale if decision.apply else 0.0
        self.writes += decision.apply
        self.copied = decision.apply and settings.withdraws
        if decision.apply and predictor.adjusts_base:
            predictor.written_(work)

        # report
        self.telling.last = Prediction(
            self.steps,
            self.cycles,
            decision,
            scale,
            norms if near else [Readback(value) for value in norms],
            self.horizon,
            agreement,
            self.size if settings.watched else None,
            self.writes / self.cycles,
            1e3 * (time.perf_counter() - clock),
        )
        if settings.watched or settings.shadow:
            self.telling.announce(self.telling.last)

    def ended(self) -> None:
        """At the end of a run: warn, once, if nearly all predictions were refused as too long."""
        # a rule that pauses or switches off has said so itself
        refused = any(rules.fired for rules in self.settings.anomalies if rules.skips)
        if refused and self.writes <= FEW * self.cycles and not self.warned:
            self.warned = True
            _log.warning(
                "%d of %d predictions were written: the learning rate is too high for jumps of "
                "this length, or the run is short; the gate is %r",
                *(self.writes, self.cycles, self.settings.gate),
            )

    def _pass(self) -> None:
        """A cycle without a prediction: its horizon is 0, or no parameter took part."""
        self.cycles += 1
        self.written = 0.0
        if self.cycles % NORM_EVERY == 1:
            self.size = None  # it was due now: the next cycle with a prediction takes it
        if self.settings.schedule is not None:
            decision = Decision(False, "nothing to predict at this horizon")
            accepted = self.writes / self.cycles
            nothing: Any = (0.0, [], self.horizon, None, None, accepted, 0.0)
            self.telling.passed(Prediction(self.steps, self.cycles, decision, *nothing))

    def _take_size(self) -> None:
        """Take the parameters' norm if it is due; from a single accelerator, without waiting."""
        if self.size is None or self.cycles % NORM_EVERY == 1:
            norms = parameter_norms(self.members.segments)
            if _on_cpu(norms) or len({value.device for value in norms}) > 1:
                self.size = total(norms)
            else:
                wide = torch.stack([value.double() for value in norms])
                self.size = Readback(torch.linalg.vector_norm(wide))

    def _decide(self, scale: float, norms: list[Tensor]) -> tuple[Decision, float | None]:
        """Ask the gate; return its decision, and the cosine of the cycle's halves if it asked."""
        settings, segments = self.settings, self.members.segments
        gate = settings.gate
        if gate is None:
            return Decision(True, "predicted"), None
        # over all parameters, so asked for at most once
        cosines: list[float] = []

        def agreement() -> float:
            if not cosines:
                a, b = settings.layout.halves, settings.layout.halves + 1  # minus both halves
                lengths = total(norm(segments, a)) * total(norm(segments, b))
                cosines.append(dot(segments, a, b) / lengths if lengths else 0.0)
            return cosines[0]

        proposal = Proposal(
            self.steps,
            self.cycles,
            settings.progress(self.steps),
            jump_norm=lambda: abs(scale) * total(norms),
            parameter_norm=lambda: total(parameter_norms(segments)),
            recent_norm=lambda: float(self.size or 0.0),
            agreement=agreement,
        )
        return gate.decide(proposal), cosines[0] if cosines else None

    def _write(self, scale: float, decision: Decision) -> Decision:
        """Write the jump; take it back if a loss says so."""
        settings = self.settings
        checks = settings.loss_checks
        # the losses at the base's point, which the prediction must not raise
        before = [check.measure() for check in checks]
        for segment in self.members.segments:
            if settings.layout.score > settings.layout.copy:  # the jump may be taken back
                segment.fold_(F.Fold(F.COPY), settings.layout.copy)
            jump_(segment.points, segment.buffers[0], scale * decision.scale)
        forget_copies()
        for check, loss in zip(checks, before, strict=True):
            try:
                after = check.measure()
            except BaseException:  # no loss has judged it, so it is not kept
                self._take_back()
                raise
            fired = f"{decision.reason}; " if decision.fired else ""
            # "not <=" rather than ">": a loss of NaN takes the prediction back, too
            if not after <= loss + check.tolerance:
                self._take_back()
                reason = f"{fired}the loss rose from {loss:.4g} to {after:.4g}"
                return Decision(False, reason, fired=decision.fired)
            reason = f"{fired}the loss went from {loss:.4g} to {after:.4g}"
            decision = decision._replace(reason=reason)
        for anomaly in settings.anomalies:
            anomaly.written()
        return decision

    def _take_back(self) -> None:
        for segment in self.members.segments:
            torch._foreach_copy_(segment.points, segment.buffers[self.settings.layout.copy])
        forget_copies()

    # --- a loss that comes later ----------------------------------------------------------------

    def watch_loss(self, loss: float) -> None:
        """Take in a loss at the current parameters; withdraw the last prediction if a rule says so.

        Only the first loss after a prediction, before the next step, can withdraw it.
        """
        # no step since the jump was written: this is the loss of the predicted parameters
        first = self.done == 0 and self.written > 0.0
        for anomaly in self.settings.anomalies:
            fired = anomaly.observe(self.steps, self.cycles, loss, first=first)
            if fired is None:
                continue
            self.telling.note(fired)
            if fired.action == "withdraw" and self.copied:
                self._take_back()
                self.written, self.copied = 0.0, False
                self.writes -= 1
                self.telling.withdrawn(self.writes / self.cycles)

    # --- copies and saved forms -----------------------------------------------------------------

    def numbers(self) -> dict[str, Any]:
        """Counters and the like, as plain values."""
        return {
            **{name: getattr(self, name) for name in NUMBERS},
            "filled": self.members.filled,
            "scoring": self.telling.scoring,
            "size": None if self.size is None else float(self.size),
        }

    def set_numbers(self, saved: Mapping[str, Any]) -> None:
        """Restore what `numbers` returned."""
        for name in NUMBERS:
            setattr(self, name, saved[name])
        self.members.filled, self.telling.scoring = saved["filled"], saved["scoring"]
        self.size = saved["size"]
        self._aim(saved["horizon"])

    def __getstate__(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("settings", "base", "members", "telling")}
        return {**parts, "steps": self.steps, **self.numbers()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"], state["base"])  # type: ignore[misc]
        self.members, self.telling = state["members"], state["telling"]
        self.steps = state["steps"]
        self.set_numbers(state)


# Attributes of a cycle that are plain values; `steps` belongs to the run.
NUMBERS = ("cycles", "forgotten", "done", "writes", "written", "copied", "horizon")


def _on_cpu(norms: Iterable[Tensor]) -> bool:
    return all(value.device.type == "cpu" for value in norms)
