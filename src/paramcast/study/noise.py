"""Noise on the gradients, as a control of what the prediction error might do."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from ..predictors.base import within


class GradientNoise:
    """Gaussian noise on every gradient, before each step of an optimizer.

        g <- g + share |g| z / |z|,     z normal, |.| over all parameters

    Args:
        share: the noise's norm as a share of the gradient's, at least 0.

    Source: Neelakantan et al. 2015, arXiv 1511.06807; there the variance decays with the step, here
    the noise keeps its ratio to the gradient.

    Raises:
        ArgumentError: a share below 0 or above 100.
    """

    def __init__(self, share: float = 0.5) -> None:
        self.share = within("share", share, 0.0, 100.0)

    def attach(self, optimizer: Optimizer, seed: int) -> None:
        """Add the noise from now on; the same seed draws the same noise."""
        generators: dict[torch.device, torch.Generator] = {}

        def before(base: Optimizer, args: Any, kwargs: Any) -> None:
            gradients = [
                p.grad for group in base.param_groups for p in group["params"] if p.grad is not None
            ]
            if not gradients or not self.share:
                return
            noise = []
            for g in gradients:
                if g.device not in generators:
                    generators[g.device] = torch.Generator(g.device).manual_seed(seed)
                own = generators[g.device]
                noise.append(torch.randn(g.shape, generator=own, device=g.device, dtype=g.dtype))
            norms = [torch.stack(torch._foreach_norm(list_)).norm() for list_ in (gradients, noise)]
            torch._foreach_mul_(noise, self.share * norms[0] / norms[1])
            torch._foreach_add_(gradients, noise)

        optimizer.register_step_pre_hook(before)
