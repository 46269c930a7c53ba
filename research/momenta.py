"""Momentum in the place of averaging: the controls of primal averaging with a short window.

Functions for `--methods research/momenta.py:NAME(knob=value)`. A knob `weight_decay` stands for the
task's, which an optimizer of one's own does not get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from paramcast import Forecast
from paramcast.predictors import PrimalAveraging


class Momentum(Optimizer):
    """Adam's scale with a quasi-hyperbolic momentum, before or after it; decoupled weight decay.

        v     <- beta2 v + (1 - beta2) g^2,     s = sqrt(v / (1 - beta2^t)) + eps
        after:   m <- beta1 m + (1 - beta1) lr g / s,   step = (1 - nu) lr g / s + nu m^
        before:  m <- beta1 m + (1 - beta1) g,          step = lr ((1 - nu) g + nu m^) / s

    with m^ = m / (1 - beta1^t), or m where that is not corrected. After, nu = 1 is LaProp,
    nu = beta1 its Nesterov form, and any nu the path of primal averaging in a window of
    1 / (1 - beta1) steps. Before, nu = 1 is AdamW, nu = beta1 nearly NAdam; other nu are QHAdam,
    which is AdEMAMix simplified to one momentum.

    Sources: Ziyin et al., LaProp (2020), arXiv 2002.04839; Ma and Yarats, QHAdam (2018), arXiv
    1810.06801; Morwani et al. (2025), arXiv 2502.02431.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, beta1: float, nu: float, beta2: float,
        weight_decay: float, *, after: bool, corrected: bool = True, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        self.after, self.corrected = after, corrected
        super().__init__(
            parameters,
            {"lr": lr, "beta1": beta1, "nu": nu, "beta2": beta2, "weight_decay": weight_decay,
             "eps": eps},
        )  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, b1, nu, b2 = (group[name] for name in ("lr", "beta1", "nu", "beta2"))
            ps = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in ps]
            for p in ps:
                if not self.state[p]:
                    self.state[p] = {"t": 0, "v": torch.zeros_like(p), "m": torch.zeros_like(p)}
                self.state[p]["t"] += 1
            v, m = ([self.state[p][name] for p in ps] for name in "vm")
            t = self.state[ps[0]]["t"]  # all have a gradient in every step, or none
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, grads, grads, 1.0 - b2)
            scale: Any = torch._foreach_div(v, 1.0 - b2**t)
            torch._foreach_sqrt_(scale)
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_div_(scale, lr)
            new = list(torch._foreach_div(grads, scale)) if self.after else grads
            torch._foreach_lerp_(m, new, 1.0 - b1)
            mixed = list(torch._foreach_mul(m, nu / (1.0 - b1**t if self.corrected else 1.0)))
            torch._foreach_add_(mixed, new, alpha=1.0 - nu)
            if not self.after:
                torch._foreach_div_(mixed, scale)
            torch._foreach_mul_(ps, 1.0 - lr * group["weight_decay"])
            torch._foreach_sub_(ps, mixed)


def laprop(
    parameters: Iterable[Tensor], lr: float, beta1: float = 0.95, nu: float = 1.0,
    beta2: float = 0.999, weight_decay: float = 1e-4, corrected: bool = True,
) -> Optimizer:  # fmt: skip
    """LaProp; nu = beta1 is its Nesterov form. Not corrected, it starts slowly, as averages do."""
    return Momentum(parameters, lr, beta1, nu, beta2, weight_decay, after=True, corrected=corrected)


def ademamix(
    parameters: Iterable[Tensor], lr: float, beta1: float = 0.95, nu: float = 0.9,
    beta2: float = 0.999, weight_decay: float = 1e-4,
) -> Optimizer:  # fmt: skip
    """Simplified AdEMAMix: the momentum and the present gradient, both before Adam's scale."""
    return Momentum(parameters, lr, beta1, nu, beta2, weight_decay, after=False)


def primal(
    parameters: Iterable[Tensor], lr: float, beta: float = 0.9, eta: float = 2.0,
    window: int | None = None, beta2: float = 0.999, momentum: float = 0.0,
    weight_decay: float = 1e-4,
) -> Optimizer:  # fmt: skip
    """Primal averaging over an AdamW whose betas are given."""
    base = AdamW(list(parameters), lr=lr, betas=(momentum, beta2), weight_decay=weight_decay)
    return Forecast(base, PrimalAveraging(beta, eta, window))


def gpa(
    parameters: Iterable[Tensor], lr: float, mu_y: float = 0.7, mu_x: float = 0.9967,
    beta2: float = 0.999, weight_decay: float = 1e-4,
) -> Optimizer:  # fmt: skip
    """Generalized primal averaging as published: the base keeps its momentum and its schedule.

        y = mu_y x + (1 - mu_y) z,   x <- mu_x x + (1 - mu_x) z

    Source: Defazio et al., Smoothing DiLoCo with Primal Averaging (2025), arXiv 2512.17131.
    """
    window = round(1.0 / (1.0 - mu_x))
    return primal(parameters, lr, mu_y, 0.0, window, beta2, 0.9, weight_decay)
