"""What a worker process does: load the task once, then run specifications."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import psutil
import torch

from ..spec import RunSpec, hash_of
from ..store.live import Telling
from ..tasks.source import Source, load
from ..tasks.task import Prepared
from ..training.costs import peak_memory
from ..training.loop import run, total_steps
from .devices import settle


def execute(spec: RunSpec, source: Source, live: str | None = None) -> dict[str, Any]:
    """Run one specification; an error becomes the outcome's reason.

    Args:
        live: the folder in which the run tells how far it is (see `live`).
    """
    try:
        settle(spec.device)
        prepared, fingerprint = _prepared(source, spec.device)
        if spec.fingerprint and fingerprint != spec.fingerprint:
            raise ValueError(
                "the task's data differ from process to process, so nothing would be paired; "
                "fix the seed with which they are drawn or split (and on a cluster let all nodes "
                "have the same files and the same kind of processor)"
            )
        if spec.compiled and prepared.task.stream is None:
            _compile(source, _first_step(spec))
        steps = total_steps(len(prepared.train), spec.batch_size, spec.epochs, spec.share)
        return run(spec, prepared, Telling(live, spec, steps))
    except (Exception, SystemExit) as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=4)  # runs come by seed, and of tuning three seeds in turn have their own splits
def _prepared(source: Source, device: str) -> tuple[Prepared, str]:
    """The task, its fingerprint, and one training step outside any measurement: it is slow."""
    prepared = load(source, device, quiet=True)  # the driver has said whose code runs
    model = prepared.task.model().to(device)
    batch = min(len(prepared.train), prepared.task.batch_size)
    outputs = model(prepared.train.inputs[:batch])
    prepared.task.loss(outputs, prepared.train.targets[:batch]).backward()
    return prepared, fingerprint(prepared)


def _first_step(spec: RunSpec) -> RunSpec:
    """One step of the base, the same for all runs that share a compilation."""
    return replace(
        spec, method="base", base="sgd", lr=0.0, schedule="constant", epochs=1, share=0.0,
        phase="tune", seed=0, momentum=None, weight_decay=None, probes=(),
    )  # fmt: skip


@lru_cache(maxsize=16)
def _compile(source: Source, first_step: RunSpec) -> None:
    """Compile the training step outside any measurement: it takes up to minutes."""
    run(first_step, _prepared(source, first_step.device)[0])


def fingerprint(prepared: Prepared) -> str:
    """What RunSpec.fingerprint is: data, initial weights, settings and code."""
    return hash_of(prepared.fingerprint())


MEASURED_STEPS = 8
"""Steps after which every buffer of an optimizer and of a cycle is there."""


def measure(spec: RunSpec, source: Source, live: str | None = None) -> tuple[int, int]:
    """What a run takes, from its first steps: bytes at the peak, and those shared of them.

    Shared are the pages that workers have in common with the process that they were forked from.
    `live` is not used: nothing is told of a measurement.
    """
    settle(spec.device)
    prepared, _ = _prepared(source, spec.device)
    while_loading = peak_memory("cpu")
    per_epoch = math.ceil(len(prepared.train) / spec.batch_size)
    stream = prepared.task.stream
    least = max(MEASURED_STEPS, 0 if stream is None else len(stream.segments))
    few = min(1.0, least / per_epoch)
    run(replace(spec, epochs=1, share=few, compiled=False), prepared)
    memory = psutil.Process().memory_full_info()
    peak = max(while_loading, peak_memory("cpu"))
    return peak, max(0, memory.rss - memory.uss)


def use_one_thread() -> None:
    """Results depend on the number of threads, so every run has one, wherever it runs."""
    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # it can be set once
        torch.set_num_interop_threads(1)
