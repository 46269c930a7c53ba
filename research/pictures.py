"""The README's pictures, from the FOLDER of a finished pilot: `python research/pictures.py FOLDER`.

Writes docs/pictures/midline.svg and, with Chromium, docs/pictures/report.png. The third picture,
results/rates-gain.svg, is that of the study `rates`. With --gallery, FOLDER holds the folders of
the pilots in docs/gallery.md, and each first screen becomes docs/pictures/gallery-NAME.png.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from paramcast.errors import StudyError

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = 1200, 760
"""Pixels of the report's first screen."""
INK, BLUE, ORANGE, GREY = "#222222", "#0072b2", "#d55e00", "#888888"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--gallery", is_flag=True, help="The pictures of the gallery instead.")
def command(folder: Path, gallery: bool) -> None:
    """Draw the README's pictures, the report's first screen from the pilot in FOLDER."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    if gallery:
        for report in sorted(folder.glob("*/report.html")):
            _first_screen(report, PICTURES / f"gallery-{report.parent.name}.png")
    else:
        _midline().savefig(PICTURES / "midline.svg", metadata={"Date": None}, bbox_inches="tight")
        _first_screen(folder / "report.html", PICTURES / "report.png")
    for file in sorted(PICTURES.iterdir()):
        click.echo(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def _midline() -> Any:
    """Three parameters after three steps, the midline's slope, and the prediction."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "paramcast"  # the same figure is the same file
    first, second, third = 1.0, 0.52, 0.25
    slope, middle = (third - first) / 2, (second + third) / 2
    figure = Figure(figsize=(6.4, 2.7))
    panel = figure.subplots()
    panel.plot([1, 2, 3], [first, second, third], "o-", color=BLUE, linewidth=1.6, markersize=7)
    panel.plot([2.5, 3.5], [middle, middle + slope], "--", color=ORANGE, linewidth=1.6)
    panel.plot([1, 3], [first, third], ":", color=GREY, linewidth=1.2)
    panel.plot([2.5], [middle], "s", color=ORANGE, markersize=5)
    panel.plot([3.5], [middle + slope], "*", color=ORANGE, markersize=14)
    for x, y, text, colour, place in (
        (1, first, "θ₁", BLUE, (8, 4)), (2, second, "θ₂", BLUE, (-14, -16)),
        (3, third, "θ₃", BLUE, (8, 6)),
        (3.5, middle + slope, "θ₊ = (θ₂ + θ₃)/2 + s", ORANGE, (12, -3)),
        (1.5, first + slope / 2, "slope s = (θ₃ - θ₁)/2", GREY, (34, 10)),
    ):  # fmt: skip
        panel.annotate(text, (x, y), textcoords="offset points", xytext=place, color=colour,
                       fontsize=11)  # fmt: skip
    panel.set_xlim(0.8, 4.6)
    panel.set_xticks([1, 2, 3], ["step 1", "step 2", "step 3"])
    panel.set_yticks([])
    panel.set_ylabel("a parameter")
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    figure.tight_layout()
    return figure


def _first_screen(report: Path, file: Path) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise StudyError(f"the picture of the report needs one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603 - a fixed command
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={profile}", "--virtual-time-budget=5000",
             f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={file}",
             report.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


if __name__ == "__main__":
    command()
