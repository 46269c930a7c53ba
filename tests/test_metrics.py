"""The numbers of each parameter: by name, by pencil, together the joint ones, and where they go."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast.anomalies import Anomaly
from paramcast.events import TensorMetrics
from reference import (
    BASES,
    FAMILY,
    Calls,
    Row,
    constant_steps,
    parameters,
    restore,
    same_bits,
    set_gradients,
    through_a_file,
    timeless,
    train,
    values,
)


def two(history: M.Monitor, **options: Any) -> tuple[nn.Parameter, nn.Parameter, pc.PLP]:
    """A scalar at 0 and a pair at (30, 40)."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    q = nn.Parameter(torch.tensor([30.0, 40.0], dtype=torch.float64))
    base = torch.optim.SGD([{"params": [p]}, {"params": [q]}], lr=1.0)
    return p, q, pc.PLP(base, monitors=[history], **options)


def step(optimizer: pc.Forecast, *pairs: tuple[torch.Tensor, list[float]]) -> None:
    for p, gradient in pairs:
        p.grad = torch.tensor(gradient, dtype=p.dtype).reshape(p.shape)
    optimizer.step()


# --- by pencil ----------------------------------------------------------------------------------


def test_the_numbers_of_each_parameter_by_pencil() -> None:
    history = M.History(scored=True, per_tensor=True)
    p, q, optimizer = two(history)
    step(optimizer, (p, [1.0]), (q, [0.0, 0.0]))
    step(optimizer, (p, [2.0]), (q, [6.0, 8.0]))
    step(optimizer, (p, [4.0]), (q, [0.0, 0.0]))
    waiting = optimizer.last_event.tensors  # p jumps by -1 from -7, q by (-3, -4) from (24, 32)
    assert waiting == {"0.0": TensorMetrics(1.0, 1 / 7), "1.0": TensorMetrics(5.0, 5 / 40)}
    step(optimizer, (p, [4.0]), (q, [-3.0, -4.0]))  # half a step is -2, and (1.5, 2)
    (event,) = history.rows
    assert event.tensors == {
        "0.0": TensorMetrics(1.0, 1 / 7, 0.5, 1.0),
        "1.0": TensorMetrics(5.0, 5 / 40, 3.0, -1.0),
    }
    assert event.jump_norm == pytest.approx(math.hypot(1.0, 5.0))
    assert event.cosine == pytest.approx((4.0 - 25.0) / math.hypot(1, 5) / math.hypot(4, 5))


def test_a_parameter_at_zero_or_at_rest_has_no_ratio() -> None:
    history = M.History(scored=True, per_tensor=True)
    p, q, optimizer = two(history)
    step(optimizer, (p, [1.0]), (q, [0.0, 0.0]))
    step(optimizer, (p, [2.0]), (q, [0.0, 0.0]))
    step(optimizer, (p, [-3.0]), (q, [0.0, 0.0]))
    step(optimizer, (p, [0.0]), (q, [1.0, 0.0]))
    assert history.rows[0].tensors == {
        "0.0": TensorMetrics(1.0, None, None, None),  # from 0, and no step followed
        "1.0": TensorMetrics(0.0, 0.0, 1.0, None),  # no jump
    }


@pytest.mark.parametrize(
    "row",
    [row for row in FAMILY if not row.name.startswith(("rre", "random"))],
    ids=lambda row: row.name,
)
def test_each_parameter_has_the_numbers_that_it_has_alone(row: Row) -> None:
    # These predictors and SGD treat parameters apart, so a run of one alone tells its numbers.
    steps = 6 * row.predictor.every + 1
    ps, together = parameters(torch.float64), M.History(scored=True, per_tensor=True)
    optimizer = pc.Forecast(BASES["momentum"](ps), row.predictor, monitors=[together])
    train(optimizer, ps, steps)
    for n in range(3):
        others, alone = parameters(torch.float64), M.History(scored=True)
        one = pc.Forecast(BASES["momentum"]([others[n]]), row.predictor, monitors=[alone])
        sizes: list[float] = []
        one.base.register_step_post_hook(
            lambda *_, p=others[n], sizes=sizes: sizes.append(p.detach().norm().item())
        )
        for t in range(steps):
            set_gradients(others, t)
            one.step()
        ends = sizes[row.predictor.every - 1 :: row.predictor.every]
        for event, its, size in zip(together.rows, alone.rows, ends, strict=False):
            numbers = event.tensors[f"0.{n}"]
            assert numbers.jump_norm == pytest.approx(its.jump_norm, rel=1e-9)
            assert numbers.relative_jump == pytest.approx(its.jump_norm / size, rel=1e-9)
            # in a window no error is defined, and a jump of no length has no direction
            for name, tolerance in (("error", {"rel": 1e-6}), ("cosine", {"abs": 1e-9})):
                its_own = getattr(its, name)
                wanted = its_own if its_own is None else pytest.approx(its_own, **tolerance)
                assert getattr(numbers, name) == wanted


@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
def test_the_squares_add_up_to_that_of_the_joint_jump(row: Row, dtype: torch.dtype) -> None:
    ps, history = parameters(dtype), M.History(per_tensor=True)
    optimizer = pc.Forecast(BASES["sgd"](ps), row.predictor, monitors=[history])
    train(optimizer, ps, 4 * row.predictor.every)
    assert len(history.rows) == 4
    for event in history.rows:
        lengths = [numbers.jump_norm for numbers in event.tensors.values()]
        assert math.hypot(*lengths) == pytest.approx(event.jump_norm, rel=1e-5)


def test_a_jump_that_a_gate_shortened_is_told_as_it_was_written() -> None:
    gate = G.MaxRelativeJump(1e-3)
    ps, history = parameters(), M.History(per_tensor=True)
    optimizer = pc.PLP(BASES["momentum"](ps), gate=gate, monitors=[history])
    reached: list[torch.Tensor] = []
    optimizer.base.register_step_post_hook(lambda *_: reached.__setitem__(slice(None), values(ps)))
    for t in range(30):
        train(optimizer, ps, 1, start=t)
        if t % 3 == 2:
            numbers = list(history.rows[-1].tensors.values())
            for p, before, its in zip(ps, reached, numbers, strict=True):
                moved = (p.detach() - before).norm().item()
                assert its.jump_norm == pytest.approx(moved, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_norms_beyond_a_narrow_dtype_are_told(dtype: torch.dtype) -> None:
    p, history = nn.Parameter(torch.full((64,), 3e4, dtype=dtype)), M.History(per_tensor=True)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    constant_steps(optimizer, p, 0.0, -1024.0, 0.0)
    numbers = history.rows[0].tensors["0.0"]
    at = p.detach()[0].double().item() - 512.0
    assert numbers.jump_norm == pytest.approx(8 * 512.0)
    assert numbers.relative_jump == pytest.approx(512.0 / at, rel=5e-3)
    assert numbers.jump_norm == pytest.approx(history.rows[0].jump_norm)


# --- names --------------------------------------------------------------------------------------


def test_names_are_those_that_the_optimizer_was_given() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    history = M.History(per_tensor=True)
    base = torch.optim.SGD(model.named_parameters(), lr=0.1)
    optimizer = pc.PLP(base, monitors=[history])
    train(optimizer, list(model.parameters()), 3)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(history.rows[0].tensors) == names


def test_without_names_they_are_group_and_place() -> None:
    ps, history = parameters(), M.History(per_tensor=True)
    base = torch.optim.SGD([{"params": ps[:2]}, {"params": ps[2:]}], lr=0.1)
    optimizer = pc.PLP(base, monitors=[history])
    train(optimizer, ps, 3)
    assert list(history.rows[0].tensors) == ["0.0", "0.1", "1.0"]


def test_only_who_takes_part_is_told() -> None:
    ps, history = parameters(), M.History(per_tensor=True)
    groups = [{"params": ps[:1]}, {"params": ps[1:2], "forecast": False}, {"params": ps[2:]}]
    optimizer = pc.PLP(torch.optim.SGD(groups, lr=0.1), monitors=[history])
    ps[2].requires_grad_(False)
    train(optimizer, ps[:2], 3)
    assert list(history.rows[0].tensors) == ["0.0"]
    ps[2].requires_grad_(True)
    train(optimizer, ps, 3)
    assert list(history.rows[1].tensors) == ["0.0", "2.0"]


@pytest.mark.parametrize("named", [False, True])
def test_a_parameter_that_is_swapped_before_the_score_has_none(named: bool) -> None:
    ps, history = parameters(), M.History(scored=True, per_tensor=True)
    given = [("a", ps[0]), ("b", ps[1])] if named else ps[:2]
    optimizer = pc.PLP(torch.optim.SGD(given, lr=0.1), monitors=[history])
    train(optimizer, ps[:2], 3)
    optimizer.param_groups[0]["params"] = [ps[0], ps[2]]
    train(optimizer, [ps[0], ps[2]], 4, start=3)
    first, second = ("a", "b") if named else ("0.0", "0.1")
    scores = [(name, row.error is None) for name, row in history.rows[0].tensors.items()]
    assert scores == [(first, False), (second, True)]
    assert list(history.rows[1].tensors) == [first, second]  # the newcomer has taken the place


def test_names_that_no_longer_fit_their_parameters_are_not_used() -> None:
    ps, history = parameters(), M.History(per_tensor=True)
    base = torch.optim.SGD([("a", ps[0]), ("b", ps[1])], lr=0.1)
    optimizer = pc.PLP(base, monitors=[history])
    train(optimizer, ps[:2], 3)
    optimizer.param_groups[0]["params"].append(ps[2])  # past torch's own add_param_group
    train(optimizer, ps, 3, start=3)
    assert [list(row.tensors) for row in history.rows] == [["a", "b"], ["0.0", "0.1", "0.2"]]


# --- only where somebody looks ------------------------------------------------------------------


def test_the_numbers_are_taken_only_where_a_monitor_looks() -> None:
    def products(*monitors: M.Monitor) -> int:
        ps = parameters()
        optimizer = pc.PLP(BASES["sgd"](ps), monitors=monitors)
        with Calls() as calls:
            train(optimizer, ps, 24)
        return calls.counts["dot"]

    every, second = M.History(), M.History(every=4, per_tensor=True)
    assert products(M.History()) == 0
    assert products(every, second) == 2 * 2 * len(parameters())  # cycles; jumps, sizes
    assert [row.cycle for row in every.rows if row.tensors is not None] == [4, 8]
    assert [row.tensors is None for row in second.rows] == [False, False]


# --- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "deepcopy", "pickle"])
@pytest.mark.parametrize("named", [False, True])
def test_a_pending_score_of_each_parameter_survives(how: str, named: bool) -> None:
    def fresh(seed: int) -> tuple[list[nn.Parameter], pc.PLP, M.History]:
        ps, history = parameters(seed=seed), M.History(scored=True, per_tensor=True)
        base = torch.optim.SGD(zip("abc", ps, strict=True) if named else ps, lr=0.1, momentum=0.9)
        return ps, pc.PLP(base, monitors=[history]), history

    ps, optimizer, history = fresh(0)
    train(optimizer, ps, 6)
    assert len(history.rows) == 1  # the second waits for its score
    if how == "file":
        others, resumed, its = fresh(9)
        saved, state = through_a_file([values(ps), optimizer.state_dict()])
        restore(others, saved)
        resumed.load_state_dict(state)
        its.rows = list(history.rows)
        assert timeless(resumed.last_event) == timeless(optimizer.last_event)
    elif how == "deepcopy":
        others, resumed, its = copy.deepcopy((ps, optimizer, history))
    else:
        others, resumed, its = pickle.loads(pickle.dumps((ps, optimizer, history)))
    train(optimizer, ps, 7, start=6)
    train(resumed, others, 7, start=6)
    assert same_bits(ps, others)
    assert list(map(timeless, its.rows)) == list(map(timeless, history.rows))
    assert len(its.rows) == 4
    for row in its.rows:
        assert all(numbers.error is not None for numbers in row.tensors.values())


# --- where they go ------------------------------------------------------------------------------


def run(monitor: M.Monitor, cycles: int = 4, **options: Any) -> None:
    ps = parameters()
    base = torch.optim.SGD(zip("abc", ps, strict=True), lr=0.1)
    train(pc.PLP(base, monitors=[monitor], **options), ps, 3 * cycles + 1)


def test_the_numbers_of_each_parameter_go_to_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    history = M.History(every=2, scored=True, per_tensor=True)
    columns = ["step", "cycle", "parameter", "jump_norm", "relative_jump", "error", "cosine"]
    assert list(history.tensors_to_pandas().columns) == columns
    run(history)
    table = history.tensors_to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == columns
    assert table["parameter"].tolist() == ["a", "b", "c"] * 2
    assert table["step"].tolist() == [6] * 3 + [12] * 3
    assert table["error"].tolist()[3:] == [x.error for x in history.rows[1].tensors.values()]
    assert "tensors" not in history.to_pandas().columns
    assert len(history.to_pandas()) == 2
    plain = M.History()
    run(plain)
    assert len(plain.tensors_to_pandas()) == 0


def test_the_numbers_of_each_parameter_go_to_json_lines(tmp_path: Path) -> None:
    path, history = tmp_path / "events.jsonl", M.History(scored=True, per_tensor=True)
    with M.JSONLines(path, every=2, scored=True, per_tensor=True) as monitor:
        run(monitor)
    run(history)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["cycle"] for row in rows] == [2, 4]
    for row, event in zip(rows, history.rows[1::2], strict=True):
        assert row["tensors"] == {n: x._asdict() for n, x in event.tensors.items()}


def test_numbers_that_are_not_finite_are_strict_json_too(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tensors = {"a": TensorMetrics(math.inf, math.nan, None, -math.inf)}
    with M.JSONLines(path, per_tensor=True) as monitor:
        monitor(pc.ForecastEvent(3, 1, True, "predicted", 0.5, 1.0, tensors=tensors))
    (line,) = path.read_text().splitlines()
    row = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert row["tensors"] == {"a": dict.fromkeys(TensorMetrics._fields)}


def test_a_table_has_no_place_for_them(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="per_tensor"):
        M.CSV(tmp_path / "events.csv", per_tensor=True)
    with M.CSV(tmp_path / "events.csv") as monitor:
        tensors = {"a": TensorMetrics(1.0, None)}
        monitor(pc.ForecastEvent(3, 1, True, "predicted", 0.5, 1.0, tensors=tensors))
    assert "TensorMetrics" not in (tmp_path / "events.csv").read_text()


def test_tensorboard_shows_them_and_the_anomalies_as_text(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = M.History(scored=True, per_tensor=True)
    monitor = M.TensorBoard(tmp_path, every=2, scored=True, per_tensor=True)
    limit = 0.04
    run(monitor, gate=Anomaly(jump=limit))
    run(history, gate=Anomaly(jump=limit))
    monitor.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    events = history.rows[1::2]
    for name in "abc":
        for field in TensorMetrics._fields:
            shown = [(s.step, s.value) for s in board.Scalars(f"paramcast/{name}/{field}")]
            expected = [(e.step, getattr(e.tensors[name], field)) for e in events]
            assert shown == [(step, pytest.approx(value)) for step, value in expected]
    fired = [(e.step, e.reason) for e in events if e.fired]
    assert fired, [e.relative_jump for e in history.rows]
    texts = board.Tensors("paramcast/anomaly/text_summary")
    told = [(t.step, t.tensor_proto.string_val[0].decode()) for t in texts]
    assert told == fired
