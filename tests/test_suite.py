"""The suite itself: its results do not depend on how it is started, and no test hangs for ever."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = """
import signal, subprocess, sys
import pytest

def test_ctrl_c_is_heard_here():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

def test_ctrl_c_is_heard_by_a_child():
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert ended.returncode == -signal.SIGINT

def test_handlers_are_put_back():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

test_ctrl_c_is_heard_again = test_ctrl_c_is_heard_here
"""
HANGING = """
import threading
from hypothesis import given, strategies

def test_hangs():
    threading.Event().wait()

@given(strategies.integers())
def test_hangs_again(x):
    threading.Event().wait()

def test_goes_on():
    pass
"""


def run(folder: Path, cases: str, *options: str) -> str:
    """The last line that a background job of a shell without a terminal prints."""
    (folder / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml", "tests/known_limits.txt"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "test_cases.py").write_text(cases)
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, folder / "test_cases.py"],
            cwd="/", env={"PATH": "", "LC_ALL": "C", "PYTHONUTF8": "0"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, ours)
    return ended.stdout.splitlines()[-1] if ended.stdout else ended.stderr


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "0"), ()], ids=" ".join)
def test_results_do_not_depend_on_how_it_is_started(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    assert run(tmp_path, CASES, *options).startswith("4 passed in ")


def test_what_hangs_fails(tmp_path: Path) -> None:
    ended = run(tmp_path, HANGING, "-n", "2", "--timeout", "2")
    assert ended.startswith("2 failed, 1 passed in ")
