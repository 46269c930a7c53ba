"""How long the report of about 1,000 runs takes to build and to open, and how large it is.

    python benchmarks/report.py [--repeats 5]

The runs are drawn (tests/report/synthetic.py), everything else is real: a pilot of 1,000 runs with
30 epochs each, and a study of 1,000 runs in 50 cells. Building is timed in a process of its own,
imports included, as `paramcast report` does it; opening until all charts are drawn in headless
Chromium.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from synthetic import write_pilot, write_study

STUDY = """
name = "thousand"
question = "How large is a report?"

[[grid]]
task = "digits"
methods = ["plp"]
seeds = 5
epochs = 30
batch_size = [8, 16, 32, 64, 128]
lr = [0.005, 0.01, 0.02, 0.05, 0.1]
momentum = [0.5, 0.9]
"""
SCROLL = """async () => {
  const gaps = [];
  let last = performance.now();
  for (let y = 0; y < document.documentElement.scrollHeight; y += 300) {
    scrollTo(0, y);
    await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
    gaps.push(performance.now() - last);
    last = performance.now();
  }
  gaps.sort((a, b) => a - b);
  return [gaps[Math.floor(gaps.length / 2)], gaps[gaps.length - 1]];
}"""


def build(folder: Path, out: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "paramcast", "report", str(folder), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def open_page(out: Path) -> tuple[float, float, float]:
    """Milliseconds to the first chart, and between frames while scrolling: median, longest."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(out.as_uri())
        page.locator("[data-drawn]").first.wait_for()
        first = page.evaluate("performance.now()")
        middle, longest = page.evaluate(SCROLL)
        browser.close()
    return first, middle, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folders = {"pilot": Path(name) / "pilot", "study": Path(name) / "study"}
        write_pilot(folders["pilot"], seeds=95, epochs=30, trials=8, trial_seeds=2)
        write_study(folders["study"], STUDY)
        for kind, folder in folders.items():
            out = Path(name) / f"{kind}.html"
            seconds = [build(folder, out) for _ in range(repeats)]
            opened = [open_page(out) for _ in range(repeats)]
            first, middle, longest = map(statistics.median, zip(*opened, strict=True))
            print(
                f"{kind}: {out.stat().st_size / 1e6:.2f} MB; built in "
                f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, "
                f"n = {repeats}); first chart after {first:.0f} ms, scrolling: {middle:.0f} ms "
                f"between frames, at most {longest:.0f} (medians of {repeats})"
            )


if __name__ == "__main__":
    main()
