"""The batches of a run on a stream, and what is measured at each of its steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ....forecast import Forecast
from ...spec import RunSpec
from ...tasks.streams import FINAL, Stream, parts_of
from ...tasks.task import Examples, Prepared
from ..batches import DIVERGED_FROM, Batches, Progress
from ..costs import clock
from ..evaluating import evaluate, evaluation_weights
from ..methods import ORACLE, reaction
from ..precision import outputs
from ..probes import Probe
from .arrival import Arrival, arrivals
from .drift import PageHinkley
from .measures import drift_measures, forgetting, learning

Values = dict[str, float]


class StreamBatches(Batches):
    """A stream's examples as they arrive; the model is measured before each step.

    Each step first measures the model on held-out examples of the distribution in force, then
    trains on the batch that arrives and on as many examples from the memory, if there is one. The
    detector sees the share of errors in the batch that arrives; the method reacts before the step.

    If a stream is judged "prequential", "validation" and "test" hold the means over all steps; if
    "final", the means over the segments at the end. The curve has a point per segment;
    docs/online.md describes "measures". A run has diverged if a loss is not finite, or if its
    prequential accuracy on validation is not better than the constant predictor's and its loss is
    more than DIVERGED_FROM times that one's. (The loss alone would not tell: just after a drift it
    far exceeds a constant's, however well the rest goes. The accuracy alone would call a run that
    has not learned yet diverged.)
    """

    def __init__(
        self,
        spec: RunSpec,
        prepared: Prepared,
        steps: int,
        progress: Progress | None = None,
        *,
        stream: Stream,
    ) -> None:
        super().__init__(spec, prepared, steps, progress)
        self.stream, self.parts = stream, parts_of(stream)
        self.splits = ("validation", "test") if self.is_final else ("validation",)
        self.reacts, self.detector = reaction(spec.method), PageHinkley()
        self.errors = 0.0  # the error rate on what has just arrived
        self.alarms: list[int] = []  # the steps, counted from 0, at which drift was detected
        self.at_end["alarms"] = self.alarms
        self.held_out: dict[str, list[Values]] = {split: [] for split in self.splits}
        self.losses: list[float] = []
        self.ends: list[int] = []  # steps completed when each segment ended
        self.matrix: list[list[float]] = []  # [i][j]: the metric on segment j after segment i

    def over(
        self, model: nn.Module, optimizer: Optimizer, probes: Sequence[Probe]
    ) -> Iterator[Tensor]:
        """The batches, as indices of training examples: one for each step of the optimizer."""
        spec, train = self.spec, self.prepared.train
        for arrival in arrivals(self.stream, self.steps, spec.batch_size, spec.phase, spec.seed):
            arriving = train.inputs[arrival.new.to(spec.device)]
            with evaluation_weights(optimizer, model, arriving, spec.batch_size):
                self._look(model, arrival)

            start, lr = clock(spec.device), optimizer.param_groups[0]["lr"]
            model.train()
            yield torch.cat([arrival.new, arrival.replayed]).to(spec.device)
            self.seconds += clock(spec.device) - start

            if arrival.last:
                with evaluation_weights(optimizer, model, arriving, spec.batch_size):
                    self._segment_ends(model, lr)
        if self.divergence() is None:
            self._sum_up(probes)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's loss; it also records the error rate on what arrives."""
        new = self.spec.batch_size  # the examples from the memory come after these
        self.errors = float((outputs[:new].argmax(1) != targets[:new]).double().mean())
        return self.prepared.task.loss(outputs, targets)

    def note(self, loss: Tensor, optimizer: Optimizer) -> bool:
        """Record the loss of a batch and react to drift; return whether the optimizer may step."""
        # the first step of a segment, except for the first segment
        at_boundary = bool(self.ends) and self.step == self.ends[-1]
        self.losses.append(float(loss.detach()))
        self.step += 1
        if not math.isfinite(self.losses[-1]):
            self.diverged_at = self.step
            return False
        alarm = self.detector.update(self.errors)
        if alarm:
            self.alarms.append(self.step - 1)
        # the oracle knows the real drift, the others the detector's alarms
        if at_boundary if self.reacts == ORACLE else alarm and self.reacts:
            if isinstance(optimizer, Forecast):
                optimizer.restart_cycle()
            else:
                optimizer.state.clear()
        return True

    def divergence(self) -> dict[str, Any] | None:
        """How the run diverged, as facts for the catalogue; None if it did not."""
        if self.diverged_at is not None:
            return {"how": "step", "step": self.diverged_at}
        reached = mean_of(self.held_out["validation"])
        constant = self.prepared.constant(self.prepared.validation)
        too_large = reached["loss"] > DIVERGED_FROM * constant["loss"]
        if reached["metric"] > constant["metric"] or not too_large:
            return None
        return {
            "how": "constant", "step": self.step,
            "reached": reached["metric"], "constant": constant["metric"],
        }  # fmt: skip

    def _look(self, model: nn.Module, arrival: Arrival) -> None:
        """Measure the model on held-out examples of the distribution in force."""
        # one forward pass for both splits
        chosen = [self._examples(split, getattr(arrival, split)) for split in self.splits]
        model.eval()
        with torch.inference_mode():
            every = torch.cat([examples.inputs for examples in chosen])
            computed = outputs(model, every, self.numerics)
        pieces = computed.split([len(examples) for examples in chosen])
        for split, examples, piece in zip(self.splits, chosen, pieces, strict=True):
            self.held_out[split].append(self.prepared.measure(piece, examples.targets))

    def _segment_ends(self, model: nn.Module, lr: float) -> None:
        """Add a point to the curve and, if the end is judged, a row to the matrix."""
        # the segment's own steps
        begun = self.ends[-1] if self.ends else 0
        self.ends.append(self.step)
        others: dict[str, Any] = {}
        if self.stream.judged == FINAL:
            found: dict[str, list[Values]] = {split: [] for split in self.splits}
            for split, part in itertools.product(self.splits, self.parts):
                examples = self._examples(split, getattr(part, split))
                found[split].append(evaluate(model, self.prepared, examples, self.numerics))
            self.matrix.append([values["metric"] for values in found[self.splits[-1]]])
            validation = mean_of(found["validation"][: len(self.ends)])
            others["segments"] = self.matrix[-1]
            self.at_end.update((split, mean_of(found[split])) for split in self.splits)
        else:
            validation = mean_of(self.held_out["validation"][begun:])
        self.add_point(lr, fmean(self.losses[begun:]), validation, **others)

    def _sum_up(self, probes: Sequence[Probe]) -> None:
        """Set the values and measures at the end of the run."""
        if self.stream.judged != FINAL:
            self.at_end.update((split, mean_of(self.held_out[split])) for split in self.splits)
        # of a final run on test, else on validation
        accuracy = [values["metric"] for values in self.held_out[self.splits[-1]]]
        gradual = [part.ramp > 0 for part in self.parts[1:]]
        measures = drift_measures(accuracy, self.ends[:-1], gradual, self.alarms)
        if self.matrix:
            measures["forgetting"] = forgetting(self.matrix)
            measures["learning"] = learning(self.matrix)
        for probe in probes:
            measures.update(probe.finish())
        self.at_end["measures"] = measures
        if self.is_final:
            train_loss = fmean(self.losses)
            gap = self.at_end["test"]["loss"] - train_loss
            self.at_end.update(train_loss=train_loss, gap=gap)

    def _examples(self, split: str, indices: Tensor) -> Examples:
        whole: Examples = getattr(self.prepared, split)
        indices = indices.to(whole.inputs.device)
        return Examples(whole.inputs[indices], whole.targets[indices])


def mean_of(measured: Sequence[Values]) -> Values:
    """The mean of each number."""
    return {name: fmean(values[name] for values in measured) for name in measured[0]}
