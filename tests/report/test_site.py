"""The site of the docs: built strictly, and read from the disk in a browser without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from test_complete import REFERENCE, public

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def site(shared_folder):
    """Strict: links, anchors and the navigation must be right, or it is not built."""
    for needed in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed)
    folder = shared_folder / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "README.ja.html").exists():
            done = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_rendered(site):
    pages = [page for page in ROOT.glob("*.md") if page.name != "README.md"]
    pages += [
        p for f in ("docs", "results", "examples", "research") for p in (ROOT / f).rglob("*.md")
    ]
    for page in pages:
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        text = (site / page.relative_to(ROOT).with_name(name)).read_text("utf-8")
        # a list straight after a paragraph, a fence or a table that was not understood
        assert not re.search(r"<p>[^<]*\n(- |\d+\. |\|)|```", text), page


def test_the_reference_shows_every_public_name_and_what_its_pages_name(site):
    pages = [p.read_text("utf-8") for p in (site / "docs" / "reference").glob("*.html")]
    shown = set(re.findall(r'id="paramcast\.([^"]+)"', "".join(pages)))
    # a page that names a module shows what is in it
    whole = {name.rpartition(".")[0] for name in public()}
    named = {*public(), *REFERENCE - whole}
    assert len(named) > 80
    assert sorted(named - shown) == []


def test_it_is_read_and_searched_from_the_disk_without_a_network(site, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page()
    wrong = []
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
    page.goto((site / "docs" / "adopt.html").as_uri())
    first = page.locator(".md-search-result__link").first
    for seconds in range(1, 9):  # what is typed before the index is built is not heard
        page.wait_for_timeout(1000 * seconds)
        page.locator("input.md-search__input").fill("seeds_needed")
        page.wait_for_timeout(1000 * seconds)
        if first.is_visible():
            break
        page.reload()
    assert "adopt.html" in first.get_attribute("href")
    page.goto((site / "README.ja.html").as_uri())
    assert page.locator("html").get_attribute("lang") == "ja"
    assert wrong == []
    page.goto((site / "docs" / "adopt.html").as_uri())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        found = axe.Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.close()
