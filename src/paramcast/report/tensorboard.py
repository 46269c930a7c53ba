"""TensorBoard beside a pilot or study: a folder for each run, with its curves and predictions.

The store is the truth: this is a copy, and may be thrown away.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import StudyError
from .html.load import Run
from .watch.board import anomalies, method_name, phase_name, reason, run_name
from .watch.following import Follower, Look

EVERY = 2.0
"""Seconds between two looks at the store."""
OVERVIEW, PARTIAL = "overview", ".partial"
PREDICTED = ("cosine", "error", "relative_jump", "accepted")


class TensorBoard:
    """Writes the event files of each finished run while a driver fills the store, as a context.

    A thread reads the store as `paramcast watch` does. A run is a folder that appears at once and
    is never changed: that it is there says that it is written. "overview" has failed attempts and
    the verdict as text. What goes wrong is said once, and never stops a run.

    Args:
        out: the output folder, which need not exist yet; the files go to "tensorboard" in it.
        url: of a PostgreSQL store, if it is not the folder's own.
        say: told in a sentence what goes wrong.

    Raises:
        StudyError: TensorBoard is not installed, or the folder cannot be used.
    """

    def __init__(self, out: Path, url: str | None, say: Callable[[str], None]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise StudyError(
                "--tensorboard needs one more package: pip install 'paramcast[tensorboard]'"
            ) from None
        self.folder, self._writer, self._say = out / "tensorboard", SummaryWriter, say
        self._follower = Follower(out, url)
        self._failures, self._verdict = 0, ""
        self._over, self._hurry = threading.Event(), False
        self._thread = threading.Thread(target=self._follow, name="TensorBoard", daemon=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # half written by a killed command
            shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
            self._overview = SummaryWriter(str(self.folder / OVERVIEW))  # type: ignore[no-untyped-call]
        except OSError as error:
            raise StudyError(
                f"{self.folder} cannot be written ({error.strerror}); choose another --out"
            ) from None

    def __enter__(self) -> TensorBoard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left; after an interruption the next start does that."""
        self._hurry = kind is not None
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        last = False
        try:
            while not last:
                last = self._over.wait(EVERY)
                try:
                    look = self._follower.look()
                except StudyError:
                    continue  # not there yet, or what is wrong is said by who writes it
                self._write_what_is_new(look)
            shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
            self._overview.close()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self._say(
                f"TensorBoard gets nothing more ({type(error).__name__}: {lines[0]}); the runs "
                "go on, and the same command with the same option catches up"
            )

    def _write_what_is_new(self, look: Look) -> None:
        for run in look.ended:
            if self._hurry:  # after Ctrl-C nobody waits for a copy
                return
            self.write(run, self.folder.joinpath(*path_of(look.kind, run.spec)))
        for failure in look.failed:
            self._failures += 1
            text = f"{run_name(failure.spec)}: {failure.status}: {failure.reason}"
            self._overview.add_text("failed", text, self._failures)
        verdict = "\n".join(f"- {sentence}" for sentence in look.verdicts())
        if verdict != self._verdict:
            self._overview.add_text("verdict", verdict)
            self._verdict = verdict
        self._overview.flush()

    def write(self, run: Run, path: Path) -> None:
        """Write a run into its folder, unless that is there."""
        if path.exists():
            return
        # written aside and moved, so that TensorBoard never sees half a run
        partial = self.folder / PARTIAL / run.key
        writer = self._writer(str(partial))
        # the last point was reached when the run ended, the others that many seconds before
        end = datetime.fromisoformat(run.finished_at).timestamp()
        seconds = [point.get("seconds") or 0.0 for point in run.curve]
        for point, second in zip(run.curve, seconds, strict=True):
            at = end - seconds[-1] + second
            for name, value in numbers(point).items():
                writer.add_scalar(name, value, int(point["step"]), walltime=at)
        for _, text in anomalies(run.curve):
            writer.add_text("prediction/anomaly", text, run.outcome["steps"] or 0)
        if run.outcome["status"] == "diverged":
            writer.add_text("diverged", reason(run), run.outcome["steps"] or 0)
        writer.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, path)


# --- names ----------------------------------------------------------------------------------------


def path_of(kind: str, spec: dict[str, Any]) -> list[str]:
    """Where a run belongs: the comparison of a study, the phase, the arm, the seed."""
    arm = f"{method_name(spec['method'], spec['base'])} lr {spec['lr']:.6g}"
    parts = [phase_name(spec), arm, f"seed {spec['seed']}"]
    return [safe(part) for part in ([cell_name(spec), *parts] if kind == "study" else parts)]


def cell_name(spec: dict[str, Any]) -> str:
    """The settings of a study's comparison in one line."""
    short = {"momentum": "momentum", "weight_decay": "decay", "beta2": "beta2"}
    extra = [f"{word} {spec[k]:g}" for k, word in short.items() if spec.get(k) is not None]
    usual = [spec["task"], spec["base"], spec["schedule"]]
    return " ".join([*usual, f"epochs {spec['epochs']}", f"batch {spec['batch_size']}", *extra])


def safe(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._=,()@ -]", "-", text).strip(". ") or "-"


def numbers(point: dict[str, Any]) -> dict[str, float]:
    """A point of a curve, by the names that TensorBoard groups by."""
    found = {"lr": point.get("lr"), "train/loss": point.get("train_loss")}
    for name, value in point.items():
        if name.startswith("validation_"):
            found["validation/" + name.removeprefix("validation_")] = value
    told = point.get("predictions") or {}
    found |= {f"prediction/{name}": told.get(name) for name in PREDICTED}
    if "count" in told:
        fired = sum(each["count"] for each in told.get("anomalies", ()))
        found["prediction/anomalies"] = float(fired)
    return {k: float(v) for k, v in found.items() if isinstance(v, (int, float))}
