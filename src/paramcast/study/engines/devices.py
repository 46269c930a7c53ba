"""Which GPU a worker process uses, and how many workers a machine takes."""

from __future__ import annotations

from pathlib import Path

import torch
from filelock import FileLock, Timeout

PER_GPU = 2
"""Workers on one GPU unless told otherwise: one computes while the other's host catches up."""
_held: dict[str, tuple[int, FileLock]] = {}


def take_slot(folder: str) -> int:
    """The lowest number that no living worker holds; this process keeps it until it ends.

    A lock goes with its process however that ends, so the worker that stands in for a dead one
    takes its number, and with it its place on a GPU.

    Args:
        folder: that the workers of one pool share.
    """
    number = 0
    while "slot" not in _held:
        lock = FileLock(Path(folder) / f"{number}.lock", timeout=0)
        try:
            lock.acquire()
            _held["slot"] = number, lock
        except Timeout:
            number += 1
    return _held["slot"][0]


def gpu_of(slot: int, gpus: int) -> int:
    """Workers go round the GPUs in turn.

    >>> [gpu_of(slot, 3) for slot in range(7)]
    [0, 1, 2, 0, 1, 2, 0]
    """
    return slot % gpus


def settle(device: str) -> None:
    """Make "cuda" mean this worker's GPU; a device with an index, and a CPU, are left alone."""
    if device == "cuda" and "slot" in _held:
        torch.cuda.set_device(gpu_of(_held["slot"][0], torch.cuda.device_count()))


def usual_workers(device: str, cores: int, gpus: int) -> int:
    """Worker processes unless told otherwise: one per core, or `PER_GPU` on each GPU in use.

    >>> usual_workers("cpu", cores=8, gpus=4), usual_workers("cuda", cores=16, gpus=4)
    (8, 8)
    >>> usual_workers("cuda:1", cores=16, gpus=4)
    2
    """
    if not device.startswith("cuda"):
        return cores
    return min(cores, PER_GPU * (gpus if device == "cuda" else 1))
