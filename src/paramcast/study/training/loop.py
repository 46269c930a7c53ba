"""One training run, from a specification to an outcome."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from ...forecast import Forecast
from ..spec import RunSpec, axis_seed
from ..tasks.task import Prepared, Task, total_steps
from .batches import EpochBatches, Progress, no_nan
from .build import build
from .costs import peak_memory, reset_peak_memory
from .evaluating import class_counts
from .online.stream import StreamBatches
from .precision import Computation, arithmetic
from .predictions import Predictions, counts
from .probes import PROBES, Watched, check_probes


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
        # where in its cycle a step is, from 0 to 1; the peak is at one half
        return 2.0 - abs(2.0 * ((5.0 * t) % 1.0) - 1.0)
    if schedule == "warmup":
        # a run of fewer than 20 steps has no warm-up
        return min(1.0, (step + 1) / max(1.0, 0.05 * steps))
    if schedule == "wsd":
        return min(lr_factor("warmup", step, steps), (1.0 - t) / 0.4)
    return 1.0


def run(spec: RunSpec, prepared: Prepared, progress: Progress | None = None) -> dict[str, Any]:
    """Train once and measure: by epochs or, if the task has one, on its stream.

    Args:
        spec, prepared: the run and its task.
        progress: called with each point of the curve, for `paramcast watch`.

    Returns:
        The outcome: status ("done" or "diverged"), whether it has learned (is better than a
        constant prediction on validation), steps, seconds (training only), peak memory in
        bytes, the curve per epoch or segment, the values at the end on validation and, in a final
        run, on test, and what the probes measured (their time is in `seconds`). In a final run each
        point of the curve also describes the predictions since the point before (see
        `Predictions.note`).

    Raises:
        ValueError: the metric is not finite on test.
    """
    with arithmetic(spec.device):
        return _run(spec, prepared, progress)


def _run(spec: RunSpec, prepared: Prepared, progress: Progress | None) -> dict[str, Any]:
    task = adjusted(prepared.task, spec.momentum, spec.weight_decay, spec.beta2)
    train = prepared.train
    steps = total_steps(len(train), spec.batch_size, spec.epochs, spec.share)
    data: EpochBatches | StreamBatches
    if task.stream is None:
        data = EpochBatches(spec, prepared, steps, progress)
    else:  # not compiled, because with replay the batches change their size
        spec = replace(spec, compiled=False)
        data = StreamBatches(spec, prepared, steps, progress, stream=task.stream)

    # the model and its optimizer; every source of randomness has a seed of its own
    torch.manual_seed(axis_seed("initialisation", spec.phase, spec.seed))
    model = task.model().to(spec.device)
    computation = Computation(spec, replace(task, loss=data.loss), model)
    noise_seed = axis_seed("control", spec.phase, spec.seed)
    watch = Predictions() if spec.phase == "final" else None
    optimizer = build(
        task, spec.base, spec.method, model, spec.lr, steps, noise_seed, watch,
        dict(spec.settings),
    )  # fmt: skip
    check_probes(spec.probes)
    watched = Watched(model, optimizer, task, train, steps)
    probes = [PROBES[name](watched) for name in spec.probes]
    scheduler = LambdaLR(optimizer, lambda t: lr_factor(spec.schedule, t, steps))
    augmentation = torch.Generator(spec.device).manual_seed(
        axis_seed("augmentation", spec.phase, spec.seed)
    )
    torch.manual_seed(axis_seed("dropout", spec.phase, spec.seed))

    # train; `over` measures the model between the batches
    reset_peak_memory(spec.device)
    for batch in data.over(model, optimizer, probes):
        inputs, targets = train.inputs[batch], train.targets[batch]
        if task.augment is not None:
            inputs = task.augment(inputs, augmentation)
        optimizer.zero_grad()
        loss = computation.loss(inputs, targets)
        if not data.note(loss, optimizer):  # diverged
            break
        loss.backward()
        optimizer.step()
        scheduler.step()
        for probe in probes:
            probe.step(data.step)

    # what watching took is not the method's
    memory = peak_memory(spec.device)
    if watch is not None:
        if isinstance(optimizer, Forecast):
            optimizer.flush()
        watch.note(data.curve)
        memory -= watch.memory

    # the outcome; a run that diverged is scored as the best constant prediction
    outcome: dict[str, Any] = {
        "status": "done",
        "divergence": data.divergence(),
        "learned": False,
        "steps": data.step,
        "seconds": data.seconds,
        "peak_memory": memory,
        "curve": data.curve,
        "metric_name": prepared.metric_name,
        "measures": {},
        **data.at_end,
    }
    if (made := counts(optimizer)) is not None:
        outcome["predictions"] = made
    if outcome["divergence"] is not None:
        outcome.update(status="diverged", validation=prepared.constant(prepared.validation))
        if spec.phase == "final":
            outcome.update(test=prepared.constant(prepared.test), train_loss=None, gap=None)
            if "class_counts" in outcome:
                always = prepared.prior.expand(len(prepared.test), *prepared.prior.shape)
                outcome["class_counts"] = class_counts(prepared, always)
    else:
        # better than the best constant, if it has a value: a correlation with one does not exist
        constant = prepared.constant(prepared.validation)["metric"]
        sign = 1.0 if prepared.higher_is_better else -1.0
        reached = outcome["validation"]["metric"]
        outcome["learned"] = not sign * reached <= sign * constant
    if spec.phase == "final":
        # a metric of the user's that is not finite would spoil every mean
        value = outcome["test"]["metric"]
        if not math.isfinite(value):
            of = "a constant, which a diverged run is scored as" if data.diverged_at else "test"
            raise ValueError(f"the metric {prepared.metric_name} returned {value} on {of}")
    cleaned: dict[str, Any] = no_nan(outcome)
    return cleaned


def adjusted(
    task: Task, momentum: float | None, weight_decay: float | None, beta2: float | None = None
) -> Task:
    """The task with the momentum, weight decay and beta2 that are given, else its own."""
    given = {"momentum": momentum, "weight_decay": weight_decay, "beta2": beta2}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(task, **changes)
