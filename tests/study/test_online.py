"""Streams: what arrives when, drift noticed, a run against a plain loop, and the measures."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import ArgumentError, StudyError, TaskError
from paramcast.study.spec import RunSpec, axis_seed
from paramcast.study.tasks.builtin import PAIRS
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.streams import Segment, Stream, shares
from paramcast.study.tasks.task import Prepared, total_steps
from paramcast.study.training.build import check_methods
from paramcast.study.training.loop import run
from paramcast.study.training.methods import parse_methods
from paramcast.study.training.online.arrival import HELD_OUT, Reservoir, arrivals
from paramcast.study.training.online.drift import PageHinkley
from paramcast.study.training.online.measures import (
    Detection,
    Recovery,
    detection,
    drift_measures,
    forgetting,
    learning,
    recovery,
)
from runs import cell, run_spec, timeless

Make = Callable[..., Prepared]


def thirds(count: int) -> list[range]:
    ends = [count * i // 3 for i in range(4)]
    return [range(a, b) for a, b in itertools.pairwise(ends)]


def stream(ramps: Sequence[float] = (0, 0, 0), **changes: Any) -> Stream:
    """Three consecutive thirds of the blobs: 60 train, 60 validate, 80 test."""
    parts = zip(thirds(60), thirds(60), thirds(80), ramps, strict=True)
    return Stream(tuple(Segment(*part) for part in parts), **changes)


def spec(prepared: Prepared, method: str = "base", **changes: Any) -> RunSpec:
    return run_spec(prepared, method=method, schedule="constant", **changes)


# --- measures, with a pencil --------------------------------------------------------------------


def test_forgetting_is_the_best_that_was_known_minus_what_is_left() -> None:
    matrix = [[0.9, 0.1, 0.0], [0.6, 0.8, 0.2], [0.7, 0.3, 0.9]]
    # segment 1: 0.9 - 0.7; segment 2: 0.8 - 0.3; the last one cannot be forgotten yet
    assert forgetting(matrix) == pytest.approx((0.2 + 0.5) / 2)
    assert learning(matrix) == pytest.approx((0.9 + 0.8 + 0.9) / 3)
    assert forgetting([[0.5, 0.0], [0.7, 0.9]]) == pytest.approx(-0.2)  # later segments help


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        # running means over 2: 0, .2, .6, .8; 95 % of the level 0.8 is 0.76
        ([0.0, 0.4, 0.8, 0.8], Recovery(0.8, 0.0, 4, True)),
        # a gradual drift: .8, .8, .6, .2, .4, .8: the fall comes later and counts from the start
        ([0.8, 0.8, 0.4, 0.0, 0.8, 0.8], Recovery(0.8, 0.2, 6, True)),
        # never regained: all steps, as a lower bound
        ([0.0, 0.2, 0.4], Recovery(0.8, 0.0, 3, False)),
        # never lost: 0.78 is above 0.76
        ([0.78, 0.78, 0.9], Recovery(0.8, 0.78, 0, True)),
        ([0.0], Recovery(0.8, 0.0, 1, False)),
    ],
    ids=["abrupt", "gradual", "censored", "never lost", "one step"],
)
def test_steps_to_recover(after: list[float], expected: Recovery) -> None:
    found = recovery([0.1, 0.8, 0.8], after, window=2)  # the level is of the last two steps
    assert found[2:] == expected[2:]
    assert found[:2] == pytest.approx(expected[:2])


@pytest.mark.parametrize(
    ("alarms", "expected"),
    [
        ([], Detection((10 + 20) / 2, 2, 0)),
        ([10, 20], Detection(0, 0, 0)),
        ([3, 12, 15, 39], Detection((2 + 19) / 2, 0, 2)),
        ([19], Detection((9 + 20) / 2, 1, 0)),
    ],
)
def test_alarms_meet_drifts(alarms: list[int], expected: Detection) -> None:
    assert detection(alarms, [10, 20], 40) == expected


def test_abrupt_and_gradual_drifts_are_also_told_apart() -> None:
    accuracy = [1.0] * 20 + [0.0] * 5 + [1.0] * 15 + [1.0] * 5 + [0.0] * 15
    measures = drift_measures(accuracy, [20, 40], [False, True], [22, 50])
    # after 20: the running mean is 0 for 5 steps, then 1/6 ... 5/10, and 1 at step 15
    assert measures == {
        "prequential": 40 / 60,
        "recovery": (15 + 20) / 2,
        "recovery_abrupt": 15,
        "recovery_gradual": 20,
        "unrecovered": 1,
        "level_before": 1.0,
        "level_lowest": 0.0,
        "detection_delay": (2 + 10) / 2,
        "missed_drifts": 0,
        "false_alarms": 0,
    }
    assert "recovery_abrupt" not in drift_measures(accuracy, [20, 40], [False, False], [])


# --- noticing drift -----------------------------------------------------------------------------


def slow_page_hinkley(values: list[float], threshold: float, delta: float, least: int) -> list[int]:
    """By the definition: everything anew for every value."""
    alarms, start = [], 0
    for now in range(1, len(values) + 1):
        part = values[start:now]
        sums = [
            sum(part[i] - fmean(part[: i + 1]) - delta for i in range(t + 1))
            for t in range(len(part))
        ]
        if len(part) >= least and sums[-1] - min(sums) > threshold + 1e-9:
            alarms.append(now - 1)
            start = now
    return alarms


def alarms_of(test: PageHinkley, values: list[float]) -> list[int]:
    return [t for t, value in enumerate(values) if test.update(value)]


@given(
    values=st.lists(st.integers(0, 16).map(lambda n: n / 16), max_size=40),
    threshold=st.sampled_from([0.31, 1.01, 2.03]),
    least=st.integers(1, 6),
)
def test_page_hinkley_is_its_definition(values: list[float], threshold: float, least: int) -> None:
    found = alarms_of(PageHinkley(threshold, 0.02, least), values)
    assert found == slow_page_hinkley(values, threshold, 0.02, least)


def errors(seed: int) -> list[float]:
    """Shares of errors in batches of 16 as a run has them: learning, then two drifts."""
    generator = torch.Generator().manual_seed(seed)
    chance = [max(0.05, 0.9 - 0.05 * t) for t in range(60)]
    chance += [max(0.05, 0.9 - 0.04 * t) for t in range(60)]
    chance += [min(0.05 + 0.01 * t, 0.5) for t in range(60)]
    wrong = torch.rand(len(chance), 16, generator=generator) < torch.tensor(chance)[:, None]
    return wrong.double().mean(1).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_page_hinkley_is_rivers_and_its_defaults_notice_both_drifts(seed: int) -> None:
    drift = pytest.importorskip("river.drift")
    theirs = drift.PageHinkley(min_instances=10, delta=0.02, threshold=1.0, alpha=1.0, mode="up")
    expected = []
    for t, value in enumerate(errors(seed)):
        theirs.update(value)
        if theirs.drift_detected:
            expected.append(t)
    assert alarms_of(PageHinkley(), errors(seed)) == expected
    first, second, *_ = expected
    assert 60 <= first <= 63
    assert 120 <= second <= 165  # while the errors still rise


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"threshold": 0}, r"threshold must be in \(0, inf\), got 0"),
        ({"delta": -0.1}, r"delta must be in \[0, inf\), got -0.1"),
        ({"least": 0}, "least must be >= 1, got 0"),
    ],
)
def test_a_test_that_cannot_work_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        PageHinkley(**knobs)
    with pytest.raises(ArgumentError, match="value must be a finite number, got nan"):
        PageHinkley().update(math.nan)


# --- what arrives when --------------------------------------------------------------------------


def test_steps_are_shared_by_examples() -> None:
    uneven = Stream(tuple(Segment(range(n), [0], [0]) for n in (10, 30, 20)))
    assert shares(uneven, 60) == [10, 30, 20]
    assert shares(uneven, 7) == [1, 4, 2]  # ends at 7/6, 28/6, 7
    assert shares(uneven, 3) == [1, 1, 1]
    with pytest.raises(TaskError, match="the run has 2 steps for 3 segments; give it more epochs"):
        shares(uneven, 2)


def test_one_pass_brings_every_example_once_in_its_segment() -> None:
    found = list(arrivals(stream(), 15, 4, "final", 0))
    for number, indices in enumerate(thirds(60)):
        mine = [a for a in found if a.segment == number]
        assert sorted(torch.cat([a.new for a in mine]).tolist()) == list(indices)
        assert [a.last for a in mine] == [False] * 4 + [True]
        for a in mine:
            assert len(a.test) == len(a.validation) == HELD_OUT
            assert set(a.test.tolist()) <= set(thirds(80)[number])
            assert set(a.validation.tolist()) <= set(indices)


def test_a_shorter_run_sees_the_beginning_of_each_segment() -> None:
    long, short = (list(arrivals(stream((0, 0.5, 0)), n, 4, "final", 3)) for n in (30, 24))
    for number in (0, 2):
        a = [x.new.tolist() for x in long if x.segment == number]
        b = [x.new.tolist() for x in short if x.segment == number]
        assert len(b) == 8
        assert a[:8] == b


def test_a_ramp_mixes_linearly() -> None:
    old, new = range(20), range(20, 40)
    found = [
        a
        for seed in range(200)
        for a in arrivals(stream((0, 0.5, 0)), 60, 16, "final", seed)
        if a.segment == 1
    ]
    for i in range(20):
        drawn = torch.cat([a.new for a in found[i::20]]).tolist()
        share = sum(index in new for index in drawn) / len(drawn)
        assert set(drawn) <= {*old, *new}
        assert share == pytest.approx(min(1.0, (i + 1) / 10), abs=0.03)  # 3,200 drawn: sd < 0.009


def test_the_memory_holds_past_examples_only_and_each_as_likely() -> None:
    found = list(arrivals(stream(memory=8), 30, 4, "final", 0))
    past: set[int] = set()
    for a in found:
        assert set(a.replayed.tolist()) <= past
        assert len(set(a.replayed.tolist())) == len(a.replayed) == min(4, len(past))
        past |= set(a.new.tolist())
    kept = torch.zeros(40)
    for seed in range(2000):
        reservoir = Reservoir(10, torch.Generator().manual_seed(seed))
        for batch in torch.arange(40).split(7):
            reservoir.add(batch)
        kept[reservoir.kept] += 1
    assert kept.sum() == 20_000
    assert (kept / 2000 - 0.25).abs().max() < 0.04  # sd 0.0097


def test_seeds_and_phases_differ() -> None:
    def order(*which: Any) -> list[list[int]]:
        return [a.new.tolist() for a in arrivals(stream(), 15, 4, *which)]

    assert order("final", 0) == order("final", 0)
    assert order("final", 0) != order("final", 1)
    assert order("final", 0) != order("tune", 0)


# --- the built-in streams -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def classes() -> Prepared:
    return load(find("digits-classes"))


@pytest.fixture(scope="module")
def drift() -> Prepared:
    return load(find("digits-drift"))


@pytest.mark.parametrize("name", ["digits-classes", "digits-drift"])
def test_every_digit_is_in_one_segment(name: str) -> None:
    prepared = load(find(name))
    sizes = [len(s) for s in (prepared.train, prepared.validation, prepared.test)]
    assert sizes == [1000, 300, 497]
    assert prepared.task.stream is not None
    for split, size in zip(("train", "validation", "test"), sizes, strict=True):
        every = torch.cat([getattr(s, split) for s in prepared.task.stream.segments])
        assert sorted(every.tolist()) == list(range(size))
        if name == "digits-classes":  # two after two
            labels = getattr(prepared, split).targets
            found = [labels[getattr(s, split)] for s in prepared.task.stream.segments]
            assert [tuple(sorted(set(each.tolist()))) for each in found] == [*PAIRS]
    # not all segments end with a cycle: else restarting it there would be the same as not doing so
    task = prepared.task
    steps = total_steps(len(prepared.train), task.batch_size, task.epochs)
    ends = list(itertools.accumulate(shares(task.stream, steps)))[:-1]
    assert sum(end % 3 != 0 for end in ends) >= 2


def test_the_drifting_digits_are_the_digits_changed(classes: Prepared, drift: Prepared) -> None:
    assert drift.task.stream is not None
    for split in ("train", "validation", "test"):
        plain, changed = getattr(classes, split), getattr(drift, split)
        first, second, third, fourth = (getattr(s, split) for s in drift.task.stream.segments)
        for same in (first, third):
            assert torch.equal(plain.inputs[same], changed.inputs[same])
            assert torch.equal(plain.targets[same], changed.targets[same])
        assert torch.equal(plain.inputs[second], changed.inputs[second])
        pairs = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6, 9, 8])
        assert torch.equal(pairs[plain.targets[second]], changed.targets[second])
        turned = plain.inputs[fourth].transpose(-2, -1).flip(-2)  # a quarter turn to the left
        assert torch.equal(turned, changed.inputs[fourth])
        assert torch.equal(plain.targets[fourth], changed.targets[fourth])


def test_the_stream_is_part_of_what_a_task_is(prepared: Make) -> None:
    streams = [None, stream(), stream((0, 0.5, 0)), stream(memory=5), stream(judged="final")]
    prints = {prepared(stream=s).fingerprint() for s in streams}
    assert len(prints) == len(streams)
    assert prepared(stream=stream()).fingerprint() in prints


# --- a run --------------------------------------------------------------------------------------


def plain_loop(
    prepared: Prepared, s: RunSpec, *, plp: bool = False, resets: tuple[int, ...] = ()
) -> tuple[torch.nn.Module, list[dict[str, float]], list[list[float]]]:
    """What a user would write: test, then train; PLP by clones of points; resets at known steps."""
    task, data = prepared.task, prepared.train
    assert task.stream is not None
    torch.manual_seed(axis_seed("initialisation", s.phase, s.seed))
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=s.lr, momentum=0.9, weight_decay=1e-4)
    torch.manual_seed(axis_seed("dropout", s.phase, s.seed))
    total = s.epochs * math.ceil(len(data) / s.batch_size)
    points: list[list[torch.Tensor]] = []
    seen, matrix = [], []
    for t, a in enumerate(arrivals(task.stream, total, s.batch_size, s.phase, s.seed)):
        model.eval()
        with torch.no_grad():
            logits = model(prepared.test.inputs[a.test])
        labels = prepared.test.targets[a.test]
        loss = float(nnf.cross_entropy(logits, labels))
        seen.append({"loss": loss, "metric": float((logits.argmax(1) == labels).float().mean())})

        model.train()
        batch = [*a.new.tolist(), *a.replayed.tolist()]
        loss = nnf.cross_entropy(model(data.inputs[batch]), data.targets[batch])
        if t in resets and plp:
            points = []
        elif t in resets:
            for state in optimizer.state.values():
                state["momentum_buffer"] = None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        points.append([p.detach().clone() for p in model.parameters()])
        if plp and len(points) == 3:
            with torch.no_grad():
                for p, p1, p2, p3 in zip(model.parameters(), *points, strict=True):
                    p.copy_(p3 + (p2 - p1) / 2)
            points = []
        if a.last:
            model.eval()
            row = []
            for indices in thirds(80):
                with torch.no_grad():
                    hit = model(prepared.test.inputs[list(indices)]).argmax(1)
                row.append(float((hit == prepared.test.targets[list(indices)]).double().mean()))
            matrix.append(row)
    return model, seen, matrix


BOUNDARIES = (5, 11)
"""Where segments start: 16 steps in three parts."""


@pytest.mark.parametrize(
    ("method", "plp", "resets"),
    [("base", False, ()), ("plp", True, ()), ("plp(on_drift='oracle')", True, BOUNDARIES)],
)
def test_prequential_accuracy_is_that_of_a_plain_loop(
    prepared: Make, method: str, plp: bool, resets: tuple[int, ...]
) -> None:
    task = prepared(stream=stream((0, 0.5, 0)))
    s = spec(task, method, seed=1)
    outcome = run(s, task)
    _, seen, _ = plain_loop(task, s, plp=plp, resets=resets)
    assert outcome["status"] == "done"
    assert outcome["steps"] == len(seen) == 16
    assert outcome["test"]["metric"] == pytest.approx(fmean(x["metric"] for x in seen), abs=1e-12)
    assert outcome["test"]["loss"] == pytest.approx(fmean(x["loss"] for x in seen), rel=1e-5)
    assert outcome["measures"]["prequential"] == outcome["test"]["metric"]


@pytest.mark.parametrize("memory", [0, 12])
def test_final_accuracy_and_forgetting_are_those_of_a_plain_loop(
    prepared: Make, memory: int
) -> None:
    task = prepared(stream=stream(judged="final", memory=memory))
    s = spec(task, "plp")
    outcome = run(s, task)
    _, _, matrix = plain_loop(task, s, plp=True)
    assert outcome["test"]["metric"] == pytest.approx(fmean(matrix[-1]))
    assert [point["segments"] for point in outcome["curve"]] == matrix
    lost = [max(matrix[0][j], matrix[1][j]) - matrix[2][j] for j in (0, 1)]
    assert outcome["measures"]["forgetting"] == pytest.approx(fmean(lost))
    assert [point["step"] for point in outcome["curve"]] == [5, 11, 16]


def test_resetting_where_a_cycle_ends_anyway_changes_nothing(prepared: Make) -> None:
    # 18 steps, 6 in each segment: every boundary is the end of a cycle of three
    task = prepared(stream=stream(), batch_size=10, epochs=3)
    plain, oracle = (run(spec(task, m), task) for m in ("plp", "plp(on_drift='oracle')"))
    for outcome in (plain, oracle):
        for point in outcome["curve"]:  # the weights' norm is taken anew after a reset
            del point["predictions"]
    assert timeless(plain) == timeless(oracle)
    # with 5, 6 and 5 steps it does
    task = prepared(stream=stream())
    plain, oracle = (run(spec(task, m), task) for m in ("plp", "plp(on_drift='oracle')"))
    assert plain["test"]["loss"] != oracle["test"]["loss"]


def swapping(make: Make) -> Prepared:
    """The labels are exchanged twice, so that drift is noticed."""
    task = make().task
    changes = (0, 1, 2)
    splits: dict[str, Any] = {}
    for split, count in (("train", 60), ("validation", 60), ("test", 80)):
        inputs, targets = getattr(task, split)
        parts = [(targets[list(r)] + c) % 3 for r, c in zip(thirds(count), changes, strict=True)]
        splits[split] = (inputs, torch.cat(parts))
    return make(**splits, stream=stream(), epochs=20, batch_size=16)


def test_what_is_noticed_is_what_resets(prepared: Make) -> None:
    task = swapping(prepared)
    s = spec(task, "state-reset", lr=0.05)
    outcome = run(s, task)
    alarms = tuple(outcome["alarms"])
    assert len(alarms) >= 2
    assert outcome["measures"]["missed_drifts"] == 0
    _, seen, _ = plain_loop(task, s, resets=alarms)
    assert outcome["test"]["metric"] == pytest.approx(fmean(x["metric"] for x in seen), abs=1e-12)
    reset = run(spec(task, "plp(on_drift='reset')", lr=0.05), task)
    _, seen, _ = plain_loop(task, spec(task, lr=0.05), plp=True, resets=tuple(reset["alarms"]))
    assert reset["alarms"]
    assert reset["test"]["loss"] == pytest.approx(fmean(x["loss"] for x in seen), rel=1e-4)


@pytest.mark.parametrize(
    "method", ["base", "random-jump:plp(on_drift='reset')", "state-reset", "ema"]
)
def test_the_same_seed_gives_the_same_bits(prepared: Make, method: str) -> None:
    task = prepared(stream=stream((0, 0, 0.5), memory=5))
    one = timeless(run(spec(task, method), task))
    torch.randn(7)
    run(spec(task, "random-jump:plp", seed=3), task)
    assert timeless(run(spec(task, method), task)) == one
    assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_tuning_does_not_look_at_the_test_split(prepared: Make) -> None:
    task = prepared(stream=stream(judged="final"))
    object.__setattr__(task, "test", None)
    outcome = run(spec(task, phase="tune"), task)
    assert outcome["status"] == "done"
    assert not {"test", "gap"} & set(outcome)


@pytest.mark.parametrize("judged", ["final", "prequential"])
def test_a_run_that_explodes_scores_as_the_constant(prepared: Make, judged: str) -> None:
    task = prepared(stream=stream(judged=judged), model=lambda: torch.nn.Linear(4, 3))
    outcome = run(spec(task, lr=1e38), task)
    assert outcome["status"] == "diverged"
    assert outcome["divergence"] == {"how": "step", "step": outcome["steps"]}
    assert outcome["test"] == task.constant(task.test)
    # too low a rate has not learned yet; far from the truth and no better than a constant is lost
    stuck = run(spec(task, lr=1e-12), task)
    assert (stuck["status"], stuck["divergence"]) == ("done", None)

    def always_wrong() -> torch.nn.Module:
        model = torch.nn.Linear(4, 4)  # there are three classes
        torch.nn.init.zeros_(model.weight)
        model.bias.data = torch.tensor([0.0, 0.0, 0.0, 1e3])
        return model

    far = prepared(stream=stream(judged=judged), model=always_wrong)
    lost = run(spec(far, lr=1e-12), far)
    assert (lost["status"], lost["divergence"]["how"]) == ("diverged", "constant")


# --- the command line ---------------------------------------------------------------------------


def test_the_pilot_runs_on_a_stream(paramcast: Callable[..., Any], tmp_path: Any) -> None:
    methods = "plp, plp(on_drift='reset'), plp(on_drift='oracle'), state-reset"
    words = ("--epochs", 1, "--lr", 0.05, "--seeds", 2, "--methods", methods, "--all-arms")
    ran = paramcast("pilot", "digits-classes/mlp", *words, "--out", "out")
    assert ran.code == 0, ran.err
    result = cell(json.loads((tmp_path / "out" / "result.json").read_text()))
    rows = {row["method"]: row for row in result["table"]}
    assert {"sgd", "state-reset", "plp", "plp(on_drift='reset')"} <= set(rows)
    assert len(rows["plp"]["measures"]["forgetting"]["values"]) == 2
    assert rows["plp"]["measures"]["forgetting"]["to_base"]["low"] is not None
    assert result["verdicts"]["plp"]["quality"]["kind"]


# --- bad input ----------------------------------------------------------------------------------


def halves(**changes: Any) -> Stream:
    settings: dict[str, Any] = {"train": range(30, 60), "validation": range(30, 60),
                                "test": range(40, 80)}  # fmt: skip
    first = Segment(range(30), range(30), range(40))
    return Stream((first, Segment(**(settings | changes))))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("digits", r"Task.stream must be a Stream, got 'digits'"),
        (Stream(()), r"Stream.segments must be a tuple of at least 2 Segments, got 0"),
        (Stream([1, 2]), r"must be a tuple of at least 2 Segments, got \[1, 2\]"),  # type: ignore[arg-type]
        (Stream((1, 2)), r"Stream.segments must hold Segments only"),  # type: ignore[arg-type]
        (stream(judged="best"), r"judged must be final or prequential, got 'best'"),
        (stream(memory=-1), r"memory must be a whole number of examples from 0, got -1"),
        (stream(memory=True), r"memory must be a whole number"),
        (stream((0, 2, 0)), r"the ramp of segment 2 must be from 0 to 1, got 2"),
        (stream((0.5, 0, 0)), r"segment 1 has a ramp, but no segment before it"),
        (halves(train=[]), r"segment 2 has no train examples; give it at least one"),
        (halves(test=range(0)), r"segment 2 has no test examples"),
        (halves(train=[0.5]), r"train indices of segment 2 must be a list of whole numbers"),
        (halves(train=["a"]), r"train indices of segment 2 cannot be read as a tensor"),
        (halves(train=range(30, 61)), r"train split has examples 0 to 59, a segment names 60"),
        (halves(train=range(-1, 60)), r"train split has examples 0 to 59, a segment names -1"),
        (halves(train=range(29, 60)), r"train example 29 is in two segments, or twice in one"),
        (halves(test=range(42, 80)), r"2 test examples are in no segment, the first is 40"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_stream_that_cannot_be_run_is_refused(prepared: Make, bad: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        prepared(stream=bad)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_tested_must_be_trained(prepared: Make) -> None:
    rest = [i for i in range(60) if i >= 30 and i % 3 != 1]  # the blobs' labels are i % 3
    moved = [i for i in range(60) if i < 30 or i % 3 == 1]
    first = Segment(moved, range(30), range(40))
    lacking = Stream((first, Segment(rest, range(30, 60), range(40, 80))))
    with pytest.raises(TaskError, match="segment 2 lacks the class 1: its validation examples"):
        prepared(stream=lacking)


def test_a_stream_needs_labels(prepared: Make) -> None:
    changes = {"metric": lambda outputs, targets: 0.5, "stream": stream()}
    with pytest.raises(TaskError, match="a task with a stream needs metric 'accuracy'"):
        prepared(**changes)


def test_reacting_methods_are_refused_before_anything_runs(prepared: Make) -> None:
    with pytest.raises(StudyError, match="state-reset reacts to drift, but task blobs is no"):
        check_methods(prepared().task, "sgd", parse_methods("state-reset"))
    check_methods(prepared(stream=stream()).task, "sgd", parse_methods("state-reset"))
