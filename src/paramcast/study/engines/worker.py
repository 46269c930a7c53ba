"""In a worker process: load the task once, then run specifications."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from ..own.run import run_own
from ..own.training import OWN, Subject
from ..spec import RunSpec, hash_of
from ..store.live import Telling
from ..tasks.source import Source, load
from ..tasks.task import Prepared
from ..training.loop import run
from ..training.own import verify
from .devices import settle


def execute(spec: RunSpec, source: Source, live: str | None = None) -> dict[str, Any]:
    """Run one specification; an error becomes the outcome's reason.

    `live` is the folder in which the run reports how far it is (see `store.live`).
    """
    try:
        settle(spec.device)
        if source.kind in OWN:
            return run_own(spec, source, live)
        verify(spec.method, spec.code)
        prepared, fingerprint = _prepared(source, spec.device)
        # the driver's task and ours must be the same
        if spec.fingerprint and fingerprint != spec.fingerprint:
            raise ValueError(
                "the task's data differ from process to process, so nothing would be paired; "
                "fix the seed with which they are drawn or split (and on a cluster let all nodes "
                "have the same files and the same kind of processor)"
            )
        if spec.compiled and prepared.task.stream is None:
            _compile(source, _first_step(spec))
        steps = prepared.steps(spec.epochs, spec.batch_size, spec.share)
        return run(spec, prepared, Telling(live, spec, steps))
    except (Exception, SystemExit) as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=4)  # tuning goes round three seeds, each of which may have its own split
def _prepared(source: Source, device: str) -> tuple[Prepared, str]:
    """The task, its fingerprint, and a first training step, which is slow, outside any timing."""
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
        phase="tune", seed=0, momentum=None, weight_decay=None, beta2=None, probes=(),
    )  # fmt: skip


@lru_cache(maxsize=16)
def _compile(source: Source, first_step: RunSpec) -> None:
    """Compile the training step, which can take minutes, outside any timing."""
    run(first_step, _prepared(source, first_step.device)[0])


def fingerprint(subject: Subject) -> str:
    """The value of RunSpec.fingerprint: a hash of data, initial weights, settings and code."""
    return hash_of(subject.fingerprint())


def use_one_thread() -> None:
    """Use one thread for every run, wherever it runs, because results depend on their number."""
    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # it can be set only once
        torch.set_num_interop_threads(1)
