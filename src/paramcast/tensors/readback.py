"""Numbers on their way from an accelerator, read without waiting for the queue."""

from __future__ import annotations

import torch
from torch import Tensor


class Readback:
    """A scalar that is copied to the host behind the work queued so far.

    Reading it waits for that copy alone, not for work that is queued later.
    """

    def __init__(self, value: Tensor) -> None:
        self._value, self._copied = value, None
        if value.device.type == "cuda":
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(value.device))  # type: ignore[no-untyped-call]

    def __float__(self) -> float:
        if self._copied is not None:
            self._copied.synchronize()  # type: ignore[no-untyped-call]
        return float(self._value)
