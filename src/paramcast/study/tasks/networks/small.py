"""Networks that train in seconds on one core."""

from __future__ import annotations

from torch import nn


def small_cnn(
    channels: int,
    classes: int,
    size: int,
    width: int = 16,
    stages: int = 2,
    *,
    strided: bool = False,
) -> nn.Module:
    """A batch-normalised convolutional network for square images of `size` pixels.

    Each stage is convolution, batch norm, ReLU and average pooling by 2; the width doubles. With
    `strided` the convolutions halve the image themselves: a third of its time on a CPU.
    """
    layers: list[nn.Module] = []
    for _ in range(stages):
        layers += [
            nn.Conv2d(channels, width, 3, stride=2 if strided else 1, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *([] if strided else [nn.AvgPool2d(2)]),
        ]
        size = (size + 1) // 2 if strided else size // 2
        channels, width = width, 2 * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size**2, classes))


def mlp(inputs: int, outputs: int, width: int = 64) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


def image_mlp(channels: int, classes: int, size: int, width: int = 64) -> nn.Module:
    """`mlp` on an image's pixels."""
    return nn.Sequential(nn.Flatten(), mlp(channels * size**2, classes, width))
