"""Holding Ctrl-C back for a moment in which it would do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HELD = (signal.SIGINT, signal.SIGTERM)
_holding: list[bool] = []


@contextmanager
def held() -> Iterator[None]:
    """SIGINT and SIGTERM take effect at the end, or at once when they come a second time.

    Python raises what their handlers raise between any two instructions, also inside a library that
    is not made for it. Within another `held` it leaves all to that one.
    """
    if _holding or threading.current_thread() is not threading.main_thread():
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

    for number, handler in before.items():
        if handler not in (None, signal.SIG_IGN):
            signal.signal(number, hold)
    _holding.append(True)
    try:
        yield
    finally:
        _holding.clear()
        restore()
        for each in dict.fromkeys(came):
            signal.raise_signal(each)
