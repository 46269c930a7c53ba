"""Run a user's training, of either kind, in a worker process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..spec import RunSpec, hash_of
from ..store.live import out_of
from ..tasks.source import Source
from ..training.own import verify
from .command import run_command
from .function import loaded, run_function
from .record import Failure, Misuse
from .training import TRIAL, OwnTraining

RUNS = "runs"
"""The folder, inside a pilot's, that has a folder for each run of a user's training."""
KEY = 12
"""Characters of a run's key that name its folder."""


def run_own(spec: RunSpec, source: Source, live: str | None = None) -> dict[str, Any]:
    """Train once; an error becomes the outcome's reason.

    "misuse" in an outcome means that every other run would fail the same way.
    """
    try:
        verify(spec.method, spec.code)
        training = loaded(source) if source.kind == TRIAL else OwnTraining.of_commands(source)
        if spec.fingerprint and hash_of(training.fingerprint()) != spec.fingerprint:
            raise Failure(
                "the training's code has changed since the pilot began; start the pilot again"
            )
        if live is None:  # on a node that does not see the pilot's folder
            with tempfile.TemporaryDirectory(prefix="paramcast-run-") as place:
                return _run(training, spec, Path(place), live)
        folder = out_of(live) / RUNS / spec.key[:KEY]
        folder.mkdir(parents=True, exist_ok=True)
        return _run(training, spec, folder, live)
    except Misuse as error:
        return {"status": "failed", "reason": str(error), "misuse": True}
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        return {"status": "failed", "reason": reason}


def _run(training: OwnTraining, spec: RunSpec, folder: Path, live: str | None) -> dict[str, Any]:
    run = run_function if training.source.kind == TRIAL else run_command
    return run(training, spec, folder, live)
