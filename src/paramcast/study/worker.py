"""What a worker process does: load the task once, then run specifications."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from .devices import settle
from .loop import run
from .spec import RunSpec, hash_of
from .tasks.source import Source, load
from .tasks.task import Prepared


def execute(spec: RunSpec, source: Source) -> dict[str, Any]:
    """Run one specification; an error becomes the outcome's reason."""
    try:
        settle(spec.device)
        prepared, fingerprint = _prepared(source, spec.device)
        if spec.fingerprint and fingerprint != spec.fingerprint:
            raise ValueError(
                "the task's data differ from process to process, so nothing would be paired; "
                "fix the seed with which they are drawn or split"
            )
        if spec.compiled:
            _compile(source, _first_step(spec))
        return run(spec, prepared)
    except (Exception, SystemExit) as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=2)
def _prepared(source: Source, device: str) -> tuple[Prepared, str]:
    """The task, its fingerprint, and one training step outside any measurement: it is slow."""
    prepared = load(source, device)
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
