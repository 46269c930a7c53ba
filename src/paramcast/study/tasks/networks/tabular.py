"""A network for tables that stands comparison with gradient boosting.

Source: Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
learning", 2022, arXiv 2203.05556 (MLP-PLR).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Periodic(nn.Module):
    """Each number x as relu(A [cos(2 pi c x), sin(2 pi c x)] + b), beside the inputs themselves.

    A plain network learns functions that are smooth in x; house prices jump from street to street.

    The first `numbers` inputs are embedded; their frequencies c are drawn from a normal
    distribution of standard deviation `scale`.
    """

    def __init__(self, numbers: int, frequencies: int, width: int, scale: float) -> None:
        super().__init__()
        self.numbers = numbers
        self.frequencies = nn.Parameter(torch.randn(numbers, frequencies) * scale)
        bound = 1.0 / math.sqrt(2 * frequencies)
        self.weight = nn.Parameter(torch.empty(numbers, 2 * frequencies, width))
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(numbers, width))

    def forward(self, x: Tensor) -> Tensor:
        angles = 2.0 * math.pi * x[:, : self.numbers, None] * self.frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=2)  # (batch, numbers, 2 frequencies)
        embedded = torch.einsum("bnf,nfw->bnw", waves, self.weight) + self.bias
        return torch.cat([embedded.relu().flatten(1), x], dim=1)


def mlp_plr(
    inputs: int, outputs: int, numbers: int, *, width: int = 256, dropout: float = 0.3
) -> nn.Module:
    """Two hidden layers on periodic embeddings of the numbers (0.1 M for 8 of them)."""
    embedding = 16
    layers: list[nn.Module] = [Periodic(numbers, 32, embedding, 1.0)]
    for fan_in in (inputs + embedding * numbers, width):
        layers += [nn.Linear(fan_in, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
