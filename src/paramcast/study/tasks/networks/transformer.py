"""Transformers: a small vision transformer and a character-level GPT.

Sources: A. Dosovitskiy et al., "An image is worth 16x16 words", 2020, arXiv 2010.11929, in the
tiny size of H. Touvron et al., arXiv 2012.12877; A. Radford et al., "Language models are
unsupervised multitask learners", 2019, in the sizes of the public repository karpathy/nanoGPT.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

STD = 0.02  # standard deviation of the initial weights, as in both sources


class Attention(nn.Module):
    """Multi-head self-attention; `causal`: no position sees a later one."""

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float, bias: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        # (batch, length, 3 x width) -> three of (batch, heads, length, width / heads)
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = nnf.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=self.causal)
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, length, width))
        return out


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, width: int, heads: int, *, causal: bool, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.attention = Attention(width, heads, causal=causal, dropout=dropout, bias=bias)
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.rise = nn.Linear(width, 4 * width, bias=bias)
        self.fall = nn.Linear(4 * width, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        risen = nnf.gelu(self.rise(self.norm2(x)))
        out: Tensor = x + self.dropout(self.fall(risen))
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class VisionTransformer(nn.Module):
    """Patches of an image as a sequence after a class token, whose final state is classified."""

    def __init__(
        self, channels: int, classes: int, size: int, *, patch: int, layers: int, heads: int,
        width: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=False) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self.apply(_initialise)
        nn.init.normal_(self.positions, std=STD)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (batch, patches, width)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        out: Tensor = self.head(self.norm(self.layers(x)[:, 0]))
        return out


def vit_tiny(channels: int, classes: int, size: int, patch: int = 4) -> nn.Module:
    """ViT-Tiny on patches of 4x4: 12 layers, 3 heads, 192 wide (5.4 M)."""
    return VisionTransformer(channels, classes, size, patch=patch, layers=12, heads=3, width=192)


class GPT(nn.Module):
    """A decoder-only transformer over characters, (batch, length) -> (batch, vocabulary, length).

    The classes are the second dimension, where `torch.nn.functional.cross_entropy` wants them. The
    last layer shares its weights with the embedding; no biases.
    """

    def __init__(
        self, vocabulary: int, context: int, *, layers: int, heads: int, width: int,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            *(Layer(width, heads, causal=True, dropout=dropout, bias=False) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width, bias=False)
        self.apply(_initialise)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "fall.weight")):
                # 2 x layers of these add up in the residual stream: keep its variance near 1
                nn.init.normal_(weight, std=STD / math.sqrt(2 * layers))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        hidden = self.dropout(self.characters(x) + self.positions(places))
        hidden = self.norm(self.layers(hidden))
        logits: Tensor = hidden @ self.characters.weight.T
        return logits.transpose(1, 2)
