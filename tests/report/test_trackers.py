"""Trackers beside a pilot or study, read back by what would show them."""

from __future__ import annotations

import copy
import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import EVIL, write_pilot, write_study

import paramcast as pc
from command import without_notice
from paramcast import monitors
from paramcast.errors import StudyError
from paramcast.report.html.load import Run
from paramcast.report.trackers import Following, Tracker, following
from paramcast.report.trackers.mlflow import MLflow
from paramcast.report.trackers.names import path_of, safe
from paramcast.report.trackers.tensorboard import TensorBoard
from paramcast.report.trackers.wandb import SETTINGS, WandB
from paramcast.report.watch.following import Follower
from paramcast.study.stored import read_result
from runs import run_spec

SPEC = run_spec(task="t", method="plp", seed=7)
SMALL: dict[str, Any] = {"methods": "plp", "seeds": 2, "trials": 1, "trial_seeds": 1}
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pilot of 2 tuning and 16 final runs, one of which diverged."""
    folder = tmp_path_factory.mktemp("small") / "pilot"
    write_pilot(folder, diverged=(("plp", 1),), failed=((0, "ValueError: no"),), **SMALL)
    return folder


def tell(folder: Path, tracker: Tracker) -> None:
    """All that a folder holds, at once."""
    with Following(folder, None, [tracker], pytest.fail):
        pass


def all_of(folder: Path) -> dict[str, Run]:
    return {run.key: run for run in Follower(folder).look().ended}


# --- TensorBoard ----------------------------------------------------------------------------------


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


def test_tensorboard_shows_every_run_with_its_curve(small: Path, tmp_path: Path) -> None:
    tell(small, TensorBoard(tmp_path))
    runs = all_of(small)
    assert len(runs) == 18
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("events.out.tfevents.*")}
    places = {Path(*path_of("pilot", run.spec)) for run in runs.values()}
    assert {file.parent for file in files} == {*places, Path("overview")}
    run = next(r for r in runs.values() if r.spec["method"] == "plp" and r.spec["seed"] == 0
               and r.spec["phase"] == "final" and r.spec["share"] == 1.0)  # fmt: skip
    found = scalars(tmp_path.joinpath(*path_of("pilot", run.spec)))
    for tag, name in (("validation/loss", "validation_loss"), ("train/loss", "train_loss")):
        stored = [(point["step"], point[name]) for point in run.curve]
        assert found[tag] == [(step, pytest.approx(value)) for step, value in stored]
    overview = texts(tmp_path / "overview")
    assert "plp, quality: " in overview
    assert "ValueError: no" in overview
    diverged = tmp_path.joinpath(*path_of("pilot", {**run.spec, "seed": 1}))
    assert "loss not finite at step 7" in texts(diverged)


def test_tensorboard_shows_predictions_and_anomalies(tmp_path: Path) -> None:
    points = [
        {"step": 5, "lr": 0.1, "seconds": 1.0, "validation_loss": 0.5, "predictions": {
            "count": 2, "accepted": 0.5, "cosine": 0.25, "error": None, "scored": 1,
            "anomalies": [{"rule": "jump", "action": "skip", "step": 3, "count": 2}]}},
        {"step": 10, "lr": 0.1, "seconds": 2.0, "validation_loss": None},
    ]  # fmt: skip
    outcome = {"status": "done", "reason": "", "steps": 10, "validation": {"loss": 0.5}}
    spec = json.loads(json.dumps(SPEC.__dict__))
    tracker = TensorBoard(tmp_path)
    tracker.ended(Run("k", spec, outcome, points, "2026-01-02T03:04:05+00:00"), "study")
    tracker.close()
    place = tmp_path.joinpath(*path_of("study", spec))
    assert place.parts[-4:-2] == ("t sgd cosine epochs 2 batch 8", "final")
    found = scalars(place)
    assert found["prediction/cosine"] == [(5, 0.25)]
    assert found["prediction/accepted"] == [(5, 0.5)]
    assert found["prediction/anomalies"] == [(5, 2.0)]
    assert "prediction/error" not in found
    assert found["validation/loss"] == [(5, 0.5)]
    assert "jump: skip, at step 3 first, 2 times" in texts(place)


def test_a_run_that_is_there_is_not_written_again(small: Path, tmp_path: Path) -> None:
    """As after Ctrl-C; what a killed command left half written is."""
    tell(small, TensorBoard(tmp_path))
    first = sorted(path for path in tmp_path.rglob("events*") if "overview" not in path.parts)
    lost = tmp_path.joinpath(*path_of("pilot", next(iter(all_of(small).values())).spec))
    lost.rename(tmp_path / ".partial")
    tell(small, TensorBoard(tmp_path))
    again = sorted(path for path in tmp_path.rglob("events*") if "overview" not in path.parts)
    assert {p.parent for p in again} == {p.parent for p in first}
    assert len(set(first) - set(again)) == 1
    assert not (tmp_path / ".partial").exists()


def test_names_stay_inside_the_folder() -> None:
    spec = {**SPEC.__dict__, "method": "../../x", "task": f"/etc/{EVIL}"}
    for part in path_of("study", spec):
        assert part not in ("", ".", "..")
        assert "/" not in part
    assert safe("..") == "-"
    assert safe("a/../b\0") == "a-..-b-"


# --- MLflow and W&B: trackers, and the library's monitors -----------------------------------------

OURS = "ignore::sqlalchemy.exc.SADeprecationWarning"
"""MLflow 3.17 warns of itself."""
ANOMALY = pc.ForecastEvent(
    6, 2, False, "too long; skipped", 0.5, 1.0, relative_jump=0.25, fired=(("jump", "skip"),)
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow store; its tables are made by who uses it first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        pytest.importorskip("mlflow")
        yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/ml.db"


@pytest.mark.filterwarnings(OURS)
def test_the_mlflow_monitor_writes_to_the_active_run_or_to_one_of_its_own(uri: str) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run() as active:
            monitor = monitors.MLflow(every=2)
            for cycle in (1, 2):
                monitor(pc.ForecastEvent(3 * cycle, cycle, True, "predicted", cycle / 8, 1.0))
            copy.deepcopy(monitor)(ANOMALY)
            monitor.close()
            assert mlflow.active_run() is not None  # it is not ours to end
    finally:
        mlflow.set_tracking_uri(before)
    client = mlflow.MlflowClient(uri)
    history = client.get_metric_history(active.info.run_id, "paramcast/jump_norm")
    assert [(each.step, each.value) for each in history] == [(6, 0.25), (6, 0.5)]
    data = client.get_run(active.info.run_id).data
    assert "paramcast/error" not in data.metrics
    assert data.tags["paramcast.anomaly"] == "step 6: too long; skipped"
    own = monitors.MLflow(tracking_uri=uri, experiment="mine")
    own(ANOMALY)
    own.close()
    assert client.get_run(own.run_id).info.status == "FINISHED"
    assert client.get_run(own.run_id).data.metrics["paramcast/relative_jump"] == 0.25


@pytest.mark.filterwarnings(OURS)
def test_mlflow_holds_every_run_once(small: Path, uri: str) -> None:
    from mlflow import MlflowClient

    tell(small, MLflow("pilot", uri))
    tell(small, MLflow("pilot", uri))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pilot")
    assert "plp, quality: " in experiment.tags["mlflow.note.content"]
    found = {run.data.tags["paramcast.key"]: run for run in
             client.search_runs([experiment.experiment_id])}  # fmt: skip
    runs = all_of(small)
    assert found.keys() == runs.keys()
    for key, run in runs.items():
        assert found[key].info.status == "FINISHED"
        assert found[key].data.params["seed"] == str(run.spec["seed"])
        assert found[key].data.tags["status"] == run.outcome["status"]
    key, run = next((k, r) for k, r in runs.items() if r.outcome["status"] == "done")
    history = client.get_metric_history(found[key].info.run_id, "validation/loss")
    stored = [(point["step"], pytest.approx(point["validation_loss"])) for point in run.curve]
    assert [(each.step, each.value) for each in history] == stored
    with pytest.raises(StudyError, match="--mlflow nonsense://x cannot be used"):
        MLflow("pilot", "nonsense://x")


def wandb_records(path: Path) -> list[Any]:
    """What an ended offline run holds; `finish` returns a moment before all of it is written."""
    for _ in range(200):
        found = list(records_of(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} does not come to its end")


def records_of(path: Path) -> Iterator[Any]:
    """Those so far: blocks of 32 KiB, in them checksum, size, kind and a message."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if room < 7 or kind == 0:
            at += room
            continue
        if at + 7 + size > len(data):
            return  # half written
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def losses_of(path: Path) -> list[float]:
    items = [i for r in wandb_records(path) for i in r.history.item]
    return [json.loads(i.value_json) for i in items if i.nested_key[:] == ["validation/loss"]]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", **SETTINGS}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("offline")
def test_the_wandb_monitor_leaves_the_steps_of_the_run_alone(tmp_path: Path) -> None:
    import wandb

    quiet = wandb.Settings(silent=True, console="off")
    run = wandb.init(project="mine", dir=str(tmp_path), settings=quiet)
    monitor = monitors.WandB()  # the one under way
    for step in range(3):
        run.log({"mine": step})
        monitor(ANOMALY._replace(step=3 * step))
    monitor.close()
    assert wandb.run is run  # it is not ours to end
    run.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = [
        {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in wandb_records(file)
    ]
    told = [row for row in rows if "paramcast/step" in row]
    assert [row["paramcast/step"] for row in told] == [0, 3, 6]
    assert {row["paramcast/anomaly"] for row in told} == {"too long; skipped"}
    assert [row["mine"] for row in rows if "mine" in row] == [0, 1, 2]


@pytest.mark.usefixtures("offline")
def test_wandb_holds_every_final_run_once(tmp_path: Path, small: Path) -> None:
    runs = [run for run in all_of(small).values() if run.spec["phase"] == "final"][:2]
    tune = next(run for run in all_of(small).values() if run.spec["phase"] == "tune")
    for _ in range(2):
        tracker = WandB(tmp_path, "mine")
        for run in (*runs, tune):
            tracker.ended(run, "pilot")
        tracker.close()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert {file.stem for file in files} == {f"run-{run.key[:32]}" for run in runs}
    assert len(files) == 2
    by_key = {run.key[:32]: run for run in runs}
    for file in files:
        (head,) = (r.run for r in wandb_records(file) if r.WhichOneof("record_type") == "run")
        run = by_key[head.run_id]
        assert (head.project, head.run_group, head.job_type) == ("mine", tmp_path.name, "final")
        config = {each.key: json.loads(each.value_json) for each in head.config.update}
        assert (config["seed"], config["lr"]) == (run.spec["seed"], run.spec["lr"])
        stored = [p["validation_loss"] for p in run.curve if p["validation_loss"] is not None]
        assert losses_of(file) == pytest.approx(stored)


@pytest.mark.usefixtures("offline")
def test_wandb_has_a_verdict_of_each_comparison_whatever_its_folder_is_called(
    tmp_path: Path,
) -> None:
    found, wanted = set(), set()
    for name in ("one", "another"):
        folder = tmp_path / name / "out"
        write_pilot(folder, name=name, **SMALL)
        tracker = WandB(folder, "mine")
        tracker.verdict("- plp: adopt")
        tracker.close()
        found |= {file.stem for file in folder.glob("wandb/offline-run-*/*.wandb")}
        wanted.add(f"run-verdict-{read_result(folder)['identity'][:24]}")
    assert found == wanted
    assert len(found) == 2


def test_wandb_without_a_login_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StudyError, match="log in with `wandb login`, or set WANDB_MODE=offline"):
        WandB(tmp_path, "mine")


# --- following ------------------------------------------------------------------------------------


class Heard(Tracker):
    """A tracker that remembers; it fails at a run if it is told to."""

    name = "Heard"

    def __init__(self, fails: bool = False) -> None:
        self.runs: list[str] = []
        self.kinds: set[str] = set()
        self.told: list[str] = []
        self.fails, self.closed, self.begun = fails, False, threading.Event()

    def ended(self, run: Run, kind: str) -> None:
        self.begun.set()
        if self.fails:
            raise ConnectionError("gone\nfor good")
        self.runs.append(run.key)
        self.kinds.add(kind)

    def verdict(self, text: str) -> None:
        self.told.append(text)

    def close(self) -> None:
        self.closed = True


def test_trackers_are_told_everything_while_it_comes_and_a_failing_one_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY", 0.02)
    good, bad, said = Heard(), Heard(fails=True), []
    with Following(tmp_path / "out", None, [good, bad], said.append):
        write_study(tmp_path / "out")
        assert good.begun.wait(30)
    assert (len(good.runs), good.kinds, good.closed) == (144, {"study"}, True)
    assert len(set(good.runs)) == 144
    assert [text[:7] for text in good.told] == ["- plp: "]  # once
    assert bad.runs == []
    assert said == [
        "Heard gets nothing more (ConnectionError: gone); the runs go on, and the same command "
        "with the same option catches up"
    ]


def test_after_an_interruption_nobody_waits_for_what_is_left(tmp_path: Path) -> None:
    write_pilot(tmp_path, **SMALL)
    heard = Heard()
    with pytest.raises(KeyboardInterrupt), Following(tmp_path, None, [heard], print):
        raise KeyboardInterrupt
    assert (heard.runs, heard.closed) == ([], True)


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        ("--tensorboard", "torch.utils.tensorboard", "tensorboard"),
        ("--mlflow", "mlflow", "mlflow"),
        ("--wandb", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_said_before_anything_runs(
    option: str, module: str, extra: str, tmp_path: Path, monkeypatch: Any, paramcast: Command
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    ran = paramcast("pilot", "digits", option)
    assert (ran.code, ran.out) == (2, "")
    assert f"pip install 'paramcast[{extra}]'" in ran.err
    assert without_notice(ran.err).count("\n") == 1
    assert list(tmp_path.iterdir()) == []
