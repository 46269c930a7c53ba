"""How runs and their numbers are called in trackers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..html.load import Run
from ..watch.board import method_name, phase_name

LEFT_OUT = ("fingerprint", "probes", "settings")
"""What of a specification tells a reader nothing."""


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
    """A name that every file system and tracker takes."""
    return re.sub(r"[^A-Za-z0-9._=,()@ -]", "-", text).strip(". ") or "-"


def settings(spec: dict[str, Any]) -> dict[str, Any]:
    """A run's specification as parameters: what is set, as numbers and words."""
    known = {k: v for k, v in spec.items() if k not in LEFT_OUT and v is not None}
    # what was searched beside the learning rate, each by its own name
    known |= dict(spec.get("settings", ()))
    return {**known, "method": method_name(spec["method"], spec["base"])}


def numbers(point: dict[str, Any]) -> dict[str, float]:
    """A point of a curve, by the names that trackers group by."""
    found = {"lr": point.get("lr"), "train/loss": point.get("train_loss")}
    for name, value in point.items():
        if name.startswith("validation_"):
            found["validation/" + name.removeprefix("validation_")] = value
    told = point.get("predictions") or {}
    found |= {f"prediction/{name}": told.get(name) for name in ("cosine", "error", "accepted")}
    if "count" in told:
        fired = sum(each["count"] for each in told.get("anomalies", ()))
        found["prediction/anomalies"] = float(fired)
    return {k: float(v) for k, v in found.items() if isinstance(v, (int, float))}


def points(run: Run) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Of each point of a curve: its step, the time when it was reached, and its numbers."""
    # the last point was reached when the run ended, the others that many seconds before
    end = datetime.fromisoformat(run.finished_at).timestamp()
    seconds = [point.get("seconds") or 0.0 for point in run.curve]
    for point, second in zip(run.curve, seconds, strict=True):
        yield int(point["step"]), end - seconds[-1] + second, numbers(point)


def first_line(error: Exception) -> str:
    """What an error says, in one line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
