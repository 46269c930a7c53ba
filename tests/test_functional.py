"""The arithmetic of a cycle: folds, jumps, buffers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramcast.tensors import functional as F
from paramcast.tensors import segments as S
from reference import ODD, affine, same_bits

SHAPES = ((2, 3), (), (4,), (0,))


def draw_points(
    count: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[list[Tensor]]:
    """`count` points, each a list of tensors."""
    g = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in SHAPES]
        for _ in range(count)
    ]


def predict(weights: tuple[float, ...], points: list[list[Tensor]]) -> list[Tensor]:
    """Fold the points one by one and write the prediction over a copy of the last."""
    plan = F.plan(weights)
    last = [tensor.clone() for tensor in points[-1]]
    if plan.first is None:
        return last
    dtype = last[0].dtype
    if plan.precision is not None:
        dtype = torch.promote_types(dtype, plan.precision)
    _, buffers = F.allocate(last, dtype)
    for fold, point in zip(plan.folds, points, strict=True):
        S.fold_(fold, buffers, point)
    S.jump_(last, buffers, plan.scale)
    return last


def kinds(*weights: float) -> list[str]:
    return [fold.kind for fold in F.plan(weights).folds]


# Multiples of 1/8 cancel exactly, so every kind of fold turns up.
eighths = st.integers(-16, 16).map(lambda n: n / 8)
any_weight = st.floats(-4, 4, allow_nan=False)


def closed(past: list[float]) -> tuple[float, ...]:
    """Weights with a last one that makes the sum 1."""
    return (*past, 1.0 - math.fsum(past))


drawn_weights = st.lists(st.one_of(eighths, any_weight), min_size=1, max_size=8).map(closed)
exact_weights = st.lists(eighths, min_size=1, max_size=8).map(closed)


def test_plp_is_copy_subtract_and_one_jump() -> None:
    plan = F.plan((0.0, -0.5, 0.5, 1.0))
    assert [fold.kind for fold in plan.folds] == ["skip", "copy", "subtract", "skip"]
    assert (plan.scale, plan.first, plan.precision) == (-0.5, 1, None)


def test_lookahead_is_copy_and_subtract() -> None:
    assert kinds(0.5, 0.0, 0.0, 0.5) == ["copy", "skip", "skip", "subtract"]


def test_cumulative_sums_that_cross_zero_use_every_kind_of_fold() -> None:
    assert kinds(*ODD) == ["copy", "subtract", "restore", "average", "subtract", "skip"]


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.0, 0.0, 0.0, 1.0), (-0.0, 0.0, 1.0)])
def test_degenerate_weights_plan_nothing_at_all(weights: tuple[float, ...]) -> None:
    plan = F.plan(weights)
    assert plan.first is None
    assert {fold.kind for fold in plan.folds} == {"skip"}


@pytest.mark.parametrize(
    ("weights", "precision"),
    [
        ((0.0, -0.5, 0.5, 1.0), None),
        ((0.0, -0.5, 0.0, 1.5), None),
        ((0.5, 0.0, 0.5), None),
        ((0.0, -2 / 3, 1 / 3, 4 / 3), torch.float32),
        (ODD, torch.float32),
        ((1.0, -0.99, 0.5, 0.49), torch.float32),  # a mean 99 distances from its points
    ],
)
def test_only_means_ask_for_float32(
    weights: tuple[float, ...], precision: torch.dtype | None
) -> None:
    assert F.plan(weights).precision is precision


@given(drawn_weights, st.integers(0, 3))
def test_folding_equals_a_plain_loop_over_all_points(weights: tuple[float, ...], seed: int) -> None:
    points = draw_points(len(weights), seed=seed)
    folded = predict(weights, points)
    for n, result in enumerate(folded):
        expected = affine(weights)([point[n] for point in points])
        tolerance = 1e-6 * (1 + sum(map(abs, weights)))  # sums may cancel down to 1e-9 of a weight
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


@given(exact_weights)
def test_folding_is_accurate_to_rounding_where_sums_cancel_exactly(
    weights: tuple[float, ...],
) -> None:
    points = draw_points(len(weights))
    for n, result in enumerate(predict(weights, points)):
        expected = affine(weights)([point[n] for point in points])
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("remainder", [1e-3, 1e-5, 1e-7])
def test_a_cumulative_sum_close_to_zero_does_not_lose_the_past(remainder: float) -> None:
    # U = 1, remainder, 1/2 + remainder, 0: the mean of the first two points weighs next to
    # nothing and is worth next to everything.
    weights = (1.0, remainder - 1.0, 0.5, 0.5 - remainder)
    points = draw_points(4, torch.float32)
    for n, result in enumerate(predict(weights, points)):
        expected = affine(weights)([point[n].double() for point in points])
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "weights",
    [(0.001, -0.001, 1 + 5e-10), (0.25, -0.25, 1 - 9e-10), (0.0, 0.0, 1 + 5e-10)],
    ids=str,
)
def test_a_sum_of_weights_within_the_tolerance_changes_nothing_visible(
    weights: tuple[float, ...],
) -> None:
    points = draw_points(len(weights))
    for n, result in enumerate(predict(weights, points)):
        expected = affine(weights)([point[n] for point in points])
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-7)


@given(drawn_weights, st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_an_unmoved_parameter_stays_bitwise_for_any_weights(
    weights: tuple[float, ...], dtype: torch.dtype
) -> None:
    point = draw_points(1, dtype)[0]
    assert same_bits(predict(weights, [point] * len(weights)), point)


@given(drawn_weights)
def test_a_list_of_tensors_equals_one_tensor_at_a_time_bitwise(weights: tuple[float, ...]) -> None:
    points = draw_points(len(weights), torch.float32)
    together = predict(weights, points)
    for n, result in enumerate(together):
        alone = predict(weights, [[point[n]] for point in points])
        assert same_bits([result], alone)


@given(exact_weights, st.floats(-8, 8), st.floats(-8, 8))
def test_a_prediction_shifts_and_scales_with_its_points(
    weights: tuple[float, ...], factor: float, shift: float
) -> None:
    points = draw_points(len(weights))
    moved = [[factor * tensor + shift for tensor in point] for point in points]
    expected = [factor * tensor + shift for tensor in predict(weights, points)]
    torch.testing.assert_close(predict(weights, moved), expected, rtol=0, atol=1e-10)


def test_mixed_dtypes_compute_in_the_buffers_dtype() -> None:
    weights = (0.0, -2 / 3, 1 / 3, 4 / 3)
    points = draw_points(4, torch.bfloat16)
    for n, result in enumerate(predict(weights, points)):
        exact = affine(weights)([point[n].double() for point in points])
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-6)  # one rounding


def test_empty_lists_are_left_alone() -> None:
    S.fold_(F.Fold("average", 0.5), [], [])
    S.jump_([], [], 1.0)


@pytest.mark.parametrize(
    ("dtype", "accumulated"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_norms_accumulate_in_float32_at_least(dtype: torch.dtype, accumulated: torch.dtype) -> None:
    norm = S.buffer_norm(torch.full((10_000,), 300.0, dtype=dtype))  # squares overflow float16
    assert norm.dtype == accumulated
    assert norm.item() == pytest.approx(30_000.0)


def test_buffers_are_views_of_one_flat_tensor() -> None:
    points = draw_points(1, torch.float32)[0]
    flat, views = F.allocate(points, torch.float32)
    assert flat.shape == (6 + 1 + 4 + 0,)
    assert [view.shape for view in views] == [point.shape for point in points]
    for n, view in enumerate(views):
        view.fill_(n + 1)
    assert flat.tolist() == [1.0] * 6 + [2.0] + [3.0] * 4


@pytest.mark.parametrize(
    "point",
    [
        torch.zeros(2, 3),
        torch.zeros(3, 2).t(),
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.zeros(2, 3, 4, 5).permute(3, 1, 0, 2),
    ],
    ids=["contiguous", "transposed", "channels-last", "permuted"],
)
def test_views_take_the_strides_of_dense_points(point: Tensor) -> None:
    flat, (first, second) = F.allocate([point, point], torch.float32)
    assert first.stride() == second.stride() == point.stride()
    first.fill_(1.0)
    second.fill_(2.0)
    assert flat.tolist() == [1.0] * point.numel() + [2.0] * point.numel()


def test_a_point_with_gaps_gets_a_dense_view() -> None:
    flat, (view,) = F.allocate([torch.zeros(4, 6)[:, ::2]], torch.float32)
    assert (flat.numel(), view.shape) == (12, (4, 3))
    assert view.is_contiguous()


def test_a_real_parameter_is_its_own_local_part() -> None:
    p = torch.zeros(2, requires_grad=True)
    assert F.local(p) is p


def test_a_complex_parameter_is_local_as_pairs_of_reals_in_the_same_memory() -> None:
    p = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    F.local(p).fill_(1.0)
    assert p.tolist() == [1 + 1j, 1 + 1j]
    assert F.local(p).shape == (2, 2)


# --- over processes (with real ones: tests/distributed) -----------------------------------------


@pytest.mark.parametrize("length", [0, 1, 1000, F.PIECE_ON_CPU, 3 * F.PIECE_ON_CPU + 7])
def test_a_dot_product_in_pieces_is_that_of_the_whole(length: int) -> None:
    a, b = torch.randn(2, length, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(F.dot(a, b), (a.double() * b.double()).sum())


def test_a_dot_product_of_half_precision_is_exact_in_double() -> None:
    a = torch.full((4096,), 1 + 2**-7, dtype=torch.bfloat16)
    assert F.dot(a, a).item() == 4096 * (1 + 2**-7) ** 2


@pytest.mark.parametrize("value", [0.1, -3.5, math.inf])
def test_in_one_process_the_mean_is_the_number_itself(value: float) -> None:
    assert F.mean_over_ranks(value) == value


def test_a_plain_tensor_is_not_sharded() -> None:
    values = torch.ones(3)
    assert F.sharding(values) == ()
    assert F.sum_over_((), values) is values


def test_resharding_leaves_an_ordinary_model_alone() -> None:
    class Odd(torch.nn.Module):
        def reshard(self) -> None:  # a user's own method of that name
            raise AssertionError

    F.reshard_(torch.nn.Sequential(Odd(), torch.nn.Linear(2, 1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("count", [1, 1 << 18, (1 << 18) + 1, 700_001, (1 << 24) + 1])
def test_the_norm_of_a_buffer_is_accumulated_in_float32_whatever_its_length(
    dtype: torch.dtype, count: int
) -> None:
    flat = torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype)
    few = torch.ones(2, dtype=dtype)
    expected = sum(piece.double().square().sum().item() for piece in flat.split(1 << 18)) ** 0.5
    for norm in (S.buffer_norm(flat), S.norms([few, flat.view(-1, 1), few])[1]):
        assert (norm.dtype, norm.shape) == (torch.float32, ())
        assert norm.item() == pytest.approx(expected, rel=1e-5)
    for wrong in (math.inf, -math.inf, math.nan):
        flat[count // 2] = wrong
        assert not math.isfinite(S.buffer_norm(flat).item())
