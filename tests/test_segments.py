"""Reductions over the parameters of several segments, against the plain formula."""

from __future__ import annotations

import math

import pytest
import torch

from paramcast.tensors import segments as S
from paramcast.tensors.segments import parameter_norms

DTYPES = (torch.float32, torch.float64, torch.complex64)


@pytest.fixture
def parameters() -> list[torch.nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    shapes = ((3, 2), (0,), (), (4,))
    return [
        torch.nn.Parameter(torch.randn(shape, generator=g, dtype=dtype))
        for dtype in DTYPES
        for shape in shapes
    ]


@pytest.fixture
def filled(parameters: list[torch.nn.Parameter]) -> list[S.Segment]:
    segments = S.make_segments(parameters, 3, None)
    for i, segment in enumerate(segments):
        for j, flat in enumerate(segment.flats):
            flat.copy_(torch.randn(flat.shape, generator=torch.Generator().manual_seed(9 * i + j)))
    return segments


def rows(segments: list[S.Segment]) -> list[torch.Tensor]:
    return [torch.cat([s.flats[i].double() for s in segments]) for i in range(3)]


def test_the_gram_matrix_holds_all_inner_products(filled: list[S.Segment]) -> None:
    stacked = torch.stack(rows(filled))
    torch.testing.assert_close(S.gram(filled, 3), stacked @ stacked.T)
    torch.testing.assert_close(S.gram(filled, 2), stacked[:2] @ stacked[:2].T)
    assert math.isclose(S.dot(filled, 0, 2), S.gram(filled, 3)[0, 2], rel_tol=1e-12)
    assert math.isclose(S.total(S.norm(filled, 1)), rows(filled)[1].norm(), rel_tol=1e-6)


def test_tensor_dots_go_tensor_by_tensor(filled: list[S.Segment]) -> None:
    for segment in filled:
        a, b, _ = segment.buffers
        wanted = [(x.double() * y.double()).sum() for x, y in zip(a, b, strict=True)]
        torch.testing.assert_close(S.tensor_dots(segment, a, b), torch.stack(wanted))


def test_the_parameter_norm_counts_every_parameter(
    parameters: list[torch.nn.Parameter], filled: list[S.Segment]
) -> None:
    with torch.no_grad():
        wanted = math.hypot(*(float(torch.linalg.vector_norm(p)) for p in parameters))
        assert math.isclose(S.total(parameter_norms(filled)), wanted, rel_tol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_nonzero_element_is_enough(dtype: torch.dtype) -> None:
    zeros = [torch.zeros(3, dtype=dtype), torch.zeros(0, dtype=dtype), torch.zeros((), dtype=dtype)]
    assert not S.any_nonzero([])
    assert not S.any_nonzero(zeros)
    assert S.any_nonzero([*zeros, torch.tensor([0, 1e-20], dtype=dtype)])
    assert S.any_nonzero([*zeros, torch.tensor([math.nan], dtype=dtype)])


def test_a_sparse_gradient_counts_by_its_sums() -> None:
    indices = torch.tensor([[1, 1]])
    kinds = {"cancels": [1.0, -1.0], "stays": [1.0, 1.0]}
    sparse = {
        k: torch.sparse_coo_tensor(indices, torch.tensor(v), (3,), check_invariants=True)
        for k, v in kinds.items()
    }
    assert not S.any_nonzero([sparse["cancels"]])
    assert S.any_nonzero([sparse["stays"]])
