"""Combinations of checkpoints: values by pencil, slow twins, dtypes, ties, buffers, order."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import paramcast as pc
from paramcast.averaging import EMA, LAWA, SWA, PolynomialDecay, Trend
from paramcast.combining.formats import Checkpoint
from paramcast.combining.rules import Knobs, candidates, lengths, weights_of
from paramcast.combining.series import Series
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.predictors import RRE, Affine, LeastSquares, Midline, OuterNesterov, Secant
from reference import SlowRRE


def states(*values: float, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    return [{"w": torch.tensor([value], dtype=dtype)} for value in values]


def combined(given: Any, **options: Any) -> Any:
    return pc.combine(given, **options).state_dict()


# --- by pencil ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"predictor": "mean"}, 3.0),  # (1 + 2 + 6) / 3
        ({"predictor": "mean", "last": 2}, 4.0),  # (2 + 6) / 2
        ({"predictor": "ema", "decay": 0.5}, 29 / 7),  # (1/4 * 1 + 1/2 * 2 + 6) / (7/4)
        ({"predictor": "line"}, 8.0),  # mean 3, slope 5/2: 3 + 2 * 5/2
        ({"predictor": "line", "last": 2, "horizon": 2}, 14.0),  # 6 + 2 * (6 - 2)
        ({"predictor": "line", "horizon": 0}, 5.5),  # 3 + 5/2
        ({"predictor": Midline()}, 6.5),  # PLP: 6 + (2 - 1) / 2
        ({"predictor": Secant(3, 1.0)}, 8.5),  # 6 + (6 - 1) / 2
        ({"predictor": Affine((0.5, 0.0, 0.5))}, 3.5),
        ({"predictor": SWA(2)}, 4.0),
        ({"predictor": PolynomialDecay(1)}, (1 + 2 * 2 + 3 * 6) / 6),
    ],
    ids=str,
)
def test_the_values_of_1_2_6(options: dict[str, Any], value: float) -> None:
    assert combined(states(1, 2, 6), **options)["w"].item() == pytest.approx(value, rel=1e-7)


def test_rre_finds_the_limit_of_a_geometric_sequence() -> None:
    # theta_i = 5 + 2 * (1/2)^i: the displacements -1, -1/2 shrink by 1/2, so the limit is 5
    found = combined(states(7, 6, 5.5), predictor=RRE(2, ridge=1e-12, cap=100))["w"]
    assert found.item() == pytest.approx(5.0, abs=1e-5)


# --- slow twins -----------------------------------------------------------------------------------


def path(count: int, dtype: torch.dtype = torch.float64) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(count)
    point, found = torch.randn(7, dtype=torch.float64, generator=generator), []
    for _ in range(count):
        point = 0.8 * point + 0.3 * torch.randn(7, dtype=torch.float64, generator=generator)
        found.append({"a": point[:4].view(2, 2).to(dtype), "b": point[4:].to(dtype)})
    return found


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([state["a"].flatten(), state["b"]]).double()


def slow_ema(points: list[Tensor], decay: float) -> Tensor:
    powers = [decay ** (len(points) - 1 - i) for i in range(len(points))]
    return sum(w * p for w, p in zip(powers, points, strict=True)) / math.fsum(powers)  # type: ignore


def slow_line(points: list[Tensor], horizon: float) -> Tensor:
    """By solving the normal equations for intercept and slope."""
    n = len(points)
    t = torch.stack([torch.ones(n), torch.arange(n)], 1).double()
    coefficients = torch.linalg.solve(t.T @ t, t.T @ torch.stack(points))
    return coefficients[0] + (n - 1 + horizon) * coefficients[1]


@pytest.mark.parametrize("count", [3, 4, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_predictor_is_its_slow_twin_rounded_once(count: int, dtype: torch.dtype) -> None:
    given = path(count, dtype)
    points = [flat(state) for state in given]
    for predictor, options, twin in (
        ("mean", {}, sum(points) / count),
        ("mean", {"last": 2}, (points[-1] + points[-2]) / 2),
        ("ema", {"decay": 0.7}, slow_ema(points, 0.7)),
        ("line", {"horizon": 1.5}, slow_line(points, 1.5)),
        ("line", {"last": 3}, slow_line(points[-3:], 1.0)),
        (RRE(count - 1), {}, SlowRRE(count - 1).predict([[p] for p in points])[0]),
    ):
        found = combined(given, predictor=predictor, **options)
        assert found["a"].dtype == dtype
        exact = dtype == torch.float64
        for name, part in (("a", twin[:4]), ("b", twin[4:])):
            # the nearest number of the dtype, or its neighbour where a tie of float64 decides
            eps = 1e-12 if exact else torch.finfo(dtype).eps
            torch.testing.assert_close(found[name].flatten().double(), part, rtol=eps, atol=1e-12)


def test_a_wrapped_optimizer_predicts_what_its_checkpoints_do() -> None:
    """The first jump of a training, from the checkpoints of the base alone."""
    for rule in (Midline(), LeastSquares(3, 1.0), RRE(3)):

        def train(wrap: Any) -> list[dict[str, Tensor]]:
            torch.manual_seed(0)
            p = nn.Parameter(torch.randn(6, dtype=torch.float64))
            optimizer = wrap(torch.optim.SGD([p], lr=0.1, momentum=0.9))
            found = [{"p": p.detach().clone()}]
            for _ in range(3):
                optimizer.zero_grad()
                (p**4).sum().backward()
                optimizer.step()
                found.append({"p": p.detach().clone()})
            return found

        alone = train(lambda base: base)
        wrapped = train(lambda base, rule=rule: pc.Forecast(base, rule))
        found = combined(alone, predictor=rule)["p"]
        torch.testing.assert_close(found, wrapped[-1]["p"], rtol=1e-12, atol=1e-12)


# --- laws -----------------------------------------------------------------------------------------

RULES = [LAWA(3, every=1), EMA(0.6), EMA(half_life=2), Midline(), LeastSquares(4, 2.0), RRE(3),
         PolynomialDecay(), Trend()]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_weights_sum_to_1_and_what_never_moved_stays_to_the_bit(rule: Any) -> None:
    given = [{**state, "still": torch.tensor([0.1, 1 / 3])} for state in path(5)]
    series = Series([Checkpoint(str(i), state) for i, state in enumerate(given)], as_given=True)
    weights = weights_of(rule, 5, series.products)
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-12)
    assert torch.equal(series.state(weights)["still"], given[0]["still"])


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 100))
def test_shift_and_scale_pass_through(rule: Any, shift: float, scale: float) -> None:
    given = path(6)
    plain = combined(given, predictor=rule)
    moved = [{n: t * scale + shift for n, t in state.items()} for state in given]
    for name, value in combined(moved, predictor=rule).items():
        torch.testing.assert_close(value, plain[name] * scale + shift, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_how_tensors_are_grouped_changes_nothing(rule: Any, monkeypatch: Any) -> None:
    given = path(6)
    whole = combined(given, predictor=rule)
    monkeypatch.setattr("paramcast.combining.series.PIECE", 3)
    parts = combined(given, predictor=rule)
    assert all(torch.equal(whole[name], parts[name]) for name in whole) or isinstance(rule, RRE)
    for name in whole:  # inner products are added up in another order
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-9, atol=1e-12)


def test_the_last_alone_is_the_last_to_the_bit() -> None:
    given = path(4, torch.bfloat16)
    found = combined(given, predictor=Affine((0.0, 1.0)))
    assert all(torch.equal(found[name], given[-1][name]) for name in found)


# --- what a state dict holds ----------------------------------------------------------------------


def test_integers_and_flags_are_the_last_checkpoints_and_changes_are_told() -> None:
    given = [
        {"w": torch.tensor([float(i)]), "ids": torch.tensor([i]), "on": torch.tensor(i > 1)}
        for i in range(3)
    ]
    result = pc.combine(given, predictor="mean")
    state = result.state_dict()
    assert (state["w"].item(), state["ids"].item(), state["on"].item()) == (1.0, 2, True)
    assert "2 integer tensors that changed (ids) are the last checkpoint's" in result.notes


def test_statistics_of_batch_norm_are_the_last_checkpoints_unless_they_are_estimated() -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    x, given = torch.randn(32, 3, generator=torch.Generator().manual_seed(1)), []
    for i in range(3):
        net = model()
        nn.init.constant_(net[0].bias, i)
        net(x)
        given.append(net.state_dict())

    def estimate(state: dict[str, Any]) -> dict[str, Any]:
        net = model()
        net.load_state_dict(state)
        torch.optim.swa_utils.update_bn([x], net)
        return net.state_dict()

    plain = pc.combine(given, predictor="mean")
    name = "1.running_mean"
    assert torch.equal(plain.state_dict()[name], given[-1][name])
    assert any("--batch-norm" in note for note in plain.notes)
    again = pc.combine(given, predictor="mean", batch_norm=estimate)
    state = again.state_dict()
    # bias 1 on average: the mean of the layer's outputs
    expected = nn.functional.linear(x, state["0.weight"], state["0.bias"]).mean(0)
    torch.testing.assert_close(state[name], expected)
    assert again.notes == []
    assert model().load_state_dict(state)


def test_batch_norm_estimated_again_is_a_candidate_by_itself() -> None:
    given = [
        {"w": torch.tensor([1.0]), "n.running_mean": torch.tensor([float(i)])} for i in range(3)
    ]
    result = pc.combine(
        given,
        predictor="mean",
        batch_norm=lambda state: {**state, "n.running_mean": torch.tensor([0.5])},
        evaluate=lambda state: {"error": abs(state["n.running_mean"] - 0.5)},
    )
    assert result.chosen.name == "last checkpoint, batch norm estimated again"
    assert result.state_dict()["n.running_mean"].item() == 0.5


def test_tied_tensors_stay_tied_where_all_checkpoints_tie_them() -> None:
    def state(value: float, *, tied: bool) -> dict[str, Tensor]:
        w = torch.tensor([value, 2.0])
        return {"embed": w, "head": w if tied else w + 1}

    found = combined([state(i, tied=True) for i in range(3)], predictor="mean")
    assert found["embed"].data_ptr() == found["head"].data_ptr()
    loose = combined([state(i, tied=i > 0) for i in range(3)], predictor="mean")
    assert loose["embed"].tolist() == [1.0, 2.0]
    assert loose["head"].tolist() == [pytest.approx(4 / 3), pytest.approx(7 / 3)]


def test_complex_and_strided_and_empty_tensors() -> None:
    given = [
        {"c": torch.tensor([1j * i, 2.0]), "t": torch.arange(6.0).view(2, 3).T + i,
         "e": torch.zeros(0), "s": torch.tensor(float(i))}
        for i in range(3)
    ]  # fmt: skip
    found = combined(given, predictor="mean")
    assert found["c"].tolist() == [1j, 2.0]
    assert torch.equal(found["t"], given[1]["t"])
    assert found["e"].shape == (0,)
    assert found["s"].item() == 1.0


def test_a_mask_of_minus_infinity_stays_and_does_not_spoil_rre() -> None:
    mask = torch.tensor([0.0, -math.inf])
    given = [{**state, "mask": mask} for state in path(5)]
    for predictor in ("mean", "rre", "line"):
        found = combined(given, predictor=predictor)
        assert torch.equal(found["mask"], mask)
        assert torch.equal(found["a"], combined(path(5), predictor=predictor)["a"])


def test_a_diverged_checkpoint_is_named() -> None:
    given = states(1, math.nan, 3, 4)
    for options in ({"predictor": "mean"}, {"predictor": "ema", "decay": 0.5}):
        with pytest.raises(CheckpointError, match="w in checkpoint 2 holds NaN or infinity"):
            pc.combine(given, **options).state_dict()  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="which rre cannot read"):
        pc.combine(given, predictor="rre")
    assert combined(given, predictor="mean", last=2)["w"].item() == 3.5


def test_float16_that_would_overflow_stays_at_the_last_value() -> None:
    given = states(0, 30000, 60000, dtype=torch.float16)
    assert combined(given, predictor="line", horizon=2)["w"].item() == 60000


def test_what_is_no_tensor_and_the_modules_versions_are_kept() -> None:
    net = nn.BatchNorm1d(2)
    one, other = (OrderedDict(net.state_dict()) for _ in range(2))
    other["_extra_state"] = {"scale": 3}
    other._metadata = net.state_dict()._metadata  # type: ignore[attr-defined]
    found = combined([one, other], predictor="mean")
    assert found["_extra_state"] == {"scale": 3}
    assert found._metadata[""]["version"] == 2


# --- order ----------------------------------------------------------------------------------------


def given_steps(*steps: dict[str, int]) -> Series:
    return Series([Checkpoint(f"c{9 - i}", states(i)[0], steps=s) for i, s in enumerate(steps)])


def test_stored_steps_come_before_names_if_they_differ() -> None:
    series = given_steps({"step": 30, "epoch": 1}, {"step": 10, "epoch": 1}, {"step": 20})
    assert [c.name for c in series.checkpoints] == ["c8", "c7", "c9"]
    assert (series.order, series.steps) == ("by the step stored in them", [10, 20, 30])
    same = given_steps({"step": 1}, {"step": 1}, {"step": 2})
    assert [c.name for c in same.checkpoints] == ["c7", "c8", "c9"]
    assert same.order == "by their names"


def test_unequal_distances_are_told() -> None:
    assert given_steps({"step": 1}, {"step": 2}, {"step": 3}).notes() == []
    (note,) = given_steps({"step": 1}, {"step": 2}, {"step": 9}).notes()
    assert note.startswith("the checkpoints are 1 to 7 steps apart")


# --- what is tried --------------------------------------------------------------------------------


def test_lengths_grow_and_end_with_all() -> None:
    assert lengths(2) == [2]
    assert lengths(3) == [2, 3]
    assert lengths(20) == [2, 3, 5, 8, 13, 20]
    assert lengths(8, 3) == [3, 5, 8]


@pytest.mark.parametrize("count", [3, 4, 10, 40])
def test_every_candidate_has_weights_of_its_own(count: int) -> None:
    series = Series([Checkpoint(f"c{i}", s) for i, s in enumerate(path(count))])
    tried = candidates(["mean", "ema", "rre", "line"], count, Knobs(), many=True)
    found = [weights_of(each.rule, count, series.products) for each in tried]
    assert len({each.name for each in tried}) == len(tried)
    assert len(set(found)) == len(found)
    assert (*[0.0] * (count - 1), 1.0) not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "median"}, "predictor must be one of mean, ema, rre, line, got"),
        ({}, "without an evaluation one combination can be made, got several"),
        ({"predictor": "mean", "last": [2, 3]}, "one combination can be made, got 2"),
        ({"predictor": "ema"}, "ema needs a decay"),
        ({"predictor": "ema", "decay": 1.0}, r"decay must be in \(0, 1\), got 1.0"),
        ({"predictor": "mean", "last": 4}, "last must be from 2 to the 3 checkpoints, got 4"),
        ({"predictor": "line", "horizon": math.inf}, "horizon must be a finite number, got inf"),
        ({"predictor": "rre", "last": 2}, "rre reads at least 3 checkpoints, got last=2"),
        ({"predictor": OuterNesterov()}, "has no fixed weights; give a name of mean"),
        ({"predictor": "mean", "test": len}, "test needs an evaluation that chooses"),
        ({"predictor": "mean", "batch_norm": len}, "the checkpoints hold none of it"),
    ],
)
def test_knobs_of_no_use(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        pc.combine(states(1, 2, 6), **options)


@pytest.mark.parametrize("rule", [RRE(3), LeastSquares(4), Midline()], ids=repr)
def test_a_rule_that_reads_more_than_there_are(rule: Any) -> None:
    count = 2 if isinstance(rule, Midline) else 3
    with pytest.raises(CheckpointError, match=rf"reads {count + 1} checkpoints, got {count}"):
        pc.combine(states(*range(count)), predictor=rule)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give at least 2 checkpoints of one training, got none"),
        (states(1), r"got 1 \(checkpoint 1\)"),
        ([*states(1), {"v": torch.ones(1)}], "checkpoint 2 lacks w, which checkpoint 1 has"),
        ([*states(1), {"w": torch.ones(2)}], "w has the shape 1 in checkpoint 1 and 2 in"),
        ([*states(1), *states(1, dtype=torch.float16)], "the dtype float32 in .* and float16"),
        ([{"w": torch.ones(1, dtype=torch.int8)}] * 2, "holds no floating-point tensors"),
        ([{"w": torch.ones(1).to(torch.float8_e5m2)}] * 2, r"is quantized \(float8_e5m2\)"),
        ([{"w": torch.eye(2).to_sparse()}] * 2, "w in checkpoint 1 is sparse"),
        ([{"w": torch.ones(1, device="meta")}] * 2, "w in checkpoint 1 is without values"),
        ([{"w": 1}] * 2, "checkpoint 1 holds no weights"),
        ([3, 4], "a checkpoint is a path or a state dict, got int"),
    ],
)
def test_checkpoints_of_no_use(given: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        pc.combine(given, predictor="mean")
