"""One training run, from a specification to an outcome."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ...forecast import Forecast
from ...running.evaluation import batch_norm_of
from ..spec import DEFAULT, Numerics, RunSpec, axis_seed
from ..tasks.task import Examples, Prepared, Task
from .counts import class_counts
from .methods import base_of, build, switches
from .precision import Computation, arithmetic, outputs
from .predictions import Predictions
from .probes import Watched, make_probes

Progress = Callable[[dict[str, Any]], None]
"""Is told each point of a curve."""
DIVERGED_FROM = 10.0
"""Times the training loss at the start. Not the validation loss: on a memorised training set that
can be as high while the model still classifies well."""


def total_steps(examples: int, batch_size: int, epochs: int, share: float = 1.0) -> int:
    """Optimizer steps of a run: share of epochs times ceil(examples / batch_size), at least 1."""
    return max(1, round(share * epochs * math.ceil(examples / batch_size)))


def lr_factor(schedule: str, step: int, steps: int) -> float:
    """The learning rate at a step, as a multiple of the run's rate.

    constant    1
    warmup      a rise over the first 5 %, then 1
    cosine      (1 + cos(pi t/T)) / 2
    cyclic      a triangle between 1 and 2, five cycles a run (the paper: base 0.001, max 0.002)
    wsd         warm-up over the first 5 %, 1, linear decay to 0 over the last 40 %
    """
    t = step / steps
    if schedule == "cosine":
        return (1.0 + math.cos(math.pi * t)) / 2.0
    if schedule == "cyclic":
        return 2.0 - abs(2.0 * ((5.0 * t) % 1.0) - 1.0)
    if schedule == "warmup":
        return min(1.0, (step + 1) / max(1.0, 0.05 * steps))
    if schedule == "wsd":
        return min(lr_factor("warmup", step, steps), (1.0 - t) / 0.4)
    return 1.0


def run(spec: RunSpec, prepared: Prepared, progress: Progress | None = None) -> dict[str, Any]:
    """Train once and measure.

    Between two epochs' ends the host only gives orders: nothing that a device computed is read but
    the few predictions that a final run scores.

    Args:
        progress: called with each point of the curve, for who watches.

    Returns:
        The outcome: status ("done" or "diverged"), steps, seconds (training only), peak memory,
        the curve per epoch, the values at the end on validation and, in a final run, on test, and
        what the probes measured (their time is in `seconds`). In a final run each point of the
        curve also tells of the predictions since the one before (see `Predictions.note`).
    """
    with arithmetic(spec.device):
        return _run(spec, prepared, progress)


def _run(spec: RunSpec, prepared: Prepared, progress: Progress | None) -> dict[str, Any]:
    task, train = adjusted(prepared.task, spec.momentum, spec.weight_decay), prepared.train
    per_epoch = math.ceil(len(train) / spec.batch_size)
    steps = total_steps(len(train), spec.batch_size, spec.epochs, spec.share)
    torch.manual_seed(axis_seed("initialisation", spec.phase, spec.seed))
    model = task.model().to(spec.device)
    computation = Computation(spec, task, model)
    noise_seed = axis_seed("control", spec.phase, spec.seed)
    watch = Predictions() if spec.phase == "final" else None
    optimizer, followers = build(
        task, spec.base, spec.method, model, spec.lr, steps, noise_seed, watch
    )
    probes = make_probes(spec.probes, Watched(model, optimizer, task, train, steps))
    scheduler = LambdaLR(optimizer, lambda t: lr_factor(spec.schedule, t, steps))
    order = torch.Generator().manual_seed(axis_seed("order", spec.phase, spec.seed))
    augmentation = torch.Generator(spec.device).manual_seed(
        axis_seed("augmentation", spec.phase, spec.seed)
    )
    torch.manual_seed(axis_seed("dropout", spec.phase, spec.seed))

    reset_peak_memory(spec.device)
    losses = torch.zeros(per_epoch, device=spec.device)
    curve: list[dict[str, Any]] = []
    at_end: dict[str, Any] = {}
    measures: dict[str, float] = {}
    seconds, step, diverged_at, at_start = 0.0, 0, None, 0.0
    while step < steps and diverged_at is None:
        start, lr = _clock(spec.device), optimizer.param_groups[0]["lr"]
        model.train()
        batches = torch.randperm(len(train), generator=order).to(spec.device).split(spec.batch_size)
        batches = batches[: steps - step]
        for i, batch in enumerate(batches):
            inputs, targets = train.inputs[batch], train.targets[batch]
            if task.augment is not None:
                inputs = task.augment(inputs, augmentation)
            optimizer.zero_grad()
            loss = computation.loss(inputs, targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            for follower in followers:
                follower.step()
            losses[i] = loss.detach()
            for probe in probes:
                probe.step(step + i + 1)
        seconds += _clock(spec.device) - start
        if not curve:
            at_start = float(losses[0])  # of the first batch, at the initial weights
        finite = torch.isfinite(losses[: len(batches)])
        if not bool(finite.all()):
            diverged_at = step + int((~finite).nonzero()[0]) + 1
        step += len(batches)
        last = step >= steps or diverged_at is not None
        start = _clock(spec.device)
        with evaluation_weights(optimizer, model, train.inputs, spec.batch_size):
            switched = _clock(spec.device) - start
            validation = evaluate(model, prepared, prepared.validation, computation.numerics)
            if last and spec.phase == "final":
                at_end = _final(model, prepared, computation.numerics)
                for probe in probes:
                    measures.update(probe.finish())
        seconds += switched if last else 0.0  # charged once: the curve's evaluations are not
        if not math.isfinite(validation["loss"]) and diverged_at is None:
            diverged_at = step
        curve.append(
            {
                "step": step,
                "lr": lr,
                "seconds": seconds,
                "train_loss": float(losses[: len(batches)].mean()),
                **{f"validation_{name}": value for name, value in validation.items()},
            }
        )
        if progress is not None:
            progress(_no_nan(curve[-1]))
    memory = peak_memory(spec.device)
    if watch is not None:
        memory -= tell(watch, optimizer, curve)

    outcome: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "steps": step,
        "seconds": seconds,
        "peak_memory": memory,
        "curve": curve,
        "metric_name": prepared.metric_name,
        "validation": validation,
        "measures": measures,
    }
    constant = prepared.constant(prepared.validation)
    limit = DIVERGED_FROM * max(at_start, constant["loss"])
    if diverged_at is not None:
        outcome["reason"] = f"loss not finite at step {diverged_at}"
    elif limit > 0.0 and curve[-1]["train_loss"] > limit:  # a loss below 0 has no such scale
        outcome["reason"] = (
            f"final training loss {curve[-1]['train_loss']:.4g} is more than {DIVERGED_FROM:g} "
            f"times that at the start or the constant predictor's, {limit / DIVERGED_FROM:.4g}"
        )
    if outcome["reason"]:
        outcome.update(status="diverged", diverged_at=diverged_at or step, validation=constant)
    if spec.phase == "final":
        if outcome["status"] == "diverged":
            at_end = {"test": prepared.constant(prepared.test), "train_loss": None, "gap": None}
            constant_outputs = prepared.prior.expand(len(prepared.test), *prepared.prior.shape)
            at_end["class_counts"] = class_counts(prepared, constant_outputs)
        value = at_end["test"]["metric"]
        if not math.isfinite(value):
            of = "a constant, which a diverged run is scored as" if diverged_at else "test"
            raise ValueError(f"the metric {prepared.metric_name} returned {value} on {of}")
        outcome.update(at_end)
    cleaned: dict[str, Any] = _no_nan(outcome)
    return cleaned


def tell(watch: Predictions, optimizer: Optimizer, curve: list[dict[str, Any]]) -> int:
    """Note in the curve what a run's predictions were like; the bytes that watching took."""
    if isinstance(optimizer, Forecast):
        optimizer.flush()
    watch.note(curve)
    return watch.memory


def adjusted(task: Task, momentum: float | None, weight_decay: float | None) -> Task:
    """The task with another momentum or weight decay, where given."""
    given = {"momentum": momentum, "weight_decay": weight_decay}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(task, **changes)


@contextmanager
def evaluation_weights(
    optimizer: Optimizer, model: nn.Module, inputs: Tensor, batch_size: int
) -> Iterator[None]:
    """The averaged weights where the method has them, batch-norm statistics re-estimated.

    An optimizer with `eval()` and `train()`, such as Schedule-Free, holds its average itself.
    """
    averages = isinstance(optimizer, Forecast) and optimizer.average is not None
    if isinstance(optimizer, Forecast) and optimizer.has_average:
        with optimizer.eval_weights(model, update_bn=to_normalise(model, inputs, batch_size)):
            yield
    elif switches(optimizer) and not averages:
        base_of(optimizer).eval()  # type: ignore[attr-defined]
        try:
            with batch_norm_of(model, to_normalise(model, inputs, batch_size)):
                yield
        finally:
            base_of(optimizer).train()  # type: ignore[attr-defined]
    else:
        yield


def to_normalise(model: nn.Module, inputs: Tensor, batch_size: int) -> Sequence[Tensor] | None:
    """The batches by which to re-estimate batch-norm statistics; None if the model has none."""
    normalised = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return inputs.split(batch_size) if normalised else None


def _final(model: nn.Module, prepared: Prepared, numerics: Numerics) -> dict[str, Any]:
    """Test values, training loss in evaluation mode, the gap, and test counts per class."""
    model.eval()
    with torch.inference_mode():
        found = outputs(model, prepared.test.inputs, numerics)
        test = prepared.measure(found, prepared.test.targets)
    train_loss = evaluate(model, prepared, prepared.train, numerics)["loss"]
    gap, counts = test["loss"] - train_loss, class_counts(prepared, found)
    return {"test": test, "train_loss": train_loss, "gap": gap, "class_counts": counts}


def evaluate(
    model: nn.Module, prepared: Prepared, examples: Examples, numerics: Numerics = DEFAULT
) -> dict[str, float]:
    """Measure the model on a split, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        return prepared.measure(outputs(model, examples.inputs, numerics), examples.targets)


def _no_nan(value: Any) -> Any:
    """The outcome as strict JSON knows it: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {k: _no_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_no_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: str) -> None:
    """Start a new measurement of peak memory, where the system allows it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            with open("/proc/self/clear_refs", "wb") as file:
                file.write(b"5")  # resets the peak resident set size (man 5 proc)
        except OSError:
            return


def peak_memory(device: str) -> int:
    """Bytes at the peak: allocated on a GPU, else resident in this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "linux":
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)
