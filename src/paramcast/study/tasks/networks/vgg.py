"""VGG16 for 32x32 images.

Sources: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image
recognition", 2014, arXiv 1409.1556, configuration D, in the usual CIFAR variant, as in the public
repository kuangliu/pytorch-cifar: batch norm after each convolution and one linear layer at the
end in place of three.
"""

from __future__ import annotations

from torch import nn

# width and number of 3x3 convolutions before each halving
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(channels: int, classes: int, size: int) -> nn.Module:
    """VGG16 with batch norm and one linear layer, for images of 32x32 (14.7 M)."""
    layers: list[nn.Module] = []
    for width, count in STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    left = (size >> len(STAGES)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * left, classes))
