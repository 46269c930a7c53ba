"""One training run on a stream, from a specification to an outcome."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ....errors import StudyError
from ....forecast import Forecast
from ...spec import Numerics, RunSpec, axis_seed
from ...tasks.task import Prepared
from ..loop import (
    Progress,
    _clock,
    _no_nan,
    adjusted,
    evaluation_weights,
    lr_factor,
    peak_memory,
    reset_peak_memory,
    tell,
    total_steps,
)
from ..methods import ORACLE, build, reaction
from ..precision import PRECISIONS, arithmetic, autocast, laid_out, widened
from ..predictions import Predictions
from ..probes import Watched, make_probes
from .arrival import arrivals
from .drift import PageHinkley
from .record import Record


def run_stream(
    spec: RunSpec, prepared: Prepared, progress: Progress | None = None
) -> dict[str, Any]:
    """Train once on a task's stream and measure.

    Each step first measures the model on held-out examples of the distribution in force, then
    trains on a batch that arrives and on as many examples from the memory, if there is one. Drift
    is looked for in the share of errors on what arrives, before the step; what the method does
    about it (`reaction`) is done before the step too.

    Returns:
        The outcome as `loop.run` gives it. "validation" and "test" hold, for a stream that is
        judged "prequential", the means over all steps; for "final", the means over the segments at
        the end. The curve has a point per segment; "measures" are described in docs/online.md.
        Diverged: a loss that is not finite, or a prequential accuracy on validation that is no
        better than the constant predictor's. (The loss is no guide: just after a drift it exceeds
        a constant's by far, however well the rest goes.)
        Measuring, with averaged weights too, is not charged. Nothing is compiled: with replay the
        batches change their size.
    """
    with arithmetic(spec.device):
        return _run(spec, prepared, progress)


def _run(spec: RunSpec, prepared: Prepared, progress: Progress | None) -> dict[str, Any]:
    task, train, stream = prepared.task, prepared.train, prepared.task.stream
    if stream is None:
        raise StudyError(f"task {task.name} has no stream; run it with the epoch loop")
    task = adjusted(task, spec.momentum, spec.weight_decay)
    steps = total_steps(len(train), spec.batch_size, spec.epochs, spec.share)
    torch.manual_seed(axis_seed("initialisation", spec.phase, spec.seed))
    model = task.model().to(spec.device)
    numerics = Numerics(spec.precision, False, spec.channels_last)
    if spec.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kind, dtype = torch.device(spec.device).type, PRECISIONS[spec.precision]
    noise_seed = axis_seed("control", spec.phase, spec.seed)
    watch = Predictions() if spec.phase == "final" else None
    optimizer, followers = build(
        task, spec.base, spec.method, model, spec.lr, steps, noise_seed, watch
    )
    probes = make_probes(spec.probes, Watched(model, optimizer, task, train, steps))
    scheduler = LambdaLR(optimizer, lambda t: lr_factor(spec.schedule, t, steps))
    augmentation = torch.Generator(spec.device).manual_seed(
        axis_seed("augmentation", spec.phase, spec.seed)
    )
    torch.manual_seed(axis_seed("dropout", spec.phase, spec.seed))
    reacts, detector = reaction(spec.method), PageHinkley()
    record = Record(prepared, stream, numerics, final=spec.phase == "final")

    reset_peak_memory(spec.device)
    for t, arrival in enumerate(arrivals(stream, steps, spec.batch_size, spec.phase, spec.seed)):
        arriving = train.inputs[arrival.new.to(spec.device)]
        with evaluation_weights(optimizer, model, arriving, spec.batch_size):
            record.look(model, arrival)

        start, lr = _clock(spec.device), optimizer.param_groups[0]["lr"]
        model.train()
        batch = torch.cat([arrival.new, arrival.replayed]).to(spec.device)
        inputs, targets = train.inputs[batch], train.targets[batch]
        if task.augment is not None:
            inputs = task.augment(inputs, augmentation)
        optimizer.zero_grad()
        with autocast(kind, dtype):
            outputs = widened(model(laid_out(inputs, numerics)))
            loss = task.loss(outputs, targets)
        if not record.trained(float(loss.detach())):
            break
        new = len(arrival.new)
        errors = float((outputs[:new].argmax(1) != targets[:new]).double().mean())
        alarm = detector.update(errors)
        if alarm:
            record.alarms.append(t)
        if record.at_boundary if reacts == ORACLE else alarm and reacts:
            forget(optimizer)
        loss.backward()
        optimizer.step()
        scheduler.step()
        for follower in followers:
            follower.step()
        for probe in probes:
            probe.step(t + 1)
        record.seconds += _clock(spec.device) - start

        if arrival.last:
            with evaluation_weights(optimizer, model, arriving, spec.batch_size):
                record.segment_ends(model, lr)
                if progress is not None:
                    progress(_no_nan(record.curve[-1]))
    probed: dict[str, float] = {}
    if record.diverged_at is None:
        for probe in probes:
            probed.update(probe.finish())
    memory = peak_memory(spec.device)
    if watch is not None:
        memory -= tell(watch, optimizer, record.curve)
    outcome: dict[str, Any] = _no_nan(record.outcome(memory, probed))
    return outcome


def forget(optimizer: Optimizer) -> None:
    """What a method does at drift: its cycle starts anew, or the base's own state is cleared."""
    if isinstance(optimizer, Forecast):
        optimizer.restart_cycle()
    else:
        optimizer.state.clear()
