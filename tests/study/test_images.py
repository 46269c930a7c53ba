"""Folders of images: what is read, once and right, and what is said of it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from paramcast.errors import TaskError
from paramcast.study.engines import node, worker
from paramcast.study.engines.node import pack, unpack
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.image_folder import decode
from paramcast.study.tasks.source import Source, find, load
from runs import run_spec

ORIENTATION = 0x0112
WAYS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def scene(seed: int, size: tuple[int, int] = (40, 28)) -> Image.Image:
    """A smooth picture in colours, without symmetry."""
    few = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(few).resize(size)


def folder_of(root: Path, classes: Iterable[str] = "ab", each: int = 12) -> Path:
    """Folders of images, 12 of a class; those of other splits differ."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            scene(1000 * len(root.name) + 100 * label + i).save(root / name / f"{i:02}.png")
    return root


def stored(source: Source) -> dict[str, Any]:
    with np.load(source.data, allow_pickle=False) as arrays:
        return dict(arrays)


def named(tmp_path: Path, image: Image.Image, name: str, **how: Any) -> Path:
    image.save(tmp_path / name, **how)
    return tmp_path / name


# --- one image --------------------------------------------------------------------------------


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 0])
    if transparent:
        image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        pytest.param(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "x.png", (255, 255, 255), id="clear"),
        pytest.param(Image.new("RGBA", (4, 4), (0, 0, 0, 51)), "x.webp", (204, 204, 204),
                     id="a-fifth-black"),
        pytest.param(Image.new("RGBA", (4, 4), (9, 8, 7, 255)), "x.png", (9, 8, 7), id="opaque"),
        pytest.param(Image.new("LA", (4, 4), (0, 51)), "x.png", (204, 204, 204),
                     id="grey-a-fifth-black"),
        pytest.param(palette(False), "x.png", (200, 100, 0), id="palette"),
        pytest.param(palette(True), "x.gif", (255, 255, 255), id="palette-clear"),
        pytest.param(Image.new("1", (4, 4), 1), "x.tif", (255, 255, 255), id="one-bit"),
        pytest.param(Image.new("L", (4, 4), 77), "x.bmp", (77, 77, 77), id="grey"),
        pytest.param(Image.new("CMYK", (4, 4), (255, 0, 51, 0)), "x.tif", (0, 255, 204),
                     id="four-colours"),
        pytest.param(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "x.jpg", (0, 0, 0),
                     id="four-colours-as-jpeg"),
    ],
)  # fmt: skip
def test_every_mode_becomes_colours_on_white(
    image: Image.Image, name: str, colour: tuple[int, ...], tmp_path: Path
) -> None:
    lossless = {"lossless": True} if name.endswith("webp") else {}
    pixels = decode(named(tmp_path, image, name, **lossless))
    np.testing.assert_array_equal(pixels, np.full((32, 32, 3), colour))


def test_a_colour_that_stands_for_transparency_is_white(tmp_path: Path) -> None:
    file = named(tmp_path, Image.new("RGB", (4, 4), (1, 2, 3)), "x.png", transparency=(1, 2, 3))
    assert decode(file).min() == 255


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    black, white = Image.new("L", (40, 30), 0), Image.new("L", (40, 30), 255)
    for name in ("x.gif", "x.webp", "x.tif", "x.png"):
        pixels = decode(named(tmp_path, black, name, save_all=True, append_images=[white]))
        assert pixels.max() == 0, name


@pytest.mark.parametrize("how", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_photo_read_small_is_the_photo(how: dict[str, Any], tmp_path: Path) -> None:
    photo = scene(1, (1200, 800))
    pixels = decode(named(tmp_path, photo, "x.jpg", quality=95, **how))
    assert np.abs(pixels - np.asarray(photo.resize((32, 32)), dtype=int)).max() <= 3


def test_a_damaged_orientation_tag_does_not_matter(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    scene(1).save(root / "a" / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load(find(str(root))).description["images"]["images"] == 25


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_a_value_are_refused(kind: Any, tmp_path: Path) -> None:
    file = named(tmp_path, Image.fromarray(np.ones((5, 5), kind)), "x.tif")
    with pytest.raises(ValueError, match="it has more than 8 bits a value; save it with 8"):
        decode(file)


# --- what a folder is ---------------------------------------------------------------------------


def test_folders_below_a_class_belong_to_it_and_the_rest_is_counted(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    for place in ("a/more/and more/x.png", "b/more/x.png", "x.png", "a/.hidden/x.png", "a/._x.png",
                  "__MACOSX/a/x.png"):  # fmt: skip
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        scene(500 + len(place)).save(root / place)
    (root / "a" / "notes.TXT").touch()
    (root / "b" / "x.heic").touch()
    (root / "a" / "more" / "circle").symlink_to(root)
    linked = tmp_path / "elsewhere"
    (root / "b").rename(linked)
    (root / "b").symlink_to(linked)
    task = load(find(str(root)))
    assert task.description["images"]["classes"] == [["a", 13], ["b", 13]]
    assert task.description["images_outside"] == {"files": 1, "listed": [["photos", 1]]}
    left_out = [[".heic", 1], [".txt", 1], ["circle", 1]]
    assert task.description["images_others"] == {"files": 3, "listed": left_out}


def test_equal_images_are_counted(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    shutil.copy(root / "a" / "00.png", root / "b" / "copy.png")
    assert load(find(str(root))).description["images_same"] == {"images": 1}


def rows_of(inputs: Any) -> set[bytes]:
    return {each.numpy().tobytes() for each in inputs}


@pytest.mark.parametrize(("kept", "missing"), [("test", "validation"), ("val", "test")])
def test_a_split_that_is_missing_is_a_fifth_of_train(
    kept: str, missing: str, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    folder_of(root / "train", each=20)
    folder_of(root / kept, each=3)
    task = load(find(str(root)))
    parts = {"test": task.test, "val": task.validation, "validation": task.validation}
    taken = parts[missing]
    assert (len(task.train), len(taken), len(parts[kept])) == (32, 8, 6)
    assert taken.targets.bincount().tolist() == [4, 4]
    assert f"images_no_{missing}" in task.description
    assert f"images_no_{kept.replace('val', 'validation')}" not in task.description


def test_images_to_test_without_classes_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    folder_of(root / "train", each=15)
    (root / "test").mkdir()
    folder_of(root / "extra", each=2)
    for i in range(3):
        scene(900 + i).save(root / "test" / f"{i}.png")
    task = load(find(str(root)))
    assert [len(part) for part in (task.train, task.validation, task.test)] == [18, 6, 6]
    assert task.description["images_outside"]["listed"] == [["extra", 4], ["test", 3]]
    assert {"images_no_validation", "images_no_test"} <= set(task.description)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos", ("bus", "test", "train"))
    assert load(find(str(root))).description["images"]["count"] == 3


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    folder_of(root / "train")
    folder_of(root / "test", "abc")
    with pytest.raises(
        TaskError, match=r"class 'c' of photos has images .* but none in train; add"
    ):
        load(find(str(root)))


# --- broken files -------------------------------------------------------------------------------


def test_all_broken_files_are_named_at_once(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    for i in range(2):
        (root / "b" / f"x{i}.png").write_bytes((root / "b" / "00.png").read_bytes()[:60])
    (root / "a" / "more").mkdir()
    (root / "a" / "more" / "x.jpg").write_text("text")
    kinds = "PNG, JPEG, BMP, GIF, WEBP or TIFF"
    with pytest.raises(TaskError) as caught:
        find(str(root))
    words = str(caught.value)
    begun = "files that cannot be read as images (3): a/more/x.jpg (it is not "
    assert words.startswith(begun + kinds)
    assert all(f"b/x{i}.png (" in words for i in range(2))
    assert words.endswith("; remove them")
    for i in range(20):
        (root / "a" / f"y{i}.png").touch()
    with pytest.raises(TaskError, match=r"images \(23\): .*a/y14.png \(.*\), \.\.\.; remove"):
        find(str(root))


def test_what_may_not_be_read_is_said(unprivileged: Any) -> None:
    folder, nobody = unprivileged
    root = folder_of(folder / "photos")
    (root / "b" / "00.png").chmod(0)
    with nobody(), pytest.raises(TaskError, match=r"images \(1\): b/00.png \(Permission denied\)"):
        find(str(root))
    (root / "b").chmod(0)
    with nobody(), pytest.raises(TaskError, match=r"/b cannot be read \(Permission denied\); mak"):
        find(str(root))


# --- decoded once -------------------------------------------------------------------------------


def spec_of(task: Any) -> RunSpec:
    return run_spec(task="photos", fingerprint=worker.fingerprint(task), epochs=1)


def test_workers_and_nodes_need_neither_the_folder_nor_the_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    source = find(str(root))
    spec, parcel = spec_of(load(source)), pack(source)
    shutil.rmtree(root)
    here = worker.execute(spec, source)
    assert here["status"] != "failed", here
    assert unpack(source, parcel) == source
    unpack.cache_clear()  # as on another node
    os.unlink(source.data)
    there = node.execute(spec, source, parcel, None)
    assert there["status"] == here["status"], there
    assert there["validation"] == here["validation"]
    with pytest.raises(TaskError, match=r"this node has no .*images\.npz.*: set TMPDIR to such a"):
        unpack(source, ())


def test_pixels_that_changed_are_noticed(tmp_path: Path) -> None:
    source = find(str(folder_of(tmp_path / "photos")))
    spec, arrays = spec_of(load(source)), stored(source)
    arrays["pixels"][0, 0, 0, 0] ^= 1
    np.savez(source.data, **arrays)
    outcome = worker.execute(spec, source)
    assert outcome["status"] == "failed"
    assert "the task's data differ from process to process" in outcome["reason"]


def test_the_pixels_go_when_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    folder_of(tmp_path / "photos")
    code = "from paramcast.study.tasks.source import find; print(find('photos').data)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "own")},
    )  # fmt: skip
    assert Path(done.stdout.strip()).parents[1] == tmp_path / "own"
    assert not list((tmp_path / "own").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="the size of files is limited on Linux")
def test_no_room_for_the_pixels_is_said(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(TaskError, match=r"photos \(0 MiB\) cannot be written .*set TMPDIR to"):
            find(str(root))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- what is said -------------------------------------------------------------------------------


def test_a_dry_run_says_what_was_read(paramcast: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "photos"
    folder_of(root / "train", each=15)
    folder_of(root / "test", each=5)
    ran = paramcast("pilot", "photos", "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[:5] == [
        "40 images in 2 classes, read as 32x32 colours: a (20), b (20).",
        "The splits are those of the folders: test (10), train (30).",
        "There is no folder to validate on, so a fifth of the training images is taken.",
        "24 examples to train, 6 to validate, 10 to test.",
        "A constant answer scores 50.0 % on the test data, where one example is worth 10 points.",
    ]
    # --splits makes random ones, so a folder that has its own is not told to use it
    assert "margin of 0.50 points. Add test examples, or widen --margin." in ran.err
    folder_of(tmp_path / "loose", each=20)
    ran = paramcast("pilot", "loose", "--dry-run")
    assert "margin of 0.50 points. Use --splits 12, add test examples" in ran.err


# --- random folders from a known truth ------------------------------------------------------------

KINDS = {"rgb": ".png", "jpeg": ".JPG", "grey": ".bmp", "palette": ".png", "clear": ".png",
         "clear-grey": ".png", "inks": ".tif", "frames": ".gif"}  # fmt: skip
"""How an image is written, and its ending."""
TOLERANCES = {"jpeg": 6, "clear": 4, "clear-grey": 4}
"""Levels of 255 by which pixels may differ; others 2, by rounding and the order of turning.
Colours with transparency are multiplied and divided by it in 8 bits."""


@dataclass(frozen=True)
class Made:
    """An image to be written: where, how, and which scene it shows."""

    split: str
    label: str
    below: str
    kind: str
    tag: int
    broken: bool
    seed: int

    @property
    def place(self) -> str:
        name = f"{self.seed}{KINDS[self.kind]}"
        return "/".join(part for part in (self.split, self.label, self.below, name) if part)

    def write(self, root: Path) -> np.ndarray[Any, Any]:
        """Write it; the pixels that are to be read of it, by the plain way."""
        shown = scene(self.seed, (410, 300) if self.kind == "jpeg" else (41, 30))
        if self.kind in ("grey", "palette", "clear-grey", "frames"):
            shown = shown.convert("L")
        kept, how = self.kept(shown)
        upright = Image.new("RGBA", shown.size, "white")
        upright.alpha_composite(
            kept.convert("RGBA") if "clear" in self.kind else shown.convert("RGBA")
        )
        if self.tag in WAYS_BACK:
            exif = Image.Exif()
            exif[ORIENTATION] = self.tag
            kept, how["exif"] = kept.transpose(WAYS_BACK[self.tag]), exif
        file = root / self.place
        file.parent.mkdir(parents=True, exist_ok=True)
        kept.save(file, **how)
        if self.broken:
            file.write_bytes(file.read_bytes()[:40])
        return np.asarray(upright.convert("RGB").resize((32, 32)), dtype=int)

    def kept(self, shown: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
        """The image as it is kept in the file, and how to save it."""
        alpha = scene(self.seed + 1, shown.size).convert("L")
        match self.kind:
            case "jpeg":
                return shown, {"quality": 95, "subsampling": 0}
            case "palette":
                return shown.convert("P"), {}
            case "clear" | "clear-grey":
                shown = shown.copy()
                shown.putalpha(alpha)
                return shown, {}
            case "inks":
                return shown.convert("CMYK"), {}
            case "frames":
                return shown, {"save_all": True, "append_images": [alpha]}
        return shown, {}


@st.composite
def folders(draw: st.DrawFn) -> list[Made]:
    """Images of a folder with at least ten of each class to train on."""
    splits = draw(st.sampled_from([[""], ["train", "test"], ["train", "valid"],
                                   ["Train", "val", "TEST"]]))  # fmt: skip
    labels = draw(st.lists(st.text("abcÄ雪 -{", min_size=1, max_size=4).map(str.strip).filter(bool),
                           min_size=2, max_size=3, unique=True))  # fmt: skip
    seeds, made = iter(range(10_000)), []

    def one(split: str, label: str) -> Made:
        kind = draw(st.sampled_from(list(KINDS)))
        tagged = kind in ("rgb", "jpeg", "clear", "clear-grey", "inks")
        return Made(
            split, label, draw(st.sampled_from(["", "", "more", "more/and more"])), kind,
            draw(st.integers(1, 8)) if tagged else 1, draw(st.integers(0, 19)) == 0, next(seeds),
        )  # fmt: skip

    for label in labels:
        made += [Made(splits[0], label, "", "rgb", 1, False, next(seeds)) for _ in range(10)]
        for split in splits:
            made += [one(split, label) for _ in range(draw(st.integers(1, 4)))]
            made.append(Made(split, label, "", "rgb", 1, False, next(seeds)))
    return made


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(images=folders())
def test_what_is_read_of_a_random_folder_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, images: list[Made]
) -> None:
    root = tmp_path_factory.mktemp("random") / "photos"
    truth = {image: image.write(root) for image in images}
    broken = sorted(image.place for image in images if image.broken)
    if broken:
        with pytest.raises(TaskError) as caught:
            find(str(root))
        assert [name for name in broken if f"{name} (" in str(caught.value)] == broken[:8]
        for name in broken:
            (root / name).unlink()
    whole = sorted(
        (image for image in images if not image.broken), key=lambda i: i.place.split("/")
    )
    source = find(str(root))
    task, arrays = load(source), stored(source)

    for image, pixels in zip(whole, arrays["pixels"], strict=True):
        difference = np.abs(pixels - truth[image]).max()
        assert difference <= TOLERANCES.get(image.kind, 2), (image, difference)
    labels = sorted({image.label for image in whole})
    assert [labels[i] for i in arrays["labels"]] == [image.label for image in whole]

    splits = Counter(image.split for image in whole)
    order = {"train": 0, "val": 1, "valid": 1, "test": 2, "": 0}
    assert arrays["splits"].tolist() == [order[image.split.lower()] for image in whole]
    sizes = task.description["split"]
    assert sum(sizes.values()) == len(whole)
    for split, number in splits.items():
        part = ("train", "validation", "test")[order[split.lower()]]
        assert sizes[part] == number or (part == "train" and len(splits) < 3)
    classes = Counter(image.label for image in whole)
    expected: dict[str, Any] = {
        "images": {"images": len(whole), "count": len(labels),
                   "classes": [[label, classes[label]] for label in labels]},
    }  # fmt: skip
    if splits.keys() == {""}:
        expected["images_random"] = {}
    else:
        expected["images_splits"] = {"folders": [[name, splits[name]] for name in sorted(splits)]}
        for number, name in ((1, "images_no_validation"), (2, "images_no_test")):
            if number not in arrays["splits"]:
                expected[name] = {}
    told = {k: v for k, v in task.description.items() if k not in ("split", "test_accuracy")}
    assert told == expected
