"""The environment of a run: versions, hardware, and the commit of the user's code."""

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
    """The versions, hardware, engine and commit of the user's code, as stored with every run."""
    # the processor, which Linux knows by name
    cpu = platform.processor() or platform.machine()
    if sys.platform == "linux":
        facts = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        names = (line.partition(":")[2].strip() for line in facts if line.startswith("model name"))
        cpu = next(names, cpu)

    # the commit of the user's code, if it is in a repository
    folder = Path(source.where).parent
    if source.kind in ("builtin", "command"):
        folder = Path.cwd()
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's git
            cwd=folder, capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
        commit = done.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        commit = None
    return {
        "paramcast": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads_per_run": 1,
        **engine.describe(),
        "git_commit": commit,
    }
