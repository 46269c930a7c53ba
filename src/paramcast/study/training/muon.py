"""Muon on the matrices of a model and AdamW on the rest, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

MOMENTUM = 0.95  # as Muon's author sets it


class Muon(Optimizer):
    """torch.optim.Muon on some parameters, AdamW on the others, at one learning rate.

    Muon steps along the nearest orthogonal matrix to its momentum. Here that step is scaled by
    0.2 sqrt(max(rows, columns)), which gives it the size of AdamW's, so that one rate and one
    weight decay fit both. torch.optim.Muon takes matrices alone: a convolution's kernel of shape
    (out, in, h, w) is handed over as the matrix (out, in h w), as Muon's author does.

    Args:
        matrices: parameters of two or more dimensions, for Muon.
        others: for AdamW.
        lr, weight_decay: of both; the decay is decoupled.
        momentum: Muon's, in Nesterov's form; 0 for none.
        betas: AdamW's.

    Reference:
        K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale
        is that of J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        others: Sequence[Tensor],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = MOMENTUM,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        # Muon's own parameters: views of ours as matrices, pointed at them anew in each step
        self._flat: list[Tensor] = [nn.Parameter(p.detach().flatten(1)) for p in matrices]
        self._inner: list[Optimizer] = []
        groups: list[dict[str, Any]] = []
        if matrices:
            muon = torch.optim.Muon(
                self._flat, lr=lr, weight_decay=weight_decay, momentum=momentum,
                nesterov=momentum > 0, adjust_lr_fn="match_rms_adamw",
            )  # fmt: skip
            self._inner.append(muon)
            groups.append({**muon.param_groups[0], "params": list(matrices)})
        if others:
            adamw = AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay)
            self._inner.append(adamw)
            groups.append({**adamw.param_groups[0]})
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            # a scheduler writes into our groups, and a checkpoint into our state: hand both over
            if isinstance(inner, AdamW):
                inner.param_groups, inner.state = [group], self.state
                inner.step()
                continue
            inner.param_groups = [{**group, "params": self._flat}]
            pairs = [*zip(group["params"], self._flat, strict=True)]
            for p, flat in pairs:
                self._hand_over(inner, p, flat)
            inner.step()
            for p, flat in pairs:
                if flat.data_ptr() != p.data_ptr():  # a copy, where memory is channels-last
                    p.copy_(flat.view(p.shape))
        return loss

    def _hand_over(self, inner: Optimizer, p: Tensor, flat: Tensor) -> None:
        """Give Muon a parameter, its gradient and its momentum as matrices."""
        flat.data = p.detach().flatten(1)
        flat.grad = None if p.grad is None else p.grad.flatten(1)
        if flat.grad is not None:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(flat).view(p.shape)
            inner.state[flat] = {"momentum_buffer": self.state[p]["momentum_buffer"].view_as(flat)}


def matrices_of(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """A model's learnable parameters: those that Muon takes, and the others.

    Muon is for hidden layers. Vectors, embeddings and the output layer go to AdamW; the output
    layer is the model's last one with parameters, if it is linear.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    >>> [[*p.shape] for part in matrices_of(net) for p in part]
    [[4, 1, 3, 3], [4], [2, 4], [2]]
    """
    layers = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    left_out = {id(m.weight) for m in layers if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    if layers and isinstance(layers[-1], nn.Linear):
        left_out.add(id(layers[-1].weight))
    learnable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learnable if p.ndim > 1 and id(p) not in left_out]
    taken = {id(p) for p in matrices}
    return matrices, [p for p in learnable if id(p) not in taken]
