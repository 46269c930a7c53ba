"""A folder of images, found, decoded once, and stored where every process can read the pixels."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import TaskError
from ..reading import printable
from .decoding import ENDINGS, Mark, Picture, decode

SPLITS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""Folders that are splits, in lower case, in the order of the task's splits."""
IGNORED = "__MACOSX"
"""What macOS adds to archives: a folder of hidden files."""
THREADS = 8
"""Decoding releases Python's lock; each thread has one image of at most LARGE_PIXELS."""
MOST_NAMED = 8
"""The most broken files that one message names."""
FILE = "images.npz"
TOLD = {
    Mark.TRANSPARENT: "images_transparent",
    Mark.TURNED: "images_turned",
    Mark.FRAMES: "images_frames",
}


@dataclass
class Found:
    """What a folder holds.

    Args:
        root: the folder.
        classes: names of the folders of images, sorted.
        files, labels, splits, nested: by image: its path, class, split (0 where none is given),
            and whether it lies deeper than directly in its class's folder.
        given: images by the folder of their split, empty where splits are not given.
        outside: images that belong to no class, by the folder that they lie in.
        others: files that are not images, by their ending.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    nested: list[bool] = field(default_factory=list)
    given: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


def share_images(root: Path) -> Path:
    """Decode a folder of images into a file of this process's own, removed when it ends.

    The file holds plain arrays: `pixels` (uint8 [N, 32, 32, 3]), `labels`, `splits`, `classes`, and
    the description as JSON.

    Raises:
        TaskError: the folder or an image cannot be read, or there are fewer than two classes.
    """
    found = find_images(root)
    if len(found.classes) < 2 or not found.files:
        outside = found.outside.total()
        beside = f" and {outside} images outside them" if outside else ""
        raise TaskError(
            f"{root.name} holds {len(found.classes)} folders with {len(found.files)} images{beside}"
            "; put the images of each class into a folder of its own, at least 2 classes"
        )
    # decode, then bring all images to 8 bits a value
    pictures = _decoded(found)
    pixels, scale = _scaled(pictures)
    description = _description(found, pictures, pixels) | scale
    # one file that every process reads; removed when this process ends
    try:
        folder = Path(tempfile.mkdtemp(prefix="paramcast-images-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        np.savez(
            folder / FILE,
            pixels=pixels,
            labels=np.array(found.labels),
            splits=np.array(found.splits),
            classes=np.array(found.classes),
            description=np.array(json.dumps(description)),
        )
    except OSError as error:
        raise TaskError(
            f"the pixels of {root.name} ({pixels.nbytes / 2**20:.0f} MiB) cannot be written to the "
            f"temporary folder ({error.strerror}); set TMPDIR to one with room"
        ) from None
    return folder / FILE


# --- finding --------------------------------------------------------------------------------------


def find_images(root: Path) -> Found:
    """Every image of a folder: CLASS/..., or SPLIT/CLASS/... where there is a folder `train`.

    Raises:
        TaskError: a folder cannot be read.
    """
    found = Found(root)
    try:
        splits = _given_splits(root)
        classes = {d.name for place in splits or [root] for d in _folders(place)}
        found.classes = sorted(classes)
        files = sorted(PurePath(file).relative_to(root) for file in _below(root))
    except OSError as error:
        raise TaskError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or move it away"
        ) from None
    # every file is either an image of a class or counted as what was not read, and why
    label = {name: i for i, name in enumerate(found.classes)}
    for file in files:
        place, *inner = file.parts if splits else ("", *file.parts)
        if file.suffix.lower() not in ENDINGS:
            found.others[file.suffix.lower() or file.name] += 1
        elif len(inner) < 2 or (splits and root / place not in splits):
            found.outside[file.parts[0] if len(file.parts) > 1 else root.name] += 1
        else:
            found.files.append(root / file)
            found.labels.append(label[inner[0]])
            found.splits.append(SPLITS[place.lower()] if splits else 0)
            found.nested.append(len(inner) > 2)
            if splits:
                found.given[place] += 1
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


def _decoded(found: Found) -> list[Picture]:
    """All images, in threads; all that are broken are named at once."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    Image.preinit()  # before the threads, each of which would do it
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # about damaged tags, and sizes: our limit is stricter
        results = list(
            track(
                pool.map(_attempt, found.files),
                "reading images",
                len(found.files),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
        )
    # one message for everything that is broken
    broken = [
        f"{file.relative_to(found.root).as_posix()} ({result})"
        for file, result in zip(found.files, results, strict=True)
        if isinstance(result, str)
    ]
    if len(broken) == 1:
        name, _, reason = broken[0].partition(" (")
        raise TaskError(f"{name} cannot be read as an image ({reason}; remove it")
    if broken:
        more = ["..."] if len(broken) > MOST_NAMED else []
        raise TaskError(
            f"{len(broken)} files cannot be read as images: "
            f"{', '.join(broken[:MOST_NAMED] + more)}; remove them"
        )
    return [result for result in results if isinstance(result, Picture)]


def _attempt(file: Path) -> Picture | str:
    try:
        return decode(file)
    except ValueError as error:
        return str(error)


def _scaled(pictures: list[Picture]) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """The pixels in 8 bits a value, and how deep ones were scaled: all alike, so they compare."""
    deep = [picture for picture in pictures if Mark.DEEP in picture.marks]
    black, white, why = _range(deep)

    def scale(picture: Picture) -> npt.NDArray[np.uint8]:
        if Mark.DEEP not in picture.marks:
            return picture.pixels
        shares = np.clip((picture.pixels - black) / (white - black), 0, 1)  # bicubic overshoots
        grey = np.rint(255 * shares).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    facts = {"images": len(deep), "black": black, "white": white, "because": why}
    pixels = np.stack([scale(picture) for picture in pictures])
    return pixels, {"images_deep": facts} if deep else {}


def _range(deep: list[Picture]) -> tuple[float, float, str]:
    """Which values become black and white.

    Integers keep the scale of their type, cut to the bits in use: cameras and scanners store 10,
    12 or 14 bits in 16. Floating point from 0 to 1 is such a scale too. Anything else is scaled
    from the smallest to the largest value of the folder.
    """
    low = min((picture.extremes[0] for picture in deep), default=0.0)
    high = max((picture.extremes[1] for picture in deep), default=1.0)
    whole = all(float(value).is_integer() for picture in deep for value in picture.extremes)
    if low >= 0 and high <= 1:
        return 0.0, 1.0, "unit"
    if low >= 0 and whole:
        bits = max(8, int(high).bit_length())
        return 0.0, float(2 ** (bits + bits % 2) - 1), "bits"
    return low, high if high > low else low + 1, "range"


# --- telling --------------------------------------------------------------------------------------


def _description(
    found: Found, pictures: list[Picture], pixels: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Facts of the description; those with nothing to say are left out."""
    counts = Counter(found.labels)
    classes = [[printable(name), counts[i]] for i, name in enumerate(found.classes)]
    facts: dict[str, Any] = {
        "images": {"images": len(pictures), "count": len(classes), "classes": classes}
    }
    if found.given:
        facts["images_splits"] = {"folders": _listed(found.given)}
    else:
        facts["images_random"] = {}
    for number, name in ((1, "images_no_validation"), (2, "images_no_test")):
        if found.given and number not in found.splits:
            facts[name] = {}
    marked = {name: sum(mark in each.marks for each in pictures) for mark, name in TOLD.items()}
    same = len(pixels) - len({each.tobytes() for each in pixels})
    numbers = {"images_nested": sum(found.nested), **marked, "images_same": same}
    facts.update({name: {"images": number} for name, number in numbers.items() if number})
    for name, left_out in (("images_outside", found.outside), ("images_others", found.others)):
        if left_out:
            facts[name] = {"files": left_out.total(), "listed": _listed(left_out)}
    return facts


def _listed(counts: Counter[str]) -> list[list[Any]]:
    return [[printable(name), number] for name, number in sorted(counts.items())]
