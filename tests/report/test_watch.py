"""Watching: what is read, what is shown, and when it ends."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console
from synthetic import ENVIRONMENT, EVIL, draw, write_pilot, write_study

from paramcast.cli import watch as cli_watch
from paramcast.errors import StudyError
from paramcast.report.html.load import Run
from paramcast.report.watch import terminal
from paramcast.report.watch.board import Board
from paramcast.report.watch.following import Follower, newest
from paramcast.study.store.live import Live, Telling
from paramcast.study.store.store import Store
from runs import stored_spec, told

SPEC = {
    "task": "digits", "fingerprint": "f", "method": "plp", "base": "sgd", "lr": 0.1, "seed": 0,
    "schedule": "cosine", "epochs": 2, "batch_size": 8, "share": 1.0, "phase": "final",
    "device": "cpu", "versions": "v", "momentum": None, "weight_decay": None, "probes": (),
}  # fmt: skip
SMALL: dict[str, Any] = {"methods": "plp", "seeds": 2, "trials": 1, "trial_seeds": 1}
AT = "2026-01-02T03:04:05+00:00"
Command = Callable[..., Any]


def board_of(*runs: Run) -> Board:
    board = Board(Path())
    board.runs = [*runs]
    board._sort()
    return board


def screen(folder: Path, width: int = 160, height: int | None = None) -> str:
    """The folder as a terminal shows it."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(terminal.picture(Board(folder), console, height)[0])
    return out.getvalue()


# --- what is read ---------------------------------------------------------------------------------


def test_a_pilot_is_shown_as_its_store_has_it(pilot: Path, paramcast: Command) -> None:
    ran = paramcast("watch", pilot)  # no terminal: it prints once
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == paramcast("watch", pilot, "--once").out
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{EVIL}  pilot, finished")
    assert ["28 runs" in lines[1], "80 runs" in lines[2]] == [True, True]
    assert lines[3] == "2 diverged, 1 failed attempts"
    assert sum(" diverged demon, final" in line for line in lines) == 2
    assert any("<b>no</b> such file" in line for line in lines)
    text = " ".join(ran.out.split())
    assert " ".join(told(pilot)["plp", "quality"][0].split()) in text
    board = Board(pilot)
    assert len(board.look().verdicts()) == 2
    shown = terminal.lines_of(board.latest)
    names = ["sgd", "sgd-lr-matched", "plp", "demon", "random-jump of plp"]
    assert [line.name for line in shown] == [*names, *(f"{name} at 80% steps" for name in names)]
    assert {line.done for line in shown} == {8}
    assert [line.diverged for line in shown] == 2 * [0, 0, 0, 1, 0]


def test_means_are_over_the_runs_and_none_is_of_the_test_split(pilot: Path) -> None:
    """Looking at it seed by seed finds differences that are not there."""
    board = Board(pilot)
    board.look()
    lines = terminal.lines_of(board.latest)
    store = Store(pilot / "runs.db", write=False)
    keys = [stored_spec(spec).key for spec, _ in store.runs()
            if (spec["method"], spec["lr"], spec["phase"], spec["share"])
            == ("base", lines[0].lr, "final", 1.0)]  # fmt: skip
    curves = list(store.curves(keys).values())
    tests = {f"{v:.5g}" for _, out in store.runs() for v in out.get("test", {}).values()}
    store.close()
    assert len(curves) == 8
    expected = [fmean(curve[i]["validation_loss"] for curve in curves) for i in range(6)]
    assert lines[0].losses == pytest.approx(expected)
    metric = 100 * fmean(curve[-1]["validation_metric"] for curve in curves)
    assert lines[0].metric == pytest.approx(metric)
    seen = {f"{value:.5g}" for line in lines for value in (line.metric, line.loss)}
    assert tests
    assert not tests & seen
    assert not any("test" in run.outcome or "gap" in run.outcome for run in board.runs)


def test_the_best_rate_is_one_that_the_search_has_not_left() -> None:
    """The lowest mean is that of a rate that was tried on one seed only."""
    runs = []
    for lr, losses in {0.1: (0.2, 0.4), 0.2: (0.25, 0.3), 0.3: (0.26,)}.items():
        for seed, loss in enumerate(losses):
            spec = SPEC | {"phase": "tune", "lr": lr, "seed": seed, "method": "base"}
            outcome = {"status": "done", "validation": {"loss": loss}, "metric_name": "accuracy"}
            runs.append(Run(f"{lr} {seed}", spec, outcome, [], AT))
    columns = terminal._tuning(board_of(*runs).latest)
    assert {column.heading: [*column.cells] for column in columns} == {
        "method": ["sgd"], "rates tried": ["3"], "best lr": ["0.2"], "its loss": ["0.2750"],
        "loss from low to high rates": ["█▄▁"],
    }  # fmt: skip


def test_each_run_is_read_once_and_a_new_one_at_the_next_look(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="plp", seeds=6)
    follower = Follower(tmp_path)
    first = follower.look()
    assert first.state == "finished"
    assert len({run.key for run in first.ended}) == len(first.ended) == 58
    assert follower.look().ended == []
    template = next(run for run in first.ended if run.spec["phase"] == "final")
    spec = stored_spec({**template.spec, "seed": 99})
    store = Store(tmp_path / "runs.db")
    store.put(spec, draw(spec, 60, 10, {}), ENVIRONMENT)
    store.put_failure(spec, {"status": "failed", "reason": "why"})
    store.close()
    look = follower.look()
    assert [(run.key, len(run.curve)) for run in look.ended] == [(spec.key, 6)]
    assert [failure.reason for failure in look.failed] == ["why"]
    assert follower.look().failed == []


def test_of_a_study_the_comparison_with_the_latest_run_is_shown(study: Path) -> None:
    board = Board(study)
    look = board.look()
    assert look.kind == "study"
    labels = [cell.label for cell in board.cells.values()]
    assert sorted(labels) == ["batch size 16", "batch size 32"]
    lines = terminal.lines_of(board.latest)
    assert {line.done for line in lines} == {6}
    assert {line.name.partition(",")[0] for line in lines} == {
        "sgd", "sgd-lr-matched", "plp", "random-jump of plp",
    }  # fmt: skip
    rates = [line.lr for line in lines if line.name.startswith("sgd-lr-matched")]
    assert rates == sorted(rates)
    assert len(rates) > 1
    assert look.verdicts()[0].startswith("plp: ")
    # a small window shows what fits, and says that there is more
    small = screen(study, width=80, height=24).splitlines()
    assert len(small) <= 24
    assert any("more: watch with --once or --web" in line for line in small)
    assert all(len(line) <= 80 for line in small)


def test_what_anomaly_rules_did_is_told() -> None:
    rules = [{"rule": "jump", "action": "skip", "step": 3, "count": 1},
             {"rule": "jump", "action": "none", "step": 2, "count": 2}]  # fmt: skip
    point = {"step": 5, "seconds": 1.0, "validation_loss": 0.5, "predictions": {"anomalies": rules}}
    outcome = {"status": "done", "reason": "", "validation": {"loss": 0.5}}
    (event,) = board_of(Run("a", SPEC, outcome, [point], AT)).events()
    # a rule that only watches is no event
    assert event == (AT, "anomaly", "plp, final, lr 0.1, seed 0: jump: skip, at step 3")


# --- states ---------------------------------------------------------------------------------------


def test_it_is_running_while_a_driver_is_at_work_and_shows_what_runs(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="plp", seeds=6)
    store = Store(tmp_path / "runs.db")
    extended = {"tuning": 16, "final": 96, "seeds": 12, "price": [30, 66, 219]}
    store.set_about("planned", extended)
    store.close()
    stopped = screen(tmp_path)
    assert "pilot, stopped: nobody is at work on it; the same command goes on with it" in stopped
    assert "usually 66 runs in all, at most 219" in stopped
    with Live(tmp_path) as driver:
        tell = Telling(str(driver.path), stored_spec({**SPEC, "method": "plp"}), 150)
        tell({"step": 30, "validation_loss": 0.5})
        running = screen(tmp_path)
        for part in ("pilot, running", "30 of 150", "48 of 96 runs", "plp, final", "0.5000"):
            assert part in running
        assert Board(tmp_path).look().verdicts() == []


def test_a_folder_without_a_store_or_with_a_damaged_url_says_so(tmp_path: Path) -> None:
    """A shared store itself is watched in tests/study/test_postgres.py."""
    with pytest.raises(StudyError, match="holds no pilot or study yet"):
        Board(tmp_path).look()
    (tmp_path / "runs.url").write_text("mysql://nobody@nowhere/none")
    with pytest.raises(StudyError, match="does not hold the URL of a store"):
        Board(tmp_path).look()


def test_of_several_folders_the_one_that_changed_last_is_watched(tmp_path: Path) -> None:
    assert newest(tmp_path) == tmp_path
    for name, when in (("a", 2000), ("b", 3000), ("c", 1000)):
        write_pilot(tmp_path / name, methods="plp", seeds=2, trials=1)
        for file in (tmp_path / name).iterdir():
            os.utime(file, (when, when))
    assert newest(tmp_path) == tmp_path / "b"
    assert newest(tmp_path / "c") == tmp_path / "c"


def test_an_unfinished_study_has_no_verdict(tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / "result.json").write_text("{ damaged")
    look = Board(tmp_path).look()
    assert (look.state, look.verdicts()) == ("stopped", [])


# --- the terminal ---------------------------------------------------------------------------------


def test_what_a_terminal_would_act_on_is_shown_as_text(tmp_path: Path) -> None:
    """An error message of a task, or a store of somebody else's, may hold escape sequences."""
    name, failed = "[red]digits[/red]", ((0, "ValueError: \x1b]0;title\x07\x1b[2Jgone"),)
    write_pilot(
        tmp_path, name=name, failed=failed, **SMALL | {"methods": "plp, lookahead(every=3)"}
    )
    shown = screen(tmp_path, width=200)
    assert "\x1b" not in shown
    for text in ("\\x1b]0;title\\x07\\x1b[2Jgone", name, "lookahead(every=3)"):
        assert text in shown


def test_a_curve_is_drawn_by_the_logarithm() -> None:
    assert terminal.sparkline([2.0**-s for s in range(8)]) == "█▇▆▅▄▃▂▁"
    assert terminal.sparkline([]) == ""
    assert terminal.sparkline([None, 1.0, 1.0]) == " ▁▁"
    assert len(terminal.sparkline([float(i) for i in range(1000)])) <= terminal.WIDTH


def test_it_waits_for_the_store_and_ends_with_the_pilot(tmp_path: Path) -> None:
    """In a real terminal: it says that it waits, shows what comes, and leaves the last picture."""
    folder = "[red]out[/x]"  # no markup
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paramcast", "watch", folder, "--every", "0.1"],
        cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while b"waiting" not in shown:
            shown += os.read(master, 4096)
        write_pilot(tmp_path / folder, methods="plp", seeds=2, trials=1)
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                shown += os.read(master, 4096)
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    screen, _, after = shown.partition(b"\x1b[?1049l")  # back from the alternate screen
    assert b"[red]out[/x] holds no pilot or study yet" in screen
    assert b"16 runs" in after
    assert b"finished" in after


def test_in_a_terminal_a_store_that_cannot_be_read_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StudyError, match="cannot be used as a store of runs"):
        cli_watch._live(Board(tmp_path), 0.1)


def test_a_damaged_file_of_a_run_in_progress_is_no_run(tmp_path: Path) -> None:
    write_pilot(tmp_path, **SMALL)
    texts = ("", "[1]", '{"spec": 1, "steps": 2}', '{"spec": {}, "steps": {}}', "\0", "[" * 9999)
    with Live(tmp_path) as driver:
        for i, text in enumerate(texts):
            (driver.path / f"{i}.jsonl").write_text(text)
        os.mkfifo(driver.path / "b.jsonl")  # nobody writes: it would be waited for
        assert Board(tmp_path).look().running == []
    for i, text in enumerate(texts):
        (tmp_path / ".live" / f"x-{i}").mkdir(parents=True)
        (tmp_path / ".live" / f"x-{i}" / "driver.json").write_text(text)
    assert Board(tmp_path).look().state == "finished"
