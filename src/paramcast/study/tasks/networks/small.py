"""Plain stacks of layers: small ones that train in seconds on one core, and VGG16."""

from __future__ import annotations

from torch import nn

# width and number of 3x3 convolutions before each halving
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


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


def vgg16(channels: int, classes: int, size: int) -> nn.Module:
    """VGG16 for images of 32x32 (14.7 M).

    Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2014, arXiv 1409.1556, configuration D, as in kuangliu/pytorch-cifar: batch norm
    after each convolution, one linear layer at the end in place of three.
    """
    layers: list[nn.Module] = []
    for width, count in STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    left = (size >> len(STAGES)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * left, classes))
