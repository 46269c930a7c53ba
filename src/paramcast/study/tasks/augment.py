"""The standard augmentation of small images, for a whole batch at once on its device."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

PADDING = 4  # pixels at each edge, as is usual for 32 x 32


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels and mirror every other one, at random.

    Each image is padded with 4 zeros (the training set's mean colour) on every side, cut back to
    its size at a place drawn uniformly, and mirrored left to right with probability 1/2.

    Args:
        images: (batch, channels, height, width).
        generator: on the images' device; alone determines the result.

    Returns:
        A new tensor of the same shape.
    """
    count, _, height, width = images.shape
    device = images.device
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
    across = torch.arange(width, device=device)
    rows = shifts[0] + torch.arange(height, device=device)  # (batch, height)
    columns = shifts[1] + torch.where(mirrored, across.flip(0), across)  # (batch, width)
    padded = nnf.pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(count, device=device)
    cut = padded[each[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()
