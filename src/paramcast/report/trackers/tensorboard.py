"""Runs as TensorBoard shows them: a folder each, with curves, predictions and settings."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ...study.store.live import InProgress
from ..html.load import Failure, Run
from ..watch.board import anomalies, reason, run_name
from ..watch.follow import Look
from . import names

RUNNING, OVERVIEW, PARTIAL = "running", "overview", ".partial"


class TensorBoard:
    """Writes event files that TensorBoard reads while they grow.

    A finished run is a folder that appears at once and is never changed: that it is there says that
    it is written. A run in progress is under "running/" until it has ended.

    Args:
        folder: TensorBoard's; in it are made "overview", "running", and a folder for each run.

    Raises:
        StudyError: TensorBoard is not installed, or the folder cannot be used.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise StudyError(
                "--tensorboard needs one more package: pip install 'paramcast[tensorboard]'"
            ) from None
        self.folder, self._writer = folder, SummaryWriter
        self._running: dict[str, tuple[Any, int]] = {}  # by key: its writer, and points written
        self._counts: Counter[str] = Counter()
        self._shown, self._verdict = 0, ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in (RUNNING, PARTIAL):
                shutil.rmtree(folder / stale, ignore_errors=True)
            self._overview = SummaryWriter(str(folder / OVERVIEW))  # type: ignore[no-untyped-call]
        except OSError as error:
            raise StudyError(
                f"--tensorboard {folder} cannot be written ({error.strerror}); give another folder"
            ) from None

    def ended(self, run: Run, kind: str) -> None:
        self._counts["done"] += 1
        self._counts["diverged"] += run.outcome["status"] == "diverged"
        path = self.folder.joinpath(*names.path_of(kind, run.spec))
        if path.exists():
            return
        partial = self.folder / PARTIAL / run.key
        writer = self._writer(str(partial))
        for step, at, found in names.points(run):
            for name, value in found.items():
                writer.add_scalar(name, value, step, walltime=at)
        for _, text in anomalies(run.curve):
            writer.add_text("prediction/anomaly", text, run.outcome["steps"] or 0)
        if run.outcome["status"] == "diverged":
            writer.add_text("diverged", reason(run), run.outcome["steps"] or 0)
        _add_settings(writer, run)
        writer.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, path)

    def failed(self, failure: Failure) -> None:
        self._counts["failed"] += 1
        text = f"{run_name(failure.spec)}: {failure.status}: {failure.reason}"
        self._overview.add_text("failed", text, self._counts["failed"])

    def look(self, look: Look) -> None:
        if self._counts["done"] != self._shown:
            self._shown = self._counts["done"]
            for name in ("done", "diverged", "failed"):
                self._overview.add_scalar(f"runs/{name}", self._counts[name], self._shown)
        verdict = names.verdicts(look)
        if verdict and verdict != self._verdict:
            self._verdict = verdict
            self._overview.add_text("verdict", verdict, self._shown)
        self._overview.flush()
        going_on = {run.key: run for run in look.running}
        for key in [key for key in self._running if key not in going_on]:
            self._end(key)
        for run in going_on.values():
            self._go_on(run)

    def _go_on(self, run: InProgress) -> None:
        """Write the points of a run in progress that are new."""
        if run.key not in self._running:
            self._running[run.key] = (self._writer(str(self._place(run.key, run.spec))), 0)
        writer, written = self._running[run.key]
        for point in run.curve[written:]:
            for name, value in names.numbers(point).items():
                writer.add_scalar(name, value, point["step"])
        writer.flush()
        self._running[run.key] = (writer, max(written, len(run.curve)))

    def _place(self, key: str, spec: dict[str, Any]) -> Path:
        return self.folder / RUNNING / names.safe(f"{run_name(spec)} {key[:8]}")

    def _end(self, key: str) -> None:
        writer, _ = self._running.pop(key)
        writer.close()
        shutil.rmtree(writer.log_dir, ignore_errors=True)

    def close(self) -> None:
        for key in list(self._running):
            self._end(key)
        for empty in (RUNNING, PARTIAL):
            shutil.rmtree(self.folder / empty, ignore_errors=True)
        self._overview.close()


def _add_settings(writer: Any, run: Run) -> None:
    """What TensorBoard's HPARAMS tab compares: the settings, and the loss at the end."""
    from torch.utils.tensorboard.summary import hparams

    loss = run.outcome["validation"].get("loss")
    if loss is None:
        return
    name = "end/validation_loss"
    for summary in hparams(names.settings(run.spec), {name: loss}):  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(summary)
    writer.add_scalar(name, loss, run.outcome["steps"] or 0)
