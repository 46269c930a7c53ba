"""Holding Ctrl-C back for a moment in which it would do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HELD = (signal.SIGINT, signal.SIGTERM)
_came: list[int] | None = None
"""The signals that came while they are held; None while they are not."""


@contextmanager
def held() -> Iterator[None]:
    """SIGINT and SIGTERM take effect at the end, or at once when they come a second time.

    Python raises what their handlers raise between any two instructions, also inside a library that
    is not made for it. Within another `held` it leaves all to that one.
    """
    global _came
    if _came is not None or threading.current_thread() is not threading.main_thread():
        yield  # other threads never hear them
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in HELD}

    def hold(number: int, frame: Any) -> None:
        came.append(number)
        if came.count(number) > 1:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            if handler not in (None, signal.SIG_IGN):
                signal.signal(number, handler)

    try:
        _came = came
        for number, handler in before.items():
            if handler not in (None, signal.SIG_IGN):
                signal.signal(number, hold)
        yield
    finally:
        _came = None
        restore()
        for each in dict.fromkeys(came):
            signal.raise_signal(each)


def waiting() -> bool:
    """Whether a signal waits for the end of `held`."""
    return bool(_came)
