"""Residual networks for small images: He's three-stage CIFAR family, and ResNet18 without its stem.

Sources: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015,
arXiv 1512.03385, section 4.2 for the family; its ResNet18 in the usual CIFAR variant, as in the
public repository kuangliu/pytorch-cifar: a 3x3 stem with stride 1 and no pooling.
"""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: relu(x' + bn(conv(relu(bn(conv(x)))))).

    Where the shape changes, x' is x subsampled and padded with zero channels (He's option A, no
    parameters), or with `projection` a 1x1 convolution and batch norm (option B).
    """

    def __init__(self, fan_in: int, width: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        changes = stride != 1 or fan_in != width
        self.stride, self.new_channels = stride, width - fan_in
        self.shortcut: nn.Module | None = None
        if changes and projection:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = nnf.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return nnf.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            projected: Tensor = self.shortcut(x)
            return projected
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return nnf.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


def resnet(
    channels: int, classes: int, blocks: tuple[int, ...], width: int, *, projection: bool
) -> nn.Module:
    """A residual network: every stage but the first halves the image and doubles the width."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    fan_in = width
    for stage, count in enumerate(blocks):
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            layers.append(Block(fan_in, width << stage, stride, projection=projection))
            fan_in = width << stage
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes)]
    return nn.Sequential(*layers)


def cifar_resnet(channels: int, classes: int, size: int, depth: int = 20) -> nn.Module:
    """He's CIFAR family: depth 6n + 2, widths 16, 32, 64, option A (ResNet20: 0.27 M)."""
    return resnet(channels, classes, ((depth - 2) // 6,) * 3, 16, projection=False)


def resnet18(channels: int, classes: int, size: int) -> nn.Module:
    """ResNet18, CIFAR variant: four stages of two blocks, 64 to 512 wide (11.2 M)."""
    return resnet(channels, classes, (2, 2, 2, 2), 64, projection=True)
