"""What a prediction is measured by: its score against the step that follows, norms, a cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..tensors import functional as F
from ..tensors.segments import Segment, dot, norm, norms, total, whole_norm

if TYPE_CHECKING:
    from .settings import Layout


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


def score(
    segments: Sequence[Segment], layout: Layout, e: float
) -> tuple[float | None, float | None]:
    """Error and cosine of the kept jump, which is worth e steps, and the step d that followed.

    |jump - e d| / |e d|, and the cosine of both; None where a length is 0 or not finite.
    """
    # b holds minus the step, which only the inner product notices
    a, b = layout.score, layout.score + 1
    jump, step, along = total(norm(segments, a)), total(norm(segments, b)), -dot(segments, a, b)
    if not (math.isfinite(jump) and math.isfinite(step)):
        return None, None
    # |jump - e d|^2 = |jump|^2 - 2 e <jump, d> + e^2 |d|^2, which rounding may bring below 0
    gap = math.sqrt(max(0.0, jump**2 - 2 * e * along + (e * step) ** 2))
    error = gap / abs(e * step) if e * step else None
    return error, along / (jump * step) if jump * step else None


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
