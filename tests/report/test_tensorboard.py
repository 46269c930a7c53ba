"""TensorBoard beside a pilot or study, read back by what would show it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import EVIL, write_pilot, write_study

from command import without_notice
from paramcast.report import tensorboard
from paramcast.report.html.load import Run
from paramcast.report.tensorboard import TensorBoard, path_of, safe
from paramcast.report.watch.following import Follower
from runs import run_spec

SPEC = run_spec(task="t", method="plp", seed=7)
SMALL: dict[str, Any] = {"methods": "plp", "seeds": 2, "trials": 1, "trial_seeds": 1}
Command = Callable[..., Any]


def pilot_in(folder: Path) -> Path:
    """A pilot of 2 tuning and 16 final runs, one of which diverged."""
    write_pilot(folder, diverged=(("plp", 1),), failed=((0, "ValueError: no"),), **SMALL)
    return folder


def tell(folder: Path) -> Path:
    """All that a folder holds, at once; where it is then."""
    with TensorBoard(folder, None, pytest.fail) as board:
        pass
    return board.folder


def all_of(folder: Path) -> dict[str, Run]:
    return {run.key: run for run in Follower(folder).look().ended}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def texts(folder: Path) -> str:
    return b"".join(path.read_bytes() for path in folder.glob("events*")).decode("utf-8", "replace")


def test_every_run_is_shown_with_its_curve(tmp_path: Path) -> None:
    place = tell(pilot_in(tmp_path))
    runs = all_of(tmp_path)
    assert len(runs) == 18
    files = {path.relative_to(place) for path in place.rglob("events.out.tfevents.*")}
    places = {Path(*path_of("pilot", run.spec)) for run in runs.values()}
    assert {file.parent for file in files} == {*places, Path("overview")}
    run = next(r for r in runs.values() if r.spec["method"] == "plp" and r.spec["seed"] == 0
               and r.spec["phase"] == "final" and r.spec["share"] == 1.0)  # fmt: skip
    found = scalars(place.joinpath(*path_of("pilot", run.spec)))
    for tag, name in (("validation/loss", "validation_loss"), ("train/loss", "train_loss")):
        stored = [(point["step"], point[name]) for point in run.curve]
        assert found[tag] == [(step, pytest.approx(value)) for step, value in stored]
    overview = texts(place / "overview")
    assert "plp, quality: " in overview
    assert "ValueError: no" in overview
    diverged = place.joinpath(*path_of("pilot", {**run.spec, "seed": 1}))
    assert "loss not finite at step 7" in texts(diverged)


def test_predictions_and_anomalies_are_shown(tmp_path: Path) -> None:
    points = [
        {"step": 5, "lr": 0.1, "seconds": 1.0, "validation_loss": 0.5, "predictions": {
            "count": 2, "accepted": 0.5, "relative_jump": 0.125, "cosine": 0.25, "error": None,
            "scored": 1,
            "anomalies": [{"rule": "jump", "action": "skip", "step": 3, "count": 2}]}},
        {"step": 10, "lr": 0.1, "seconds": 2.0, "validation_loss": None},
    ]  # fmt: skip
    outcome = {"status": "done", "reason": "", "steps": 10, "validation": {"loss": 0.5}}
    spec = json.loads(json.dumps(SPEC.__dict__))
    place = tmp_path.joinpath(*path_of("study", spec))
    assert place.parts[-4:-2] == ("t sgd cosine epochs 2 batch 8", "final")
    with TensorBoard(tmp_path, None, pytest.fail) as board:
        board.write(Run("k", spec, outcome, points, "2026-01-02T03:04:05+00:00"), place)
    found = scalars(place)
    assert found["prediction/cosine"] == [(5, 0.25)]
    assert found["prediction/accepted"] == [(5, 0.5)]
    assert found["prediction/relative_jump"] == [(5, 0.125)]
    assert found["prediction/anomalies"] == [(5, 2.0)]
    assert "prediction/error" not in found
    assert found["validation/loss"] == [(5, 0.5)]
    assert "jump: skip, at step 3 first, 2 times" in texts(place)


def test_a_run_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    """As after Ctrl-C; what a killed command left half written is."""
    place = tell(pilot_in(tmp_path))
    first = sorted(path for path in place.rglob("events*") if "overview" not in path.parts)
    lost = place.joinpath(*path_of("pilot", next(iter(all_of(tmp_path).values())).spec))
    lost.rename(place / ".partial")
    tell(tmp_path)
    again = sorted(path for path in place.rglob("events*") if "overview" not in path.parts)
    assert {p.parent for p in again} == {p.parent for p in first}
    assert len(set(first) - set(again)) == 1
    assert not (place / ".partial").exists()


def test_names_stay_inside_the_folder() -> None:
    spec = {**SPEC.__dict__, "method": "../../x", "task": f"/etc/{EVIL}"}
    for part in path_of("study", spec):
        assert part not in ("", ".", "..")
        assert "/" not in part
    assert safe("..") == "-"
    assert safe("a/../b\0") == "a-..-b-"


def test_runs_are_shown_while_they_come_and_a_fault_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "EVERY", 0.02)
    begun, asked, said = threading.Event(), [], []
    for fails in (False, True):

        def write(board: TensorBoard, run: Run, path: Path, fails: bool = fails) -> None:
            asked.append(run.key)
            begun.set()
            if fails:
                raise OSError("gone\nfor good")

        monkeypatch.setattr(TensorBoard, "write", write)
        begun.clear()
        out = tmp_path / str(fails)
        with TensorBoard(out, None, said.append):
            write_study(out)
            assert begun.wait(30)
    assert len(set(asked)) == 144
    assert len(asked) == 145
    assert said == [
        "TensorBoard gets nothing more (OSError: gone); the runs go on, and the same command "
        "with the same option catches up"
    ]


def test_what_an_interruption_cut_off_is_caught_up_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TensorBoard(pilot_in(tmp_path), None, pytest.fail):
        raise KeyboardInterrupt
    place = tell(tmp_path)
    assert len([path for path in place.rglob("events*") if "overview" not in path.parts]) == 18


def test_a_missing_package_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: Any, paramcast: Command
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    ran = paramcast("pilot", "digits", "--tensorboard")
    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'paramcast[tensorboard]'" in ran.err
    assert without_notice(ran.err).count("\n") == 1
    assert list(tmp_path.iterdir()) == []
