"""A folder of images, found, decoded once, and stored where every process can read the pixels."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from ...errors import TaskError
from ..reading import printable

# folders that are splits, in lower case, in the order of the task's splits
SPLITS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
IGNORED = "__MACOSX"  # what macOS adds to archives: a folder of hidden files
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
# Pillow's other formats call programs (PostScript) or are read by little-used code
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
IMAGE_SIZE = 32
# the most pixels of an image; each takes four bytes of memory, eight with transparency
MOST_PIXELS = 100_000_000
LARGE_PIXELS = 25_000_000  # images with more of them in memory are decoded one at a time
# JPEG is decoded, and pixels are averaged in whole blocks, down to this multiple of the size; the
# last step is bicubic. Pillow's documentation calls the result hard to tell from a slow one at 3.
GAP = 3
THREADS = 8  # decoding releases Python's lock; each thread has one image of at most LARGE_PIXELS
MOST_NAMED = 8  # the most broken files that one message names
FILE = "images.npz"
Pixels = npt.NDArray[np.uint8]

_one_large = threading.Lock()


@dataclass
class Found:
    """What a folder holds."""

    classes: list[str]  # names of the folders of images, sorted
    # of each image its path, its class, and the folder of its split ("" where none is given)
    images: list[tuple[Path, str, str]] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)  # images of no class, by their folder
    others: Counter[str] = field(default_factory=Counter)  # what is no image, by its ending


def share_images(root: Path) -> Path:
    """Decode a folder of images into a file of this process's own, removed when it ends.

    The file holds plain arrays: `pixels` (uint8 [N, 32, 32, 3]), `labels`, `splits`, `classes`, and
    the description as JSON.
    """
    found = find_images(root)
    if len(found.classes) < 2 or not found.images:
        outside = found.outside.total()
        beside = f" and {outside} images outside them" if outside else ""
        raise TaskError(
            f"{root.name} holds {len(found.classes)} folders with {len(found.images)} images"
            f"{beside}; put the images of each class into a folder of its own, at least 2 classes"
        )
    pixels = np.stack(_decoded(root, [file for file, *_ in found.images]))
    numbers = {name: i for i, name in enumerate(found.classes)}
    splits = [SPLITS[place.lower()] if place else 0 for *_, place in found.images]
    # one file that every process reads; removed when this process ends
    try:
        folder = Path(tempfile.mkdtemp(prefix="paramcast-images-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        np.savez(
            folder / FILE,
            pixels=pixels,
            labels=np.array([numbers[label] for _, label, _ in found.images]),
            splits=np.array(splits),
            classes=np.array(found.classes),
            description=np.array(json.dumps(_description(found, splits, pixels))),
        )
    except OSError as error:
        raise TaskError(
            f"the pixels of {root.name} ({pixels.nbytes / 2**20:.0f} MiB) cannot be written to the "
            f"temporary folder ({error.strerror}); set TMPDIR to one with room"
        ) from None
    return folder / FILE


def _description(found: Found, splits: list[int], pixels: Pixels) -> dict[str, Any]:
    """Facts of the description; those with nothing to say are left out."""
    counts = Counter(label for _, label, _ in found.images)
    given = Counter(place for *_, place in found.images if place)
    classes = [[printable(name), counts[name]] for name in found.classes]
    facts: dict[str, Any] = {
        "images": {"images": len(pixels), "count": len(classes), "classes": classes},
        "images_random": {},
    }
    if given:
        del facts["images_random"]
        facts["images_splits"] = {"folders": _listed(given)}
        for number, name in ((1, "images_no_validation"), (2, "images_no_test")):
            if number not in splits:
                facts[name] = {}
    if same := len(pixels) - len({each.tobytes() for each in pixels}):
        facts["images_same"] = {"images": same}
    for name, left_out in (("images_outside", found.outside), ("images_others", found.others)):
        if left_out:
            facts[name] = {"files": left_out.total(), "listed": _listed(left_out)}
    return facts


def _listed(counts: Counter[str]) -> list[list[Any]]:
    return [[printable(name), number] for name, number in sorted(counts.items())]


# --- finding --------------------------------------------------------------------------------------


def find_images(root: Path) -> Found:
    """Every image of a folder: CLASS/..., or SPLIT/CLASS/... where there is a folder `train`."""
    try:
        splits = _given_splits(root)
        found = Found(sorted({d.name for place in splits or [root] for d in _folders(place)}))
        files = sorted(PurePath(file).relative_to(root) for file in _below(root))
    except OSError as error:
        raise TaskError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or move it away"
        ) from None
    # every file is either an image of a class or counted as what was not read, and why
    for file in files:
        place, *inner = file.parts if splits else ("", *file.parts)
        if file.suffix.lower() not in ENDINGS:
            found.others[file.suffix.lower() or file.name] += 1
        elif len(inner) < 2 or (splits and root / place not in splits):
            found.outside[file.parts[0] if len(file.parts) > 1 else root.name] += 1
        else:
            found.images.append((root / file, inner[0], place))
    return found


def _given_splits(root: Path) -> list[Path]:
    """The folders of splits that hold folders of classes; none if there is no train among them."""
    named = [folder for folder in _folders(root) if folder.name.lower() in SPLITS]
    found = [folder for folder in named if _folders(folder)]
    # "train" alone beside other folders may as well be a class of that name
    train = any(SPLITS[folder.name.lower()] == 0 for folder in found)
    return found if train and (len(named) > 1 or named == _folders(root)) else []


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir() and not _hidden(each.name)]


def _below(root: Path) -> Iterator[str]:
    """All files; links are followed for folders of classes, but not below: there may be cycles."""
    waiting = [(str(root), 0)]
    while waiting:
        folder, depth = waiting.pop()
        for entry in os.scandir(folder):
            if _hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=depth < 2):
                waiting.append((entry.path, depth + 1))
            else:
                yield entry.path


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == IGNORED


# --- decoding -------------------------------------------------------------------------------------


def _decoded(root: Path, files: list[Path]) -> list[Pixels]:
    """All images, in threads; all that are broken are named at once."""
    broken: list[str] = []

    def attempt(file: Path) -> Pixels | None:
        try:
            return decode(file)
        except ValueError as error:
            broken.append(f"{file.relative_to(root).as_posix()} ({error})")
            return None

    console = Console(stderr=True)
    Image.preinit()  # before the threads, each of which would do it
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # about damaged tags, and sizes: our limit is stricter
        results = track(
            pool.map(attempt, files), "reading images", len(files),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        pixels = [result for result in results if result is not None]
    if broken:
        named = sorted(broken)[:MOST_NAMED] + (["..."] if len(broken) > MOST_NAMED else [])
        raise TaskError(
            f"files that cannot be read as images ({len(broken)}): {', '.join(named)}; remove them"
        )
    return pixels


def decode(file: Path) -> Pixels:
    """An image as 32x32 colours: upright, transparency on white, large photos decoded small.

    It is safe to call from several threads.

    Raises:
        ValueError: it is not an image of a known kind, has more than 8 bits a value, is damaged, or
            so large that it fills the memory; the text says which.
    """
    try:
        if not file.is_file():  # opening a pipe would block
            raise ValueError("it is not a regular file")
        # not by its name: Pillow would map a TIFF, and misread one that is to be rotated
        with file.open("rb") as content, Image.open(content, formats=FORMATS) as image:
            return _small(image)
    except UnidentifiedImageError:
        raise ValueError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except Exception as error:  # a damaged file lets a decoder raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(reason) from None


def _small(image: Image.Image) -> Pixels:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}")
    if image.mode[0] in "IF":
        raise ValueError("it has more than 8 bits a value; save it with 8")
    whole = image.width * image.height
    image.draft("RGB", (GAP * IMAGE_SIZE, GAP * IMAGE_SIZE))  # JPEG: at 1/2, 1/4 or 1/8
    if not image.info.get("progressive"):  # a progressive one is held whole
        whole = image.width * image.height
    with _one_large if whole > LARGE_PIXELS else contextlib.nullcontext():
        image.load()
        if image.has_transparency_data:
            image = image.convert("RGBA")  # resized with premultiplied alpha: no colour bleeds
        elif image.mode != "L":
            image = image.convert("RGB")
        small = image.resize((IMAGE_SIZE, IMAGE_SIZE), reducing_gap=GAP)
    with contextlib.suppress(Exception):  # a damaged tag does not make an image unreadable
        small = ImageOps.exif_transpose(small)  # turned as its tag says, which leaves a square
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    return np.asarray(small.convert("RGB"))
