"""GoogLeNet for small images.

Sources: C. Szegedy et al., "Going deeper with convolutions", 2014, arXiv 1409.4842, table 1, in
the usual CIFAR variant, as in the public repository kuangliu/pytorch-cifar: one 3x3 convolution in
place of the stem, batch norm throughout, two 3x3 convolutions in place of each 5x5, and no
auxiliary classifiers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HALVING = None
# 1x1; 3x3 after its reduction; 5x5 after its reduction; after pooling
INCEPTIONS: tuple[tuple[int, int, int, int, int, int] | None, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    HALVING,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    HALVING,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def _conv(fan_in: int, width: int, kernel: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU; the image keeps its size."""
    return [nn.Conv2d(fan_in, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]


class Inception(nn.Module):
    """Four views of the same image side by side: 1x1, 3x3, 5x5 and pooled."""

    def __init__(
        self, fan_in: int, one: int, to_three: int, three: int, to_five: int, five: int, pool: int
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*layers)
            for layers in (
                _conv(fan_in, one, 1),
                [*_conv(fan_in, to_three, 1), *_conv(to_three, three, 3)],
                [*_conv(fan_in, to_five, 1), *_conv(to_five, five, 3), *_conv(five, five, 3)],
                [nn.MaxPool2d(3, stride=1, padding=1), *_conv(fan_in, pool, 1)],
            )
        )
        self.width = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def googlenet(channels: int, classes: int, size: int) -> nn.Module:
    """GoogLeNet, CIFAR variant: nine inception modules (6.2 M)."""
    layers, fan_in = _conv(channels, 192, 3), 192
    for widths in INCEPTIONS:
        if widths is HALVING:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        else:
            module = Inception(fan_in, *widths)
            layers.append(module)
            fan_in = module.width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes))
