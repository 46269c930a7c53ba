"""Stepping: what the wrapper does to the parameters, and when. Rules are those of design.md §3."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import paramcast as pc
from paramcast import predictors as P
from paramcast.tensors import segments as S
from reference import (
    ODD,
    Allocations,
    Calls,
    Case,
    Slow,
    Twin,
    affine,
    constant_steps,
    parameters,
    same_bits,
    set_gradients,
    timeless,
    train,
    values,
)

MakeBase = Callable[..., torch.optim.Optimizer]


def scalar(value: float = 0.0, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.full((1,), value, dtype=dtype))


def sgd(*ps: Tensor, lr: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD(ps, lr=lr)


def done(optimizer: pc.Forecast) -> int:
    """Completed steps of the running cycle."""
    return optimizer.state_dict()["paramcast"]["cycle"]["done"]


# --- the pencil test ----------------------------------------------------------------------------


def test_plp_by_pencil() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    path = []
    for gradient in (1.0, 2.0, 4.0, 1.0):
        constant_steps(optimizer, p, gradient)
        path.append(p.item())
    # -1, -3, -7 and at once -7 + (-3 + 1) / 2; the next step starts there
    assert path == [-1.0, -3.0, -8.0, -9.0]


def test_the_predicted_point_is_never_one_of_the_three() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)  # -8
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)  # -9, -11, -15, and -15 + (-11 + 9) / 2
    assert p.item() == -16.0


def test_plp_hands_its_knobs_to_the_midline() -> None:
    optimizer = pc.PLP(sgd(scalar()), horizon=0.25, start="last", every=4)
    assert optimizer.predictor.weights == P.Midline(0.25, start="last", every=4).weights


def test_a_cycle_is_counted_in_steps_over_as_many_as_it_has() -> None:
    p = scalar()
    optimizer = pc.Forecast(sgd(p), P.Interpolate(4, 0.5))
    constant_steps(optimizer, p, 1.0, 1.0, 1.0)
    assert p.item() == -3.0
    constant_steps(optimizer, p, 1.0)  # half of the way back from -4
    assert p.item() == -2.0


def test_the_start_point_is_read_at_the_first_step_not_at_construction() -> None:
    p = scalar(100.0)
    optimizer = pc.Forecast(sgd(p), P.Interpolate(2, 0.5))
    with torch.no_grad():
        p.fill_(10.0)  # initial weights loaded after construction
    constant_steps(optimizer, p, 1.0, 1.0)
    assert p.item() == 9.0


def test_buffers_of_the_model_are_not_predicted() -> None:
    model = torch.nn.BatchNorm1d(2)
    plain = torch.nn.BatchNorm1d(2)
    for net, optimizer in (
        (model, pc.PLP(torch.optim.SGD(model.parameters(), lr=0.1))),
        (plain, torch.optim.SGD(plain.parameters(), lr=0.1)),
    ):
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 2)).square().sum().backward()
            optimizer.step()
    assert same_bits(model.buffers(), plain.buffers())
    assert not same_bits(model.parameters(), plain.parameters())


# --- the float64 twin ---------------------------------------------------------------------------


def test_50_steps_agree_with_the_twin_at_every_step(case: Case, base: MakeBase) -> None:
    ps, slow = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.Forecast(base(ps), case.predictor)
    twin = Twin(base(slow), Slow(case.predictor.every, case.rule))
    for t in range(50):
        train(optimizer, ps, 1, start=t)
        train(twin, slow, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_agree_with_the_twin(case: Case, dtype: torch.dtype) -> None:
    ps, slow = parameters(dtype), parameters(torch.complex128)
    for p in (*ps, *slow):
        p.data.imag.fill_(0.3)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.02, momentum=0.9), case.predictor)
    twin_base = torch.optim.SGD(slow, lr=0.02, momentum=0.9)
    twin = Twin(twin_base, Slow(case.predictor.every, case.rule))
    train(optimizer, ps, 30)
    train(twin, slow, 30)
    wide = [p.to(torch.complex128) for p in values(ps)]
    torch.testing.assert_close(wide, values(slow), rtol=0, atol=1e-4)


def strided(name: str) -> torch.nn.Parameter:
    torch.manual_seed(2)
    value = {
        "transposed": torch.randn(4, 3, dtype=torch.float64).t(),
        "channels-last": torch.randn(2, 3, 4, 5, dtype=torch.float64).to(
            memory_format=torch.channels_last
        ),
        "with gaps": torch.randn(4, 6, dtype=torch.float64)[:, ::2],
        "empty": torch.randn(3, 0, dtype=torch.float64),
    }[name]
    return torch.nn.Parameter(value)


@pytest.mark.parametrize("layout", ["transposed", "channels-last", "with gaps", "empty"])
def test_any_memory_layout_agrees_with_the_twin(case: Case, layout: str) -> None:
    ps, slow = [strided(layout), scalar()], [strided(layout), scalar()]
    stride = ps[0].stride()
    optimizer = pc.Forecast(sgd(*ps, lr=0.05), case.predictor)
    twin = Twin(sgd(*slow, lr=0.05), Slow(case.predictor.every, case.rule))
    train(optimizer, ps, 20)
    train(twin, slow, 20)
    torch.testing.assert_close(values(ps), values(slow), rtol=1e-5, atol=1e-6)
    assert ps[0].stride() == stride


def test_several_dtypes_in_one_optimizer_agree_with_the_twin(case: Case) -> None:
    ps, slow = (
        [*parameters(torch.float32), *parameters(torch.float64, 1)],
        [
            *parameters(torch.float64),
            *parameters(torch.float64, 1),
        ],
    )
    optimizer = pc.Forecast(sgd(*ps, lr=0.05), case.predictor)
    twin = Twin(sgd(*slow, lr=0.05), Slow(case.predictor.every, case.rule))
    train(optimizer, ps, 30)
    train(twin, slow, 30)
    torch.testing.assert_close([p.double() for p in values(ps)], values(slow), rtol=0, atol=1e-4)


@settings(max_examples=15)
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=6), st.integers(0, 99))
def test_drawn_weights_agree_with_the_twin(past: list[int], seed: int) -> None:
    weights = (*(n / 8 for n in past), 1 - sum(past) / 8)
    ps, slow = parameters(torch.float64, seed), parameters(torch.float64, seed)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.01), P.Affine(weights))
    twin = Twin(torch.optim.SGD(slow, lr=0.01), Slow(len(past), affine(weights)))
    for t in range(2 * len(past)):
        train(optimizer, ps, 1, start=t)
        train(twin, slow, 1, start=t)
    scale = max(1.0, *(p.abs().max().item() for p in slow))
    torch.testing.assert_close(values(ps), values(slow), rtol=0, atol=1e-9 * scale)


# --- rule 1: a real optimizer, composed with the base -------------------------------------------


def test_groups_state_and_defaults_are_the_bases_own() -> None:
    base = torch.optim.SGD(parameters(), lr=0.1, momentum=0.9)
    optimizer = pc.PLP(base)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    assert optimizer.defaults is base.defaults


def test_a_learning_rate_set_after_the_base_loaded_a_state_reaches_the_base() -> None:
    p = scalar()
    base = sgd(p)
    optimizer = pc.PLP(base)
    base.load_state_dict(base.state_dict())  # replaces the base's groups
    optimizer.param_groups[0]["lr"] = 0.5
    constant_steps(optimizer, p, 1.0)
    assert p.item() == -0.5


def test_assigning_groups_and_state_reaches_the_base() -> None:
    base = torch.optim.SGD(parameters(), lr=0.1)
    optimizer = pc.PLP(base)
    groups, state = [dict(base.param_groups[0], lr=0.7)], {}
    optimizer.param_groups, optimizer.state = groups, state
    assert base.param_groups is groups
    assert base.state is state


@pytest.mark.parametrize("name", ["_step_supports_amp_scaling", "grad_scale", "no_such_thing"])
def test_the_bases_other_attributes_do_not_leak(name: str) -> None:
    base = torch.optim.SGD(parameters(), lr=0.1, fused=True)
    base.grad_scale = None
    assert not hasattr(pc.PLP(base), name)


def test_plp_does_not_override_step() -> None:
    assert "step" not in vars(pc.PLP)


def test_a_borrowed_dictionary_runs_the_same_cycle() -> None:
    # Fabric and Lightning copy our attributes into an object of theirs and call our methods on it.
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    borrower = object.__new__(pc.PLP)
    vars(borrower).update(vars(optimizer))
    constant_steps(borrower, p, 1.0)
    constant_steps(optimizer, p, 2.0)
    constant_steps(borrower, p, 4.0)
    assert p.item() == -8.0
    assert timeless(optimizer.last_event) == timeless(borrower.last_event) is not None


def test_methods_assign_no_attributes() -> None:
    ps = parameters()
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1))
    before = {name: id(value) for name, value in vars(optimizer).items()}
    train(optimizer, ps, 4)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.restart_cycle()
    optimizer.zero_grad()
    assert {name: id(value) for name, value in vars(optimizer).items()} == before


def test_zero_grad_is_the_bases() -> None:
    ps = parameters()
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1))
    set_gradients(ps, 0)
    optimizer.zero_grad(set_to_none=False)
    assert [p.grad.abs().sum().item() for p in ps] == [0.0, 0.0, 0.0]
    optimizer.zero_grad()
    assert [p.grad for p in ps] == [None, None, None]


def test_the_repr_shows_the_predictor_and_the_base() -> None:
    shown = repr(pc.PLP(torch.optim.SGD(parameters(), lr=0.1)))
    assert shown.startswith("PLP(Midline(horizon=1.0, start='midpoint', every=3))\nSGD (")
    base = torch.optim.SGD(parameters(), lr=0.1)
    averaged = repr(pc.PLP(base, average=pc.averaging.EMA(decay=0.9)))
    assert averaged.splitlines()[0].endswith(", every=3), average=EMA(decay=0.9))")


# --- rule 2: nothing of ours in the base's state ------------------------------------------------


def test_the_bases_state_holds_only_its_own_keys(predictor: P.Affine, base: MakeBase) -> None:
    ps, bare_ps = parameters(), parameters()
    optimizer, bare = pc.Forecast(base(ps), predictor), base(bare_ps)
    train(optimizer, ps, 4)
    train(bare, bare_ps, 4)
    ours = [sorted(optimizer.state.get(p, ())) for p in ps]
    assert ours == [sorted(bare.state.get(p, ())) for p in bare_ps]


# --- rule 4: the empty step that torch makes ----------------------------------------------------


@pytest.mark.parametrize("predictor", [P.Midline(), P.Interpolate(3, 0.5), P.Affine(ODD)], ids=repr)
def test_a_save_through_torch_distributed_does_not_count_and_changes_nothing(
    predictor: P.Affine,
) -> None:
    def run(*, save: bool) -> tuple[list[Tensor], int]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        base = torch.optim.SGD(model.parameters(), lr=0.1)  # no momentum: its state stays empty
        calls: list[float] = []
        base.register_step_post_hook(lambda opt, *_: calls.append(opt.param_groups[0]["lr"]))
        optimizer = pc.Forecast(base, predictor)
        for t in range(11):
            set_gradients(model.parameters(), t)
            optimizer.step()
            optimizer.zero_grad()
            if save:
                before = done(optimizer)
                get_optimizer_state_dict(model, optimizer)
                assert done(optimizer) == before
        return values(model.parameters()), calls.count(0.0)

    (with_saves, phantoms), (without, none) = run(save=True), run(save=False)
    assert (phantoms, none) == (11, 0)  # torch did step the base at every save
    assert same_bits(with_saves, without)


def test_a_checkpoint_through_torch_distributed_at_a_cycles_end_loses_nothing() -> None:
    def make() -> tuple[torch.nn.Module, pc.Forecast]:
        model = torch.nn.Linear(3, 2)
        return model, pc.PLP(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    model, optimizer = make()
    train(optimizer, list(model.parameters()), 6)
    optimizer.zero_grad()
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))  # else torch shares tensors
    other, resumed = make()
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved)
    train(optimizer, list(model.parameters()), 5, start=6)
    train(resumed, list(other.parameters()), 5, start=6)
    assert same_bits(model.parameters(), other.parameters())


def test_loading_through_torch_distributed_restarts_the_cycle() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    train(optimizer, list(model.parameters()), 2)
    optimizer.zero_grad()
    set_optimizer_state_dict(model, optimizer, get_optimizer_state_dict(model, optimizer))
    assert done(optimizer) == 0


def phantom(optimizer: pc.Forecast, p: Tensor, gradient: float, *lrs: float | Tensor) -> None:
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    constant_steps(optimizer, p, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["number", "tensor"])
def test_lr_zero_and_gradients_zero_is_not_a_step(lr: float | Tensor, dtype: torch.dtype) -> None:
    p = scalar(1.0, dtype)
    optimizer = pc.PLP(sgd(p))
    phantom(optimizer, p, 0.0, lr)
    assert done(optimizer) == 0


def test_lr_zero_and_sparse_gradients_zero_is_not_a_step() -> None:
    p = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = pc.PLP(sgd(p, lr=0.0))
    p.grad = torch.zeros(4, 2).to_sparse(1)
    optimizer.step()
    assert done(optimizer) == 0


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["number", "tensor"])
def test_a_warm_up_step_at_lr_zero_with_gradients_counts(lr: float | Tensor) -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    phantom(optimizer, p, 0.5, lr)
    assert done(optimizer) == 1


def test_a_nan_gradient_at_lr_zero_counts() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    phantom(optimizer, p, float("nan"), 0.0)
    assert done(optimizer) == 1


def test_zero_gradients_count_at_any_other_learning_rate() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    phantom(optimizer, p, 0.0, 1e-8)
    assert done(optimizer) == 1


def test_one_group_at_lr_zero_does_not_make_a_step_uncounted() -> None:
    p, q = scalar(), scalar()
    optimizer = pc.PLP(torch.optim.SGD([{"params": [p]}, {"params": [q]}], lr=1.0))
    phantom(optimizer, p, 0.0, 0.0, 0.1)
    assert done(optimizer) == 1


# --- rule 5: who takes part ---------------------------------------------------------------------


def test_a_frozen_parameter_is_left_alone() -> None:
    p, frozen = scalar(), scalar(5.0).requires_grad_(False)
    optimizer = pc.Forecast(sgd(p, frozen), P.Interpolate(3, 0.5))
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert (p.item(), frozen.item()) == (-3.5, 5.0)


def test_a_frozen_parameter_moved_by_the_user_is_left_alone() -> None:
    p, frozen = scalar(), scalar(5.0).requires_grad_(False)
    optimizer = pc.PLP(sgd(p, frozen))
    for gradient in (1.0, 2.0, 4.0):
        constant_steps(optimizer, p, gradient)
        frozen.add_(1.0)
    assert (p.item(), frozen.item()) == (-8.0, 8.0)


def test_a_parameter_without_gradients_so_far_is_left_alone() -> None:
    p, unused = scalar(), scalar(5.0)
    optimizer = pc.PLP(sgd(p, unused))
    for gradient in (1.0, 2.0, 4.0):
        constant_steps(optimizer, p, gradient)
        with torch.no_grad():
            unused.add_(1.0)
    assert (p.item(), unused.item()) == (-8.0, 8.0)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_parameter_with_gradients_in_one_step_of_each_cycle_joins_at_the_next(at: int) -> None:
    # An expert, or the head of one task of three: it moves at one step of each cycle.
    p, expert, slow = scalar(), scalar(), scalar()
    optimizer = pc.Forecast(sgd(p, expert), P.Secant())  # + (theta_3 - theta_1) / 2
    for cycle in range(3):
        points = []
        for step in range(3):
            expert.grad = torch.tensor([4.0]) if step == at else None
            constant_steps(optimizer, p, 1.0)
            with torch.no_grad():
                slow.sub_(4.0 if step == at else 0.0)
            points.append(slow.item())
        if cycle > 0 or at == 0:
            with torch.no_grad():
                slow.add_((points[2] - points[0]) / 2)
        assert expert.item() == slow.item()


def test_gradients_that_the_base_clears_after_its_step_still_make_members() -> None:
    p = scalar()
    base = sgd(p)
    base.register_step_post_hook(lambda opt, *_: opt.zero_grad())
    constant_steps(pc.PLP(base), p, 1.0, 2.0, 4.0)
    assert p.item() == -8.0


def test_a_late_unfrozen_parameter_joins_at_the_next_cycle() -> None:
    p, late = scalar(), scalar().requires_grad_(False)
    optimizer = pc.PLP(sgd(p, late))
    constant_steps(optimizer, p, 1.0)
    late.requires_grad_()
    for gradient in (2.0, 4.0):
        late.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), late.item()) == (-8.0, -6.0)
    for gradient in (1.0, 2.0, 4.0):  # -7, -9, -13, and then -14
        late.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), late.item()) == (-16.0, -14.0)


@pytest.mark.parametrize("predictor", [P.Midline(), P.Interpolate(3, 0.5), P.Affine(ODD)], ids=repr)
@pytest.mark.parametrize("after", [1, 2])
def test_a_parameter_frozen_in_mid_cycle_is_not_predicted_in_it(
    predictor: P.Affine, after: int
) -> None:
    p, alone, frozen = scalar(), scalar(), scalar()
    optimizer, other = pc.Forecast(sgd(p, frozen), predictor), pc.Forecast(sgd(alone), predictor)
    for t in range(predictor.every):
        gradient = 1.0 + t
        frozen.grad = torch.tensor([gradient]) if t < after else None
        constant_steps(optimizer, p, gradient)
        constant_steps(other, alone, gradient)
        if t + 1 == after:
            frozen.requires_grad_(False)
            at_freezing = frozen.item()
    assert frozen.item() == at_freezing
    assert p.item() == alone.item()
    assert timeless(optimizer.last_event) == timeless(
        other.last_event
    )  # the frozen one is not in the norm either


def test_a_parameter_frozen_and_thawed_within_a_cycle_joins_at_the_next() -> None:
    p, other = scalar(), scalar()
    optimizer = pc.PLP(sgd(p, other))
    for gradient, learnable in ((1.0, True), (2.0, False), (4.0, True)):
        other.requires_grad_(learnable)
        other.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), other.item()) == (-8.0, -7.0)
    for gradient in (1.0, 2.0, 4.0):
        other.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), other.item()) == (-16.0, -15.0)


def test_everything_frozen_for_a_while_and_thawed_again_works() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0)
    p.requires_grad_(False)
    p.grad = None
    optimizer.step()
    p.requires_grad_()
    constant_steps(optimizer, p, 2.0, 4.0)  # it closes the cycle that it left
    assert p.item() == -7.0
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -15.0


def test_a_swapped_parameter_joins_at_the_next_cycle() -> None:
    p, first, second = scalar(), scalar(), scalar()
    optimizer = pc.PLP(sgd(p, first))
    first.grad = torch.tensor([1.0])
    constant_steps(optimizer, p, 1.0)
    optimizer.param_groups[0]["params"][1] = second
    for gradient in (2.0, 4.0):
        second.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), first.item(), second.item()) == (-8.0, -1.0, -6.0)
    for gradient in (1.0, 2.0, 4.0):
        second.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert second.item() == -14.0


@pytest.mark.parametrize("as_group", [True, False], ids=["add_param_group", "append"])
def test_parameters_added_in_mid_cycle_join_at_the_next(as_group: bool) -> None:
    p, added = scalar(), scalar()
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0)
    if as_group:
        optimizer.add_param_group({"params": [added], "lr": 1.0})
    else:
        optimizer.param_groups[0]["params"].append(added)
    for gradient in (2.0, 4.0):
        added.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), added.item()) == (-8.0, -6.0)
    for gradient in (1.0, 2.0, 4.0):
        added.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert (p.item(), added.item()) == (-16.0, -14.0)


def test_a_group_added_through_the_base_is_seen_too() -> None:
    p, added = scalar(), scalar()
    base = sgd(p)
    optimizer = pc.PLP(base)
    base.add_param_group({"params": [added]})
    for gradient in (1.0, 2.0, 4.0):
        added.grad = torch.tensor([gradient])
        constant_steps(optimizer, p, gradient)
    assert added.item() == -8.0


def test_a_weight_shared_by_two_layers_is_predicted_once() -> None:
    first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    model = torch.nn.Sequential(first, second)
    torch.nn.init.zeros_(first.weight)
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=1.0))
    constant_steps(optimizer, first.weight, 1.0, 2.0, 4.0)
    assert first.weight.item() == -8.0


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize(
    ("predictor", "expected"), [(P.Midline(), -16.0), (P.Interpolate(3), -7.0)]
)
def test_a_parameter_listed_twice_is_predicted_once(predictor: P.Affine, expected: float) -> None:
    p = scalar()
    optimizer = pc.Forecast(sgd(p, p), predictor)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)  # torch steps it twice: -2, -6, -14
    assert p.item() == expected


# --- rule 6: written in place, visible to autograd ----------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_prediction_is_an_in_place_write_that_autograd_notices(dtype: torch.dtype) -> None:
    p, bare = scalar(1.0, dtype), scalar(1.0, dtype)
    versions = []
    for q, optimizer in ((p, pc.PLP(sgd(p))), (bare, sgd(bare))):
        address = q.data_ptr()
        constant_steps(optimizer, q, 1.0, 2.0, 4.0)
        assert (q.data_ptr(), q.is_leaf, q.requires_grad) == (address, True, True)
        versions.append(q._version)
    assert versions[0] > versions[1]


def test_a_graph_kept_over_a_prediction_refuses_to_run_backward() -> None:
    p = scalar(1.0)
    optimizer = pc.Forecast(sgd(p), P.Interpolate(1, 0.5))
    loss = (p * p).sum()
    constant_steps(optimizer, p, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- rule 7: what counts ------------------------------------------------------------------------


def test_a_step_without_any_gradient_is_handed_on_and_not_counted() -> None:
    p = scalar()
    base = sgd(p)
    calls: list[int] = []
    base.register_step_post_hook(lambda *_: calls.append(1))
    optimizer = pc.PLP(base)
    optimizer.step()
    for gradient in (1.0, 2.0, 4.0):
        constant_steps(optimizer, p, gradient)
        p.grad = None
        optimizer.step()
    assert len(calls) == 7
    assert p.item() == -8.0


def test_micro_batches_of_an_accumulated_step_count_once() -> None:
    p, whole = scalar(dtype=torch.float64), scalar(dtype=torch.float64)
    optimizer, other = pc.PLP(sgd(p, lr=0.25)), pc.PLP(sgd(whole, lr=0.25))
    for t in range(7):
        optimizer.zero_grad()
        for half in (0.5, 0.5):
            (half * (p - t) ** 2).sum().backward()
        optimizer.step()
        other.zero_grad()
        ((whole - t) ** 2).sum().backward()
        other.step()
    assert p.item() == pytest.approx(whole.item(), abs=1e-12)
    assert optimizer.last_event.step == 6


# --- rule 8: points belong to one trajectory ----------------------------------------------------


def test_weights_restored_from_outside_with_a_restart_begin_a_new_cycle() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0, 2.0)
    with torch.no_grad():
        p.fill_(100.0)
    optimizer.restart_cycle()
    constant_steps(optimizer, p, 1.0, 2.0)
    assert p.item() == 97.0
    constant_steps(optimizer, p, 4.0)
    assert p.item() == 92.0


def test_a_restart_forgets_the_point_the_cycle_started_from() -> None:
    p = scalar()
    optimizer = pc.Forecast(sgd(p), P.Interpolate(2, 0.5))
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(100.0)
    optimizer.restart_cycle()
    constant_steps(optimizer, p, 1.0, 1.0)
    assert p.item() == 99.0


def test_a_restart_at_a_cycles_end_changes_nothing(predictor: P.Affine) -> None:
    ps, others = parameters(), parameters()
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.05), predictor)
    other = pc.Forecast(torch.optim.SGD(others, lr=0.05), predictor)
    k = predictor.every
    train(optimizer, ps, k)
    train(other, others, k)
    other.restart_cycle()
    train(optimizer, ps, k, start=k)
    train(other, others, k, start=k)
    assert same_bits(ps, others)


# --- rule 9: one buffer, local arithmetic -------------------------------------------------------


def test_memory_of_any_window_is_one_buffer_and_steady_state_allocates_nothing(
    fixed: P.Affine,
) -> None:
    ps = [torch.nn.Parameter(torch.randn(40, 50)), torch.nn.Parameter(torch.randn(30))]
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.05, foreach=False), fixed)
    size = sum(p.numel() for p in ps) * 4
    set_gradients(ps, 0)
    with Allocations() as seen:
        for _ in range(fixed.every + 1):
            optimizer.step()
        seen.mark()
        for _ in range(2 * fixed.every):
            optimizer.step()
    assert size <= seen.peak <= size + 64  # the buffer, and numbers such as a norm
    assert max(seen.since_mark, default=0) <= 8


@pytest.mark.parametrize(
    ("predictor", "bytes_each"),
    [(P.Midline(), 2), (P.Interpolate(), 2), (P.LeastSquares(5, every=7), 4), (P.Affine(ODD), 4)],
    ids=repr,
)
def test_memory_in_bfloat16_is_one_buffer_and_at_most_one_tensor_in_passing(
    predictor: P.Affine, bytes_each: int
) -> None:
    ps = [torch.nn.Parameter(torch.randn(4, 25, dtype=torch.bfloat16)) for _ in range(20)]
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.05, foreach=False), predictor)
    set_gradients(ps, 0)
    with Allocations() as seen:
        for _ in range(2 * predictor.every):
            optimizer.step()
    assert 2000 * bytes_each <= seen.peak <= 2000 * bytes_each + 2 * 100 * 4 + 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_difference_keeps_the_parameters_dtype_and_a_mean_at_least_float32(
    dtype: torch.dtype,
) -> None:
    for predictor, expected in (
        (P.Midline(), dtype),
        (P.LeastSquares(), torch.promote_types(dtype, torch.float32)),
    ):
        ps = parameters(dtype)
        optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.05), predictor)
        train(optimizer, ps, 2)
        rows = optimizer.state_dict()["paramcast"]["cycle"]["buffers"]
        assert {b.dtype for row in rows for b in row} == {expected}


def operations(make: Callable[[], torch.optim.Optimizer], ps: list[Tensor], steps: int) -> Calls:
    optimizer = make()
    set_gradients(ps, 0)
    for _ in range(3):  # the first cycle allocates
        optimizer.step()
    with Calls() as calls:
        for _ in range(steps):
            optimizer.step()
    return calls


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("cycles", [1, 5])
def test_plp_is_one_copy_one_subtract_one_add_and_one_norm_per_cycle(
    cycles: int, count: int
) -> None:
    ps = [torch.nn.Parameter(torch.randn(1, 7)) for _ in range(count)]
    plp = operations(lambda: pc.PLP(sgd(*ps)), ps, 3 * cycles).counts
    bare = operations(lambda: sgd(*ps), ps, 3 * cycles).counts
    assert dict(plp - bare) == {
        "_foreach_copy_": cycles,
        "_foreach_sub_": cycles,
        "_foreach_add_": cycles,
        "linalg_vector_norm": cycles,
        "_local_scalar_dense": cycles,  # the norm, read to decide
    }
    assert not bare - plp


def test_short_vectors_are_gathered_and_folded_at_once() -> None:
    ps = [torch.nn.Parameter(torch.randn(7)) for _ in range(40)]
    plp = operations(lambda: pc.PLP(sgd(*ps)), ps, 3).counts
    bare = operations(lambda: sgd(*ps), ps, 3).counts
    assert dict(plp - bare) == {
        "cat": 2,
        "slice": 2,
        "_foreach_copy_": 1,
        "_foreach_sub_": 1,
        "_foreach_add_": 1,
        "linalg_vector_norm": 1,
        "_local_scalar_dense": 1,
    }


def test_gathering_takes_at_most_what_a_cache_holds() -> None:
    ps = [torch.nn.Parameter(torch.randn(S.SHORT)) for _ in range(32)]
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.05, foreach=False))
    set_gradients(ps, 0)
    with Allocations() as seen:
        for _ in range(4):
            optimizer.step()
        seen.mark()
        for _ in range(6):
            optimizer.step()
    size = 4 * 32 * S.SHORT
    assert size < seen.peak <= size + 4 * S.TOGETHER + 64
    assert max(seen.since_mark, default=0) <= 8


def test_two_dtypes_take_one_norm_per_flat_buffer() -> None:
    ps = [*parameters(torch.float32), *parameters(torch.float64)]
    plp = operations(lambda: pc.PLP(sgd(*ps)), ps, 3).counts
    assert plp["linalg_vector_norm"] == 2


def test_a_jump_below_half_a_unit_in_the_last_place_rounds_away_in_bfloat16() -> None:
    p = scalar(512.0, torch.bfloat16)  # its neighbours below are 2 apart, above 4
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, -4.0, 4.0, -8.0)  # 516, 512, 520; the jump -2 is half a unit
    assert p.item() == 520.0  # ties go to the even neighbour
    assert optimizer.last_event.jump_norm == 2.0
    assert optimizer.last_event.applied


def test_a_conversion_between_cycles_keeps_the_rule() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = pc.PLP(torch.optim.SGD(model.parameters(), lr=1.0))
    constant_steps(optimizer, model.weight, 1.0, 2.0, 4.0)
    optimizer.zero_grad()
    model.to(torch.float64)
    constant_steps(optimizer, model.weight, 1.0, 2.0)
    assert optimizer.state_dict()["paramcast"]["cycle"]["buffers"][0][0].dtype == torch.float64
    constant_steps(optimizer, model.weight, 4.0)
    assert model.weight.item() == -16.0


@pytest.mark.parametrize("narrow", [torch.float32, torch.complex64], ids=str)
def test_a_conversion_in_mid_cycle_is_not_lost(narrow: torch.dtype) -> None:
    p = scalar(0.0, narrow)
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0, 2.0)
    p.grad = None
    p.data = p.data.to(torch.complex128 if narrow.is_complex else torch.float64)
    constant_steps(optimizer, p, 4.0)
    applied = optimizer.last_event.applied
    assert p.item() == (-8.0 if applied else -7.0)  # and never "predicted" with nothing written


@pytest.mark.parametrize("predictor", [P.Midline(), P.Interpolate(3, 0.5)], ids=repr)
def test_a_parameter_pruned_between_cycles_joins_in_its_new_shape(predictor: P.Affine) -> None:
    p, fresh = torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(2))
    optimizer, other = pc.Forecast(sgd(p), predictor), pc.Forecast(sgd(fresh), predictor)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    constant_steps(other, fresh, 1.0, 2.0, 4.0)
    p.grad = None
    p.data = p.data[:2]  # the same address, fewer elements
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    constant_steps(other, fresh, 1.0, 2.0, 4.0)
    assert same_bits([p], [fresh])


# --- unmoved parameters -------------------------------------------------------------------------


def negative_zero_after_a_cycle(predictor: P.Affine) -> Tensor:
    p, moving = scalar(-0.0), scalar(1.0)  # masks and weight decay leave negative zeros behind
    optimizer = pc.Forecast(torch.optim.SGD([p, moving], lr=0.1), predictor)
    for _ in range(predictor.every):
        p.grad = torch.zeros(1)
        constant_steps(optimizer, moving, 1.0)
    return p.detach()


def test_a_negative_zero_that_never_moved_stays_zero(fixed: P.Affine) -> None:
    assert negative_zero_after_a_cycle(fixed).item() == 0.0


def test_a_negative_zero_that_never_moved_keeps_its_sign_under_plp() -> None:
    assert same_bits([negative_zero_after_a_cycle(P.Midline())], [torch.tensor([-0.0])])


# --- rule 10: degenerate settings are the base --------------------------------------------------

NOTHING = [
    P.Affine((0.0, 1.0)),
    P.Affine((0.0, 0.0, 0.0, 1.0)),
    P.Interpolate(5, 1.0),
    P.Secant(3, 0.0),
    P.SignFlipped(P.Secant(3, 0.0)),
    P.RandomDirection(P.Secant(3, 0.0)),
]


@pytest.mark.parametrize("predictor", NOTHING, ids=repr)
def test_degenerate_settings_take_no_memory(predictor: P.Affine) -> None:
    ps = parameters()
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1, foreach=False), predictor)
    set_gradients(ps, 0)
    with Allocations() as seen:
        for _ in range(6):
            optimizer.step()
    assert seen.peak == 0


# --- rule 12: nothing that is not finite is written ---------------------------------------------


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_prediction_that_is_not_finite_is_not_written(bad: float) -> None:
    p, other = torch.nn.Parameter(torch.zeros(2)), scalar()
    optimizer = pc.PLP(sgd(p, other))
    other.grad = torch.tensor([1.0])
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(-1.0)
    optimizer.restart_cycle()
    with torch.no_grad():
        p[0] = bad
    p.grad = torch.zeros(2)
    optimizer.step()  # theta_1 alone is not finite
    with torch.no_grad():
        p[0] = -1.0
    constant_steps(optimizer, p, 2.0)
    constant_steps(optimizer, p, 4.0)
    assert p.tolist() == [-7.0, -7.0]
    assert other.item() == -5.0 + 1.0  # theta_3 of its own path: 0 - 1 - 1 - 1 - 1
    event = optimizer.last_event
    assert (event.applied, event.reason) == (False, "the prediction is not finite")
    assert not torch.tensor(event.jump_norm).isfinite()


def test_the_cycle_after_a_refused_prediction_predicts_again() -> None:
    p = scalar()
    optimizer = pc.PLP(sgd(p))
    with torch.no_grad():
        p.fill_(float("inf"))
    constant_steps(optimizer, p, 1.0)
    with torch.no_grad():
        p.fill_(-1.0)
    constant_steps(optimizer, p, 2.0, 4.0)
    assert p.item() == -7.0
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -15.0
    assert optimizer.last_event.applied


# --- the event ----------------------------------------------------------------------------------


def test_the_last_event_tells_what_the_last_prediction_did() -> None:
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = pc.PLP(sgd(p))
    constant_steps(optimizer, p, 1.0, 2.0)
    assert optimizer.last_event is None
    constant_steps(optimizer, p, 4.0)
    first = pc.ForecastEvent(3, 1, True, "predicted", 2.0, 1.0, accepted=1.0)  # four jumps of -1
    assert timeless(optimizer.last_event) == first
    constant_steps(optimizer, p, 1.0, 1.0)
    assert timeless(optimizer.last_event) == first
    constant_steps(optimizer, p, 1.0)
    second = pc.ForecastEvent(6, 2, True, "predicted", 1.0, 1.0, accepted=1.0)
    assert timeless(optimizer.last_event) == second
    assert 0.0 < optimizer.last_event.milliseconds < 1e4


def test_the_jump_norm_is_the_length_of_what_was_added(predictor: P.Affine) -> None:
    ps, bare_ps = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.Forecast(torch.optim.SGD(ps, lr=0.1), predictor)
    train(optimizer, ps, predictor.every)
    train(torch.optim.SGD(bare_ps, lr=0.1), bare_ps, predictor.every)
    added = torch.cat([(p - q).flatten() for p, q in zip(ps, bare_ps, strict=True)])
    assert optimizer.last_event.jump_norm == pytest.approx(added.norm().item(), rel=1e-9)
    assert optimizer.last_event.horizon == predictor.horizon


def test_a_hook_may_hand_the_closure_over_by_name() -> None:
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=0.1))
    optimizer.register_step_pre_hook(lambda _, args, kwargs: (args[:1], {"closure": args[1]}))

    def closure() -> float:
        p.grad = torch.ones(1)
        return 0.0

    for _ in range(3):  # its gradients come with it: a step that counts
        optimizer.zero_grad()
        optimizer.step(closure)
    assert p.item() == pytest.approx(1 - 3.5 * 0.1)


def test_three_steps_read_in_one_screen() -> None:
    """What a reader must follow: at most 70 calls of our own functions, in five files."""
    root, called = str(Path(pc.__file__).parent), []
    ps = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((5, 3), (5,), (2, 5), (2,))]
    optimizer = pc.PLP(torch.optim.SGD(ps, lr=0.1, momentum=0.9))
    train(optimizer, ps, 30)

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(root):
            called.append(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        train(optimizer, ps, 3)
    finally:
        sys.setprofile(before)
    assert len(called) <= 70
    assert len(set(called)) <= 5
