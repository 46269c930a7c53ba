"""The cost of training: seconds and bytes."""

from __future__ import annotations

import sys
import time

import psutil
import torch


def clock(device: str) -> float:
    """A clock in seconds that first waits until a GPU has finished all its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: str) -> None:
    """Start a new measurement of peak memory, where the system allows it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            with open("/proc/self/clear_refs", "wb") as file:
                file.write(b"5")  # resets the peak resident set size (man 5 proc)
        except OSError:
            return


def peak_memory(device: str) -> int:
    """Peak memory in bytes: allocated on a GPU, else resident in this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "linux":
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024  # the file gives KiB
    return int(psutil.Process().memory_info().rss)
