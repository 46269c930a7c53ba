"""Run a user's training in a worker process: a function of one trial, or a command."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...trials import Diverged, Trial, current
from ..spec import RunSpec, hash_of
from ..store.live import out_of
from ..tasks.own_file import function_from_file, line_of
from ..tasks.source import Source
from ..training.costs import peak_memory, reset_peak_memory
from ..training.own import verify
from .command import run_command
from .record import LOG, Failure, Misuse, Record
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
        # what runs must be what the plan has hashed
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


@lru_cache(maxsize=1)
def loaded(source: Source) -> OwnTraining:
    """The function, loaded once per process, before any run of it can import more code."""
    function = function_from_file(Path(source.where), source.item, source.sha256)
    return OwnTraining.of_function(source, function)


def run_function(
    training: OwnTraining, spec: RunSpec, folder: Path, live: str | None
) -> dict[str, Any]:
    """Train once; the outcome is like that of `training.loop.run`.

    Args:
        training, spec: the function and the run.
        folder: the run's; what the function prints goes into its output.log.
        live: the folder for `paramcast watch`.

    Raises:
        Misuse: the function does not do its part.
        Failure: it failed; the message names the line.
    """
    record = Record(spec, training.declared, live)
    described = training.trial(spec, folder)
    trial = Trial(**described, tell=record.take)
    # for a function that forgets to
    random.seed(described["seed"])
    np.random.seed(described["seed"])
    torch.manual_seed(described["seed"])
    reset_peak_memory(spec.device)
    start, results = time.perf_counter(), None
    with (
        (folder / LOG).open("w", 1, "utf-8", "backslashreplace") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        current(trial),
    ):
        try:
            results = training.function(trial)  # type: ignore[misc]
            if isinstance(results, dict):
                results = {k: trial.number(f"the result {k}", v) for k, v in results.items()}
        except Diverged:
            pass
        except (Exception, SystemExit) as error:
            if record.misuse is None:  # otherwise that says more
                traceback.print_exc()
                line = line_of(error, Path(training.source.where))
                more = f"; the traceback is in {folder / LOG}"
                raise Failure(f"{type(error).__name__}: {error}{line}{more}") from error
        trial.finish()
    seconds, memory = time.perf_counter() - start, peak_memory(spec.device)
    if record.divergence is None and results is None:
        results = record.results or {}  # those of `trial.done`
    return record.outcome(results, seconds, memory, wraps=training.wraps)
