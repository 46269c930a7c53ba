"""Run one command, and leave none of its processes behind, whatever happens to the worker.

`command.py` starts this file as a script, with the numbers of two pipes and the command's words:

    python -I -S supervisor.py CONTROL STATUS WORD...

The worker holds the other end of CONTROL open. When it dies, or is killed at the time limit, that
pipe closes, and all processes that the command started are killed. STATUS receives how the
command ended. Only the standard library is imported, so this starts in a hundredth of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # of prctl, in linux/prctl.h
GRACE = 5.0
"""Seconds that killed processes have to exit."""


def main(control: int, status: int, words: list[str]) -> None:
    """Start the command, wait until it or the worker ends, kill what is left, and report."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it writes to `wake`
    _prctl(SET_CHILD_SUBREAPER, 1)  # the command's orphans become our children
    try:
        # bandit: no shell; the words are the user's command
        child = subprocess.Popen(  # noqa: S603
            words, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_us
        )
    except OSError as error:
        _tell(status, {"error": f"{words[0]!r} cannot be started ({error.strerror})"})
        return
    ended = None
    while ended is None:
        ready, _, _ = select.select([control, woken], [], [])
        if control in ready:
            _kill_all(child.pid)
            return
        os.read(woken, 4096)
        number, code, usage = os.wait4(child.pid, os.WNOHANG)
        if number:
            ended = {"code": os.waitstatus_to_exitcode(code), "memory": usage.ru_maxrss}
    _kill_all(child.pid)
    _tell(status, ended)


def _tell(status: int, how: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(status, json.dumps(how).encode())


def _kill_all(child: int) -> None:
    """Kill the command's group and, on Linux, all that descends from it, until nothing is left."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        # those that left its group: what they start becomes ours when they are dead
        with contextlib.suppress(OSError):  # without /proc
            with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
                left = [int(number) for number in file.read().split()]
            for number in left:
                os.kill(number, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # none is left
            return
        time.sleep(0.01)


def _die_with_us() -> None:
    _prctl(SET_PDEATHSIG, signal.SIGKILL)


def _prctl(what: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
