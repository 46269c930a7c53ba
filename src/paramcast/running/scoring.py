"""What a prediction is measured by: its score against the next step, and numbers per parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..events import TensorMetrics
from ..tensors import functional as F
from ..tensors.segments import Segment, dot, norm, norms, tensor_dots, total, whole_norm

if TYPE_CHECKING:
    from .settings import Layout


class Score(NamedTuple):
    """How a jump compares with the step that followed it; None where a length is 0."""

    error: float | None
    cosine: float | None


def keep(segments: Sequence[Segment], layout: Layout, scale: float) -> None:
    """Keep the jump and where the next step starts."""
    # kept until the next step is done, which starts here whether the jump was written or not
    jump, start = layout.score, layout.score + 1
    for segment in segments:
        segment.flats[jump].copy_(segment.flats[0]).mul_(scale)
        segment.fold_(F.Fold(F.COPY), start)


def measure_step(segments: Sequence[Segment], layout: Layout, joined: set[int]) -> None:
    """Turn the kept start into minus the step that followed; 0 for parameters that joined since."""
    start = layout.score + 1
    for segment in segments:
        segment.fold_(F.Fold(F.SUBTRACT), start)
        for p, view in zip(segment.parameters, segment.buffers[start], strict=True):
            # its start was not kept, so its step is unknown
            if id(p) in joined:
                view.zero_()


def score(segments: Sequence[Segment], layout: Layout, e: float) -> Score:
    """Compare the kept jump with the step, over all parameters.

    Args:
        e: steps that the jump is worth.
    """
    # b holds minus the step, which only the inner product notices
    a, b = layout.score, layout.score + 1
    return _score(total(norm(segments, a)), total(norm(segments, b)), -dot(segments, a, b), e)


def tensor_metrics(
    segments: Iterable[Segment], names: Mapping[int, str], scale: float
) -> dict[str, TensorMetrics]:
    """Each parameter's jump, before it is written."""
    rows = {}
    for segment in segments:
        jumps, points = segment.buffers[0], segment.points
        squares = tensor_dots(segment, jumps, jumps), tensor_dots(segment, points, points)
        lengths = [square.sqrt().tolist() for square in squares]
        for p, jump, size in zip(segment.parameters, *lengths, strict=True):
            length = abs(scale) * jump
            rows[names[id(p)]] = TensorMetrics(length, length / size if size else None)
    return rows


def score_tensors(
    rows: Mapping[str, TensorMetrics],
    segments: Iterable[Segment],
    names: Mapping[int, str],
    layout: Layout,
    e: float,
) -> dict[str, TensorMetrics]:
    """The same rows with their scores."""
    scored = dict(rows)
    for segment in segments:
        jumps, steps = segment.buffers[layout.score], segment.buffers[layout.score + 1]
        pairs = (jumps, jumps), (steps, steps), (jumps, steps)
        sums = zip(*(tensor_dots(segment, xs, ys).tolist() for xs, ys in pairs), strict=True)
        for p, (jump, step, along) in zip(segment.parameters, sums, strict=True):
            name = names.get(id(p), "")  # "": it has left the groups since
            row = scored.get(name)
            if row is not None:
                error, cosine = _score(math.sqrt(jump), math.sqrt(step), -along, e)
                scored[name] = row._replace(error=error, cosine=cosine)
    return scored


def halves_cosine(segments: Sequence[Segment], layout: Layout) -> float:
    """Cosine of the cycle's two half displacements; 0 where one of them is 0."""
    a, b = layout.halves, layout.halves + 1  # both negated, which the cosine ignores
    lengths = total(norm(segments, a)) * total(norm(segments, b))
    return dot(segments, a, b) / lengths if lengths else 0.0


def parameter_norms(segments: Iterable[Segment]) -> list[Tensor]:
    """Norms that combine into that of all parameters, on their devices."""
    found = []
    for segment in segments:
        own = norms(segment.points)
        found += [whole_norm(segment.groups, torch.stack(own).norm())] if segment.groups else own
    return found


def _score(jump: float, step: float, along: float, e: float) -> Score:
    """|jump - e d| / |e d| and the cosine of both, from their norms and inner product."""
    if not (math.isfinite(jump) and math.isfinite(step)):
        return Score(None, None)
    # |jump - e d|^2 = |jump|^2 - 2 e <jump, d> + e^2 |d|^2, which rounding may bring below 0
    gap = math.sqrt(max(0.0, jump**2 - 2 * e * along + (e * step) ** 2))
    error = gap / abs(e * step) if e * step else None
    return Score(error, along / (jump * step) if jump * step else None)
