"""Hold Ctrl-C back while it could do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HELD = (signal.SIGINT, signal.SIGTERM)
_holding = False


@contextmanager
def held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the context; a second one takes effect at once.

    Python raises what their handlers raise between any two instructions, even inside a library that
    is not prepared for it. Within another `held` this one does nothing.
    """
    global _holding
    if _holding or threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    # what came, in order; a second signal of a kind is not held back
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
        _holding = True
        for number, handler in before.items():
            if handler not in (None, signal.SIG_IGN):
                signal.signal(number, hold)
        yield
    finally:
        _holding = False
        restore()
        # raise each again, now under its own handler
        for each in dict.fromkeys(came):
            signal.raise_signal(each)
