"""Runs in progress, beside the store: a folder for each driver, with a file for each run.

    FOLDER/.live/HOST-PID/driver.json       the driver
    FOLDER/.live/HOST-PID/KEY.jsonl         the run's specification, then a line per epoch

This is for watching only. The store alone says what has finished; no study reads these files, and
a failure to write them stops no run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ..reading import moment, object_from_json, read_text
from ..spec import RunSpec

FOLDER = ".live"
DRIVER, ENDING = "driver.json", ".jsonl"
MOST = 64 * 2**20
"""Bytes of the largest file that is read."""
SILENCE = 600.0
"""Seconds without a sign after which another machine's driver counts as dead."""


class InProgress(NamedTuple):
    """A run that has not ended: its key, specification, total steps, and curve so far."""

    key: str
    spec: dict[str, Any]
    steps: int
    curve: list[dict[str, Any]]


class Live:
    """A driver's own folder, as a context that removes it at its end.

    Args:
        out: the output folder.
    """

    def __init__(self, out: Path) -> None:
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
        self._parent = out / FOLDER
        self.path = self._parent / f"{host}-{os.getpid()}"

    def __enter__(self) -> Live:
        with contextlib.suppress(OSError):
            self._parent.mkdir(parents=True, exist_ok=True)
            for folder in self._parent.iterdir():
                if _driver(folder) is None:  # left by a killed driver, perhaps without its DRIVER
                    shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            me = psutil.Process()
            about = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
            (self.path / DRIVER).write_text(json.dumps(about), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: a driver with another store uses it too
            self._parent.rmdir()

    def ended(self, key: str) -> None:
        """Remove the file of a run that ended, or of an attempt at it."""
        with contextlib.suppress(OSError):
            (self.path / f"{key}{ENDING}").unlink(missing_ok=True)


class Telling:
    """Tells, in a worker, how far a run is: a line per point of its curve.

    Args:
        folder: the driver's; None tells nothing.
        spec, steps: the run, and its total steps.
    """

    def __init__(self, folder: str | None, spec: RunSpec, steps: int) -> None:
        self._path = None if folder is None else Path(folder) / f"{spec.key}{ENDING}"
        self._write("w", {"spec": asdict(spec), "steps": steps})

    def __call__(self, point: dict[str, Any]) -> None:
        self._write("a", point)

    def _write(self, mode: str, value: dict[str, Any]) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError), self._path.open(mode, encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")


def out_of(live: str) -> Path:
    """The output folder of a driver's own folder."""
    return Path(live).parents[1]


def driver(out: Path) -> str | None:
    """The driver that is writing into this folder, in words; None if there is none."""
    return next(filter(None, map(_driver, _folders(out))), None)


def in_progress(out: Path) -> Iterator[InProgress]:
    """The runs in progress in a folder, on this machine or on one that shares the folder."""
    for folder in filter(_driver, _folders(out)):
        for path in sorted(folder.glob(f"*{ENDING}")):
            run = _read(path)
            if run is not None:
                yield run


def _folders(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob(f"{FOLDER}/*/{DRIVER}"))


def _driver(folder: Path) -> str | None:
    """The driver whose folder it is, in words; None if it is dead.

    A driver of this machine is alive if its process is; one of another machine if it gave a recent
    sign.
    """
    try:
        about = object_from_json(read_text(folder / DRIVER, MOST))
        host, pid, started = (about[name] for name in ("host", "pid", "started"))
        if host == socket.gethostname():
            # a process with the same number that started at another time is a different one
            alive = abs(psutil.Process(pid).create_time() - started) < 1.0
        else:
            latest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            alive = time.time() - latest < SILENCE
        since = moment(datetime.fromtimestamp(started, timezone.utc))
        return f"process {pid} on {host}, since {since}" if alive else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None


def _read(path: Path) -> InProgress | None:
    """A run as far as it has told; None if it has just ended. Its last line may be half written."""
    try:
        lines = read_text(path, MOST).splitlines()
        # the first line is the run, every other a point of its curve
        head = object_from_json(lines[0])
        spec, steps = dict(head["spec"]), int(head["steps"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None
    curve = []
    for line in lines[1:]:
        with contextlib.suppress(ValueError):
            curve.append(object_from_json(line))
    return InProgress(path.name.removesuffix(ENDING), spec, steps, curve)
