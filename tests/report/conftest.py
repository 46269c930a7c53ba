"""Synthetic folders, the command, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import opening
from synthetic import EVIL, write_pilot, write_study

from command import Ran, call
from paramcast.report.html.write import write_report

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture(scope="session")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pilot with every chart: tuning, a return, top-5 errors; runs that went wrong."""
    folder = tmp_path_factory.mktemp("pilot")
    write_pilot(
        folder, name=EVIL, classes=20, seeds=8, trials=8, diverged=(("demon", 2),),
        effects={"plp": 0.02}, failed=((0, "ValueError: <b>no</b> such file"),),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


@pytest.fixture
def paramcast() -> Callable[..., Ran]:
    """paramcast("report", folder): the command, in this process."""
    return lambda *words: call(Path.cwd(), *words)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs chromium")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def files(
    pilot: Path, study: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """The pages, by folder and language."""
    out = tmp_path_factory.mktemp("pages")
    return {
        (name, language): write_report(folder, out / f"{name}-{language}.html", language=language)
        for name, folder in (("pilot", pilot), ("study", study))
        for language in ("en", "ja")
    }


def visiting(browser: Any, files: dict[tuple[str, str], Path]) -> Iterator[Callable[..., Any]]:
    """visit("pilot", "ja", color_scheme="dark"): a report with every chart drawn."""
    with opening(browser) as opened:

        def visited(name: str, language: str = "en", **options: Any) -> Any:
            page = opened(files[name, language].as_uri(), **options)
            for event in ("beforeprint", "afterprint"):
                page.evaluate(f"dispatchEvent(new Event('{event}'))")
            return page

        yield visited


visit = pytest.fixture(name="visit")(visiting)
opener = pytest.fixture(scope="module", name="opener")(visiting)
"""For a page that several tests share."""
