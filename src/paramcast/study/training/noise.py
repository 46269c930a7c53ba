"""Noise on the gradients, a control for what prediction error might do, and on the start."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..._checks import whole, within


class GradientNoise:
    """Gaussian noise on every gradient, before each step of an optimizer.

        g <- g + share |g| z / |z|,     z normal, |.| over all parameters

    Args:
        share: the noise's norm as a share of the gradient's, at least 0.

    Source: Neelakantan et al. 2015, arXiv 1511.06807. There the variance decays with the step; here
    the noise keeps its ratio to the gradient.

    Raises:
        ArgumentError: a share below 0 or above 100.
    """

    def __init__(self, share: float = 0.5) -> None:
        self.share = within("share", share, 0.0, 100.0)

    def attach(self, optimizer: Optimizer, seed: int) -> None:
        """Add the noise from now on; equal seeds draw equal noise."""
        generators: dict[torch.device, torch.Generator] = {}

        def before(base: Optimizer, args: Any, kwargs: Any) -> None:
            gradients = [
                p.grad for group in base.param_groups for p in group["params"] if p.grad is not None
            ]
            if not gradients or not self.share:
                return
            noise = []
            for g in gradients:
                # a generator per device, made when the first gradient comes from there
                if g.device not in generators:
                    generators[g.device] = torch.Generator(g.device).manual_seed(seed)
                own = generators[g.device]
                noise.append(torch.randn(g.shape, generator=own, device=g.device, dtype=g.dtype))
            # |.| over all tensors is the norm of their norms
            norms = [torch.stack(torch._foreach_norm(list_)).norm() for list_ in (gradients, noise)]
            torch._foreach_mul_(noise, self.share * norms[0] / norms[1])
            torch._foreach_add_(gradients, noise)

        optimizer.register_step_pre_hook(before)


class PerturbedStart:
    """Moves each tensor of the initial weights a little in a random direction.

        theta <- theta + share |theta| z / |z|,     z normal, |.| of each tensor

    Such a run matches the base's in all that matters, yet ends elsewhere. No method should be
    praised or blamed for the difference between two such runs of one seed (the paired null).

    Args:
        share: the length of the move as a share of the tensor's, 0 to 1.
        draw: a whole number from 0; each draws another direction.

    Raises:
        ArgumentError: a share or a draw outside these ranges.
    """

    def __init__(self, share: float = 1e-3, draw: int = 0) -> None:
        self.share = within("share", share, 0.0, 1.0)
        self.draw = whole("draw", draw, 0)

    @torch.no_grad()
    def apply(self, model: nn.Module, seed: int) -> None:
        """Move the learnable parameters; equal seeds and draws move them equally."""
        generator = torch.Generator().manual_seed((seed + self.draw) % 2**63)
        for p in model.parameters():
            if p.requires_grad:
                z = torch.randn(p.shape, generator=generator).to(p)
                p.add_(z, alpha=float(self.share * p.norm() / z.norm()))
