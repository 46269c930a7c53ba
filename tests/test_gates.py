"""When and whether: each gate's decision with its reason, and what becomes of the jump."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import paramcast as pc
from paramcast import gates as G
from paramcast import monitors as M
from paramcast import predictors as P
from paramcast.errors import ArgumentError
from paramcast.events import Decision, Proposal
from reference import (
    BASES,
    FAMILY,
    Points,
    Row,
    Slow,
    Twin,
    constant_steps,
    length,
    midline,
    parameters,
    same_bits,
    secant,
    timeless,
    train,
    values,
)


def proposal(
    step: int = 30,
    cycle: int = 10,
    progress: float | None = None,
    jump: float = 1.0,
    norm: float = 10.0,
    agreement: float = 0.5,
) -> Proposal:
    norms = (lambda: jump, lambda: norm, lambda: norm)
    return Proposal(step, cycle, progress, *norms, lambda: agreement)


class Fixed(G.Gate):
    """A third party's gate that always says the same."""

    def __init__(self, apply: bool, reason: str = "", scale: float = 1.0) -> None:
        self.decision = Decision(apply, reason or ("yes" if apply else "no"), scale)

    def decide(self, proposal: Proposal) -> Decision:
        return self.decision


def run(gate: G.Gate | None, cycles: int = 4, **options: Any) -> list[pc.ForecastEvent]:
    """The events of a short PLP run."""
    history = M.History()
    ps = parameters()
    optimizer = pc.PLP(BASES["momentum"](ps), gate=gate, monitors=[history], **options)
    train(optimizer, ps, 3 * cycles)
    return history.rows


def applied(gate: G.Gate, cycles: int = 6, **options: Any) -> list[bool]:
    return [event.applied for event in run(gate, cycles, **options)]


# --- each decision and its reason ---------------------------------------------------------------

DECISIONS: list[tuple[G.Gate, Proposal, bool, str]] = [
    (G.After(30), proposal(), True, "step 30 >= 30"),
    (G.After(share=0.5), proposal(progress=0.5), True, "progress 0.50 >= 0.5"),
    (G.After(share=0.5), proposal(progress=0.49), False, "progress 0.49 < 0.5"),
    (G.Before(31), proposal(), True, "step 30 < 31"),
    (G.Before(share=0.6), proposal(progress=0.5), True, "progress 0.50 < 0.6"),
    (G.Before(share=0.6), proposal(progress=0.6), False, "progress 0.60 >= 0.6"),
    (G.Every(5), proposal(cycle=10), True, "cycle 10, every 5"),
    (G.Every(4), proposal(cycle=10), False, "cycle 10, every 4"),
    (G.Agreement(0.4), proposal(), True, "agreement 0.50 > 0.40"),
    (G.Agreement(0.5), proposal(), False, "agreement 0.50 <= 0.50"),
    (G.Agreement(-1.0), proposal(agreement=-0.9), True, "agreement -0.90 > -1.00"),
    (G.MaxRelativeJump(0.1), proposal(), True, "relative jump within 0.1"),
    (G.MaxRelativeJump(0.05, shorten=False), proposal(), False, "relative jump 0.1 > 0.05"),
    (
        G.MaxRelativeJump(0.05, shorten=False),
        proposal(norm=0.0),
        False,
        "relative jump inf > 0.05",
    ),
    (G.MaxRelativeJump(0.05), proposal(jump=0.0, norm=0.0), True, "relative jump within 0.05"),
]


@pytest.mark.parametrize(
    ("gate", "asked", "apply", "reason"),
    DECISIONS,
    ids=[f"{type(gate).__name__}: {reason}" for gate, _, _, reason in DECISIONS],
)
def test_a_decision_and_its_reason(gate: G.Gate, asked: Proposal, apply: bool, reason: str) -> None:
    assert gate.decide(asked) == Decision(apply, reason)


def test_a_longer_jump_is_shortened_to_the_limit() -> None:
    decision = G.MaxRelativeJump(0.05).decide(proposal(jump=2.0, norm=10.0))
    assert decision == Decision(True, "relative jump 0.2 > 0.05, shortened", 0.25)


# --- in a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (lambda: G.After(10), [False, False, False, True, True, True]),
        (lambda: G.Before(10), [True, True, True, False, False, False]),
        (lambda: G.After(share=0.5), [False, False, True, True, True, True]),
        (lambda: G.Before(share=0.5), [True, True, False, False, False, False]),
        (
            lambda: G.After(share=0.25) & G.Before(share=0.75),
            [False, True, True, True, False, False],
        ),
        (lambda: G.Every(2), [False, True] * 3),
        (lambda: G.Agreement(-1.0), [True] * 6),
    ],
)
def test_gates_say_when_in_a_run_of_18_steps(
    gate: Callable[[], G.Gate], expected: list[bool]
) -> None:
    assert applied(gate(), total_steps=18) == expected


def test_the_event_carries_the_reason_and_the_cosine() -> None:
    events = run(G.Agreement(2 / 3) & G.Every(1))
    for event in events:
        sign = ">" if event.applied else "<="
        expected = f"agreement {event.agreement:.2f} {sign} 0.67"
        assert event.reason.startswith(expected)
    assert run(G.Every(2))[0].reason == "cycle 1, every 2"
    assert run(G.Every(2))[0].agreement is None
    assert run(None)[0].reason == "predicted"


def test_what_a_gate_refuses_is_the_twins_refusal() -> None:
    ps, slow_ps = parameters(torch.float64), parameters(torch.float64)
    optimizer = pc.PLP(BASES["momentum"](ps), gate=G.After(9) & G.Every(2))
    twin = Twin(
        BASES["momentum"](slow_ps),
        Slow(3, midline()),
        lambda cycle, points, there: there if 3 * cycle >= 9 and cycle % 2 == 0 else None,
    )
    for t in range(40):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-9, atol=1e-10)


# --- combined with & -----------------------------------------------------------------------------


def test_all_gates_must_agree_and_the_reason_names_who_decided() -> None:
    yes, no, other = Fixed(True, "early"), Fixed(False, "late"), Fixed(False, "rough")
    asked = proposal()
    assert (yes & Fixed(True, "smooth")).decide(asked).reason == "early and smooth"
    assert (yes & no & other).decide(asked).reason == "late"
    assert not (no & yes).decide(asked).apply
    # the shortest jump of all wins
    gates = Fixed(True, "a", 0.5) & Fixed(True, "b", 0.25) & Fixed(True, "c")
    assert gates.decide(proposal()).scale == 0.25


def test_rules_that_fired_in_one_gate_are_told_of_all() -> None:
    fired = (("jump", "warn"),)

    class Alarmed(Fixed):
        def decide(self, proposal: Proposal) -> Decision:
            return Decision(True, "written", 1.0, fired)

    assert (Fixed(True) & Alarmed(True)).decide(proposal()).fired == fired


def test_a_share_of_nothing_is_reached_at_once_also_where_no_progress_is_known() -> None:
    assert G.After(share=0.0).decide(proposal(progress=0.0)).apply
    assert G.After(share=0.0).decide(proposal(progress=None)).apply


def test_the_repr_names_the_loss_and_a_third_partys_gate_needs_no_attributes() -> None:
    assert (
        repr(G.LossCheck(length, tolerance=0.5))
        == "LossCheck(loss=reference.length, tolerance=0.5)"
    )
    assert repr(Fixed(True) & G.Every(2)) == "(Fixed() & Every(n=2))"


def test_a_refused_prediction_still_tells_how_long_it_would_have_been() -> None:
    free, refused = run(None, 1), run(G.After(100), 1)
    assert refused[0].jump_norm == free[0].jump_norm > 0.0
    assert not refused[0].applied


def test_a_third_partys_gate_takes_part() -> None:
    events, free = run(Fixed(True, "half", 0.5), 1), run(None, 1)
    assert events[0].jump_norm == pytest.approx(free[0].jump_norm / 2)
    assert events[0].reason == "half"


def test_a_jump_that_is_too_long_is_refused_where_asked() -> None:
    refused = [e for e in run(G.MaxRelativeJump(1e-3, shorten=False), 12) if not e.applied]
    assert refused
    assert all("> 0.001" in event.reason for event in refused)


def test_a_jump_within_the_limit_is_the_free_one_bitwise() -> None:
    ps, others = parameters(), parameters()
    optimizer = pc.PLP(BASES["sgd"](ps), gate=G.MaxRelativeJump(1e6))
    other = pc.PLP(BASES["sgd"](others))
    train(optimizer, ps, 12)
    train(other, others, 12)
    assert same_bits(ps, others)


def test_a_cheaper_gate_spares_the_check() -> None:
    ps = parameters()
    check = G.LossCheck(lambda: 0.0)
    optimizer = pc.PLP(BASES["sgd"](ps), gate=G.Every(3) & check)
    train(optimizer, ps, 18)
    assert check.evaluations == 4


def test_a_gate_that_refuses_spares_those_after_it() -> None:
    asked = []

    class Asking(Fixed):
        def decide(self, proposal: Proposal) -> Decision:
            asked.append(1)
            return super().decide(proposal)

    (Fixed(False) & Asking(True)).decide(proposal())
    assert asked == []


def test_nobody_computes_the_cosine_that_nobody_asks_for() -> None:
    def never() -> float:
        pytest.fail("asked")

    asked = Proposal(1, 1, None, never, never, never, never)
    assert (G.Every(1) & G.After(1)).decide(asked).apply


def test_combinations_pass_on_what_they_need() -> None:
    assert (G.Every(2) & (G.After(2) & G.Agreement())).agreement
    assert (G.After(share=0.1) & G.Every(2)).progress
    check = G.LossCheck(lambda: 0.0)
    assert check in (G.Every(2) & (G.After(3) & check)).parts()


@pytest.mark.parametrize(
    "gate",
    [
        G.After(3),
        G.Before(share=0.5),
        G.Every(2) & G.Agreement(0.5),
        G.MaxRelativeJump(0.5, shorten=False),
    ],
    ids=repr,
)
def test_the_repr_of_a_gate_builds_it_again(gate: G.Gate) -> None:
    again = eval(repr(gate), {name: getattr(G, name) for name in dir(G)})
    assert repr(again) == repr(gate)
    for step in (1, 10, 20):
        asked = proposal(step, step // 2, step / 20)
        assert again.decide(asked) == gate.decide(asked)


# --- agreement ----------------------------------------------------------------------------------


def halves(points: Points) -> tuple[list[Tensor], list[Tensor]]:
    """The displacements of both halves of a cycle; theta_0, a predicted point, is left out."""
    k = len(points) - 1
    start = 1 if k >= 3 else 0
    middle = (start + k) // 2
    first = [b - a for a, b in zip(points[start], points[middle], strict=True)]
    second = [b - a for a, b in zip(points[middle], points[k], strict=True)]
    return first, second


def dot(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def cosine(a: list[Tensor], b: list[Tensor]) -> float:
    lengths = length(a) * length(b)
    return dot(a, b) / lengths if lengths else 0.0


@pytest.mark.parametrize(
    "row", [row for row in FAMILY if row.slow and row.predictor.every > 1], ids=lambda r: r.name
)
def test_agreement_agrees_with_the_twin(row: Row) -> None:
    above = {3: 0.65, 4: 0.25, 5: -0.2}[row.predictor.every]

    def accept(cycle: int, points: Points, there: list[Tensor]) -> list[Tensor] | None:
        return there if cosine(*halves(points)) > above else None

    ps, slow_ps = parameters(torch.float64), parameters(torch.float64)
    history = M.History()
    optimizer = pc.Forecast(
        BASES["sgd"](ps), row.predictor, gate=G.Agreement(above), monitors=[history]
    )
    twin = Twin(BASES["sgd"](slow_ps), row.slow(), accept)
    for t in range(48):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-6, atol=1e-8)
    assert {event.applied for event in history.rows} == {True, False}


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [((1.0, 1.0, 1.0), 1.0), ((1.0, 1.0, -1.0), -1.0), ((5.0, 0.0, 1.0), 0.0)],
)
def test_agreement_by_pencil(gradients: tuple[float, ...], expected: float) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.Agreement(0.5))
    constant_steps(optimizer, p, *gradients)
    assert optimizer.last_event.agreement == expected
    assert optimizer.last_event.applied is (expected > 0.5)


def test_a_cycle_in_which_nothing_moved_does_not_agree() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.Agreement(0.0))
    constant_steps(optimizer, p, 0.0, 0.0, 0.0)
    assert optimizer.last_event.agreement == 0.0
    assert not optimizer.last_event.applied


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16], ids=str)
def test_agreement_takes_complex_and_narrow_parameters(dtype: torch.dtype) -> None:
    ps = parameters(dtype)
    optimizer = pc.PLP(BASES["momentum"](ps), gate=G.Agreement(0.0))
    train(optimizer, ps, 12)
    assert all(bool(torch.isfinite(p).all()) for p in ps)


def test_a_parameter_frozen_in_mid_cycle_does_not_count_in_the_cosine() -> None:
    p, q, frozen = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    optimizer = pc.PLP(torch.optim.SGD([p, frozen], lr=1.0), gate=G.Agreement(0.0))
    alone = pc.PLP(torch.optim.SGD([q], lr=1.0), gate=G.Agreement(0.0))
    for t, gradient in enumerate((1.0, 2.0, 4.0)):
        frozen.grad = torch.tensor([(-1.0) ** t * 9]) if t < 2 else None
        constant_steps(optimizer, p, gradient)
        constant_steps(alone, q, gradient)
        if t == 1:
            frozen.requires_grad_(False)
    assert timeless(optimizer.last_event) == timeless(alone.last_event)


# --- the trust region ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1e-4, 1e-3, 1e-2])
def test_a_jump_that_is_too_long_is_cut_to_the_limit_exactly(limit: float) -> None:
    ps, slow_ps = parameters(torch.float64), parameters(torch.float64)
    history = M.History()
    optimizer = pc.PLP(BASES["momentum"](ps), gate=G.MaxRelativeJump(limit), monitors=[history])
    cut = []

    def shorten(cycle: int, points: Points, there: list[Tensor]) -> list[Tensor]:
        jump = [a - b for a, b in zip(there, points[-1], strict=True)]
        factor = min(1.0, limit * length(points[-1]) / length(jump))
        cut.append(factor * length(jump))
        return [b + factor * j for b, j in zip(points[-1], jump, strict=True)]

    twin = Twin(BASES["momentum"](slow_ps), Slow(3, midline()), shorten)
    for t in range(36):
        train(optimizer, ps, 1, start=t)
        train(twin, slow_ps, 1, start=t)
        torch.testing.assert_close(values(ps), values(slow_ps), rtol=1e-9, atol=1e-10)
    assert [event.jump_norm for event in history.rows] == pytest.approx(cut)
    assert all(event.applied for event in history.rows)


def test_the_norm_is_that_of_the_predicted_parameters_alone() -> None:
    p, heavy = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.full((1,), 1e3))
    groups = [{"params": [p]}, {"params": [heavy], "forecast": False}]
    optimizer = pc.Forecast(
        torch.optim.SGD(groups, lr=1.0), P.Secant(2, 1.0), gate=G.MaxRelativeJump(0.1)
    )
    heavy.grad = torch.zeros(1)
    constant_steps(optimizer, p, -1.0, -1.0)  # 2, 3, and 4 shortened to 3.3
    assert p.item() == pytest.approx(3.3)


# --- the loss check -----------------------------------------------------------------------------


class Loss:
    """The sum of squares of a parameter's distance to a target; knows how often it was asked."""

    def __init__(self, p: Tensor, target: float) -> None:
        self.p, self.target, self.asked, self.grad_enabled = p, target, 0, []

    def __call__(self) -> Tensor:
        self.asked += 1
        self.grad_enabled.append(torch.is_grad_enabled())
        return ((self.p - self.target) ** 2).sum()


def checked(target: float, **options: Any) -> tuple[Tensor, pc.Forecast, G.LossCheck, Loss]:
    p = torch.nn.Parameter(torch.zeros(1))
    loss = Loss(p, target)
    check = G.LossCheck(loss, **options)
    return p, pc.PLP(torch.optim.SGD([p], lr=1.0), gate=check), check, loss


def test_a_prediction_that_lowers_the_loss_is_kept() -> None:
    p, optimizer, check, loss = checked(-100.0)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -8.0
    assert optimizer.last_event.applied
    assert check.evaluations == loss.asked == 2
    assert loss.grad_enabled == [False, False]


def test_a_prediction_that_raises_the_loss_is_taken_back() -> None:
    p, optimizer, check, _ = checked(0.0)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -7.0
    event = optimizer.last_event
    assert (event.applied, event.reason) == (False, "the loss rose from 49 to 64")
    assert check.evaluations == 2
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert (p.item(), check.evaluations) == (-14.0, 4)


@pytest.mark.parametrize(("tolerance", "kept"), [(14.9, False), (15.0, True), (16.0, True)])
def test_a_rise_within_the_tolerance_is_allowed(tolerance: float, kept: bool) -> None:
    p, optimizer, _, _ = checked(0.0, tolerance=tolerance)  # from 49 to 64
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == (-8.0 if kept else -7.0)


@pytest.mark.parametrize("before", [1.0, math.nan])
def test_a_loss_of_nan_counts_as_a_rise(before: float) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    losses = iter([before, math.nan])
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.LossCheck(lambda: next(losses)))
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -7.0


@pytest.mark.parametrize("row", FAMILY, ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_taking_back_is_bitwise_and_leaves_the_momentum(row: Row, dtype: torch.dtype) -> None:
    ps, bare_ps = parameters(dtype), parameters(dtype)
    optimizer = pc.Forecast(
        BASES["adamw"](ps), row.predictor, gate=G.LossCheck(itertools.count().__next__)
    )
    bare = BASES["adamw"](bare_ps)
    train(optimizer, ps, 13)
    train(bare, bare_ps, 13)
    assert same_bits(ps, bare_ps)
    for p, q in zip(ps, bare_ps, strict=True):
        assert same_bits([optimizer.state[p]["exp_avg"]], [bare.state[q]["exp_avg"]])


def test_in_shadow_mode_no_loss_is_computed() -> None:
    ps = parameters()
    check = G.LossCheck(lambda: 0.0)
    optimizer = pc.PLP(BASES["sgd"](ps), gate=check, shadow=True)
    train(optimizer, ps, 9)
    assert check.evaluations == 0


def test_two_checks_must_both_pass() -> None:
    ps = parameters()
    good, bad = G.LossCheck(lambda: 0.0), G.LossCheck(itertools.count().__next__)
    optimizer = pc.PLP(BASES["sgd"](ps), gate=good & bad)
    bare_ps = parameters()
    train(optimizer, ps, 6)
    train(BASES["sgd"](bare_ps), bare_ps, 6)
    assert same_bits(ps, bare_ps)
    assert (good.evaluations, bad.evaluations) == (4, 4)


def test_the_check_sees_a_shortened_jump() -> None:
    p = torch.nn.Parameter(torch.full((1,), 100.0))
    seen: list[float] = []
    gate = G.MaxRelativeJump(0.001) & G.LossCheck(lambda: seen.append(p.item()) or 0.0)
    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=gate)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert seen == pytest.approx([93.0, 93.0 - 0.093])
    assert p.item() == pytest.approx(93.0 - 0.093)


def test_a_loss_that_fails_leaves_a_run_that_can_go_on() -> None:
    p, q = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    calls = itertools.count()

    def loss() -> float:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return 0.0

    optimizer = pc.PLP(torch.optim.SGD([p], lr=1.0), gate=G.LossCheck(loss))
    with pytest.raises(KeyboardInterrupt):
        constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    assert p.item() == -7.0  # nobody judged the prediction, so it is not there
    other = pc.PLP(torch.optim.SGD([q], lr=1.0))
    with torch.no_grad():
        q.fill_(-7.0)
    constant_steps(optimizer, p, 1.0, 2.0, 4.0)
    constant_steps(other, q, 1.0, 2.0, 4.0)
    assert p.item() == q.item() == -15.0


# --- resume -------------------------------------------------------------------------------------

# --- refused ------------------------------------------------------------------------------------

CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: G.After(), "give either steps or share, got None and None"),
    (lambda: G.After(3, share=0.5), "give either steps or share, got 3 and 0.5"),
    (lambda: G.After(-1), "steps must be >= 0, got -1"),
    (lambda: G.After(1.5), "steps must be a whole number, got 1.5"),
    (lambda: G.Before(share=math.nan), "share must be a finite number, got nan"),
    (lambda: G.Agreement(1.0), "above must be in [-1, 1), got 1"),
    (lambda: G.MaxRelativeJump(0.0), "limit must be above 0, got 0.0"),
    (lambda: G.MaxRelativeJump(math.inf), "limit must be a finite number, got inf"),
    (lambda: G.LossCheck(3.0), "loss must be a function that returns the loss, got 3.0"),
    (lambda: G.LossCheck(lambda: 0.0, tolerance=-1.0), "tolerance must be "),
    (lambda: G.Every(2) & 3, "gates combine with gates, got 3"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:50] for _, message in CALLS])
def test_what_cannot_be_used_is_refused_with_the_reason(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"predictor": P.ForwardEMA(), "gate": G.Agreement()},
            "Agreement compares two halves of a cycle, but ForwardEMA(decay=0.9, strength=0.5) has "
            "cycles of one step",
        ),
        (
            {"predictor": P.OuterNesterov(1), "gate": G.Every(2) & G.Agreement()},
            "Agreement compares two halves of a cycle, but OuterNesterov(every=1, momentum=0.5, "
            "lr=0.7) has cycles of one step",
        ),
        (
            {"predictor": P.Midline(), "gate": G.After(share=0.5)},
            "the gate must know the length of the run: give total_steps=..., the number of "
            "optimizer steps",
        ),
        (
            {"predictor": P.Midline(), "gate": "After"},
            "gate must be one of paramcast.gates, got 'After'",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_gate_that_does_not_fit_the_wrapper_is_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    predictor = options.pop("predictor")
    with pytest.raises(ArgumentError) as caught:
        pc.Forecast(BASES["sgd"](parameters()), predictor, **options)
    assert str(caught.value) == message


def test_a_longer_cycle_leaves_its_predicted_start_out_of_the_cosine() -> None:
    # The jump from theta_0 is not a step of training: only theta_1 ... theta_k are compared.
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = pc.Forecast(torch.optim.SGD([p], lr=1.0), P.Secant(), gate=G.Agreement(0.0))
    constant_steps(optimizer, p, -1000.0, 1.0, 1.0)
    assert optimizer.last_event.agreement == 1.0
    twin = Slow(3, secant(3, 1.0))
    assert twin.every == optimizer.predictor.every
