"""One event per prediction: what it tells, when it is told, and what telling it costs."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast import schedules as S
from paramcast.anomalies import Anomaly
from reference import (
    BASES,
    Calls,
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


def one(at: float = 0.0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.full((1,), at, dtype=torch.float64))


class NormsOf(TorchDispatchMode):
    """Counts the norms that are taken of some tensors themselves, not of buffers."""

    def __init__(self, tensors: list[Any]) -> None:
        super().__init__()
        self.places, self.count = {t.data_ptr() for t in tensors}, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "linalg_vector_norm":
            self.count += args[0].data_ptr() in self.places
        elif name == "_foreach_norm":
            self.count += sum(t.data_ptr() in self.places for t in args[0])
        return func(*args, **(kwargs or {}))


def norms_of_parameters(cycles: int, **options: Any) -> int:
    p = one(100.0)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1e-3), **options)
    with NormsOf([p]) as norms:
        constant_steps(optimizer, p, *[1.0] * (3 * cycles))
    return norms.count


# --- the relative jump --------------------------------------------------------------------------


def test_nobody_watching_costs_no_norm_of_the_parameters() -> None:
    assert norms_of_parameters(33) == 0
    assert norms_of_parameters(33, gate=G.Every(2)) == 0


@pytest.mark.parametrize(
    "options",
    [
        lambda: {"monitors": [M.History()]},
        lambda: {"monitors": [lambda event: None]},
        lambda: {"monitors": [M.History(), M.Logger(), M.History(every=4)]},
        lambda: {"gate": Anomaly()},
        lambda: {"gate": Anomaly(disagreement=3), "monitors": [M.History(scored=True)]},
    ],
)
def test_whoever_watches_costs_one_norm_in_16_cycles(options: Any) -> None:
    assert norms_of_parameters(16, **options()) == 1
    assert norms_of_parameters(17, **options()) == 2
    assert norms_of_parameters(33, **options()) == 3


def test_a_trust_region_takes_its_norm_in_every_cycle() -> None:
    assert norms_of_parameters(33, gate=G.MaxRelativeJump(0.5)) == 33


def test_the_relative_jump_is_that_of_a_norm_at_most_16_cycles_old() -> None:
    p, history, ends = one(1000.0), M.History(), []
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.After(10**9), monitors=[history])
    for _ in range(40):
        constant_steps(optimizer, p, 1.0, 2.0, 4.0)
        ends.append(p.item())
    for n, row in enumerate(history.rows):
        assert row.jump_norm == 1.0
        assert row.relative_jump == 1.0 / ends[n - n % 16]


def test_the_norm_is_that_before_the_prediction_is_written() -> None:
    p = one(100.0)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[M.History()])
    constant_steps(optimizer, p, 1.0, 2.0, 1.0)
    assert p.item() == 95.0
    assert optimizer.last_event.relative_jump == 1.0 / 96.0


def test_a_cycle_without_prediction_leaves_the_norm_to_the_next() -> None:
    p, history = one(1000.0), M.History()
    optimizer = pc.Forecast(
        torch.optim.SGD([p], lr=1.0),
        P.Secant(2),
        horizon=lambda progress: 0.0 if round(20 * progress) == 16 else 1.0,
        total_steps=40,
        gate=G.Before(0),
        monitors=[history],
    )
    constant_steps(optimizer, p, *[1.0] * 40)
    assert [row.cycle for row in history.rows if row.relative_jump is None] == [17]
    old, new = history.rows[15], history.rows[17]
    assert old.relative_jump == 1.0 / 998.0
    assert new.relative_jump == 1.0 / (1000.0 - 2 * 18)


def test_where_the_parameters_are_zero_there_is_no_relative_jump() -> None:
    p = one()
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[M.History()])
    constant_steps(optimizer, p, 1.0, 2.0, -3.0)
    assert (optimizer.last_event.jump_norm, optimizer.last_event.relative_jump) == (1.0, None)


def test_a_restart_and_a_resume_keep_the_norm_honest() -> None:
    p, q = one(1000.0), one()
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[M.History()])
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    resumed = pc.PLP(torch.optim.SGD([q], lr=1.0), monitors=[M.History()])
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    constant_steps(resumed, q, 1.0, 2.0, 4.0)
    assert resumed.last_event.relative_jump == 1.0 / 993.0  # as in the run that was saved
    with torch.no_grad():
        p.fill_(107.0)
    optimizer.restart_cycle()
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert optimizer.last_event.relative_jump == 1.0 / 100.0


# --- accepted, milliseconds, reasons ------------------------------------------------------------


def test_accepted_is_the_share_that_was_written_so_far() -> None:
    p, history = one(), M.History()
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.Every(2), monitors=[history])
    constant_steps(optimizer, p, *[1.0] * 15)
    assert [row.accepted for row in history.rows] == [0, 1 / 2, 1 / 3, 2 / 4, 2 / 5]


@pytest.mark.parametrize(
    ("gate", "reasons"),
    [
        (None, ["shadow"] * 3),
        (G.Every(2), ["shadow; cycle 1, every 2", "shadow", "shadow; cycle 3, every 2"]),
        (G.After(9), ["shadow; step 3 < 9", "shadow; step 6 < 9", "shadow"]),
        (
            Anomaly(jump=1e-9),
            ["shadow; jump 0.167 > 1e-09: skip"] * 3,  # 0.5 of 3, the norm in cycle 1
        ),
        (
            Anomaly(jump=1e-9, actions={"jump": "warn"}),
            ["shadow; jump 0.167 > 1e-09: warn"] * 3,  # 0.5 of 3, the norm in cycle 1
        ),
    ],
    ids=repr,
)
def test_in_shadow_mode_the_reason_is_what_would_have_been(
    gate: G.Gate | None, reasons: list[str]
) -> None:
    p, history = one(), M.History()
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=gate, shadow=True, monitors=[history])
    for _ in range(3):
        constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    optimizer.flush()
    assert [(row.applied, row.reason) for row in history.rows] == [(False, r) for r in reasons]
    assert {row.accepted for row in history.rows} == {0.0}


# --- flush --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [None, Anomaly(jump=None, loss=4.0)], ids=repr)
def test_flush_tells_the_last_prediction_once(gate: G.Gate | None) -> None:
    p, history = one(100.0), M.History(scored=gate is None)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=gate, monitors=[history])
    optimizer.flush()  # nothing waits
    assert history.rows == []
    if gate is not None:
        optimizer.observe(1.0)
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    assert history.rows == []
    waiting = optimizer.last_event
    optimizer.flush()
    assert history.rows == [waiting]
    assert (waiting.error, waiting.cosine) == (None, None)
    assert optimizer.last_event == waiting
    optimizer.flush()
    constant_steps(optimizer, p, 1.0)
    optimizer.flush()
    assert history.rows == [waiting]
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    assert [row.cycle for row in history.rows] == [1, 2]


def test_a_restart_tells_what_waits_without_a_score() -> None:
    p, history = one(), M.History(scored=True)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    optimizer.restart_cycle()
    constant_steps(optimizer, p, 1.0, 2.0, 4.0, 1.0)
    assert [(row.cycle, row.error is None) for row in history.rows] == [(1, True), (2, False)]


# --- scoring only where somebody looks ----------------------------------------------------------


def calls(cycles: int, *monitors: M.Monitor) -> Counter[str]:
    p = one(100.0)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=monitors)
    with Calls() as seen:
        constant_steps(optimizer, p, *[1.0] * (3 * cycles + 1))
    return seen.counts


@pytest.mark.parametrize("every", [1, 2, 4, 16])
def test_a_monitor_scores_only_the_predictions_that_it_looks_at(every: int) -> None:
    plain, scored = calls(16, M.History()), calls(16, M.History(every=every, scored=True))
    times = 16 // every
    assert scored["dot"] - plain["dot"] == times
    assert scored["_foreach_copy_"] - plain["_foreach_copy_"] == times  # where the step starts
    assert scored["copy_"] - plain["copy_"] == times  # the jump
    assert scored["linalg_vector_norm"] - plain["linalg_vector_norm"] == 2 * times


def test_two_monitors_look_at_predictions_of_their_own() -> None:
    pairs, triples, plain = M.History(every=2, scored=True), M.History(every=3), M.History()
    p, heard = one(100.0), []
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[pairs, triples, plain])
    for _ in range(37):
        constant_steps(optimizer, p, 1.0)
        heard.append(len(plain.rows))
    assert [row.cycle for row in pairs.rows] == [2, 4, 6, 8, 10, 12]
    assert [row.cycle for row in triples.rows] == [3, 6, 9, 12]
    assert [row.cycle for row in plain.rows] == list(range(1, 13))
    assert {row.error for row in pairs.rows} == {0.0}
    assert [row.error for row in triples.rows] == [None, 0.0, None, 0.0]
    assert heard[:8] == [0, 0, 1, 1, 1, 1, 2, 2]  # those that are scored come one step later
    both = calls(12, M.History(every=2, scored=True), M.History(every=3, scored=True))
    assert both["dot"] == 8  # 2, 3, 4, 6, 8, 9, 10, 12


def test_rules_that_need_scores_score_every_prediction() -> None:
    p, history = one(100.0), M.History(every=4)
    rules = Anomaly(jump=None, drift=4.0)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=rules, monitors=[history])
    constant_steps(optimizer, p, *[1.0] * 25)
    assert rules.errors_seen.count == 8
    assert [(row.cycle, row.error) for row in history.rows] == [(4, 0.0), (8, 0.0)]


# --- cycles without a prediction ----------------------------------------------------------------

PIECES = S.Piecewise((0.3, 1.0), (0.6, 0.0), (1.0, -0.5))


def pieces(
    seed: int = 0, **options: Any
) -> tuple[list[torch.nn.Parameter], pc.Forecast, M.History]:
    ps, history = parameters(seed=seed), M.History(scored=True)
    base = BASES["momentum"](ps)
    optimizer = pc.Forecast(
        base, P.Secant(), horizon=PIECES, total_steps=30, monitors=[history], **options
    )
    return ps, optimizer, history


def test_cycles_of_horizon_zero_are_events_too() -> None:
    ps, optimizer, history = pieces()
    train(optimizer, ps, 30)
    optimizer.flush()
    rows = history.rows
    assert [row.cycle for row in rows] == list(range(1, 11))
    assert [row.step for row in rows] == list(range(3, 31, 3))
    assert [row.horizon for row in rows] == [1.0] * 3 + [0.0] * 3 + [-0.5] * 4
    assert [row.applied for row in rows] == [True] * 3 + [False] * 3 + [True] * 4
    for row in rows[3:6]:
        assert row.reason == "nothing to predict at this horizon"
        assert (row.jump_norm, row.relative_jump, row.error) == (0.0, None, None)
        assert row.milliseconds == 0.0
    assert [row.accepted for row in rows[2:7]] == [1.0, 3 / 4, 3 / 5, 3 / 6, 4 / 7]


def test_gates_by_cycle_count_the_cycles_of_horizon_zero() -> None:
    ps, optimizer, history = pieces(gate=G.Every(4))
    train(optimizer, ps, 30)
    assert [row.cycle for row in history.rows if row.applied] == [8]


# --- failing monitors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "predictor", [P.Midline(), P.RRE(3), P.ForwardEMA(), P.Aitken(), P.Interpolate(2)], ids=repr
)
@pytest.mark.parametrize("scored", [False, True])
def test_a_monitor_that_fails_changes_nothing_in_the_training(
    predictor: P.Predictor, scored: bool
) -> None:
    class Failing(M.History):
        def look(self, event: pc.ForecastEvent) -> None:
            super().look(event)
            if event.cycle == 2:
                raise OSError("disk full")

    failing, ps, others = Failing(scored=scored), parameters(), parameters()
    optimizer = pc.Forecast(BASES["momentum"](ps), predictor, monitors=[failing])
    other = pc.Forecast(BASES["momentum"](others), predictor)
    failed = 0
    for t in range(6 * predictor.every + 1):
        set_gradients(ps, t)
        try:
            optimizer.step()
        except OSError:
            failed += 1
        train(other, others, 1, start=t)
        assert same_bits(ps, others), t
    assert failed == 1
    assert [row.cycle for row in failing.rows][:5] == [1, 2, 3, 4, 5]


def test_who_joined_before_a_restart_counts_in_the_next_score() -> None:
    p, late, history = one(), one(100.0), M.History(scored=True)
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.Interpolate(2), monitors=[history])
    constant_steps(optimizer, p, 1.0, 1.0)
    optimizer.add_param_group({"params": [late]})
    p.grad = None
    optimizer.step(lambda: 0.0)  # no gradient came: no step, but `late` has joined
    optimizer.restart_cycle()
    for gradient in (-1.0, -1.0, 1.0):
        p.grad, late.grad = torch.ones_like(p), torch.full_like(late, gradient)
        optimizer.step()
    # Half way back both, and then one goes on and the other turns: they cancel.
    assert [row.cosine for row in history.rows] == [None, 0.0]


# --- on accelerators: told one cycle later ------------------------------------------------------


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are taken for far away, as on an accelerator; reading them works all the same."""
    monkeypatch.setattr("paramcast.running.cycle._on_cpu", lambda norms: False)


@pytest.mark.usefixtures("far")
def test_far_away_an_event_is_told_one_cycle_later() -> None:
    p, history, heard = one(), M.History(), []
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    for _ in range(12):
        constant_steps(optimizer, p, 1.0)
        heard.append(len(history.rows))
    assert heard == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert optimizer.last_event.cycle == 4  # asking waits
    optimizer.flush()
    optimizer.flush()
    assert [row.cycle for row in history.rows] == [1, 2, 3, 4]
    assert optimizer.last_event == history.rows[-1]
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    assert len(history.rows) == 4


MONITORS: dict[str, Any] = {
    "plain": lambda: [M.History()],
    "scored": lambda: [M.History(scored=True)],
    "scored now and then": lambda: [M.History(), M.History(every=4, scored=True)],
}


def watched(name: str, seed: int = 0) -> tuple[list[torch.nn.Parameter], pc.Forecast, M.History]:
    ps, monitors = parameters(seed=seed), MONITORS[name]()
    base = BASES["momentum"](ps)
    optimizer = pc.Forecast(
        base, P.Secant(), horizon=PIECES, total_steps=60, gate=G.Every(2), monitors=monitors
    )
    return ps, optimizer, monitors[0]


@pytest.mark.parametrize("name", MONITORS)
def test_far_away_the_events_are_those_of_the_cpu_in_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for far_away in (False, True):
        with monkeypatch.context() as patch:
            if far_away:
                patch.setattr("paramcast.running.cycle._on_cpu", lambda norms: False)
            ps, optimizer, history = watched(name)
            train(optimizer, ps, 60)
            optimizer.flush()
            runs.append((values(ps), history.rows))
    (near, rows), (distant, its) = runs
    assert same_bits(near, distant)
    assert [row.cycle for row in its] == list(range(1, 21))
    for row, other in zip(rows, its, strict=True):
        close = {"jump_norm": row.jump_norm, "relative_jump": row.relative_jump}
        assert timeless(other._replace(**close)) == timeless(row)
        assert (other.jump_norm, other.relative_jump) == pytest.approx(tuple(close.values()))


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("name", MONITORS)
@pytest.mark.parametrize("how", ["file", "deepcopy", "pickle"])
def test_far_away_no_event_is_lost_in_a_checkpoint(name: str, how: str) -> None:
    ps, optimizer, history = watched(name)
    cuts: list[tuple[Any, list[pc.ForecastEvent]]] = []
    for t in range(30):
        if how == "file":
            kept: Any = through_a_file([values(ps), optimizer.state_dict()])
        elif how == "deepcopy":
            kept = copy.deepcopy((ps, optimizer, history))
        else:
            kept = pickle.dumps((ps, optimizer, history))
        cuts.append((kept, list(history.rows)))
        train(optimizer, ps, 1, start=t)
    optimizer.flush()
    for cut, (kept, seen) in enumerate(cuts):
        if how == "file":
            others, resumed, its = watched(name, seed=9)
            restore(others, kept[0])
            resumed.load_state_dict(kept[1])
            its.rows = seen
        else:
            others, resumed, its = kept if how == "deepcopy" else pickle.loads(kept)
        train(resumed, others, 30 - cut, start=cut)
        resumed.flush()
        assert same_bits(ps, others), f"cut at {cut}"
        assert list(map(timeless, its.rows)) == list(map(timeless, history.rows)), f"cut at {cut}"


@pytest.mark.usefixtures("far")
def test_far_away_a_prediction_that_is_not_finite_is_not_written_either() -> None:
    p, history = one(100.0), M.History()
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), monitors=[history])
    with torch.no_grad():
        p.fill_(float("inf"))
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(100.0)
    constant_steps(optimizer, p, 1.0, 1.0)
    assert p.item() == 98.0
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    optimizer.flush()
    assert [(row.applied, row.fired) for row in history.rows] == [
        (False, (("non-finite", "skip"),)),
        (True, ()),
    ]


# --- on a GPU -----------------------------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cuda(**options: Any) -> tuple[list[torch.nn.Parameter], pc.PLP]:
    ps = [torch.nn.Parameter(p.detach().cuda()) for p in parameters()]
    return ps, pc.PLP(torch.optim.SGD(ps, lr=0.02, momentum=0.9), **options)


def constant_gradients(ps: list[torch.nn.Parameter]) -> None:
    for p in ps:
        p.grad = torch.ones_like(p)


@cuda
@pytest.mark.gpu
def test_on_a_gpu_events_come_once_in_order_one_cycle_late() -> None:
    history, now_and_then, heard = M.History(), M.History(every=4, scored=True), []
    ps, optimizer = on_cuda(monitors=[history])
    for _ in range(30):
        constant_gradients(ps)
        optimizer.step()
        heard.append(len(history.rows))
    assert heard == [max(0, step // 3 - 1) for step in range(1, 31)]
    optimizer.flush()
    assert [row.cycle for row in history.rows] == list(range(1, 11))
    assert all(row.applied and row.jump_norm > 0 for row in history.rows)
    both, history = M.History(), M.History()
    ps, optimizer = on_cuda(monitors=[both, now_and_then])
    others = parameters()
    other = pc.PLP(torch.optim.SGD(others, lr=0.02, momentum=0.9), monitors=[history])
    for _ in range(30):
        constant_gradients(ps)
        constant_gradients(others)
        optimizer.step()
        other.step()
    optimizer.flush()
    assert [row.cycle for row in both.rows] == list(range(1, 11))
    for row, near in zip(both.rows, history.rows, strict=True):
        assert row.jump_norm == pytest.approx(near.jump_norm, rel=1e-5)
        assert row.relative_jump == pytest.approx(near.relative_jump, rel=1e-5)
