"""The GPU that a worker process uses, and the number of workers for a machine."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from filelock import FileLock, Timeout

PER_GPU = 2  # default workers on one GPU: one computes while the other's host catches up
_held: dict[str, tuple[int, FileLock]] = {}  # this process's slot; the lock lives as long as it


def take_slot(folder: str) -> int:
    """Take the lowest number that no living worker of a pool holds, until this process ends.

    The pool's workers share the folder. The lock ends with its process, however that ends, so that
    the replacement of a dead worker takes its number, and with it its place on a GPU.
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


def settle(device: str) -> None:
    """Make "cuda" mean this worker's GPU, in turn; "cuda:N" and "cpu" stay as they are."""
    if device == "cuda" and "slot" in _held:
        torch.cuda.set_device(_held["slot"][0] % torch.cuda.device_count())


def usual_workers(device: str, cores: int, gpus: int) -> int:
    """The default number of workers: one per core, or `PER_GPU` on each GPU in use.

    >>> usual_workers("cpu", cores=8, gpus=4), usual_workers("cuda", cores=16, gpus=4)
    (8, 8)
    >>> usual_workers("cuda:1", cores=16, gpus=4)
    2
    """
    if not device.startswith("cuda"):
        return cores
    return min(cores, PER_GPU * (gpus if device == "cuda" else 1))


def visible_device(device: str) -> tuple[str, dict[str, str]]:
    """For a command: what it calls its device, and the environment that shows it only that one.

    >>> visible_device("cpu")
    ('cpu', {})
    """
    if device == "cpu":
        return device, {}
    _, _, number = device.partition(":")
    if not number and "slot" not in _held:  # of Ray, which has chosen
        return "cuda", {}
    index = int(number) if number else _held["slot"][0] % torch.cuda.device_count()
    # this process may see a part of the machine's GPUs, and counts these only
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return "cuda", {"CUDA_VISIBLE_DEVICES": names[index] if names != [""] else str(index)}
