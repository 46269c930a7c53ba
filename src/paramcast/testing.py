"""The conformance suite: laws that every predictor, gate and average obeys, ours or yours.

Subclass one of the classes in a pytest file and say how to make the part; each law is a test:

    from paramcast.testing import PredictorConformance

    class TestMine(PredictorConformance):
        def predictor(self):
            return Mine(window=4)

It needs nothing but torch and pytest.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from .averaging import Average
from .forecast import Forecast
from .gates import Every, Gate
from .predictors import Midline, Predictor

# Steps of the short runs; longer than two cycles of most predictors.
STEPS = 13
BASES: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
    "adamw": lambda parameters: AdamW(parameters, lr=0.01),
}


class ForecastConformance(ABC):
    """Laws of the whole wrapper; override `wrap`."""

    @abstractmethod
    def wrap(self, base: Optimizer) -> Forecast:
        """A fresh wrapper around a base optimizer, with the part under test."""

    # --- laws -----------------------------------------------------------------------------------

    def test_a_run_resumes_bitwise_at_every_cut(self) -> None:
        """Saved and loaded into fresh objects after any step, a run goes on as if uninterrupted."""
        for make in BASES.values():
            model, optimizer = self._new(make)
            saved = []
            for step in range(STEPS):
                saved.append(_through_file((model.state_dict(), optimizer.state_dict())))
                _train(model, optimizer, step)
            # a run that begins at the cut must end where the whole one did
            for cut, (weights, state) in enumerate(saved):  # into fresh objects
                resumed, again = self._new(make)
                resumed.load_state_dict(weights)
                again.load_state_dict(state)
                for step in range(cut, STEPS):
                    _train(resumed, again, step)
                _assert_same(model, resumed, f"resumed after {cut} steps")

    def test_copies_and_pickles_go_on_alike(self) -> None:
        """A deep copy and an unpickled twin, made mid-cycle, take the same steps."""
        for step in range(STEPS // 2):
            model, optimizer = self._new(BASES["sgd"], steps=step)
            pickled = pickle.dumps((model, optimizer))
            twins = [copy.deepcopy((model, optimizer)), pickle.loads(pickled)]  # nosec B301 # noqa: S301 - ours
            for m, o in (*twins, (model, optimizer)):
                for later in range(step, STEPS):
                    _train(m, o, later)
            for twin, _ in twins:
                _assert_same(model, twin, f"copied after {step} steps")

    def test_the_grouping_of_parameters_does_not_matter(self) -> None:
        """The same parameters in one group or in one group each take the same path."""
        model, optimizer = self._new(BASES["sgd"])
        apart = copy.deepcopy(model)
        groups = [{"params": [p]} for p in apart.parameters()]
        other = self.wrap(BASES["sgd"](groups))
        for step in range(STEPS):
            _train(model, optimizer, step)
            _train(apart, other, step)
        for a, b in zip(model.parameters(), apart.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)

    def test_checkpoints_are_exchanged_with_the_bare_base(self) -> None:
        """The base loads the wrapper's state dict, and the wrapper the base's."""
        for make in BASES.values():
            model, optimizer = self._new(make, steps=STEPS)
            bare = make(model.parameters())
            bare.load_state_dict(_through_file(optimizer.state_dict()))
            optimizer.load_state_dict(_through_file(bare.state_dict()))
            assert optimizer.param_groups[0]["lr"] == bare.param_groups[0]["lr"]

    def test_it_keeps_the_dtype(self) -> None:
        """Parameters stay in their dtype and finite, in float64 and bfloat16 too."""
        for dtype in (torch.float64, torch.bfloat16):
            model, optimizer = self._new(BASES["sgd"], dtype=dtype)
            for step in range(STEPS):
                _train(model, optimizer, step)
            assert all(p.dtype == dtype and bool(p.isfinite().all()) for p in model.parameters())

    def test_a_parameter_that_never_moves_stays(self) -> None:
        """Zero gradients leave a parameter as it was, to the bit."""
        still = nn.Parameter(torch.tensor([1.1, -0.7, 3e-8]))
        moving = nn.Parameter(torch.ones(3))
        before = still.detach().clone()
        optimizer = self.wrap(SGD([still, moving], lr=0.1))
        for step in range(STEPS):
            still.grad, moving.grad = torch.zeros(3), torch.full((3,), 0.1 + step % 3)
            optimizer.step()
        assert torch.equal(still, before)

    def test_nothing_is_left_behind(self) -> None:
        """When the wrapper is gone, so are its buffers and the model."""
        model, optimizer = self._new(BASES["sgd"], steps=STEPS)
        ghosts = [weakref.ref(thing) for thing in (model, optimizer, optimizer.base)]
        del model, optimizer
        if any(ghost() is not None for ghost in ghosts):  # a base may hold itself
            gc.collect()  # half a second where torch is loaded
        assert [ghost() for ghost in ghosts] == [None, None, None]

    def _new(
        self,
        make: Callable[[Any], Optimizer],
        *,
        steps: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[nn.Module, Forecast]:
        model = _model().to(dtype)
        optimizer = self.wrap(make(model.parameters()))
        for step in range(steps):
            _train(model, optimizer, step)
        return model, optimizer


class PredictorConformance(ForecastConformance):
    """Laws of a predictor; override `predictor`.

    Attributes:
        random: its jumps are random, so its gain shows only on average.
    """

    random = False

    @abstractmethod
    def predictor(self) -> Predictor:
        """A fresh predictor."""

    def wrap(self, base: Optimizer) -> Forecast:
        return Forecast(base, self.predictor())

    def test_refused_predictions_leave_the_base(self) -> None:
        """Behind a gate that never opens, the run is the base's, bitwise; in shadow mode too."""
        options: dict[str, Any]
        for options in ({"gate": Every(10**9)}, {"shadow": True}):
            bare, model = _model(), _model()
            base = BASES["sgd"](bare.parameters())
            wrapped = Forecast(BASES["sgd"](model.parameters()), self.predictor(), **options)
            for step in range(STEPS):
                _train(model, wrapped, step)
                _train(bare, base, step)
            _assert_same(bare, model, f"with {options}")

    def test_the_gain_is_measured_on_a_straight_path(self) -> None:
        """`gain` is the long-run speed at a constant gradient, relative to the base."""
        predictor = self.predictor()
        weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = Forecast(SGD([weight], lr=1.0), predictor)

        def walk(cycles: int) -> float:
            for _ in range(cycles * predictor.every):
                weight.grad = torch.full_like(weight, -1.0)
                optimizer.step()
            return weight[0].item()

        # at a constant gradient of -1 the base moves 1 a step
        start = walk(300)  # averages and momenta settle first
        speed = (walk(300) - start) / (300 * predictor.every)
        tolerance = 0.1 if self.random else 1e-6
        assert abs(speed - predictor.gain) < tolerance * max(1.0, abs(predictor.gain))

    def test_it_takes_the_memory_that_it_states(self) -> None:
        """`buffers` elements per parameter, no more."""
        model, optimizer = self._new(BASES["sgd"])
        most = 0
        for step in range(2 * self.predictor().every):
            _train(model, optimizer, step)
            rows = optimizer.state_dict()["paramcast"]["cycle"]["buffers"]
            most = max(most, sum(buffer.numel() for row in rows for buffer in row or []))
        # each buffer has an element per element of the parameters
        elements = sum(p.numel() for p in model.parameters())
        assert most <= self.predictor().buffers * elements


class GateConformance(ForecastConformance):
    """Laws of a gate; override `gate`. It is tested with PLP."""

    @abstractmethod
    def gate(self) -> Gate:
        """A fresh gate."""

    def wrap(self, base: Optimizer) -> Forecast:
        return Forecast(base, Midline(), gate=self.gate(), total_steps=STEPS)

    def test_every_decision_has_a_reason(self) -> None:
        """Each event says why the prediction was or was not written."""
        model, optimizer = self._new(BASES["sgd"])
        for step in range(STEPS):
            _train(model, optimizer, step)
            event = optimizer.last_event
            assert event is None or event.reason


class AverageConformance(ForecastConformance):
    """Laws of an average of the weights; override `average`."""

    @abstractmethod
    def average(self) -> Average:
        """A fresh average."""

    def wrap(self, base: Optimizer) -> Forecast:
        return Forecast(base, average=self.average(), total_steps=STEPS)

    def test_training_does_not_see_it(self) -> None:
        """The run is the base's, bitwise, even if it is evaluated along the way."""
        bare, (model, optimizer) = _model(), self._new(BASES["sgd"])
        base = BASES["sgd"](bare.parameters())
        for step in range(STEPS):
            _train(model, optimizer, step)
            _train(bare, base, step)
            if optimizer.has_average:
                with optimizer.eval_weights():
                    pass
        _assert_same(bare, model, "averaged")

    def test_of_a_constant_it_is_that_constant(self) -> None:
        """Weights that do not move are their own average, bitwise."""
        weight = nn.Parameter(torch.tensor([1.1, -0.3]))
        before = weight.detach().clone()
        optimizer = self.wrap(SGD([weight], lr=0.1))
        for _ in range(STEPS):
            weight.grad = torch.zeros(2)
            optimizer.step()
        with optimizer.eval_weights():
            assert torch.equal(weight, before)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def _train(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    """One step on data that depend only on the step number."""
    generator = torch.Generator().manual_seed(step)
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(8, 4, generator=generator).to(dtype)
    targets = torch.randn(8, 2, generator=generator).to(dtype)
    optimizer.zero_grad()
    loss: Tensor = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _through_file(state: Any) -> Any:
    """The state after torch.save and a default torch.load."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _assert_same(a: nn.Module, b: nn.Module, when: str) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), f"{name} differs, {when}"
