"""What a terminal shows while a pilot runs and when it has ended."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from paramcast.report.progress import LiveProgress
from paramcast.report.terminal import show
from paramcast.study.engines import LocalEngine
from paramcast.study.grid.run import run_pilot
from paramcast.study.plan import Plan
from paramcast.study.stored import Result, read_result
from runs import cell


def watched(plan: Plan, *, terminal: bool) -> tuple[str, LiveProgress]:
    """What is written while the pilot runs, without the terminal's own codes."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100)
    with LiveProgress(console) as progress:
        run_pilot(plan, engine=LocalEngine(2), watcher=progress)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()), progress


def test_a_terminal_sees_phase_runs_accuracy_and_time_left(
    task_file: Callable[..., Path], plan: Callable[..., Plan]
) -> None:
    planned = plan(task_file(), seeds=24)
    text, progress = watched(planned, terminal=True)
    # one line for all phases, of which it says how many runs they usually take
    lines = [
        line for line in re.split(r"[\r\n]", text) if re.match(r" *(tuning|final|done) ", line)
    ]
    assert [*dict.fromkeys(line.split()[0] for line in lines)] == ["tuning", "final", "done"]
    counted = [re.search(r"(\d+) of (about )?(\d+)", line) for line in lines]
    runs, of = [int(n[1]) for n in counted if n], {n[2] for n in counted if n}
    assert runs == sorted(runs)
    assert of == {"about ", None}  # and None once it has ended
    assert f"done    {'━' * 20} {runs[-1]} of {runs[-1]} " in lines[-1]
    assert re.search(r"plp (\d\d\.\d\d %|diverged) +\d:\d\d:\d\d \d\d:\d\d left", text)
    runs = runs[-1]
    assert (progress.done, progress.total, progress.reused) == (runs, runs, 0)
    again, progress = watched(planned, terminal=True)
    assert (progress.done, progress.total, progress.reused) == (runs, runs, runs)
    assert "reused" in again


def test_nothing_is_shown_where_there_is_no_terminal(
    task_file: Callable[..., Path], plan: Callable[..., Plan]
) -> None:
    text, _ = watched(plan(task_file(), seeds=2), terminal=False)
    assert text == ""


def shown(folder: Path, width: int) -> tuple[Result, list[str]]:
    result = read_result(folder)
    screen = io.StringIO()
    show(result, Console(file=screen, width=width))
    return result, screen.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_name_and_no_interval_is_broken(tuned_digits: tuple[Any, Path], width: int) -> None:
    result, lines = shown(tuned_digits[1], width)
    for row in cell(result)["table"]:
        assert any(line.split(" ")[0] == row["method"] for line in lines)
        if row["to_base"]:
            c = row["to_base"]
            mean, low, high = (100 * value for value in (c.mean, c.low, c.high))
            assert any(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" in line for line in lines)


WHOLE = ("Details: ", "  paramcast ")
"""Paths and commands, to be copied."""


@pytest.mark.parametrize("width", [80, 120])
def test_sentences_fit_the_terminal(tuned_digits: tuple[Any, Path], width: int) -> None:
    _, lines = shown(tuned_digits[1], width)
    assert all(len(line) <= width for line in lines if not line.startswith(WHOLE))
    assert any(line.startswith("plp, quality, ") for line in lines)
