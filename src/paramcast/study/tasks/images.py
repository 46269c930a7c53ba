"""A task from a folder that holds one folder of images per class."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...errors import TaskError
from .networks import small_cnn
from .splits import check_classes, split_at_random
from .task import Task

IMAGE_SIZE = 32
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 100_000_000
"""Of an image; in memory it takes three bytes for each."""


def task_from_images(root: Path, split: int = 0) -> Task:
    """A folder of images per class, resized to 32x32, and a small convolutional network."""
    import numpy as np

    folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_ENDINGS
    ]
    if len(folders) < 2 or not files:
        raise TaskError(
            f"{root.name} holds {len(folders)} folders with {len(files)} images; "
            "put the images of each class into a folder of its own, at least 2 classes"
        )
    inputs = (
        torch.tensor(np.stack([pixels(file) for file, _ in files])).permute(0, 3, 1, 2).float()
        / 255
    )
    targets = torch.tensor([label for _, label in files])
    check_classes(root.name, [folder.name for folder in folders], targets)
    train, validation, test = split_at_random(len(inputs), targets, root.name, split)
    mean = inputs[train].mean((0, 2, 3), keepdim=True)
    std = inputs[train].std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    inputs = (inputs - mean) / std
    return Task(
        name=root.name,
        model=partial(small_cnn, 3, len(folders), IMAGE_SIZE, stages=3),
        train=(inputs[train], targets[train]),
        validation=(inputs[validation], targets[validation]),
        test=(inputs[test], targets[test]),
        epochs=15,
    )


def pixels(file: Path) -> Any:
    """An image in 32x32 colours.

    Raises:
        TaskError: it is no image of a known kind, damaged, or so large that it fills the memory.
    """
    import numpy as np
    from PIL import Image

    try:
        if not file.is_file():  # a pipe would be waited for
            raise ValueError("it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is stricter
            # other formats than these call programs (PostScript) or are read by little-used code
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(
                        f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}"
                    )
                small = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE))
    except Exception as error:  # a damaged file lets a decoder raise anything
        raise TaskError(
            f"{file.parent.name}/{file.name} cannot be read as an image "
            f"({str(error) or type(error).__name__}); remove it"
        ) from None
    return np.asarray(small, dtype=np.uint8)
