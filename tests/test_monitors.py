"""Watching: who is told what and when, the scores of predictions, and what is written where."""

from __future__ import annotations

import copy
import csv
import json
import logging
import math
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast.anomalies import Anomaly
from paramcast.errors import ArgumentError
from reference import (
    BASES,
    FAMILY,
    Row,
    constant_steps,
    first_move,
    length,
    parameters,
    same_bits,
    timeless,
    train,
    values,
)

EVENT = pc.ForecastEvent(3, 1, True, "predicted", 0.5, 1.0)


def one(dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(1, dtype=dtype))


def event(cycle: int, **changes: Any) -> pc.ForecastEvent:
    return EVENT._replace(step=3 * cycle, cycle=cycle, **changes)


# --- who is told what and when ------------------------------------------------------------------


def test_a_function_is_a_monitor_and_hears_of_each_prediction_once() -> None:
    ps, events = parameters(), []
    optimizer = pc.PLP(BASES["momentum"](ps), monitors=[events.append])
    for t in range(11):
        train(optimizer, ps, 1, start=t)
        assert len(events) == (t + 1) // 3  # at once
        assert optimizer.last_event == (events[-1] if events else None)
    assert [e.step for e in events] == [3, 6, 9]
    assert [e.cycle for e in events] == [1, 2, 3]


def test_monitors_change_nothing() -> None:
    ps, others = parameters(), parameters()
    monitors = [M.History(scored=True), M.Logger(), lambda event: None]
    optimizer = pc.PLP(BASES["adamw"](ps), monitors=monitors)
    other = pc.PLP(BASES["adamw"](others))
    train(optimizer, ps, 20)
    train(other, others, 20)
    assert same_bits(ps, others)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_monitor_looks_at_every_nth_prediction(every: int) -> None:
    history = M.History(every=every)
    for cycle in range(1, 10):
        history(event(cycle))
    assert [row.cycle for row in history.rows] == list(range(every, 10, every))


# --- scores -------------------------------------------------------------------------------------


def scored_run(
    predictor: P.Affine, shadow: bool, steps: int = 25
) -> tuple[list[pc.ForecastEvent], list[tuple[float | None, float]]]:
    """The events of a run; error and cosine from all its points."""
    ps, history = parameters(torch.float64), M.History(scored=True)
    base = BASES["momentum"](ps)
    optimizer = pc.Forecast(base, predictor, monitors=[history], shadow=shadow)
    reached, left = [values(ps)], [values(ps)]  # by the base's steps; and then predicted
    base.register_step_post_hook(lambda *_: reached.append(values(ps)))
    for t in range(steps):
        train(optimizer, ps, 1, start=t)
        left.append(values(ps))
    k, e, expected = predictor.every, predictor.extra_steps, []
    for last in range(k, steps, k):
        path = zip(left[last - k], *reached[last - k + 1 : last + 1], strict=True)
        there = [sum(w * p for w, p in zip(predictor.weights, way, strict=True)) for way in path]
        jump = [a - b for a, b in zip(there, reached[last], strict=True)]
        moved = [a - b for a, b in zip(reached[last + 1], left[last], strict=True)]
        gap = length(j - e * d for j, d in zip(jump, moved, strict=True))
        along = sum(float((j * d).sum()) for j, d in zip(jump, moved, strict=True))
        error = gap / (abs(e) * length(moved))
        expected.append((error, along / (length(jump) * length(moved))))
    return history.rows, expected


SCORED = [P.Midline(), P.LeastSquares(4, 0.5), P.Secant(4, -0.5), P.Interpolate(4, 0.6)]


@pytest.mark.parametrize("predictor", SCORED, ids=repr)
@pytest.mark.parametrize("shadow", [False, True])
def test_error_and_cosine_are_those_of_the_next_step(predictor: P.Affine, shadow: bool) -> None:
    rows, expected = scored_run(predictor, shadow)
    assert len(rows) == len(expected) >= 5
    for row, (error, cosine) in zip(rows, expected, strict=True):
        assert row.error == pytest.approx(error, rel=1e-6)
        assert row.cosine == pytest.approx(cosine, abs=1e-9)


def test_the_score_by_pencil() -> None:
    p, history = one(), M.History(scored=True)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)  # the jump is -1, worth half a step
    assert history.rows == []  # not yet scored
    waiting = pc.ForecastEvent(
        3, 1, True, "predicted", 1.0, 1.0, relative_jump=pytest.approx(1 / 7), accepted=1.0
    )
    assert timeless(optimizer.last_event) == waiting
    constant_steps(optimizer, p, 4.0)  # half of it is -2: |-1 + 2| / 2
    expected = waiting._replace(error=0.5, cosine=1.0)
    assert list(map(timeless, history.rows)) == [expected]
    assert timeless(optimizer.last_event) == expected
    constant_steps(optimizer, p, 1.0, 1.0)  # -13, -14: the jump is +0.5 * -1
    constant_steps(optimizer, p, -1.0)
    assert (history.rows[1].error, history.rows[1].cosine) == (2.0, -1.0)


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize(
    "predictor",
    [row.predictor for row in FAMILY if row.predictor.extra_steps],
    ids=repr,
)
def test_on_a_straight_path_there_is_no_error(predictor: P.Predictor, shadow: bool) -> None:
    if shadow and predictor.feeds_back:
        return  # its average lacks the jumps that shadow mode does not write
    p, history = one(), M.History(scored=True)
    optimizer = pc.Forecast(
        torch.optim.SGD([p], lr=1.0), predictor, monitors=[history], shadow=shadow
    )
    cycles = 200 if predictor.feeds_back else 60  # an average settles
    constant_steps(optimizer, p, *[-1.0] * (cycles * predictor.every + 1))
    last = history.rows[-1]
    assert last.error == pytest.approx(0.0, abs=1e-6)
    assert last.cosine == pytest.approx(math.copysign(1.0, predictor.extra_steps))


def test_where_a_jump_is_worth_no_step_there_is_no_error_but_a_cosine() -> None:
    ps, history = parameters(), M.History(scored=True)
    optimizer = pc.Forecast(BASES["momentum"](ps), P.Midline(0.5), monitors=[history])
    train(optimizer, ps, 10)
    assert {row.error for row in history.rows} == {None}
    assert all(-1.0 <= row.cosine <= 1.0 for row in history.rows)


def test_where_nothing_moves_there_is_neither_error_nor_cosine() -> None:
    p, history = one(), M.History(scored=True)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    constant_steps(optimizer, p, *[0.0] * 4)
    assert [(row.error, row.cosine) for row in history.rows] == [(None, None)]


@pytest.mark.parametrize("shadow", [True, False])
def test_a_prediction_that_is_not_finite_has_no_score(shadow: bool) -> None:
    p, history = one(torch.float32), M.History(scored=True)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history], shadow=shadow)
    with torch.no_grad():
        p.fill_(math.inf)
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(0.0)
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    (row,) = history.rows
    assert (row.applied, row.reason) == (False, "the prediction is not finite")
    assert (row.error, row.cosine) == (None, None)
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    assert history.rows[1].error == pytest.approx(0.0, abs=1e-6)  # and the next one has


@pytest.mark.parametrize("predictor", [P.Interpolate(3, 0.5), P.OuterNesterov(3)], ids=repr)
def test_a_parameter_that_joins_before_the_score_does_not_count_in_it(
    predictor: P.Predictor,
) -> None:
    p, alone, late = one(), one(), torch.nn.Parameter(torch.full((1,), 100.0).double())
    first, second = M.History(scored=True), M.History(scored=True)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), predictor, monitors=[first])
    other = pc.Forecast(torch.optim.SGD([alone], lr=1.0), predictor, monitors=[second])
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    constant_steps(other, alone, 1.0, 2.0, 4.0)
    optimizer.add_param_group({"params": [late]})
    late.grad = torch.full((1,), 7.0).double()
    constant_steps(optimizer, p, 1.0)
    constant_steps(other, alone, 1.0)
    assert list(map(timeless, first.rows)) == list(map(timeless, second.rows))


@pytest.mark.parametrize("predictor", [P.Midline(), P.Interpolate(3, 0.5)], ids=repr)
def test_a_skipped_step_does_not_score(predictor: P.Predictor) -> None:
    p, history = one(), M.History(scored=True)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), predictor, monitors=[history])
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    p.grad = None
    optimizer.step()
    assert history.rows == []
    constant_steps(optimizer, p, 1.0)
    assert len(history.rows) == 1
    assert history.rows[0].cosine in (1.0, -1.0)


# --- shadow mode --------------------------------------------------------------------------------


@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_shadow_mode_is_the_base_bitwise_and_scores_each_prediction(row: Row, base: str) -> None:
    ps, bare_ps, history = parameters(), parameters(), M.History()
    optimizer = pc.Forecast(BASES[base](ps), row.predictor, shadow=True, monitors=[history])
    bare = BASES[base](bare_ps)
    for t in range(4 * row.predictor.every + 1):
        train(optimizer, ps, 1, start=t)
        train(bare, bare_ps, 1, start=t)
        assert same_bits(ps, bare_ps)
    assert [r.cycle for r in history.rows] == [1, 2, 3, 4]
    assert {(r.applied, r.reason) for r in history.rows} == {(False, "shadow")}
    moved = history.rows[first_move(row) // row.predictor.every - 1 :]
    assert all(r.jump_norm > 0 and -1.0 <= r.cosine <= 1.0 for r in moved)
    assert all(r.error is None or r.error >= 0.0 for r in history.rows)


def test_in_shadow_mode_a_gates_cosine_is_still_told() -> None:
    ps = parameters()
    optimizer = pc.PLP(BASES["sgd"](ps), shadow=True, gate=G.Agreement(0.9))
    train(optimizer, ps, 4)
    assert optimizer.last_event.agreement is not None


# --- History ------------------------------------------------------------------------------------


def test_history_keeps_rows_and_the_accepted_share() -> None:
    history = M.History()
    assert math.isnan(history.accepted)
    for cycle, applied in enumerate((True, False, True, True), 1):
        history(event(cycle, applied=applied))
    assert history.accepted == 0.75
    assert history.rows[1] == event(2, applied=False)


def test_history_goes_to_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    history = M.History()
    assert list(history.to_pandas().columns) == list(pc.ForecastEvent._fields)
    for cycle in (1, 2):
        history(event(cycle, error=0.25 * cycle))
    table = history.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["error"].tolist() == [0.25, 0.5]
    assert table["applied"].tolist() == [True, True]
    assert len(table) == 2


def test_without_pandas_history_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ArgumentError, match="pip install pandas"):
        M.History().to_pandas()


# --- Logger -------------------------------------------------------------------------------------


def test_the_logger_writes_a_line_per_event(caplog: pytest.LogCaptureFixture) -> None:
    monitor = M.Logger()
    with caplog.at_level(logging.INFO, logger="paramcast"):
        monitor(event(1))
        monitor(event(2, applied=False, reason="cycle 2, every 3", error=0.125))
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("paramcast", "INFO", "step 3: prediction written (predicted), jump 0.5"),
        (
            "paramcast",
            "INFO",
            "step 6: prediction not written (cycle 2, every 3), jump 0.5, error 0.125",
        ),
    ]


# --- files --------------------------------------------------------------------------------------

ODD_EVENTS = [
    event(1),
    event(2, applied=False, reason='a "reason", with\ncommas', jump_norm=math.nan),
    event(3, jump_norm=math.inf, horizon=None, agreement=-0.5, error=0.25, cosine=1.0),
]


def test_json_lines_are_strict_json_also_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with M.JSONLines(path) as monitor:
        for e in ODD_EVENTS:
            monitor(e)
            lines = path.read_text().splitlines()  # flushed at each event
            assert len(lines) == e.cycle

    def never(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    rows = [json.loads(line, parse_constant=never) for line in path.read_text().splitlines()]
    assert rows[0] == {**EVENT._asdict(), "fired": []}
    assert rows[1]["jump_norm"] is None
    assert rows[1]["reason"] == 'a "reason", with\ncommas'
    assert rows[2]["jump_norm"] is None
    assert (rows[2]["agreement"], rows[2]["error"]) == (-0.5, 0.25)
    assert all(list(row) == list(pc.ForecastEvent._fields) for row in rows)


def test_a_table_has_the_names_once_and_a_row_per_event(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    with M.CSV(path) as monitor:
        for e in ODD_EVENTS:
            monitor(e)
            with path.open(newline="") as file:
                assert len(list(csv.reader(file))) == e.cycle + 1
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(pc.ForecastEvent._fields)
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert rows[1]["reason"] == 'a "reason", with\ncommas'
    assert math.isnan(float(rows[1]["jump_norm"]))
    assert rows[2]["horizon"] == ""


@pytest.mark.parametrize("kind", [M.JSONLines, M.CSV])
def test_a_file_is_appended_to_by_a_resumed_run(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "events"
    for steps in (13, 7):
        ps = parameters()
        with kind(path, every=2, scored=True) as monitor:
            train(pc.PLP(BASES["sgd"](ps), monitors=[monitor]), ps, steps)
    with path.open(newline="") as file:
        rows = csv.DictReader(file) if kind is M.CSV else map(json.loads, file)
        assert [int(row["cycle"]) for row in rows] == [2, 4, 2]


@pytest.mark.parametrize("kind", [M.JSONLines, M.CSV])
def test_a_file_that_cannot_be_written_is_named(kind: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "events"):
        with pytest.raises(ArgumentError) as caught:
            kind(path)
        assert str(caught.value).startswith(f"{path} cannot be written: ")


# --- TensorBoard --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitor", "module", "extra"),
    [
        (lambda: M.TensorBoard("runs"), "torch.utils.tensorboard", "tensorboard"),
        (M.MLflow, "mlflow", "mlflow"),
        (M.WandB, "wandb", "wandb"),
    ],
)
def test_without_a_tracker_the_message_says_what_to_install(
    monitor: Callable[[], M.Monitor], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{extra} = [" in (Path(__file__).parents[1] / "pyproject.toml").read_text()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArgumentError, match=rf"pip install 'paramcast\[{extra}\]'"):
        monitor()


def test_tensorboard_reads_the_numbers_that_there_are_and_anomalies_as_text(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ps, history, monitor = parameters(), M.History(), M.TensorBoard(tmp_path, every=2, scored=True)
    gate = Anomaly(jump=0.04)
    optimizer = pc.PLP(BASES["sgd"](ps), gate=gate, monitors=[history, monitor])
    train(optimizer, ps, 13)
    monitor.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    events = history.rows[1::2]
    for name in ("jump_norm", "horizon", "error", "cosine", "applied", "accepted", "relative_jump"):
        shown = [(scalar.step, scalar.value) for scalar in board.Scalars(f"paramcast/{name}")]
        assert shown == [(e.step, pytest.approx(float(getattr(e, name)))) for e in events]
    assert "paramcast/agreement" not in board.Tags()["scalars"]  # nobody asked for it
    fired = [(e.step, e.reason) for e in events if e.fired]
    assert fired, [e.relative_jump for e in history.rows]
    texts = board.Tensors("paramcast/anomaly/text_summary")
    assert [(t.step, t.tensor_proto.string_val[0].decode()) for t in texts] == fired


# --- MLflow, Weights & Biases --------------------------------------------------------------------

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
            monitor = M.MLflow(every=2)
            for cycle in (1, 2):
                monitor(pc.ForecastEvent(3 * cycle, cycle, True, "predicted", cycle / 8, 1.0))
            copy.deepcopy(monitor)(ANOMALY)
            monitor.close()
            assert mlflow.active_run() is not None  # it is not ours to end
        own = M.MLflow()
        own(ANOMALY)
        own.close()
        assert mlflow.active_run() is None
    finally:
        mlflow.set_tracking_uri(before)
    client = mlflow.MlflowClient(uri)
    history = client.get_metric_history(active.info.run_id, "paramcast/jump_norm")
    assert [(each.step, each.value) for each in history] == [(6, 0.25), (6, 0.5)]
    data = client.get_run(active.info.run_id).data
    assert "paramcast/error" not in data.metrics
    assert data.tags["paramcast.anomaly"] == "step 6: too long; skipped"
    assert client.get_run(own.run_id).info.status == "FINISHED"
    assert client.get_run(own.run_id).data.metrics["paramcast/relative_jump"] == 0.25


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


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    # its process may start beside runs on every core
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "300")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("offline")
def test_the_wandb_monitor_leaves_the_steps_of_the_run_alone(tmp_path: Path) -> None:
    import wandb

    quiet = wandb.Settings(silent=True, console="off")
    run = wandb.init(project="mine", dir=str(tmp_path), settings=quiet)
    monitor = M.WandB()  # the one under way
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


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: M.History(every=0), "every must be >= 1, got 0"),
        (lambda: M.Logger(every=1.5), "every must be a whole number, got 1.5"),
        (
            lambda: pc.PLP(BASES["sgd"](parameters()), monitors=[3]),
            "a monitor must be a function of an event, got 3",
        ),
        (
            lambda: pc.PLP(BASES["sgd"](parameters()), monitors=["history"]),
            "a monitor must be a function of an event, got 'history'",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "monitors", [M.History, [M.History], M.History()], ids=["class", "class in a list", "no list"]
)
def test_a_monitor_class_or_one_outside_a_list_is_refused_at_construction(monitors: Any) -> None:
    with pytest.raises(ArgumentError, match="monitor"):
        pc.PLP(BASES["sgd"](parameters()), monitors=monitors)
