"""The batches of a run, and what is measured between them: by epochs.

The batches of a stream are in `online.stream`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..spec import Numerics, RunSpec, axis_seed
from ..tasks.task import Prepared
from .costs import clock
from .evaluating import class_counts, evaluate, evaluation_weights
from .precision import outputs
from .probes import Probe

Progress = Callable[[dict[str, Any]], None]  # receives each point of a curve
# A run has diverged if its training loss ends above that many times its start. The validation loss
# would not do: on a memorised training set it can be that high while the model classifies well.
DIVERGED_FROM = 10.0


class Batches:
    """The common part of batches by epochs and from a stream; `steps` are those of the run."""

    def __init__(
        self, spec: RunSpec, prepared: Prepared, steps: int, progress: Progress | None = None
    ) -> None:
        self.spec, self.prepared, self.steps, self.progress = spec, prepared, steps, progress
        self.numerics = Numerics(spec.precision, spec.compiled, spec.channels_last)
        self.is_final = spec.phase == "final"
        self.step = 0  # made so far
        self.seconds = 0.0  # of training; measuring is not charged
        self.curve: list[dict[str, Any]] = []  # a point per epoch or segment
        self.diverged_at: int | None = None  # the first step, from 1, whose loss was not finite
        # "validation" and "measures"; in a final run also "test", "train_loss" and "gap"
        self.at_end: dict[str, Any] = {}

    def add_point(
        self, lr: float, train_loss: float, validation: dict[str, float], **others: Any
    ) -> None:
        """Add a point to the curve and report it."""
        point = {"step": self.step, "lr": lr, "seconds": self.seconds, "train_loss": train_loss}
        measured = {f"validation_{name}": value for name, value in validation.items()}
        self.curve.append({**point, **others, **measured})
        if self.progress is not None:
            self.progress(no_nan(self.curve[-1]))


class EpochBatches(Batches):
    """The training split in epochs, each in a new random order; the model is measured after each.

    During an epoch the host only issues work: it reads nothing back from the device, except for the
    few predictions that a final run scores.
    """

    def __init__(
        self, spec: RunSpec, prepared: Prepared, steps: int, progress: Progress | None = None
    ) -> None:
        super().__init__(spec, prepared, steps, progress)
        self.loss = prepared.task.loss
        self.losses = torch.zeros(steps, device=spec.device)

    def over(
        self, model: nn.Module, optimizer: Optimizer, probes: Sequence[Probe]
    ) -> Iterator[Tensor]:
        """The batches, as indices of training examples: one for each step of the optimizer."""
        spec, prepared, train = self.spec, self.prepared, self.prepared.train
        order = torch.Generator().manual_seed(axis_seed("order", spec.phase, spec.seed))
        while self.step < self.steps and self.diverged_at is None:
            # one epoch, the last one cut at the run's last step
            begun, lr = self.step, optimizer.param_groups[0]["lr"]
            start = clock(spec.device)
            model.train()
            indices = torch.randperm(len(train), generator=order).to(spec.device)
            yield from indices.split(spec.batch_size)[: self.steps - begun]
            self.seconds += clock(spec.device) - start

            # now read the losses, and look for divergence
            losses = self.losses[begun : self.step]
            finite = torch.isfinite(losses)
            if not bool(finite.all()):
                self.diverged_at = begun + int((~finite).nonzero()[0]) + 1
            last = self.step >= self.steps or self.diverged_at is not None

            # measure; the switch to evaluation weights is timed on its own
            start = clock(spec.device)
            with evaluation_weights(optimizer, model, train.inputs, spec.batch_size):
                switched = clock(spec.device) - start
                validation = evaluate(model, prepared, prepared.validation, self.numerics)
                if last:
                    self.at_end = {"validation": validation, "measures": {}}
                    if self.is_final:
                        self._test(model)
                        for probe in probes:
                            self.at_end["measures"].update(probe.finish())
            self.seconds += switched if last else 0.0  # the switch for the result is charged
            if not math.isfinite(validation["loss"]) and self.diverged_at is None:
                self.diverged_at = self.step
            self.add_point(lr, float(losses.mean()), validation)

    def note(self, loss: Tensor, optimizer: Optimizer) -> bool:
        """Record the loss of a batch; return whether the optimizer may take its step."""
        self.losses[self.step] = loss.detach()
        self.step += 1
        return True

    def divergence(self) -> dict[str, Any] | None:
        """How the run diverged, as facts for the catalogue; None if it did not."""
        if self.diverged_at is not None:
            return {"how": "step", "step": self.diverged_at}
        # from the first loss or a constant prediction's, the larger
        at_start, at_end = float(self.losses[0]), self.curve[-1]["train_loss"]
        scale = max(at_start, self.prepared.constant(self.prepared.validation)["loss"])
        if not at_end > DIVERGED_FROM * scale > 0.0:  # a loss that can be negative has no scale
            return None
        return {
            "how": "loss", "step": self.step, "loss": at_end, "start": scale,
            "factor": DIVERGED_FROM,
        }  # fmt: skip

    def _test(self, model: nn.Module) -> None:
        """Measure test values, training loss in evaluation mode, the gap, and counts per class."""
        prepared = self.prepared
        train_loss = evaluate(model, prepared, prepared.train, self.numerics)["loss"]
        with torch.inference_mode():
            found = outputs(model, prepared.test.inputs, self.numerics)
            test = prepared.measure(found, prepared.test.targets)
        self.at_end.update(
            test=test, train_loss=train_loss, gap=test["loss"] - train_loss,
            class_counts=class_counts(prepared, found),
        )  # fmt: skip


def no_nan(value: Any) -> Any:
    """Make a value fit strict JSON: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {k: no_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [no_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
