"""What this process may use of its machine: cores and memory, containers' limits included."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Cores that this process may run on, and at most as many as its CPU quota, rounded up.

    A container that may use 1.5 CPUs of 64 has 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [_quota(folder) for folder in _folders("cpu", cgroups, own)]
    return max(1, min([cores or 1, *(math.ceil(q) for q in quotas if q is not None)]))


def available_memory(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Bytes that new processes can take, by the machine and by every control group above us.

    File caches, which the kernel gives up when asked, count as available.
    """
    left = [_memory_left(folder) for folder in _folders("memory", cgroups, own)]
    machine = int(psutil.virtual_memory().available)
    return max(0, min([machine, *(each for each in left if each is not None)]))


def _folders(controller: str, cgroups: Path, own: Path) -> Iterator[Path]:
    """Our control group and those above it, in version 2 and in version 1.

    A container often sees its own group as the root, under a path that is the host's: so the
    root is always among them.
    """
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names == "":
            root = cgroups
        elif controller in names.split(","):
            root = cgroups / controller
        else:
            continue
        here = root / path.lstrip("/")
        yield from (p for p in (here, *here.parents) if p == root or root in p.parents)


def _quota(folder: Path) -> float | None:
    """CPUs that a group may use: version 2 "150000 100000", version 1 two files; None: all."""
    text = _read(folder / "cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    old, period_text = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if old is None or period_text is None or int(old) <= 0:
        return None
    return int(old) / int(period_text)


def _memory_left(folder: Path) -> int | None:
    """Bytes left under a group's limit, caches that can be given up counted as left."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        top, now = _read(folder / limit), _read(folder / used)
        if top is not None and now is not None and top != "max":
            stat = dict(line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
            return int(top) - int(now) + int(stat.get(cache, 0))
    return None


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8").strip()
    except OSError:
        return None
