"""Saving and loading: state dicts, pickles, copies; a resumed run is the same run (rule 3)."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paramcast as pc
from paramcast import predictors as P
from paramcast.anomalies import Anomaly
from paramcast.errors import CheckpointError
from reference import (
    BASES,
    COPIERS,
    PREDICTORS,
    check_resumes,
    pairwise,
    parameters,
    restore,
    same_bits,
    set_gradients,
    through_a_file,
    timeless,
    train,
    values,
)

Make = Callable[[], tuple[list[torch.nn.Parameter], pc.Forecast]]


def make(
    predictor: P.Affine, base: str = "momentum", dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[list[torch.nn.Parameter], pc.Forecast]:
    ps = parameters(dtype, seed)
    return ps, pc.Forecast(BASES[base](ps), predictor)


def saved_buffers(optimizer: pc.Forecast) -> list[Tensor]:
    """The buffers in the state dict of a predictor that keeps one per parameter."""
    rows = optimizer.state_dict()["paramcast"]["cycle"]["buffers"]
    assert all(len(row) == 1 for row in rows)
    return [row[0] for row in rows]


# --- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictor", "dtype", "base"),
    pairwise(PREDICTORS, [torch.float32, torch.bfloat16], ["momentum", "adamw"]),
    ids=str,
)
def test_a_resume_at_every_cut_into_fresh_objects_is_bitwise(
    predictor: P.Affine, dtype: torch.dtype, base: str
) -> None:
    check_resumes(lambda seed: make(predictor, base, dtype, seed=seed), 2 * predictor.every + 2)


@pytest.mark.parametrize("cut", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.float64], ids=str)
def test_a_resume_of_other_dtypes_and_layouts_is_bitwise(cut: int, dtype: torch.dtype) -> None:
    def fresh() -> tuple[list[torch.nn.Parameter], pc.Forecast]:
        torch.manual_seed(0)
        image = torch.randn(2, 3, 2, 2, dtype=dtype).to(memory_format=torch.channels_last)
        ps = [
            torch.nn.Parameter(image),
            torch.nn.Parameter(torch.randn(4, 3).t()),
            torch.nn.Parameter(torch.zeros(0)),
        ]
        return ps, pc.Forecast(torch.optim.SGD(ps, lr=0.05, momentum=0.9), P.LeastSquares())

    ps, optimizer = fresh()
    train(optimizer, ps, cut)
    others, resumed = fresh()
    restore(others, ps)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    train(optimizer, ps, 5, start=cut)
    train(resumed, others, 5, start=cut)
    assert same_bits(ps, others)


def test_a_loaded_state_and_the_optimizer_share_no_buffer() -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 2)
    saved, buffers = optimizer.state_dict(), saved_buffers(optimizer)
    others, resumed = make(P.Midline())
    resumed.load_state_dict(saved)
    before = values(buffers)
    train(resumed, others, 3, start=2)
    assert same_bits(buffers, before)


def test_a_loaded_run_has_no_last_event_until_it_predicts() -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 5)
    assert optimizer.last_event is not None
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.last_event is None
    train(optimizer, ps, 1, start=5)
    assert optimizer.last_event.cycle == 2


@pytest.mark.parametrize("predictor", [P.Midline(), P.Interpolate(3, 0.5)], ids=repr)
def test_a_parameter_frozen_before_the_load_is_left_alone(predictor: P.Affine) -> None:
    ps, optimizer = make(predictor, "sgd")
    train(optimizer, ps, 2)
    others, resumed = make(predictor, "sgd")
    restore(others, ps)
    others[1].requires_grad_(False)
    before = values([others[1]])
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    set_gradients(others, 2)
    others[1].grad = None
    resumed.step()
    assert resumed.last_event.applied
    assert same_bits([others[1]], before)


# --- what is in the state dict ------------------------------------------------------------------


def test_buffers_are_saved_in_group_order_in_the_parameters_shapes() -> None:
    first, second, third = parameters()
    base = torch.optim.SGD([{"params": [third]}, {"params": [first, second]}], lr=0.1)
    optimizer = pc.PLP(base)
    train(optimizer, [first, second, third], 1)
    assert same_bits(saved_buffers(optimizer), [third, first, second])  # theta_1, as it was copied


def test_a_file_is_not_larger_than_the_parameters_need() -> None:
    p = torch.nn.Parameter(torch.randn(10_000))
    others = [torch.nn.Parameter(torch.randn(10)) for _ in range(20)]
    optimizer = pc.PLP(torch.optim.SGD([p, *others], lr=0.1))
    train(optimizer, [p, *others], 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    assert 40_800 <= file.getbuffer().nbytes <= 40_800 + 20_000


# --- interchange with the bare base -------------------------------------------------------------


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("cut", [2, 3])
def test_the_bare_base_loads_the_wrappers_state(name: str, cut: int) -> None:
    ps, optimizer = make(P.Midline(), name)
    train(optimizer, ps, cut)
    saved = through_a_file(optimizer.state_dict())
    bare_ps, base_ps = parameters(seed=9), parameters(seed=9)
    restore(bare_ps, ps)
    restore(base_ps, ps)
    bare, base = BASES[name](bare_ps), BASES[name](base_ps)
    bare.load_state_dict(saved)
    base.load_state_dict(through_a_file(optimizer.base.state_dict()))
    train(bare, bare_ps, 4, start=cut)
    train(base, base_ps, 4, start=cut)
    assert same_bits(bare_ps, base_ps)


@pytest.mark.parametrize("name", BASES)
def test_the_wrapper_loads_the_bare_bases_state_and_starts_a_cycle(name: str) -> None:
    bare_ps = parameters()
    bare = BASES[name](bare_ps)
    train(bare, bare_ps, 4)
    ps, optimizer = make(P.Midline(), name, seed=9)
    train(optimizer, ps, 2)  # in mid-cycle of its own: forgotten
    restore(ps, bare_ps)
    optimizer.load_state_dict(through_a_file(bare.state_dict()))
    assert optimizer.state_dict()["paramcast"]["cycle"]["done"] == 0
    train(bare, bare_ps, 1, start=4)
    train(optimizer, ps, 1, start=4)
    first = values(bare_ps)
    assert same_bits(ps, first)
    train(bare, bare_ps, 1, start=5)
    second = values(bare_ps)
    train(bare, bare_ps, 1, start=6)
    train(optimizer, ps, 2, start=5)
    expected = [p + (b - a) / 2 for p, a, b in zip(values(bare_ps), first, second, strict=True)]
    torch.testing.assert_close(values(ps), expected)


def test_an_entry_of_none_is_no_entry() -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 2)
    optimizer.load_state_dict({**optimizer.base.state_dict(), "paramcast": None})
    assert optimizer.state_dict()["paramcast"]["cycle"]["done"] == 0


def test_the_state_can_be_passed_by_name_and_is_not_changed() -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 2)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(state_dict=saved)
    assert saved.keys() == {"state", "param_groups", "paramcast"}


# --- refused before anything changed ------------------------------------------------------------


def damaged(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A mid-cycle state whose entry was changed; its base part differs from the running one."""
    ps, optimizer = make(P.Midline())
    optimizer.param_groups[0]["lr"] = 0.5
    train(optimizer, ps, 2)
    state = copy.deepcopy(optimizer.state_dict())
    entry = change(state["paramcast"])
    if entry is not None:
        state["paramcast"] = entry
    return state


def part_with(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry itself, or its cycle."""
    return entry if key in entry else entry["cycle"]


def setting(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda entry: part_with(key, entry).update({key: value})


def with_buffer(index: int, buffer: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda entry: entry["cycle"]["buffers"].__setitem__(index, buffer)


def told(**changes: Any) -> list[Any]:
    """A saved event; a field of it may be spoilt."""
    saved = pc.ForecastEvent(3, 1, True, "predicted", 0.5, 1.0)._replace(fired=[])
    return [*saved._replace(**changes), None]


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another predictor": setting("predictor", P.Secant().identity),
    "a text for an entry": lambda entry: "cycle",
    "a list for an entry": lambda entry: [1, 2],
    "an empty entry": lambda entry: {},
    **{
        f"no {key}": (lambda entry, key=key: part_with(key, entry).__delitem__(key))
        for key in (
            *("format", "predictor", "steps", "cycles", "forgotten", "done", "horizon", "written"),
            *("filled", "pending", "writes", "size", "scoring", "copied", "members", "seen"),
            "buffers",
        )
    },
    **{
        f"{key} {value!r}": setting(key, value)
        for key, value in (
            *(("format", 0), ("format", 1), ("format", 3), ("format", "1"), ("settings", 3)),
            *(("cycle", 3), ("steps", "2"), ("cycles", None), ("forgotten", 10**6)),
            *(("done", 3), ("done", -1), ("done", 1.5), ("writes", -1), ("predictor", None)),
            *(("size", "large"), ("size", True), ("scoring", 1), ("filled", "yes")),
            *(("written", "all"), ("horizon", "far"), ("pending", 3), ("pending", [3, 1, True])),
            *(("seen", None), ("members", None), ("anomalies", 3), ("buffers", 3)),
            *(("buffers", [None] * 3), ("members", [True, False, True])),
        )
    },
    **{
        f"pending with {name} {value!r}": setting("pending", told(**{name: value}))
        for name, value in (
            *(("step", "3"), ("step", -1), ("cycle", 1.5), ("applied", 1), ("reason", None)),
            *(("jump_norm", None), ("jump_norm", "far"), ("horizon", "far"), ("error", True)),
            *(("relative_jump", "0"), ("accepted", None), ("milliseconds", None)),
            *(("fired", None), ("fired", ["jump"]), ("fired", [["jump", 1]])),
        )
    },
    "too few seen": lambda entry: entry["cycle"]["seen"].pop() and None,
    "too few members": lambda entry: entry["cycle"]["members"].pop() and None,
    "too few buffers": lambda entry: entry["cycle"]["buffers"].pop() and None,
    "too many buffers": lambda entry: entry["cycle"]["buffers"].append(torch.zeros(2)),
    "a buffer of another shape": with_buffer(0, [torch.zeros(4, 3)]),
    "a buffer that is no tensor": with_buffer(1, ["gone"]),
    "a row that is not a list": with_buffer(1, torch.zeros(4)),
    "a row with too few buffers": with_buffer(1, []),
    "a buffer lost among others": with_buffer(1, None),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_state_that_does_not_fit_is_refused_before_anything_changed(what: str) -> None:
    state = damaged(DAMAGE[what])
    (ps, optimizer), (others, untouched) = make(P.Midline()), make(P.Midline())
    train(optimizer, ps, 2)
    train(untouched, others, 2)
    with pytest.raises(CheckpointError):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == untouched.param_groups[0]["lr"]
    train(optimizer, ps, 5, start=2)
    train(untouched, others, 5, start=2)
    assert same_bits(ps, others)
    assert timeless(optimizer.last_event) == timeless(untouched.last_event)


def test_an_event_that_was_not_spoilt_is_not_refused() -> None:
    state = damaged(setting("pending", told(error=0.5, agreement=1)))
    state["paramcast"]["cycle"]["pending"][-1] = {
        "0.0": [0.5, None, 1, 0.25]
    }  # of earlier versions
    _, optimizer = make(P.Midline())
    optimizer.load_state_dict(through_a_file(state))
    event = optimizer.last_event
    assert (event.error, event.agreement) == (0.5, 1)


SPOILT_RULES: dict[str, Any] = {
    "a text": "rules",
    "a list": [1, 2],
    **{
        f"{name} {value!r}": {name: value}
        for name, value in (
            *(("paused_until", None), ("paused_until", -2), ("paused_until", 1.5)),
            *(("against", "0"), ("against", -1), ("unobserved", True)),
            *(("losses", None), ("losses", [1, 2.0]), ("losses", [0.5, 0.0, 0.0])),
            *(
                ("losses", []),
                ("errors", [1, 0.0, -1.0]),
                ("errors", [1, "0", 0.0]),
                ("errors", [-1, 0.0, 0.0]),
            ),
        )
    },
}


@pytest.mark.parametrize("what", SPOILT_RULES)
def test_spoilt_anomaly_rules_are_refused_before_anything_changed(what: str) -> None:
    def fresh() -> tuple[list[torch.nn.Parameter], pc.PLP, Anomaly]:
        ps, rules = parameters(), Anomaly(jump=None, drift=2.0, disagreement=2, pause=2)
        return ps, pc.PLP(BASES["momentum"](ps), gate=rules), rules

    (ps, optimizer, rules), (others, untouched, its) = fresh(), fresh()
    train(optimizer, ps, 32)
    train(untouched, others, 32)
    state = copy.deepcopy(optimizer.state_dict())
    spoilt, saved = SPOILT_RULES[what], state["paramcast"]["anomalies"]
    saved[0] = {**saved[0], **spoilt} if isinstance(spoilt, dict) else spoilt
    state["param_groups"][0]["lr"] = 9.0
    with pytest.raises(CheckpointError, match="anomalies has the wrong type"):
        optimizer.load_state_dict(state)
    assert rules.state_dict() == its.state_dict()
    train(optimizer, ps, 12, start=32)
    train(untouched, others, 12, start=32)
    assert same_bits(ps, others)


@pytest.mark.parametrize(
    ("saved", "loading"),
    [
        (P.Midline(), P.RandomDirection(P.Midline())),
        (P.RandomDirection(P.Midline()), P.Midline()),
        (P.RandomDirection(P.Midline(), seed=1), P.RandomDirection(P.Midline(), seed=2)),
        (P.Midline(), P.SignFlipped(P.Midline())),
        (P.Midline(), P.Midline(every=4)),
        (P.Midline(), P.Affine(P.Midline().weights)),
    ],
    ids=repr,
)
def test_another_predictor_is_refused_even_if_its_weights_are_the_same(
    saved: P.Affine, loading: P.Affine
) -> None:
    ps, optimizer = make(saved)
    train(optimizer, ps, 2)
    _, other = make(loading)
    with pytest.raises(CheckpointError, match="use the same predictor"):
        other.load_state_dict(optimizer.state_dict())


def test_equal_knobs_given_in_another_way_are_the_same_predictor() -> None:
    ps, optimizer = make(P.Midline(1, every=3))
    train(optimizer, ps, 2)
    others, other = make(P.Midline(horizon=1.0, start="midpoint"))
    restore(others, ps)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    train(optimizer, ps, 1, start=2)
    train(other, others, 1, start=2)
    assert same_bits(ps, others)


def test_a_base_state_that_does_not_fit_leaves_the_cycle_alone() -> None:
    (ps, optimizer), (others, untouched) = make(P.Midline()), make(P.Midline())
    train(optimizer, ps, 2)
    train(untouched, others, 2)
    two_groups = torch.optim.SGD([{"params": [p]} for p in parameters()], lr=0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(two_groups.state_dict())
    train(optimizer, ps, 1, start=2)
    train(untouched, others, 1, start=2)
    assert same_bits(ps, others)


# --- pickles and copies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictor", "copier", "dtype"),
    pairwise(PREDICTORS, COPIERS, [torch.float32, torch.bfloat16, torch.complex64]),
    ids=str,
)
def test_a_copy_in_mid_cycle_with_a_scheduler_goes_on_bitwise(
    predictor: P.Affine, copier: str, dtype: torch.dtype
) -> None:
    for cut in range(1, predictor.every + 2):
        ps, optimizer = make(predictor, "momentum", dtype)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.8)
        for t in range(cut):
            train(optimizer, ps, 1, start=t)
            scheduler.step()
        copied, twin, twin_scheduler = COPIERS[copier]((ps, optimizer, scheduler))
        assert twin_scheduler.optimizer is twin
        for t in range(cut, cut + predictor.every + 1):
            train(optimizer, ps, 1, start=t)
            scheduler.step()
        middle = values(copied)
        for t in range(cut, cut + predictor.every + 1):
            train(twin, copied, 1, start=t)
            twin_scheduler.step()
        assert same_bits(copied, ps)
        assert not same_bits(copied, middle)
        assert twin.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        assert timeless(twin.last_event) == timeless(optimizer.last_event)


@pytest.mark.parametrize("copier", COPIERS)
def test_a_copy_owns_its_parameters_and_buffers(copier: str) -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 2)
    copied = COPIERS[copier](optimizer)
    mine = copied.param_groups[0]["params"]
    before, buffers = values(ps), values(saved_buffers(optimizer))
    train(copied, mine, 4, start=2)
    assert same_bits(ps, before)
    assert same_bits(saved_buffers(optimizer), buffers)


@pytest.mark.parametrize("copier", COPIERS)
def test_a_copy_after_the_only_float64_parameter_was_frozen_in_mid_cycle_works(
    copier: str,
) -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    wide = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = pc.PLP(torch.optim.SGD([p, wide], lr=0.1))
    train(optimizer, [p, wide], 1)
    wide.requires_grad_(False)
    wide.grad = None
    train(optimizer, [p], 1, start=1)
    copied_ps, copied = COPIERS[copier](([p, wide], optimizer))
    train(optimizer, [p], 1, start=2)
    train(copied, copied_ps[:1], 1, start=2)
    assert same_bits(copied_ps, [p, wide])


# --- hooks around the state ---------------------------------------------------------------------


def test_state_dict_hooks_run_around_both_parts() -> None:
    ps, optimizer = make(P.Midline())
    order: list[str] = []
    optimizer.base.register_state_dict_pre_hook(lambda _: order.append("base pre"))
    optimizer.base.register_state_dict_post_hook(lambda *_: order.append("base post"))
    optimizer.register_state_dict_pre_hook(lambda opt: order.append(f"pre {opt is optimizer}"))

    def post(opt: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        order.append(f"post {opt is optimizer} {sorted(state)}")
        return {**state, "note": "mine"}

    optimizer.register_state_dict_post_hook(post)
    train(optimizer, ps, 2)
    state = optimizer.state_dict()
    assert order == [
        "pre True",
        "base pre",
        "base post",
        "post True ['param_groups', 'paramcast', 'state']",
    ]
    assert state["note"] == "mine"


def test_load_hooks_run_around_both_parts() -> None:
    ps, optimizer = make(P.Midline())
    train(optimizer, ps, 2)
    state = copy.deepcopy(optimizer.state_dict())
    others, resumed = make(P.Midline())
    order: list[str] = []
    done = lambda: resumed.state_dict()["paramcast"]["cycle"]["done"]  # noqa: E731

    def pre(opt: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
        order.append(f"pre {opt is resumed} {done()} {'paramcast' in given}")
        given["paramcast"] = {**given["paramcast"], "steps": 32}
        return given

    resumed.register_load_state_dict_pre_hook(pre)
    resumed.base.register_load_state_dict_pre_hook(
        lambda _, given: order.append(f"base pre {sorted(given)}")
    )
    resumed.base.register_load_state_dict_post_hook(lambda *_: order.append("base post"))
    resumed.register_load_state_dict_post_hook(
        lambda opt: order.append(f"post {opt is resumed} {done()}")
    )
    resumed.load_state_dict(state)
    assert order == [
        "pre True 0 True",
        "base pre ['param_groups', 'state']",
        "base post",
        "post True 2",
    ]
    assert state["paramcast"]["steps"] == 2  # the caller's dict is his
    train(resumed, others, 1, start=2)
    assert resumed.last_event.step == 33
    assert math.isfinite(resumed.last_event.jump_norm)
