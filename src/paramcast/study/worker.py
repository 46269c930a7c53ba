"""What a worker process does: load the task once, then run specifications."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .loop import run
from .spec import RunSpec
from .tasks.source import Source, load
from .tasks.task import Prepared


def execute(spec: RunSpec, source: Source) -> dict[str, Any]:
    """Run one specification; an error becomes the outcome's reason."""
    try:
        prepared = load(source, spec.device)
        _warm_up(source, spec.device)
        return run(spec, prepared)
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=4)
def _warm_up(source: Source, device: str) -> None:
    """One step outside any measurement: the first is slow."""
    prepared: Prepared = load(source, device)
    model = prepared.task.model().to(device)
    batch = min(len(prepared.train), prepared.task.batch_size)
    outputs = model(prepared.train.inputs[:batch])
    prepared.task.loss(outputs, prepared.train.targets[:batch]).backward()
