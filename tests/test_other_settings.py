"""A run goes on with other settings, from its own state, or from inside an evaluation.

What did not change is kept, what did starts over, and one log line says so.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import paramcast as pc
from paramcast import averaging as A
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast import schedules as S
from paramcast.anomalies import Anomaly
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.integrations.checkpoint import CycleState
from reference import (
    FAMILY,
    Row,
    averaged,
    parameters,
    restore,
    same_bits,
    set_gradients,
    through_a_file,
    train,
    values,
)

AVERAGES = [A.EMA(0.9), A.SWA(2), A.LAWA(3, every=4), A.PolynomialDecay(), A.Trend()]


def sgd(ps: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(ps, lr=0.02, momentum=0.9)


def wrapped(
    predictor: P.Predictor | None = None, **options: Any
) -> tuple[list[nn.Parameter], pc.Forecast]:
    ps = parameters(torch.float64)
    return ps, pc.Forecast(sgd(ps), predictor, total_steps=40, **options)


def resumed(
    run: tuple[list[nn.Parameter], pc.Forecast], predictor: P.Predictor | None, **options: Any
) -> tuple[list[nn.Parameter], pc.Forecast]:
    """The same weights in new objects, with other settings, from a file."""
    ps, optimizer = wrapped(predictor, **options)
    restore(ps, run[0])
    optimizer.load_state_dict(through_a_file(run[1].state_dict()))
    return ps, optimizer


# --- a state that this process holds ------------------------------------------------------------


def named_model(ps: list[nn.Parameter]) -> nn.Module:
    return nn.ParameterDict({str(i): p for i, p in enumerate(ps)})


LOADS: dict[str, Callable[[pc.Forecast, list[nn.Parameter]], None]] = {
    "plain": lambda optimizer, ps: optimizer.load_state_dict(optimizer.state_dict()),
    "sharded": lambda optimizer, ps: (
        state := CycleState(named_model(ps), optimizer)
    ).load_state_dict(state.state_dict()),
}


@pytest.mark.parametrize("how", LOADS)
@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
def test_loading_its_own_state_at_every_cut_changes_nothing(row: Row, how: str) -> None:
    average = AVERAGES[len(row.name) % len(AVERAGES)]
    gate = Anomaly(jump=None, loss=50.0, disagreement=9)
    options = {"average": average, "monitors": [M.History(scored=True)]}
    if not row.predictor.adjusts_base:
        options["gate"] = gate
    (ps, optimizer), (others, other) = (
        wrapped(row.predictor, **copy.deepcopy(options)) for _ in range(2)
    )
    for t in range(2 * row.predictor.every + 3):
        for who, its in ((optimizer, ps), (other, others)):
            if "gate" in options:
                who.observe(1.0)
            train(who, its, 1, start=t)
        LOADS[how](other, others)
        assert same_bits(ps, others), t
        assert optimizer.has_average == other.has_average
        if optimizer.has_average:
            assert same_bits(averaged(optimizer, ps), averaged(other, others)), t
    assert len(other._settings.monitors[0].rows) == len(optimizer._settings.monitors[0].rows)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_a_state_that_is_held_does_not_move_on_with_the_run(average: A.Average) -> None:
    ps, optimizer = wrapped(P.PrimalAveraging(), average=average)
    train(optimizer, ps, 38)
    held, weights, shown = optimizer.state_dict(), values(ps), averaged(optimizer, ps)
    train(optimizer, ps, 2, start=38)
    restore(ps, weights)
    optimizer.load_state_dict(held)
    assert same_bits(averaged(optimizer, ps), shown)


def test_a_state_loaded_in_inference_mode_can_be_trained_on() -> None:
    ps, optimizer = wrapped(P.Midline(), average=A.EMA(0.9))
    train(optimizer, ps, 4)
    state = through_a_file(optimizer.state_dict())
    with torch.inference_mode():
        optimizer.load_state_dict(state)
    others, other = wrapped(P.Midline(), average=A.EMA(0.9))
    train(other, others, 10)
    train(optimizer, ps, 6, start=4)
    assert same_bits(ps, others)


# --- another average or predictor ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (A.EMA(0.9), A.SWA(10)),
        (A.EMA(0.9), A.EMA(0.99)),
        (A.SWA(10), A.SWA(10, every=2)),
        (A.LAWA(3), A.LAWA(4)),
        (A.PolynomialDecay(), A.Trend()),
        (A.Trend(), A.PolynomialDecay()),
    ],
    ids=repr,
)
def test_another_average_is_refused_or_starts_anew_where_its_part_is_deleted(
    then: A.Average, now: A.Average, caplog: pytest.LogCaptureFixture
) -> None:
    ps, optimizer = wrapped(P.Midline(), average=then)
    train(optimizer, ps, 13)
    with pytest.raises(CheckpointError, match=r'delete state_dict\["paramcast"\]\["average"\]'):
        resumed((ps, optimizer), P.Midline(), average=now)
    state = optimizer.state_dict()
    del state["paramcast"]["average"]
    _, other = wrapped(P.Midline(), average=now)
    other.load_state_dict(state)
    assert not other.has_average
    assert "starts over" in caplog.text
    assert other.state_dict()["paramcast"]["cycle"]["done"] == 1  # the rest is kept


@pytest.mark.parametrize(
    "average", [A.LAWA(3, every=10), A.EMA(share=0.1), A.SWA(start_share=0.5)], ids=repr
)
def test_an_average_over_another_number_of_steps_is_another_average(average: A.Average) -> None:
    weight = nn.Parameter(torch.zeros(1))
    state = pc.Forecast(sgd([weight]), average=average, total_steps=100).state_dict()
    with pytest.raises(CheckpointError, match=r"over 100 steps.* over 200 steps"):
        pc.Forecast(sgd([weight]), average=average, total_steps=200).load_state_dict(state)


def test_an_average_that_is_new_begins_where_the_run_goes_on() -> None:
    """theta_t = t: the mean of the steps 101 to 110 is 105.5."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    base = lambda: torch.optim.SGD([weight], lr=1.0)  # noqa: E731

    def walk(optimizer: pc.Forecast, steps: int) -> None:
        for _ in range(steps):
            weight.grad = -torch.ones(1, dtype=torch.float64)
            optimizer.step()

    first = pc.Forecast(base())
    walk(first, 100)
    second = pc.Forecast(base(), average=A.SWA(start=101))
    second.load_state_dict(through_a_file(first.state_dict()))
    walk(second, 10)
    assert averaged(second, [weight])[0].item() == pytest.approx(105.5)
    second.restart_average()
    assert not second.has_average
    walk(second, 2)
    assert averaged(second, [weight])[0].item() == pytest.approx(111.5)


def test_another_predictor_starts_a_cycle_where_the_old_one_is_deleted() -> None:
    ps, optimizer = wrapped(P.Midline(), average=A.EMA(0.9))
    train(optimizer, ps, 8)
    state = through_a_file(optimizer.state_dict())
    del state["paramcast"]["cycle"]
    others, other = wrapped(P.OuterNesterov(), average=A.EMA(0.9))
    restore(others, ps)
    other.load_state_dict(state)
    ours = other.state_dict()["paramcast"]
    assert (ours["steps"], ours["cycle"]["done"]) == (8, 0)
    assert same_bits(averaged(other, others), averaged(optimizer, ps))


# --- other gates, monitors, horizons ------------------------------------------------------------


def settings(name: str) -> dict[str, Any]:
    return {
        "nothing": {},
        "anomalies": {"gate": Anomaly(jump=9.0)},
        "withdrawing": {"gate": Anomaly(jump=None, loss=1e6)},
        "agreement": {"gate": G.Agreement(above=-1.0)},
        "loss check": {"gate": G.LossCheck(lambda: 0.0)},
        "scored": {"monitors": [M.History(scored=True)]},
        "shadow": {"shadow": True},
        "longer": {"horizon": 2.0},
        "schedule": {"horizon": S.Linear(1.0, 0.0)},
    }[name]


NAMES = [
    *("nothing", "anomalies", "withdrawing", "agreement", "loss check", "scored"),
    *("shadow", "longer", "schedule"),
]


def go(optimizer: pc.Forecast, ps: list[nn.Parameter], steps: int, start: int) -> None:
    for t in range(start, start + steps):
        if optimizer._settings.anomalies:
            optimizer.observe(1.0)
        train(optimizer, ps, 1, start=t)


@pytest.mark.parametrize("cut", [6, 7, 8])
@pytest.mark.parametrize("now", NAMES)
@pytest.mark.parametrize("then", NAMES)
def test_other_settings_keep_the_average_and_say_in_one_line_what_changed(
    then: str, now: str, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    ps, optimizer = wrapped(P.Midline(), average=A.EMA(0.9), **settings(then))
    go(optimizer, ps, cut, 0)
    caplog.clear()
    others, other = resumed((ps, optimizer), P.Midline(), average=A.EMA(0.9), **settings(now))
    lines = [record.getMessage() for record in caplog.records]
    horizons = {"longer": "2.0", "schedule": "Linear"}
    restarts = cut > 6 and (
        horizons.get(then) != horizons.get(now) or (now == "agreement" and then != now)
    )
    unscored = cut == 6 and then in ("scored", "shadow") and now not in ("scored", "shadow")
    if {then, now} == {"nothing", "scored"} or then == now:  # monitors are not compared
        assert len(lines) == unscored
    else:
        (line,) = lines
        assert line.startswith("resumed with other settings: ")
        assert ("the running cycle starts over" in line) is restarts
    assert same_bits(averaged(other, others), averaged(optimizer, ps))
    done = other.state_dict()["paramcast"]["cycle"]["done"]
    assert done == (0 if restarts else cut % 3)
    # from here on it is the run that always had these settings, begun at these weights
    go(other, others, 3 - done, cut)
    assert (other.last_event.step, other.last_event.applied) == (cut + 3 - done, now != "shadow")


def test_a_gate_that_goes_takes_its_memory_with_it_and_another_keeps_its_own() -> None:
    watch = lambda: Anomaly(jump=None, disagreement=3, pause=5)  # noqa: E731
    ps, optimizer = wrapped(P.Midline(), gate=watch())
    train(optimizer, ps, 12)
    optimizer._settings.anomalies[0].against = 2
    _, other = resumed((ps, optimizer), P.Midline(), gate=G.After(steps=3) & Anomaly() & watch())
    new, same = other._settings.anomalies
    assert (new.against, same.against) == (0, 2)
    _, bare = resumed((ps, optimizer), P.Midline())
    assert bare.state_dict()["paramcast"]["anomalies"] == []


# --- evaluation ---------------------------------------------------------------------------------


def test_a_sharded_state_saved_inside_eval_weights_starts_a_new_cycle() -> None:
    ps, optimizer = wrapped(P.Midline(), average=A.EMA(0.5))
    train(optimizer, ps, 5)
    with optimizer.eval_weights():
        state = CycleState(named_model(ps), optimizer).state_dict()
    others, other = wrapped(P.Midline(), average=A.EMA(0.5))
    CycleState(named_model(others), other).load_state_dict(state)
    assert other.state_dict()["paramcast"]["cycle"]["done"] == 0
    assert same_bits(averaged(other, others), averaged(optimizer, ps))


@pytest.mark.parametrize("make", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_made_inside_eval_weights_trains_on_from_the_average(
    make: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    ps, optimizer = wrapped(P.Midline(), average=A.EMA(0.5))
    train(optimizer, ps, 5)
    with optimizer.eval_weights():
        others, other = make((ps, optimizer))
    assert "made inside eval_weights()" in caplog.text
    assert same_bits(others, averaged(optimizer, ps))
    assert other.state_dict()["paramcast"]["model_holds"] == "live"
    train(other, others, 3, start=5)  # a whole cycle, from the average
    assert other.last_event.step == 8
    train(optimizer, ps, 1, start=5)  # the original goes on where it was
    assert optimizer.last_event.step == 6


# --- freezing and thawing -----------------------------------------------------------------------


def in_turn(optimizer: pc.Forecast, ps: list[nn.Parameter], t: int, *, freeze: bool) -> None:
    """A step that trains one of the blocks; the others are frozen, or have no gradient."""
    set_gradients(ps, t)
    for i, p in enumerate(ps):
        on = (t // 2) % len(ps) == i
        if freeze:
            p.requires_grad_(on)
        if not on:
            p.grad = None
    optimizer.step()


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
@pytest.mark.parametrize("predictor", [None, P.Midline()], ids=repr)
def test_an_average_does_not_notice_that_its_parameters_are_frozen(
    average: A.Average, predictor: P.Predictor | None
) -> None:
    (ps, optimizer), (others, other) = (wrapped(predictor, average=average) for _ in range(2))
    for t in range(40):
        in_turn(optimizer, ps, t, freeze=False)
        in_turn(other, others, t, freeze=True)
        if predictor is None and optimizer.has_average:
            assert same_bits(averaged(optimizer, ps), averaged(other, others)), t
    if predictor is not None:  # blocks that are frozen are not predicted, so the paths differ
        with other.eval_weights():
            assert not any(torch.equal(p, q) for p, q in zip(others, values(ps), strict=True))


@pytest.mark.parametrize("cut", [None, 7])
def test_primal_averaging_goes_on_where_a_frozen_block_is_thawed(cut: int | None) -> None:
    """While a block is frozen its weights stand still, and so do z and x."""
    predictor = P.PrimalAveraging(beta=0.9, eta=2)
    ps, optimizer = wrapped(predictor)
    z = [p.detach().clone() for p in ps]
    x = [p.detach().clone() for p in ps]
    momenta = [torch.zeros_like(p) for p in ps]
    for t in range(18):
        on = (t // 2) % len(ps)
        set_gradients(ps, t)
        momenta[on] = 0.9 * momenta[on] + ps[on].grad
        w = 3.0 / (t + 1 + 2.0)
        in_turn(optimizer, ps, t, freeze=True)
        z[on] = z[on] - 0.02 * momenta[on]
        x[on] = x[on] + w * (z[on] - x[on])
        y = [0.1 * a + 0.9 * b for a, b in zip(z, x, strict=True)]
        torch.testing.assert_close([p.detach() for p in ps], y)
        torch.testing.assert_close(averaged(optimizer, ps), x)
        if t == cut:
            ps, optimizer = resumed((ps, optimizer), predictor)


# --- what must not cost a step ------------------------------------------------------------------


class Failing(M.Monitor):
    def look(self, event: pc.ForecastEvent) -> None:
        raise OSError("the disk is full")


def test_a_monitor_that_fails_does_not_cost_the_average_its_step() -> None:
    (ps, optimizer), (others, other) = (
        wrapped(P.Midline(), average=A.EMA(0.9), monitors=monitors)
        for monitors in ([], [Failing()])
    )
    for t in range(9):
        train(optimizer, ps, 1, start=t)
        try:
            train(other, others, 1, start=t)
        except OSError:
            other.zero_grad()
        assert same_bits(averaged(optimizer, ps), averaged(other, others))


def test_a_monitor_with_an_open_file_is_pickled_and_appends(tmp_path: Path) -> None:
    ps, optimizer = wrapped(P.Midline(), monitors=[M.JSONLines(tmp_path / "events.jsonl")])
    train(optimizer, ps, 3)
    others, other = pickle.loads(pickle.dumps((ps, optimizer)))
    train(other, others, 3, start=3)
    for each in (optimizer, other):
        each._settings.monitors[0].close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_a_monitor_with_a_connection_says_why_it_is_not_pickled(tmp_path: Path) -> None:
    monitor = M.TensorBoard(tmp_path)
    with pytest.raises(ArgumentError, match=r"open connection .* save optimizer.state_dict"):
        pickle.dumps(wrapped(P.Midline(), monitors=[monitor]))
    monitor.close()


@pytest.mark.parametrize("skipped", [0, 3, 6])
def test_the_last_snapshot_of_a_run_with_skipped_steps_is_its_end(skipped: int) -> None:
    """A GradScaler that finds an infinity does not call step(); theta_t = t."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = pc.Forecast(
        torch.optim.SGD([weight], lr=1.0), average=A.LAWA(3, every=10), total_steps=100
    )
    for _ in range(100 - skipped):
        weight.grad = -torch.ones(1, dtype=torch.float64)
        optimizer.step()
    expected = (80 + 90 + (100 - skipped)) / 3
    assert averaged(optimizer, [weight])[0].item() == pytest.approx(expected)


def test_whole_and_real_numbers_of_numpy_are_numbers() -> None:
    predictor = P.Midline(horizon=np.float32(1.0), every=np.int64(3))
    assert repr(predictor) == "Midline(horizon=1.0, start='midpoint', every=3)"
    weight = nn.Parameter(torch.zeros(1))
    optimizer = pc.Forecast(
        sgd([weight]),
        predictor,
        total_steps=np.int32(10),
        gate=Anomaly(loss=np.float64(3.0)) & G.Every(np.int16(1)),
        average=A.LAWA(np.int64(2), every=np.int8(2)),
    )
    optimizer.observe(np.float32(1.0))
    through_a_file(optimizer.state_dict())
    with pytest.raises(ArgumentError, match="every must be a whole number, got"):
        P.Midline(every=np.bool_(True))
