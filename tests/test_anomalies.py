"""Each anomaly rule with each of its actions, on parameters that one can follow with a pencil."""

from __future__ import annotations

import copy
import logging
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast.anomalies import ACTIONS, Anomaly, Fired
from paramcast.errors import ArgumentError
from reference import (
    BASES,
    FAMILY,
    Row,
    constant_steps,
    parameters,
    same_bits,
    set_gradients,
    through_a_file,
    timeless,
    train,
)

PAUSE = 2
AT = 100.0


class Story(NamedTuple):
    """Gradients, cycle by cycle, of which a rule fires on one prediction.

    With SGD at lr 1 a cycle of gradients (..., g, h) ends at minus their sum, and PLP's jump is
    -g / 2; it is worth half a step, so its error against a next gradient n is |g - n| / |n|.
    """

    options: dict[str, Any]
    cycles: list[tuple[float, ...]]
    fires: int  # on the prediction of this cycle
    value: float
    why: str
    losses: Callable[[int], float] = lambda t: 1.0  # before step t + 1

    @property
    def every(self) -> int:
        return len(self.cycles[0])


EVEN, TURNS = (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0)
STORIES = {
    "jump": Story(  # the parameters' norm is taken at 97, before the first prediction
        {"jump": 0.01}, [EVEN, (1, 4, 1), *[EVEN] * 4], 2, 2 / 97, "jump 0.0206 > 0.01"
    ),
    "disagreement": Story(  # the predictions of cycles 1 and 2 are followed by a step back
        {"disagreement": 2}, [EVEN, TURNS, TURNS, *[EVEN] * 3], 2, 2, "disagreement 2 >= 2"
    ),
    "loss": Story(  # eight losses of mean 2 and spread 1; the ninth is the first after cycle 2
        {"loss": 9.5},
        [(2, 2, 2, 2)] * 6,
        2,
        10.0,
        "loss 10 > 9.5",
        lambda t: 12.0 if t == 8 else 1.0 + 2 * (t % 2),
    ),
    "drift": Story(  # eight errors of mean 2 and spread 1, and then an error of 12
        {"drift": 9.5},
        [*[(1, 2, 1), (1, 4, 1)] * 4, (1, 13, 1), *[(1, 2, 1)] * 4],
        9,
        10.0,
        "drift 10 > 9.5",
    ),
}
ALL = [(rule, action) for rule, actions in ACTIONS.items() for action in actions]


def rules_of(rule: str, action: str, **options: Any) -> Anomaly:
    story = {"jump": None, **STORIES[rule].options}
    return Anomaly(**{**story, "actions": {rule: action}, "pause": PAUSE, **options})


def begin(
    gate: G.Gate, every: int = 3, **options: Any
) -> tuple[torch.nn.Parameter, pc.PLP, M.History]:
    p = torch.nn.Parameter(torch.full((1,), AT, dtype=torch.float64))
    monitors = [M.History(), *options.pop("monitors", [])]
    base = torch.optim.SGD([p], lr=1.0)
    optimizer = pc.PLP(base, every=every, gate=gate, monitors=monitors, **options)
    return p, optimizer, monitors[0]


def tell(story: Story, p: torch.Tensor, optimizer: pc.PLP, start: int = 0) -> Iterator[float]:
    """Where the parameter is after each step, the loss after it included."""
    gradients = [g for cycle in story.cycles for g in cycle]
    for t in range(start, len(gradients)):
        if t == 0:
            optimizer.observe(story.losses(0))
        constant_steps(optimizer, p, gradients[t])
        optimizer.observe(story.losses(t + 1))
        yield p.item()


def written(story: Story, rule: str, action: str) -> list[bool]:
    """Whether the prediction of each cycle ends up in the parameters."""
    c, found = story.fires, []
    for cycle in range(1, len(story.cycles) + 1):
        if cycle == c:
            found.append(action == "warn" or (rule != "jump" and action != "withdraw"))
        elif action == "pause":
            found.append(not c < cycle <= c + PAUSE)
        else:
            found.append(cycle < c or action != "off")
    return found


def by_pencil(story: Story, kept: list[bool]) -> list[float]:
    """Where the parameter is at the end of each cycle."""
    ends, at = [], AT
    for cycle, keep in zip(story.cycles, kept, strict=True):
        at -= sum(cycle) + keep * cycle[-2] / 2
        ends.append(at)
    return ends


WATCHING: dict[str, Callable[[], list[M.Monitor]]] = {
    "plain": list,
    "scored": lambda: [M.History(scored=True)],
    "now and then": lambda: [M.History(every=2, scored=True)],
}


@pytest.mark.parametrize("watching", WATCHING)
@pytest.mark.parametrize(("rule", "action"), ALL)
def test_what_each_rule_does_with_each_action(
    rule: str, action: str, watching: str, caplog: pytest.LogCaptureFixture
) -> None:
    story, rules = STORIES[rule], rules_of(rule, action)
    monitors = WATCHING[watching]()
    p, optimizer, history = begin(rules, story.every, monitors=monitors)
    with caplog.at_level(logging.INFO, logger="paramcast"):
        path = list(tell(story, p, optimizer))
    kept = written(story, rule, action)
    assert path[story.every - 1 :: story.every] == by_pencil(story, kept)
    optimizer.flush()

    events, c, last = history.rows, story.fires, len(story.cycles)
    assert [event.cycle for event in events] == list(range(1, last + 1))  # each once, in order
    assert [event.applied for event in events] == kept
    assert [event.accepted for event in events] == [sum(kept[:n]) / n for n in range(1, last + 1)]
    assert {event.cycle: event.fired for event in events if event.fired} == {c: ((rule, action),)}
    why = f"{story.why}: {action}"
    assert events[c - 1].reason == (why if rule == "jump" else f"no anomaly; {why}")
    waits = {"pause": f"paused until cycle {c + PAUSE}", "off": "switched off"}
    for event in events:
        if event.cycle != c:
            assert event.reason == ("no anomaly" if event.applied else waits[action])

    step, threshold = c * story.every, story.options[rule]
    assert rules.fired == [Fired(step, rule, pytest.approx(story.value), threshold, action)]
    lines = [] if action == "skip" else [("paramcast", logging.WARNING, f"step {step}: {why}")]
    assert caplog.record_tuples == lines
    for monitor in monitors:
        cycles = [row.cycle for row in monitor.rows]
        assert cycles == list(range(monitor.every, last + 1, monitor.every))


def test_a_withdrawn_prediction_is_told_at_once_and_not_again() -> None:
    story = STORIES["loss"]
    p, optimizer, history = begin(rules_of("loss", "withdraw"), 4)
    heard = []
    for t, _ in enumerate(tell(story, p, optimizer), 1):
        heard.append(len(history.rows))
        if t == 8:
            assert p.item() == 83.0  # the jump to 82 is taken back
            assert optimizer.last_event == history.rows[-1]
            assert not optimizer.last_event.applied
    # cycle 1 waits for the step after the loss; cycle 2 is told with the loss that withdraws it
    assert heard[3:10] == [0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "row", [row for row in FAMILY if not row.predictor.adjusts_base], ids=lambda row: row.name
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("scored", [False, True])
def test_a_run_whose_predictions_are_all_withdrawn_is_the_base_bitwise(
    row: Row, dtype: torch.dtype, scored: bool
) -> None:
    ps, bare_ps = parameters(dtype), parameters(dtype)
    rules, history = Anomaly(jump=None, loss=3.0), M.History(scored=scored)
    optimizer = pc.Forecast(BASES["adamw"](ps), row.predictor, gate=rules, monitors=[history])
    bare = BASES["adamw"](bare_ps)
    for n in range(8):
        optimizer.observe(float(n % 2))
    for t in range(13):
        optimizer.observe(1e9 if t and t % row.predictor.every == 0 else float(t % 2))
        assert same_bits(ps, bare_ps), t
        train(optimizer, ps, 1, start=t)
        train(bare, bare_ps, 1, start=t)
    ended = (13 - 1) // row.predictor.every
    assert [fired.action for fired in rules.fired] == ["withdraw"] * ended
    assert [(r.applied, r.accepted) for r in history.rows[:ended]] == [(False, 0.0)] * ended


# --- not finite ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("gate", [None, Anomaly, lambda: G.After(0) & Anomaly(drift=4.0)])
def test_a_prediction_that_is_not_finite_is_skipped_always(
    value: float, gate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rules = gate() if gate else None
    p, optimizer, history = begin(rules)
    with torch.no_grad():
        p.fill_(value)
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(AT)
    constant_steps(optimizer, p, 1.0, 1.0)
    assert p.item() == AT - 2
    constant_steps(optimizer, p, 0.25, 0.25, 0.25, 0.25)
    assert p.item() == AT - 2 - 4 * 0.25 - 0.125  # the next one is written
    event = history.rows[0]
    assert (event.applied, event.fired) == (False, (("non-finite", "skip"),))
    assert event.reason == "the prediction is not finite"
    assert (event.accepted, history.rows[1].accepted) == (0.0, 0.5)
    assert [row.cycle for row in history.rows] == [1, 2]
    assert not math.isfinite(event.jump_norm)
    assert caplog.records == []
    assert not any(rule.fired for rule in optimizer._settings.anomalies)


# --- combined -----------------------------------------------------------------------------------


def test_a_pause_counts_the_cycles_in_which_another_gate_refuses() -> None:
    story, rules = STORIES["disagreement"], rules_of("disagreement", "pause", pause=3)
    p, optimizer, history = begin(G.After(12) & rules)
    path = list(tell(story, p, optimizer))
    optimizer.flush()
    # The second disagreement is known in cycle 3, which After refuses, as it did 1 and 2.
    assert [event.reason for event in history.rows] == [
        "step 3 < 12",
        "step 6 < 12; disagreement 2 >= 2: pause",
        "step 9 < 12",
        "paused until cycle 5",
        "paused until cycle 5",
        "step 18 >= 12 and no anomaly",
    ]
    assert path[2::3] == by_pencil(story, [False] * 5 + [True])


@pytest.mark.parametrize("first", [False, True])
def test_rules_before_and_after_another_gate_pause_alike(first: bool) -> None:
    story, rules, other = STORIES["jump"], rules_of("jump", "pause", pause=3), G.Every(2)
    p, optimizer, _ = begin(rules & other if first else other & rules)
    path = list(tell(story, p, optimizer))
    kept = [False] * 5 + [True]  # Every alone would write 2, 4 and 6; the jump of 2 is too long
    assert path[2::3] == by_pencil(story, kept)


def test_two_sets_of_rules_both_act() -> None:
    story = STORIES["jump"]
    warn, skip = rules_of("jump", "warn"), rules_of("jump", "skip", jump=0.02)
    p, optimizer, history = begin(warn & skip)
    path = list(tell(story, p, optimizer))
    assert path[2::3] == by_pencil(story, [True, False, True, True, True, True])
    assert history.rows[1].reason == "jump 0.0206 > 0.02: skip"
    assert [len(rules.fired) for rules in (warn, skip)] == [1, 1]


def test_a_warning_and_a_check_of_the_loss_are_both_told() -> None:
    story, losses = STORIES["jump"], iter([2.0, 2.0, 2.0, 3.0])
    check = G.LossCheck(lambda: next(losses, 1.0))
    p, optimizer, history = begin(rules_of("jump", "warn") & check)
    list(tell(story, p, optimizer))
    event = history.rows[1]
    assert (event.applied, event.fired) == (False, (("jump", "warn"),))
    assert event.reason.startswith("jump 0.0206 > 0.01: warn")
    assert event.reason.endswith("the loss rose from 2 to 3")


def test_two_rules_in_one_event_are_both_named() -> None:
    rules = Anomaly(jump=0.001, disagreement=1, actions={"jump": "warn"})
    p, optimizer, history = begin(rules)
    constant_steps(optimizer, p, 1.0, 1.0, 1.0, -1.0)
    assert history.rows[0].fired == (
        ("jump", "warn"),
        ("disagreement", "pause"),
    )
    assert history.rows[0].reason == ("jump 0.00515 > 0.001: warn; disagreement 1 >= 1: pause")
    assert [fired.rule for fired in rules.fired] == ["jump", "disagreement"]


@pytest.mark.parametrize(("rule", "action"), ALL)
def test_in_shadow_mode_rules_tell_and_write_nothing(rule: str, action: str) -> None:
    story = STORIES[rule]
    rules = rules_of(rule, action)
    p, optimizer, history = begin(rules, story.every, shadow=True)
    path = list(tell(story, p, optimizer))
    assert path[story.every - 1 :: story.every] == by_pencil(story, [False] * len(story.cycles))
    optimizer.flush()
    assert {event.applied for event in history.rows} == {False}
    assert all(event.reason.startswith("shadow") for event in history.rows)
    told = history.rows[story.fires - 1]
    if rule == "loss":  # nothing was written, so no loss is the first after a prediction
        assert rules.fired == []
    else:
        assert told.fired == ((rule, action),)
        assert told.reason == f"shadow; {story.why}: {action}"


# --- pause and off ------------------------------------------------------------------------------


def test_a_pause_that_is_called_again_is_prolonged() -> None:
    rules = Anomaly(jump=None, disagreement=1, pause=2)
    p, optimizer, history = begin(rules)
    constant_steps(optimizer, p, *EVEN, *TURNS, *TURNS, *EVEN * 4)
    optimizer.flush()
    # known in cycle 2: until 3; known in cycle 3: until 4; the step after cycle 3 agrees
    assert [e.applied for e in history.rows] == [True, False, False, False, True, True, True]
    assert [fired.step for fired in rules.fired] == [3, 6]


def test_off_is_for_good_whatever_else_fires_later(caplog: pytest.LogCaptureFixture) -> None:
    rules = Anomaly(jump=0.01, disagreement=1, drift=1.0, loss=1.0, actions={"jump": "off"})
    p, optimizer, history = begin(rules)
    optimizer.observe(1.0)
    constant_steps(optimizer, p, 1.0, 4.0, 1.0)
    for n in range(30):
        optimizer.observe(float(n % 2))
        constant_steps(optimizer, p, *TURNS)
    optimizer.flush()
    assert [(f.rule, f.action) for f in rules.fired] == [("jump", "off")]
    assert len(caplog.records) == 1
    assert len(history.rows) == 31
    assert {event.applied for event in history.rows} == {False}
    assert {event.reason for event in history.rows[1:]} == {"switched off"}


def test_a_pause_cannot_end_an_off_of_the_same_score() -> None:
    story = STORIES["drift"]
    actions = {"drift": "pause", "disagreement": "off"}
    rules = Anomaly(jump=None, disagreement=1, drift=9.5, actions=actions, pause=1)
    p, optimizer, history = begin(rules)
    gradients = [g for cycle in story.cycles[:9] for g in cycle]
    constant_steps(optimizer, p, *gradients, -1.0, *EVEN * 4)  # disagrees and drifts
    assert [(f.rule, f.action) for f in rules.fired] == [("disagreement", "off")]
    assert [event.applied for event in history.rows[9:]] == [False] * len(history.rows[9:])
    assert len(history.rows) > 11


def test_predictions_in_agreement_start_the_count_anew() -> None:
    rules = Anomaly(jump=None, disagreement=2)
    p, optimizer, _ = begin(rules)
    constant_steps(optimizer, p, *EVEN, *TURNS, *EVEN, *TURNS, *EVEN, *TURNS, *EVEN)
    assert rules.fired == []


# --- losses -------------------------------------------------------------------------------------


def test_a_loss_that_nobody_reports_is_missed_at_the_first_prediction() -> None:
    p, optimizer, history = begin(Anomaly(loss=4.0))
    constant_steps(optimizer, p, 1.0, 1.0)
    with pytest.raises(ArgumentError, match=r"call optimizer.observe\(loss\) before each"):
        constant_steps(optimizer, p, 1.0)
    assert p.item() == AT - 3  # nothing was predicted
    assert history.rows == []
    optimizer.observe(1.0)
    constant_steps(optimizer, p, *[0.25] * 4)
    assert p.item() == AT - 3 - 4 * 0.25 - 0.125
    assert len(history.rows) == 1


def test_a_loss_that_is_no_longer_reported_is_missed_after_the_next_prediction() -> None:
    p, optimizer, _ = begin(Anomaly(jump=None, loss=4.0))
    optimizer.observe(1.0)
    constant_steps(optimizer, p, *EVEN * 2)  # the second prediction is still told by nobody
    with pytest.raises(ArgumentError, match="that is not reported"):
        constant_steps(optimizer, p, *EVEN)


def test_only_the_first_loss_after_a_prediction_is_judged() -> None:
    rules = Anomaly(jump=None, loss=3.0)
    p, optimizer, _ = begin(rules)
    for t in range(30):
        spike = t > 9 and t % 3 != 0  # in mid-cycle
        optimizer.observe(1e3 if spike else 1.0 + t % 2)
        constant_steps(optimizer, p, 1.0)
    assert rules.fired == []


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_fires_and_spoils_no_mean(value: float) -> None:
    rules = rules_of("loss", "withdraw")
    p, optimizer, history = begin(rules, 4)
    story = STORIES["loss"]._replace(losses=lambda t: value if t == 8 else 1.0 + 2 * (t % 2))
    path = list(tell(story, p, optimizer))
    assert path[3::4] == by_pencil(story, written(story, "loss", "withdraw"))
    assert [fired.step for fired in rules.fired] == [8]
    assert math.isfinite(rules.losses_seen.mean)
    assert history.rows[1].fired == (("loss", "withdraw"),)


def test_a_prediction_that_flush_has_told_can_still_be_withdrawn() -> None:
    story = STORIES["loss"]
    p, optimizer, history = begin(rules_of("loss", "withdraw"), 4)
    optimizer.observe(1.0)
    for t in range(8):
        constant_steps(optimizer, p, story.cycles[0][0])
        if t == 7:
            optimizer.flush()
        optimizer.observe(story.losses(t + 1))
    assert p.item() == 83.0
    assert not optimizer.last_event.applied
    assert optimizer.last_event.fired == (("loss", "withdraw"),)
    constant_steps(optimizer, p, 2.0)
    assert [row.cycle for row in history.rows] == [1, 2]  # told once all the same


@pytest.mark.parametrize(
    "predictor",
    [
        P.Interpolate(3, momentum="reset"),
        P.Interpolate(3, momentum="pullback"),
        P.SignFlipped(P.Interpolate(3, momentum="reset")),
        P.RandomDirection(P.Interpolate(3, momentum="pullback")),
    ],
    ids=repr,
)
def test_what_also_changes_the_momentum_cannot_be_withdrawn(predictor: P.Predictor) -> None:
    ps = parameters()
    for gate in (Anomaly(loss=4.0), G.After(3) & Anomaly(loss=4.0)):
        with pytest.raises(ArgumentError, match='use momentum="keep" or another action') as caught:
            pc.Forecast(BASES["momentum"](ps), predictor, gate=gate)
        assert repr(predictor) in str(caught.value)
    pc.Forecast(BASES["sgd"](ps), predictor, gate=Anomaly(loss=4.0, actions={"loss": "pause"}))
    pc.Forecast(BASES["sgd"](ps), P.Interpolate(3), gate=Anomaly(loss=4.0))


# --- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "action"), ALL)
@pytest.mark.parametrize("how", ["file", "deepcopy", "pickle"])
def test_a_resume_at_every_cut_goes_on_bitwise(rule: str, action: str, how: str) -> None:
    story = STORIES[rule]
    p, optimizer, history = begin(rules_of(rule, action), story.every)
    cuts: list[tuple[Any, int]] = []
    for _ in tell(story, p, optimizer):
        if how == "file":
            kept: Any = through_a_file([p.detach(), optimizer.state_dict()])
        elif how == "deepcopy":
            kept = copy.deepcopy((p, optimizer, history))
        else:
            kept = pickle.dumps((p, optimizer, history))
        cuts.append((kept, len(history.rows)))
    for cut, (kept, seen) in enumerate(cuts, 1):
        if how == "file":
            q, resumed, its = begin(rules_of(rule, action), story.every)
            with torch.no_grad():
                q.copy_(kept[0])
            resumed.load_state_dict(kept[1])
            its.rows = history.rows[:seen]
        else:
            q, resumed, its = kept if how == "deepcopy" else pickle.loads(kept)
        list(tell(story, q, resumed, start=cut))
        assert same_bits([p], [q]), f"cut at {cut}"
        assert list(map(timeless, its.rows)) == list(map(timeless, history.rows)), f"cut at {cut}"


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "more"),
    [
        (lambda: Anomaly(), 0),
        (lambda: Anomaly(loss=4.0), 1),
        (lambda: Anomaly(loss=4.0, actions={"loss": "pause"}), 0),
        (lambda: Anomaly(disagreement=3), 2),
        (lambda: Anomaly(drift=3.0), 2),
        (lambda: Anomaly(disagreement=3, loss=4.0, drift=3.0), 3),
        (lambda: Anomaly(loss=4.0) & G.LossCheck(lambda: 0.0), 1),  # they share the copy
    ],
)
def test_the_rules_take_the_memory_that_they_state(rules: Callable[[], G.Gate], more: int) -> None:
    ps = parameters()
    optimizer = pc.PLP(BASES["sgd"](ps), gate=rules())
    optimizer.observe(1.0)
    set_gradients(ps, 0)
    optimizer.step()
    for segment in optimizer._cycle.members.segments:
        assert len(segment.flats) == 1 + more


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jump": 0.0}, "jump must be above 0, or None to switch it off, got 0"),
        ({"loss": math.nan}, "loss must be a finite number, got nan"),
        ({"disagreement": "3"}, "disagreement must be a finite number, got '3'"),
        ({"pause": 0}, "pause must be >= 1, got 0"),
        (
            {"actions": {"jump": "withdraw"}},
            "no action 'withdraw' for rule 'jump'; choose from warn, skip, pause, off",
        ),
        (
            {"actions": {"spike": "off"}},
            "no action 'off' for rule 'spike'; choose from rules jump, disagreement, loss, drift",
        ),
    ],
    ids=str,
)
def test_rules_that_cannot_be_are_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        Anomaly(**options)
    assert str(caught.value) == message


def test_a_loss_reported_to_nobody_is_refused() -> None:
    optimizer = pc.PLP(BASES["sgd"](parameters()), gate=G.Every(2))
    with pytest.raises(ArgumentError, match="nothing watches the loss"):
        optimizer.observe(1.0)


def test_a_rule_that_lets_nothing_through_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=0.01), gate=Anomaly())
    for t in range(3 * 250):
        p.grad = torch.full((1,), float((-1) ** (t // 3)))
        optimizer.step()
    assert not optimizer.last_event.applied
    assert [record.getMessage() for record in caplog.records] == [
        "step 300: 100 jumps in a row were longer than 0.002 of the parameters: lower the learning "
        "rate, give a larger jump=..., or train without predictions"
    ]


@pytest.mark.parametrize("end", ["the last of total_steps", "flush"])
def test_rules_that_refused_every_prediction_of_a_run_say_so_at_its_end(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    p = torch.nn.Parameter(torch.ones(1))
    total = 30 if end != "flush" else None
    optimizer = pc.PLP(torch.optim.SGD([p], lr=0.01), gate=Anomaly(), total_steps=total)
    for _ in range(30):
        assert caplog.messages == []
        p.grad = torch.ones(1)
        optimizer.step()
    optimizer.flush()
    optimizer.flush()
    assert caplog.messages == [
        "0 of 10 predictions were written: the learning rate is too high for jumps of this length, "
        "or the run is short; the gate is Anomaly(jump=0.002, pause=20)"
    ]


def test_rules_that_let_one_prediction_through_say_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=0.01), gate=Anomaly(), total_steps=30)
    for step in range(30):
        p.grad = torch.full((1,), 1e-9 if step < 3 else 1.0)
        optimizer.step()
    assert caplog.messages == []
