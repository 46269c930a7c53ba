"""Controls: another predictor's jump, changed so that only one property of it is left."""

from __future__ import annotations

import hashlib
import math

import torch

from ..errors import ArgumentError
from ..tensors.segments import tensor_dots
from .affine import Affine
from .base import Predictor, Workspace


class _Derived(Predictor):
    """Does what another predictor does, except for the jump."""

    def __init__(self, of: Predictor) -> None:
        if not isinstance(of, Predictor):
            raise ArgumentError(f"of must be a predictor such as Midline(), got {of!r}")
        self.of = of
        self.every, self.horizon = of.every, of.horizon
        self.buffers, self.persistent = of.buffers, of.persistent
        self.adjusts_base = of.adjusts_base

    def first_point(self, horizon: float | None) -> int | None:
        return self.of.first_point(horizon)

    def precision(self, horizon: float | None) -> torch.dtype | None:
        return self.of.precision(horizon)

    def observe_(self, point: int, work: Workspace) -> None:
        self.of.observe_(point, work)

    def written_(self, work: Workspace) -> None:
        self.of.written_(work)


class SignFlipped(_Derived):
    """Control: the jump of another predictor, backward.

        theta_plus = theta_k - (prediction - theta_k)

    Args:
        of: the predictor whose jump is reversed.

    Raises:
        ArgumentError: `of` is not a predictor.
    """

    knobs = ("of",)

    @property
    def extra_steps(self) -> float:
        e = self.of.extra_steps
        return -e / (1.0 + 2.0 * e) if self.of.feeds_back else -e

    def extra_steps_at(self, horizon: float | None) -> float:
        return -self.of.extra_steps_at(horizon)

    @property
    def noise_gain(self) -> float | None:
        """The weights are 2 (0, ..., 0, 1) minus those of the other predictor."""
        if not isinstance(self.of, Affine):
            return None
        *past, last = self.of.weights
        return math.fsum(w * w for w in (*past, 2.0 - last))

    def finish_(self, work: Workspace) -> float:
        return -self.of.finish_(work._replace(written=-work.written))


class RandomDirection(_Derived):
    """Control: a jump as long as another predictor's, tensor by tensor, in a random direction.

        jump <- |jump| * z / |z|,   z ~ N(0, I), drawn again for each tensor and cycle

    Only the length of the jump is left, so any gain of this control comes from noise. The draws
    depend only on `seed` and the cycle number: a resumed run repeats them.

    Args:
        of: the predictor whose jump is replaced.
        seed: of the draws.

    Raises:
        ArgumentError: `of` is not a predictor.
    """

    knobs = ("of", "seed")

    def __init__(self, of: Predictor, *, seed: int = 0) -> None:
        super().__init__(of)
        self.seed = int(seed)

    @property
    def extra_steps(self) -> float:
        """0: a random direction moves nothing on average."""
        return 0.0

    def finish_(self, work: Workspace) -> float:
        if self.of.feeds_back:  # the jump that it remembers was never made
            work = work._replace(written=0.0)
        scale = self.of.finish_(work)
        generators: dict[tuple[torch.device, tuple[int, ...]], torch.Generator] = {}
        for segment in work.segments:
            jumps = segment.buffers[0]
            if not jumps:
                continue
            device, shard = jumps[0].device, segment.shard
            if (device, shard) not in generators:  # replicas draw alike everywhere
                generators[device, shard] = torch.Generator(device)
                generators[device, shard].manual_seed(_hash(self.seed, work.cycle, *shard))
            generator = generators[device, shard]
            for jump in jumps:  # one at a time: noise for all would take one more buffer
                noise = torch.randn(
                    jump.shape, generator=generator, device=device, dtype=jump.dtype
                )
                # as long as the jump: noise * |jump| / |noise|
                length = tensor_dots(segment, [jump], [jump])[0].sqrt()
                drawn = tensor_dots(segment, [noise], [noise])[0].sqrt()
                jump.copy_(noise.mul_(length / drawn.clamp_min(torch.finfo(drawn.dtype).tiny)))
        return scale


def _hash(*parts: int) -> int:
    """A seed of 63 bits, so that two seeds share no draw in any two cycles."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
