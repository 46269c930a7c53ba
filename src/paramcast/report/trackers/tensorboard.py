"""Runs as TensorBoard shows them: a folder each, with curves, predictions and settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ..html.load import Failure, Run
from ..watch.board import anomalies, reason, run_name
from . import names
from .following import Tracker

OVERVIEW, PARTIAL = "overview", ".partial"


class TensorBoard(Tracker):
    """Writes the event files of each run once it has finished.

    A run is a folder that appears at once and is never changed: that it is there says that it is
    written. "overview" has failed attempts and the verdict as text.

    Args:
        folder: TensorBoard's; in it are made "overview", and a folder for each run.

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
        self._failures = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder / PARTIAL, ignore_errors=True)  # half written by a killed command
            self._overview = SummaryWriter(str(folder / OVERVIEW))  # type: ignore[no-untyped-call]
        except OSError as error:
            raise StudyError(
                f"--tensorboard {folder} cannot be written ({error.strerror}); give another folder"
            ) from None

    def ended(self, run: Run, kind: str) -> None:
        path = self.folder.joinpath(*names.path_of(kind, run.spec))
        if path.exists():
            return
        # written aside and moved, so that TensorBoard never sees half a run
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
        self._failures += 1
        text = f"{run_name(failure.spec)}: {failure.status}: {failure.reason}"
        self._overview.add_text("failed", text, self._failures)
        self._overview.flush()

    def verdict(self, text: str) -> None:
        self._overview.add_text("verdict", text)
        self._overview.flush()

    def close(self) -> None:
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
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
