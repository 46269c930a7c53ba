"""The first screen as a piece of HTML: escaped, light, and drawn as the report says."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic import EVIL

from paramcast.report.html.first import WIDTH, first_screen
from paramcast.report.html.load import load
from runs import cell


@pytest.mark.parametrize(("language", "next_"), [("en", "What to do next"), ("ja", "次にすること")])
def test_it_is_escaped_small_and_without_scripts(pilot: Path, language: str, next_: str) -> None:
    page = first_screen(pilot, language)
    assert next_ in page
    assert EVIL not in page
    assert "&lt;img src=x" in page
    assert len(page.encode()) < 32_000
    ours = page.replace(html.escape(EVIL), "")
    assert re.findall(r"<script|\son\w+=|https?://|<img|<iframe|<link", ours) == []


def test_its_pictures_are_the_stored_intervals(pilot: Path) -> None:
    page, judged = first_screen(pilot), cell(load(pilot).result)
    compared = [row["to_base"] for row in judged["table"] if row["to_base"] is not None]
    means = [float(x) for x in re.findall(r'<circle cx="([-\d.]+)"', page)]
    ends = re.findall(r'<line x1="([-\d.]+)" x2="([-\d.]+)" y1="8"', page)
    assert len(means) == len(ends) == len(compared)
    assert max(abs(c.mean) for c in compared) > 0
    for mean, (low, high), c in zip(means, ends, compared, strict=True):
        assert 0 <= float(low) <= mean <= float(high) <= WIDTH
        # on one scale with 0 in the middle
        if abs(c.mean) > 1e-9:
            scale = (float(high) - float(low)) / (c.high - c.low)
            assert mean - WIDTH / 2 == pytest.approx(scale * c.mean, abs=0.05)


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1000, "light")])
def test_it_fits_a_browser(browser: Any, pilot: Path, width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url))
    page.set_content(f"<meta name=color-scheme content='light dark'>{first_screen(pilot)}")
    # a wide table scrolls in itself
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".verdict").count() == 2
    assert page.locator("svg").count() == page.locator("tbody tr").count() - 1
    assert wrong == []
    page.close()
