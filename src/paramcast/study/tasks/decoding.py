"""One image file as 32x32 pixels: upright, transparency on white, large photos decoded small."""

from __future__ import annotations

import contextlib
import enum
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SIZE = 32
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""Pillow's other formats call programs (PostScript) or are read by little-used code."""
MOST_PIXELS = 100_000_000
"""The most pixels of an image; each takes four bytes of memory, eight with transparency."""
LARGE_PIXELS = 25_000_000
"""Images with more of them in memory are decoded one at a time."""
GAP = 3
"""JPEG is decoded, and pixels are averaged in whole blocks, down to this multiple of the size; the
last step is bicubic. Pillow's documentation calls the result hard to tell from a slow one at 3."""
ORIENTATION = 0x0112
"""Exif's tag for how the camera was held."""

_one_large = threading.Lock()


class Mark(enum.IntFlag):
    """What the report says about an image."""

    TRANSPARENT = enum.auto()
    TURNED = enum.auto()
    FRAMES = enum.auto()
    DEEP = enum.auto()


class Picture(NamedTuple):
    """An image, decoded.

    Args:
        pixels: uint8 [32, 32, 3]; where a value has more than 8 bits, float32 [32, 32] in the
            file's own unit, still to be scaled.
        marks: what the report says about it.
        extremes: of a deep image at its full size, the smallest and the largest value.
    """

    pixels: npt.NDArray[Any]
    marks: Mark
    extremes: tuple[float, float] = (0.0, 0.0)


def decode(file: Path) -> Picture:
    """Read an image; safe to call from several threads.

    Raises:
        ValueError: it is not an image of a known kind, damaged, or so large that it fills the
            memory; the text says which.
    """
    try:
        if not file.is_file():  # opening a pipe would block
            raise ValueError("it is not a regular file")
        # not by its name: Pillow would map a TIFF, and misread one that is to be rotated
        with file.open("rb") as content, Image.open(content, formats=FORMATS) as image:
            return _read(image)
    except UnidentifiedImageError:
        raise ValueError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except Exception as error:  # a damaged file lets a decoder raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(reason) from None


def _read(image: Image.Image) -> Picture:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}")
    marks = Mark.FRAMES if getattr(image, "is_animated", False) else Mark(0)
    image.draft("RGB", (GAP * IMAGE_SIZE, GAP * IMAGE_SIZE))  # JPEG: at 1/2, 1/4 or 1/8
    if not image.info.get("progressive"):  # a progressive one is held whole
        pixels = image.width * image.height
    with _one_large if pixels > LARGE_PIXELS else contextlib.nullcontext():
        turned = _is_turned(image)  # TIFF: loading turns it and removes the tag
        image.load()
        if turned or _is_turned(image):  # PNG: the tag may follow the pixels
            marks |= Mark.TURNED
        if image.mode[0] in "IF":
            return _deep(image, marks | Mark.DEEP)
        small = _small(image)
    if small.mode == "RGBA":
        if small.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            marks |= Mark.TRANSPARENT
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    return Picture(np.asarray(small.convert("RGB")), marks)


def _small(image: Image.Image) -> Image.Image:
    """An image of 8 bits a value, small and upright: L, RGB, or RGBA if it may be transparent."""
    if image.has_transparency_data:
        image = image.convert("RGBA")  # resized with premultiplied alpha: no colour bleeds
    elif image.mode != "L":
        image = image.convert("RGB")
    return _upright(image.resize((IMAGE_SIZE, IMAGE_SIZE), reducing_gap=GAP))


def _deep(image: Image.Image, marks: Mark) -> Picture:
    """An image of 16 or 32 bits a value, or of floating point; in Pillow these are all grey."""
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise ValueError("it holds values that are NaN or infinite")
    if image.mode.startswith("I;"):
        image = image.convert("I")
    low, high = image.getextrema()
    small = _upright(image.resize((IMAGE_SIZE, IMAGE_SIZE), reducing_gap=GAP))
    return Picture(np.asarray(small, dtype=np.float32), marks, (float(low), float(high)))  # type: ignore[arg-type]


def _is_turned(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # a damaged tag does not make an image unreadable
        return image.getexif().get(ORIENTATION) in range(2, 9)
    return False


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its tag says; after resizing to a square, which turning leaves a square."""
    return ImageOps.exif_transpose(image) if _is_turned(image) else image
