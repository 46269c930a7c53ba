"""Random sequences of what happens to a wrapper in its life, beside a float64 model of it.

The model keeps every point of the running cycle and every point that was averaged, and computes
predictions and averages by their definitions. Most faults that users met were sequences that no
test had thought of: load after save in one process, freeze after averaging, copy inside a swap.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn

import paramcast as pc
from paramcast import averaging as A
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast.errors import CheckpointError
from paramcast.integrations.checkpoint import CycleState
from reference import through_a_file

TOTAL = 12
RATE, MOMENTUM = 0.1, 0.5
Values = dict[str, Tensor]

# --- the definitions ----------------------------------------------------------------------------


class Rule(NamedTuple):
    """A predictor and its definition."""

    make: Callable[[], P.Predictor]
    first: int  # the point at which it is settled who takes part
    predict: Callable[[list[Tensor], dict[str, Any], int], Tensor]


def midline(points: list[Tensor], memory: dict[str, Any], age: int) -> Tensor:
    return points[3] + (points[2] - points[1]) / 2


def lookahead(points: list[Tensor], memory: dict[str, Any], age: int) -> Tensor:
    return points[0] + 0.5 * (points[2] - points[0])


def outer_nesterov(points: list[Tensor], memory: dict[str, Any], age: int) -> Tensor:
    d = points[0] - points[-1]
    memory["b"] = 0.5 * memory.get("b", 0.0) + d
    return points[0] - 0.7 * (d + 0.5 * memory["b"])


def primal_averaging(points: list[Tensor], memory: dict[str, Any], age: int) -> Tensor:
    """Everything in terms of u = z - x: y = z - beta u, x = y - (1 - beta) u."""
    beta, w = 0.8, 3.0 / (age + 2.0)
    y, u = points[0], memory.get("u", torch.zeros_like(points[0]))
    z, x = y + beta * u, y - (1 - beta) * u
    z = z + (points[1] - points[0])
    x = x + w * (z - x)
    memory["u"] = z - x
    return (1 - beta) * z + beta * x


RULES = {
    "midline": Rule(P.Midline, 1, midline),
    "lookahead": Rule(lambda: P.Interpolate(2, 0.5), 0, lookahead),
    "outer": Rule(lambda: P.OuterNesterov(2, 0.5, 0.7), 0, outer_nesterov),
    "primal": Rule(lambda: P.PrimalAveraging(beta=0.8, eta=2), 0, primal_averaging),
}


def ema(points: list[Tensor], steps: list[int], now: Tensor, step: int) -> Tensor:
    weights = [0.3 * 0.7**i for i in reversed(range(len(points)))]
    return sum(w * p for w, p in zip(weights, points, strict=True)) / sum(weights)


def swa(points: list[Tensor], steps: list[int], now: Tensor, step: int) -> Tensor | None:
    chosen = [p for p, s in zip(points, steps, strict=True) if s >= 2]
    return sum(chosen) / len(chosen) if chosen else None


def lawa(points: list[Tensor], steps: list[int], now: Tensor, step: int) -> Tensor | None:
    """Snapshots at 4, 8 and 12; between two of them the present point stands for the next."""
    chosen = [p for p, s in zip(points, steps, strict=True) if s in (4, 8, 12)]
    if chosen and step <= TOTAL and step not in (4, 8, 12):
        chosen.append(now)
    return sum(chosen) / len(chosen) if chosen else None


def polynomial(points: list[Tensor], steps: list[int], now: Tensor, step: int) -> Tensor:
    average = points[0]
    for t, point in enumerate(points[1:], start=2):
        average = average + 3.0 / (t + 2.0) * (point - average)
    return average


AVERAGES: dict[str, tuple[Callable[[], A.Average | None], Callable[..., Tensor | None]]] = {
    "none": (lambda: None, lambda *_: None),
    "EMA": (lambda: A.EMA(0.7), ema),
    "SWA": (lambda: A.SWA(start=2), swa),
    "LAWA": (lambda: A.LAWA(3, every=4), lawa),
    "PolynomialDecay": (lambda: A.PolynomialDecay(2), polynomial),
}

GATES: dict[str, tuple[Callable[[], G.Gate | None], Callable[[int], bool]]] = {
    "none": (lambda: None, lambda cycle: True),
    "every": (lambda: G.Every(2), lambda cycle: cycle % 2 == 0),
    "withdrawing": (lambda: pc.anomalies.Anomaly(jump=None, loss=1e9), lambda cycle: True),
}


class Setting(NamedTuple):
    """How a wrapper is constructed; all but the predictor may change on resume."""

    rule: str
    average: str
    gate: str
    scored: bool

    def wrap(self, groups: list[dict[str, Any]]) -> pc.Forecast:
        return pc.Forecast(
            torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM),
            RULES[self.rule].make(),
            average=AVERAGES[self.average][0](),
            gate=GATES[self.gate][0](),
            monitors=[M.History(scored=self.scored)],
            total_steps=TOTAL,
        )


class Twin:
    """What a wrapper's weights and averages must be."""

    def __init__(self, setting: Setting, weights: Values) -> None:
        self.setting = setting
        self.theta = {name: w.clone() for name, w in weights.items()}
        self.momenta: Values = {}
        self.learnable = dict.fromkeys(weights, True)
        self.seen: set[str] = set()
        self.memory: dict[str, dict[str, Any]] = {}
        self.steps = self.cycles = self.forgotten = 0
        self.written = False  # whether any prediction ever was
        self.begin()
        self.restart_average()

    def begin(self) -> None:
        self.points: list[Values] = []
        self.members: set[str] | None = None

    def restart(self) -> None:
        self.begin()
        self.memory, self.forgotten = {}, self.cycles

    def restart_average(self) -> None:
        self.history: list[Values] = []
        self.unmet: set[str] = set()  # names that no average has met yet
        self.still = set(self.theta)  # names that did not move in the last step
        self.rounded: set[str] = set()  # names that were rounded while they stood still
        self.at: list[int] = []

    def add(self, name: str, weight: Tensor) -> None:
        self.theta[name], self.learnable[name] = weight.clone(), True
        self.unmet.add(name)
        self.still.add(name)
        for point in self.history:  # what stood still so far
            point[name] = weight.clone()

    def retype(self) -> None:
        self.theta = {n: w.float().double() for n, w in self.theta.items()}
        for point in self.history:
            point.update({n: self.theta[n] for n in self.unmet})
        self.rounded |= self.still

    def settle(self) -> None:
        self.members = {n for n, on in self.learnable.items() if on and n in self.seen}

    def step(self, gradients: Values) -> None:
        rule = RULES[self.setting.rule]
        live = {n: g for n, g in gradients.items() if self.learnable[n]}
        self.seen |= live.keys()
        self.still = self.theta.keys() - live.keys()
        if self.members is not None:
            self.members = {n for n in self.members if self.learnable[n]}
        if len(self.points) <= 1:  # after an empty step it still is where the cycle starts
            self.points = [dict(self.theta)]
            if rule.first == 0:
                self.settle()
        for name, gradient in gradients.items():  # torch moves whatever has a gradient
            old = self.momenta.get(name)
            self.momenta[name] = gradient if old is None else MOMENTUM * old + gradient
            self.theta[name] = self.theta[name] - RATE * self.momenta[name]
        if not live:
            return
        self.steps += 1
        self.points.append(dict(self.theta))
        if len(self.points) - 1 == rule.first:
            self.settle()
        if len(self.points) - 1 == rule.make().every:
            self.close(rule)
        self.history.append(dict(self.theta))
        self.unmet.clear()
        self.at.append(self.steps)

    def close(self, rule: Rule) -> None:
        self.cycles += 1
        written = bool(self.members) and GATES[self.setting.gate][1](self.cycles)
        for name in self.members or ():
            points = [point.get(name, self.theta[name]) for point in self.points]
            memory = self.memory.setdefault(name, {})
            predicted = rule.predict(points, memory, self.cycles - self.forgotten)
            if written:
                self.theta[name] = predicted
        self.written |= written
        self.begin()

    def averaged(self) -> Values | None:
        """The weights to evaluate with, where there are others than the live ones."""
        rule = AVERAGES[self.setting.average][1]
        if self.setting.average != "none":
            if not self.history:
                return None
            shown = {
                name: rule([p[name] for p in self.history], self.at, now, self.steps)
                for name, now in self.theta.items()
            }
            return None if any(value is None for value in shown.values()) else shown
        if self.setting.rule == "primal" and self.written:
            return {
                name: now - 0.2 * self.memory.get(name, {}).get("u", torch.zeros_like(now))
                for name, now in self.theta.items()
            }
        return None


# --- the machine --------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """A wrapper and its twin."""

    predictors: tuple[str, ...] = ("midline", "primal")
    averages: tuple[str, ...] = ("none", "EMA", "LAWA")
    gates: tuple[str, ...] = ("none", "every", "withdrawing")

    @initialize(data=st.data(), scored=st.booleans())
    def start(self, data: st.DataObject, scored: bool) -> None:
        self.setting = Setting(
            data.draw(st.sampled_from(self.predictors)),
            data.draw(st.sampled_from(self.averages)),
            data.draw(st.sampled_from(self.gates)),
            scored,
        )
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
        self.groups = [[name for name, _ in self.model.named_parameters()]]
        self.optimizer = self.setting.wrap(self.made_groups(self.model))
        self.twin = Twin(self.setting, self.weights())
        self.count = 0

    def made_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        by_name = dict(model.named_parameters())
        return [{"params": [by_name[n] for n in names]} for names in self.groups]

    def weights(self, model: nn.Module | None = None) -> Values:
        named = (model or self.model).named_parameters()
        return {name: p.detach().clone() for name, p in named}

    # --- training ---

    @rule(data=st.data(), steps=st.integers(1, 3))
    def train(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            self.count += 1
            generator = torch.Generator().manual_seed(self.count)
            silent = data.draw(st.sampled_from([None, *self.twin.theta]))
            gradients: Values = {}
            for name, p in self.model.named_parameters():
                gradient = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                p.grad = gradient if p.requires_grad and name != silent else None
                if p.grad is not None:
                    gradients[name] = gradient.clone()
            if self.optimizer._settings.anomalies:
                self.optimizer.observe(1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.twin.step(gradients)

    @rule()
    def skip(self) -> None:
        """What a GradScaler does at an infinity: no step; and a step without any gradient."""
        self.optimizer.zero_grad()
        self.optimizer.step()
        self.twin.step({})

    @rule(data=st.data(), on=st.booleans())
    def freeze(self, data: st.DataObject, on: bool) -> None:
        name = data.draw(st.sampled_from([*self.twin.theta]))
        dict(self.model.named_parameters())[name].requires_grad_(on)
        self.twin.learnable[name] = on

    @precondition(lambda self: len(self.groups) < 3)
    @rule()
    def add_group(self) -> None:
        name = f"extra{len(self.groups)}"
        p = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.model.register_parameter(name, p)
        self.optimizer.add_param_group({"params": [p]})
        self.groups.append([name])
        self.twin.add(name, p.detach())

    @rule()
    def retype(self) -> None:
        """To float32 and back: other memory, and rounded weights."""
        self.model.float().double()
        self.twin.retype()

    @rule()
    def restart_cycle(self) -> None:
        self.optimizer.restart_cycle()
        self.twin.restart()

    @rule()
    def restart_average(self) -> None:
        self.optimizer.restart_average()
        self.twin.restart_average()

    # --- saving, loading, copying ---

    @rule(sharded=st.booleans())
    def load_own_state(self, sharded: bool) -> None:
        if sharded:
            state = CycleState(self.model, self.optimizer)
            state.load_state_dict(state.state_dict())
        else:
            self.optimizer.load_state_dict(self.optimizer.state_dict())

    @rule(data=st.data(), gate=st.none() | st.integers(0, 3), scored=st.booleans())
    def resume(self, data: st.DataObject, gate: int | None, scored: bool) -> None:
        """In new objects, from files, perhaps with another gate, monitor or average."""
        old = self.setting
        gates = [*self.gates] if gate is not None else [old.gate]
        average = data.draw(st.sampled_from([old.average, old.average, "none", *self.averages]))
        state = through_a_file(self.optimizer.state_dict())
        if average != old.average and "none" not in (average, old.average):
            other = old._replace(average=average).wrap(self.made_groups(self.model))
            with pytest.raises(CheckpointError, match="use the same average"):
                other.load_state_dict(state)
            average = old.average
        self.setting = old._replace(
            gate=data.draw(st.sampled_from(gates)), scored=scored, average=average
        )
        model = copy.deepcopy(self.model)
        optimizer = self.setting.wrap(self.made_groups(model))
        optimizer.load_state_dict(state)
        self.model, self.optimizer, self.twin.setting = model, optimizer, self.setting
        if average != old.average:
            self.twin.restart_average()

    @rule(pickled=st.booleans(), inside=st.booleans())
    def copied(self, pickled: bool, inside: bool) -> None:
        make = (lambda x: pickle.loads(pickle.dumps(x))) if pickled else copy.deepcopy
        averaged = self.twin.averaged()
        if not inside or averaged is None:  # nothing is swapped
            self.model, self.optimizer = make((self.model, self.optimizer))
            return
        with self.optimizer.eval_weights():
            self.model, self.optimizer = make((self.model, self.optimizer))
        here = self.weights()
        self.twin.theta = averaged | {name: here[name] for name in self.twin.rounded}
        self.twin.restart()

    # --- evaluating ---

    @precondition(lambda self: self.setting.average == "none" or self.twin.averaged() is not None)
    @rule(fails=st.booleans(), estimates=st.booleans(), autocast=st.booleans())
    def evaluate(self, fails: bool, estimates: bool, autocast: bool) -> None:
        before = {k: v.clone() for k, v in self.model.state_dict().items()}
        inputs = torch.randn(4, 2, dtype=torch.float64)
        data = {"update_bn": [inputs]} if estimates else {}
        ends = (
            pytest.raises(OSError, match="the disk is full") if fails else contextlib.nullcontext()
        )
        half = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
        with half, ends, self.optimizer.eval_weights(self.model, **data):
            found, expected = self.weights(), {**(self.twin.averaged() or self.twin.theta)}
            for name in self.twin.rounded:  # the average of what stood still: before or after it
                torch.testing.assert_close(found[name], expected.pop(name), rtol=1e-6, atol=1e-7)
                del found[name]
            self.assert_close(found, expected)
            if fails:
                raise OSError("the disk is full")
        for name, value in self.model.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert self.model.training

    @invariant()
    def as_the_twin_says(self) -> None:
        if not hasattr(self, "optimizer"):
            return
        self.assert_close(self.weights(), self.twin.theta)
        assert self.optimizer.has_average is (self.twin.averaged() is not None)
        cycle = self.optimizer._cycle
        counted = max(len(self.twin.points) - 1, 0)
        assert (cycle.steps, cycle.cycles, cycle.done) == (
            *(self.twin.steps, self.twin.cycles),
            counted,
        )

    @staticmethod
    def assert_close(found: Values, expected: Values) -> None:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


class EveryLife(Life):
    """The same with all predictors, averages and gates."""

    predictors, averages = tuple(RULES), tuple(AVERAGES)
    gates = ("none", "every", "withdrawing")


def run(machine: type[RuleBasedStateMachine], sequences: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    chosen = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_a_wrapper_lives_as_its_twin_does() -> None:
    run(Life, 60, 25)


@pytest.mark.slow
def test_every_wrapper_lives_as_its_twin_does() -> None:
    run(EveryLife, int(os.environ.get("PARAMCAST_SEQUENCES", "100000")), 30)
