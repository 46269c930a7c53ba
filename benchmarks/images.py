"""How long a pilot takes to read a folder of large photos.

    python benchmarks/images.py [--rounds 5] [--photos 40]

The driver reads JPEG photos of 12 megapixels (4000 x 3000, noisy, 3.8 MB each, made first): as
`share_images` does, with JPEG's reduced sizes and in threads, beside decoding each at its full size
and resizing it, one after the other. A worker reads the pixels that the driver stored. In turn, in
one process. About 3 minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import machine
import numpy as np
from PIL import Image

from paramcast.study.tasks.image_folder import share_images
from paramcast.study.tasks.images import task_from_images

SIZE = (4000, 3000)


def make(folder: Path, photos: int) -> Path:
    """Half of the photos in each of two classes."""
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 6, (SIZE[1], SIZE[0], 1)).astype(np.int16)
    for i in range(photos):
        few = draw.integers(0, 256, (75, 100, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(few).resize(SIZE), dtype=np.int16)
        place = folder / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        noisy = (pixels + np.roll(noise, 37 * i)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{i}.jpg", quality=90)
    return folder / "photos"


def whole(folder: Path) -> np.ndarray:
    """Every photo decoded at its full size, one after the other."""
    small = []
    for file in sorted(folder.rglob("*.jpg")):
        with Image.open(file) as image:
            small.append(np.asarray(image.convert("RGB").resize((32, 32))))
    return np.stack(small)


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("--photos", type=int, default=40, help="half of them in each class")
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    with tempfile.TemporaryDirectory() as temporary:
        folder = make(Path(temporary), given.photos)
        stored = share_images(folder)
        with np.load(stored) as arrays:
            difference = np.abs(arrays["pixels"] - whole(folder).astype(int)).max()
        loops = {
            "at full size": lambda: whole(folder),
            "driver": lambda: share_images(folder),
            "worker": lambda: task_from_images("photos", stored),
        }
        seconds = machine.in_turn(loops, given.rounds)
    machine.heading("pillow")
    rows = [
        (
            name,
            machine.spread(took),
            machine.spread(machine.quotients(seconds["at full size"], took)),
        )
        for name, took in seconds.items()
    ]
    machine.table("reader | seconds | times as fast", rows)
    print(f"\n{given.photos} photos; pixels differ by at most {difference} of 255.")


if __name__ == "__main__":
    main()
