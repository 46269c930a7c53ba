"""Watching: what is read, what is shown, and when it ends."""

from __future__ import annotations

import contextlib
import io
import json
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
from synthetic import ENVIRONMENT, EVIL, STUDY, draw, write_pilot, write_study

from paramcast.cli import watch as cli_watch
from paramcast.errors import StudyError
from paramcast.report.html.load import Run
from paramcast.report.watch import terminal
from paramcast.report.watch.board import Board
from paramcast.report.watch.follow import Follower, Look, newest
from paramcast.report.watch.view import view
from paramcast.report.watch.watching import Watching
from paramcast.study.store.live import Live, Telling
from paramcast.study.store.store import Store
from runs import cell, stored_spec, told

SPEC = {
    "task": "digits", "fingerprint": "f", "method": "plp", "base": "sgd", "lr": 0.1, "seed": 0,
    "schedule": "cosine", "epochs": 2, "batch_size": 8, "share": 1.0, "phase": "final",
    "device": "cpu", "versions": "v", "momentum": None, "weight_decay": None, "probes": (),
}  # fmt: skip
SMALL: dict[str, Any] = {"methods": "plp", "seeds": 2, "trials": 1, "trial_seeds": 1}
Command = Callable[..., Any]


def shown(board: Board) -> list[dict[str, Any]]:
    """The lines of a board's only comparison."""
    arms: list[dict[str, Any]] = view(board, Look("pilot", {}, {}, None, None, []), "")["arms"]
    return arms


def text_of(view: dict[str, Any], width: int = 120, height: int | None = None) -> str:
    """The view as a terminal shows it."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(terminal.draw(view, console, height))
    return out.getvalue()


# --- what is read ---------------------------------------------------------------------------------


def test_a_pilot_is_shown_as_its_store_has_it(pilot: Path) -> None:
    view = Watching(pilot).view()
    assert (view["kind"], view["name"], view["state"]) == ("pilot", EVIL, "finished")
    assert [(p["name"], p["done"]) for p in view["phases"]] == [("tuning", 28), ("final", 80)]
    assert (view["diverged"], view["failed"]) == (2, 1)
    full = [arm for arm in view["arms"] if arm["share"] == 1.0]
    names = [arm["method"] for arm in full]
    assert names == ["sgd", "sgd-lr-matched", "plp", "demon", "random-jump of plp"]
    assert {arm["done"] for arm in view["arms"]} == {8}
    assert [arm["diverged"] for arm in full] == [0, 0, 0, 1, 0]
    assert view["metric"] == "accuracy, %"
    assert [event["kind"] for event in view["events"]].count("diverged") == 2
    assert any("<b>no</b> such file" in event["text"] for event in view["events"])
    result = json.loads((pilot / "result.json").read_text())
    tuned = {row["method"]: row["best"][0] for row in view["tuning"]}
    assert tuned["sgd"] == pytest.approx(cell(result)["learning_rates"]["chosen"]["base"])
    assert len(view["verdicts"]) == 2
    assert told(pilot)["plp", "quality"][0] in view["verdicts"][0]


def test_the_best_rate_is_one_that_the_search_has_not_left() -> None:
    """The lowest mean is that of a rate that was tried on one seed only."""
    board = Board()
    for lr, losses in {0.1: (0.2, 0.4), 0.2: (0.25, 0.3), 0.3: (0.26,)}.items():
        for seed, loss in enumerate(losses):
            spec = SPEC | {"phase": "tune", "lr": lr, "seed": seed, "method": "base"}
            outcome = {"status": "done", "validation": {"loss": loss}, "metric_name": "accuracy"}
            board.ended(Run(f"{lr} {seed}", spec, outcome, [], "2026-11-30T00:00:00+00:00"))
    (row,) = view(board, Look("pilot", {}, {}, None, None, []), "")["tuning"]
    assert row["points"] == [(0.1, pytest.approx(0.3)), (0.2, pytest.approx(0.275)), (0.3, 0.26)]
    assert row["best"] == (0.2, pytest.approx(0.275))


def test_a_curve_is_the_mean_over_the_runs(pilot: Path) -> None:
    (sgd,) = (a for a in Watching(pilot).view()["arms"][:1])
    store = Store(pilot / "runs.db", write=False)
    keys = [stored_spec(spec).key for spec, _ in store.runs()
            if (spec["method"], spec["lr"], spec["phase"], spec["share"])
            == ("base", sgd["lr"], "final", 1.0)]  # fmt: skip
    curves = list(store.curves(keys).values())
    store.close()
    assert len(curves) == 8
    expected = [fmean(curve[i]["validation_loss"] for curve in curves) for i in range(6)]
    assert sgd["losses"] == pytest.approx(expected, rel=1e-4)
    assert sgd["metric"] == pytest.approx(
        100 * fmean(curve[-1]["validation_metric"] for curve in curves), rel=1e-4
    )


def test_no_value_of_the_test_split_is_shown(pilot: Path) -> None:
    """Looking at it seed by seed finds differences that are not there."""
    tests = set()
    store = Store(pilot / "runs.db", write=False)
    for _, outcome in store.runs():
        tests |= {f"{value:.5g}" for value in outcome.get("test", {}).values()}
    store.close()
    view = Watching(pilot).view()
    seen = {f"{arm[name]:.5g}" for arm in view["arms"] for name in ("metric", "loss")}
    assert tests - seen
    assert not tests & seen
    assert "test" not in {key for arm in view["arms"] for key in arm}


def test_each_run_is_read_once_and_a_new_one_at_the_next_look(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="plp", seeds=6)
    heard: list[Run] = []
    follower = Follower(tmp_path, ended=heard.append)
    first = follower.look()
    assert first.finished
    before = len(heard)
    follower.look()
    assert len(heard) == before == len({run.key for run in heard})
    template = next(run for run in heard if run.spec["phase"] == "final")
    spec = stored_spec({**template.spec, "seed": 99})
    store = Store(tmp_path / "runs.db")
    store.put(spec, draw(spec, 60, 10, {}), ENVIRONMENT)
    store.close()
    follower.look()
    assert [run.key for run in heard[before:]] == [spec.key]
    assert len(heard[-1].curve) == 6


def test_of_a_study_the_comparison_with_the_latest_run_is_shown(study: Path) -> None:
    view = Watching(study).view()
    assert view["kind"] == "study"
    assert sorted(view["cells"]) == ["batch size 16", "batch size 32"]
    assert {arm["done"] for arm in view["arms"]} == {6}
    assert {arm["method"] for arm in view["arms"]} == {
        "sgd", "sgd-lr-matched", "plp", "random-jump of plp",
    }  # fmt: skip
    assert view["verdicts"]
    assert view["verdicts"][0].startswith("plp: ")


def test_predictions_and_what_anomaly_rules_did_are_shown() -> None:
    board = Board()
    point = {"step": 5, "seconds": 1.0, "validation_loss": 0.5, "predictions": {
        "count": 2, "accepted": 0.5, "cosine": 0.25, "error": 0.75, "relative_jump": 0.01,
        "anomalies": [{"rule": "jump", "action": "skip", "step": 3, "count": 1}]}}  # fmt: skip
    other = {"step": 5, "seconds": 1.0, "validation_loss": 0.7, "predictions": {
        "count": 2, "accepted": 1.0, "cosine": 0.75, "error": None,
        "anomalies": [{"rule": "jump", "action": "none", "step": 3, "count": 2}]}}  # fmt: skip
    outcome = {"status": "done", "reason": "", "validation": {"loss": 0.5}}
    at = "2026-01-02T03:04:05+00:00"
    board.ended(Run("a", SPEC, outcome, [point], at))
    board.ended(Run("b", {**SPEC, "seed": 1}, outcome, [other], at))
    (arm,) = shown(board)
    assert (arm["cosine"], arm["written"], arm["error"]) == (0.5, 0.75, 0.75)
    assert arm["anomalous"] == 1  # long jumps on which nobody acted are usual
    (event,) = board.events()  # a rule that only watches is no event
    assert event == (at, "anomaly", "plp, final, lr 0.1, seed 0: jump: skip, at step 3")


# --- states ---------------------------------------------------------------------------------------


def test_it_is_running_while_a_driver_is_at_work_and_shows_what_runs(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="plp", seeds=6)
    store = Store(tmp_path / "runs.db")
    extended = {"tuning": 16, "final": 96, "seeds": 12, "price": [30, 66, 219]}
    store.set_about("planned", extended)
    store.close()
    assert Watching(tmp_path).view()["state"] == "stopped"
    assert "the same command goes on" in text_of(Watching(tmp_path).view())
    assert "usually 66 runs in all, at most 219" in text_of(Watching(tmp_path).view())
    spec = stored_spec({**SPEC, "method": "plp"})
    with Live(tmp_path) as driver:
        tell = Telling(str(driver.path), spec, 150)
        tell({"step": 30, "validation_loss": 0.5})
        view = Watching(tmp_path).view()
        assert view["state"] == "running"
        assert view["verdicts"] == []
        assert [(r["method"], r["step"], r["steps"], r["loss"]) for r in view["running"]] == [
            ("plp", 30, 150, [0.5])
        ]
        assert "30 of 150" in text_of(view)
        assert "48 of 96 runs" in text_of(view)


def test_a_folder_without_a_store_or_with_a_damaged_url_says_so(tmp_path: Path) -> None:
    """A shared store itself is watched in tests/study/test_postgres.py."""
    with pytest.raises(StudyError, match="holds no pilot or study yet"):
        Watching(tmp_path).view()
    (tmp_path / "runs.url").write_text("mysql://nobody@nowhere/none")
    with pytest.raises(StudyError, match="does not hold the URL of a store"):
        Watching(tmp_path).view()


def test_of_several_folders_the_one_that_changed_last_is_watched(tmp_path: Path) -> None:
    assert newest(tmp_path) == tmp_path
    for name, when in (("a", 2000), ("b", 3000), ("c", 1000)):
        write_pilot(tmp_path / name, methods="plp", seeds=2, trials=1)
        for file in (tmp_path / name).iterdir():
            os.utime(file, (when, when))
    assert newest(tmp_path) == tmp_path / "b"
    assert newest(tmp_path / "c") == tmp_path / "c"


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    write_pilot(folder, methods="plp", seeds=2, trials=1)
    for name in ("runs.db-wal", "runs.db-shm"):
        (folder / name).unlink(missing_ok=True)
    before = sorted(path.name for path in folder.iterdir())
    os.chmod(folder, 0o555)
    code = (
        "import os, sqlite3, sys; from pathlib import Path\n"  # sqlite3: nobody may find no modules
        "from paramcast.report.watch.watching import Watching\n"
        "Watching(Path(sys.argv[1])).view()\n"
        "if os.getuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        "print(Watching(Path(sys.argv[1])).view()['state'])\n"
        "print('torch' in sys.modules)"
    )
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):  # one more under pytest-xdist
        os.chmod(parent, 0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    os.chmod(folder, 0o755)
    assert (done.stdout, done.stderr) == ("finished\nFalse\n", "")
    assert sorted(path.name for path in folder.iterdir()) == before


# --- the terminal ---------------------------------------------------------------------------------


def test_names_are_text_in_the_terminal(tmp_path: Path) -> None:
    write_pilot(tmp_path, name="[red]digits[/red]", methods="plp(horizon=0.5)", seeds=2, trials=1)
    shown = text_of(Watching(tmp_path).view(), width=160)
    assert "[red]digits[/red]" in shown
    assert "plp(horizon=0.5)" in shown


def test_a_small_window_shows_what_fits_and_says_that_there_is_more(study: Path) -> None:
    view = Watching(study).view()
    shown = text_of(view, width=80, height=24)
    assert len(shown.splitlines()) <= 24
    assert "more: watch with --once or --web" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_at_80_columns_nothing_is_cut(pilot: Path) -> None:
    view = Watching(pilot).view()
    table = text_of({**view, "name": "n", "folder": "f", "events": [], "verdicts": []}, width=80)
    for arm in view["arms"]:
        (line,) = (
            line for line in table.splitlines()
            if line.startswith(arm["method"] + ("  " if arm["share"] == 1 else " at 80% steps"))
        )  # fmt: skip
        assert f"{arm['lr']:.4g}" in line
        assert f"{arm['metric']:.2f}" in line
        assert f"{arm['loss']:.4f}" in line
    assert "…" not in table


def test_without_unicode_bars_are_ascii() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=100)
    board = Board()
    curve = [{"step": s, "seconds": s, "validation_loss": 2.0**-s} for s in range(8)]
    outcome = {"status": "done", "reason": "", "validation": {"loss": 0.5}}
    board.ended(Run("a", SPEC, outcome, curve, "2026-01-02T03:04:05+00:00"))
    (arm,) = shown(board)
    assert console.options.ascii_only
    assert terminal.sparkline(arm["losses"], terminal.PLAIN) == "@#*+=-_."
    assert terminal.sparkline([]) == ""
    assert terminal.sparkline([None, 1.0, 1.0]) == " ▁▁"
    assert len(terminal.sparkline([float(i) for i in range(1000)])) <= terminal.WIDTH


def test_the_command_prints_once_where_there_is_no_terminal(
    pilot: Path, paramcast: Command
) -> None:
    ran = paramcast("watch", pilot)
    assert (ran.code, ran.err) == (0, "")
    assert "80 of 80 runs" in ran.out or "80 runs" in ran.out
    assert ran.out == paramcast("watch", pilot, "--once").out


def test_it_waits_for_the_store_and_ends_with_the_pilot(tmp_path: Path) -> None:
    """In a real terminal: it says that it waits, shows what comes, and leaves the last picture."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paramcast", "watch", "out", "--every", "0.1"],
        cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while b"waiting" not in shown:
            shown += os.read(master, 4096)
        write_pilot(tmp_path / "out", methods="plp", seeds=2, trials=1)
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                shown += os.read(master, 4096)
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    screen, _, after = shown.partition(b"\x1b[?1049l")  # back from the alternate screen
    assert b"holds no pilot or study yet" in screen
    assert b"16 runs" in after
    assert b"finished" in after


def test_in_a_terminal_a_store_that_cannot_be_read_is_not_waited_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StudyError, match="cannot be used as a store of runs"):
        cli_watch._live(Watching(tmp_path), 0.1)


def test_an_unfinished_study_has_no_verdict(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY)
    (tmp_path / "result.json").write_text("{ damaged")
    view = Watching(tmp_path).view()
    assert (view["state"], view["verdicts"]) == ("stopped", [])


def test_what_a_terminal_would_act_on_is_shown_as_text(tmp_path: Path) -> None:
    """An error message of a task, or a store of somebody else's, may hold escape sequences."""
    write_pilot(tmp_path, failed=((0, "ValueError: \x1b]0;title\x07\x1b[2Jgone"),), **SMALL)
    shown = text_of(Watching(tmp_path).view(), width=200)
    assert "\x1b" not in shown
    assert "\\x1b]0;title\\x07\\x1b[2Jgone" in shown


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"spec": 1, "steps": 2}', '{"spec": {}, "steps": {}}', "\0", "[" * 9999]
)
def test_a_damaged_file_of_a_run_in_progress_is_no_run(text: str, tmp_path: Path) -> None:
    write_pilot(tmp_path, **SMALL)
    with Live(tmp_path) as driver:
        (driver.path / "a.jsonl").write_text(text)
        os.mkfifo(driver.path / "b.jsonl")  # nobody writes: it would be waited for
        assert Watching(tmp_path).view()["running"] == []
    (tmp_path / ".live" / "x-1").mkdir(parents=True)
    (tmp_path / ".live" / "x-1" / "driver.json").write_text(text)
    assert Watching(tmp_path).view()["state"] == "finished"
