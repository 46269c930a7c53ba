"""Where a run ran: versions, hardware, the commit of the user's code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ..tasks.source import Source
from . import Engine


def describe_environment(source: Source, engine: Engine) -> dict[str, Any]:
    """Versions, hardware, engine and commit of the user's code, as stored with every run."""
    folder = Path.cwd() if source.kind == "builtin" else Path(source.where).parent
    return {
        "paramcast": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads_per_run": 1,
        **engine.describe(),
        "git_commit": _git_commit(folder),
    }


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit(folder: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's git
            cwd=folder, capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
