"""What a run on a stream leaves behind, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import Numerics
from ...tasks.streams import FINAL, Stream, parts_of
from ...tasks.task import Examples, Prepared
from ..loop import evaluate
from ..precision import outputs
from .arrival import Arrival
from .measures import drift_measures, forgetting, learning

Values = dict[str, float]


class Record:
    """The numbers of a run, and the outcome that they make.

    Args:
        prepared, stream: the task.
        numerics: how the model computes.
        final: whether the test split is measured too.
    """

    def __init__(
        self, prepared: Prepared, stream: Stream, numerics: Numerics, *, final: bool
    ) -> None:
        self.prepared, self.stream, self.parts = prepared, stream, parts_of(stream)
        self.numerics, self.is_final = numerics, final
        self.splits = ("validation", "test") if final else ("validation",)
        self.held_out: dict[str, list[Values]] = {split: [] for split in self.splits}
        self.at_end: dict[str, list[Values]] = {}  # of each split, per segment
        self.losses: list[float] = []
        self.alarms: list[int] = []
        self.ends: list[int] = []  # steps completed when each segment ended
        self.matrix: list[list[float]] = []
        self.curve: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.diverged_at: int | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether the step under way is the first of a segment, but for the first segment."""
        return bool(self.ends) and len(self.losses) == self.ends[-1] + 1

    def look(self, model: nn.Module, arrival: Arrival) -> None:
        """Measure the model on held-out examples of the distribution in force."""
        chosen = [self._examples(split, getattr(arrival, split)) for split in self.splits]
        model.eval()
        with torch.inference_mode():
            every = torch.cat([examples.inputs for examples in chosen])
            computed = outputs(model, every, self.numerics)
        pieces = computed.split([len(examples) for examples in chosen])
        for split, examples, piece in zip(self.splits, chosen, pieces, strict=True):
            self.held_out[split].append(self.prepared.measure(piece, examples.targets))

    def trained(self, loss: float) -> bool:
        """Note a training loss; whether the run can go on."""
        self.losses.append(loss)
        if not math.isfinite(loss):
            self.diverged_at = len(self.losses)
        return self.diverged_at is None

    def segment_ends(self, model: nn.Module, lr: float) -> None:
        """Add a point to the curve and, where the end is what counts, a row to the matrix."""
        begun = self.ends[-1] if self.ends else 0
        self.ends.append(len(self.losses))
        point: dict[str, Any] = {
            "step": len(self.losses),
            "lr": lr,
            "seconds": self.seconds,
            "train_loss": fmean(self.losses[begun:]),
        }
        if self.stream.judged == FINAL:
            self.at_end = {split: self._per_segment(model, split) for split in self.splits}
            self.matrix.append([values["metric"] for values in self.at_end[self.splits[-1]]])
            validation = mean_of(self.at_end["validation"][: len(self.ends)])
            point["segments"] = self.matrix[-1]
        else:
            validation = mean_of(self.held_out["validation"][begun:])
        point.update((f"validation_{name}", value) for name, value in validation.items())
        self.curve.append(point)

    def outcome(self, peak: int, probed: Values) -> dict[str, Any]:
        """The outcome of a run that is over.

        Args:
            peak: bytes of memory.
            probed: what the run's probes found.
        """
        prepared, constant = self.prepared, self.prepared.constant(self.prepared.validation)
        outcome: dict[str, Any] = {
            "status": "done",
            "reason": "",
            "steps": len(self.losses),
            "seconds": self.seconds,
            "peak_memory": peak,
            "curve": self.curve,
            "metric_name": prepared.metric_name,
            "alarms": self.alarms,
            "measures": {},
        }
        reason = self._diverged(constant)
        if reason:
            outcome.update(
                status="diverged",
                reason=reason,
                diverged_at=self.diverged_at or len(self.losses),
                validation=constant,
            )
            if self.is_final:
                outcome.update(test=prepared.constant(prepared.test), train_loss=None, gap=None)
            return outcome
        outcome["validation"] = self._judged("validation")
        outcome["measures"] = {**self._measures(), **probed}
        if self.is_final:
            test, train_loss = self._judged("test"), fmean(self.losses)
            outcome.update(test=test, train_loss=train_loss, gap=test["loss"] - train_loss)
        return outcome

    def _diverged(self, constant: Values) -> str:
        if self.diverged_at is not None:
            return f"loss not finite at step {self.diverged_at}"
        reached = mean_of(self.held_out["validation"])["metric"]
        if reached > constant["metric"]:
            return ""
        return (
            f"prequential validation accuracy {reached:.4g} is no better than "
            f"the constant predictor's {constant['metric']:.4g}"
        )

    def _judged(self, split: str) -> Values:
        return mean_of(self.at_end[split] if self.stream.judged == FINAL else self.held_out[split])

    def _measures(self) -> Values:
        accuracy = [values["metric"] for values in self.held_out[self.splits[-1]]]
        gradual = [part.ramp > 0 for part in self.parts[1:]]
        measures = drift_measures(accuracy, self.ends[:-1], gradual, self.alarms)
        if self.matrix:
            measures["forgetting"] = forgetting(self.matrix)
            measures["learning"] = learning(self.matrix)
        return measures

    def _per_segment(self, model: nn.Module, split: str) -> list[Values]:
        return [
            evaluate(
                model, self.prepared, self._examples(split, getattr(part, split)), self.numerics
            )
            for part in self.parts
        ]

    def _examples(self, split: str, indices: Tensor) -> Examples:
        whole: Examples = getattr(self.prepared, split)
        indices = indices.to(whole.inputs.device)
        return Examples(whole.inputs[indices], whole.targets[indices])


def mean_of(measured: Sequence[Values]) -> Values:
    """The mean of each number."""
    return {name: fmean(values[name] for values in measured) for name in measured[0]}
