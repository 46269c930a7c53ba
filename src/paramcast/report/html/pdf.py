"""A report as PDF, printed by a headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...errors import StudyError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--no-pdf-header-footer",
)  # fmt: skip
LIMIT = 120.0  # seconds


def to_pdf(page: str) -> bytes:
    """Print a page that draws all its charts at once.

    Raises:
        StudyError: there is no Chromium, or it fails to print.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise StudyError(
            "--format pdf prints with Chromium, and none was found; install chromium (Debian: "
            "apt-get install chromium), or open the HTML report in a browser and print it"
        )
    with tempfile.TemporaryDirectory(prefix="paramcast-") as folder:
        source, target = Path(folder) / "report.html", Path(folder) / "report.pdf"
        source.write_text(page, "utf-8")
        words = [browser, *QUIET, f"--user-data-dir={folder}/profile", f"--print-to-pdf={target}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            words.append("--no-sandbox")  # Chromium does not start as root with a sandbox
        words.append(source.as_uri())
        try:
            done = subprocess.run(words, capture_output=True, timeout=LIMIT, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StudyError(f"{browser} did not print the report: {error}") from None
        # the file counts, not the exit code
        if not target.is_file():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise StudyError(f"{browser} did not print the report: {' '.join(last)}")
        return target.read_bytes()
