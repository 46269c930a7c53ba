"""The page in a real browser: drawn, switched, filtered, printed, in both languages; axe-core."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from synthetic import EVIL
from test_report_words import ENGLISH, JAPANESE

Visit = Callable[..., Any]

CHARTS = {
    "pilot": ["effect", "paired", "controls", "curves", "target", "tuning",
              "predictions"],
    "study": ["verdicts", "all-0", "rates", "paired", "controls", "curves",
              "target", "predictions"],
}  # fmt: skip
COUNT_MARKS = "s => s.querySelectorAll('.plot .point, .plot .js-line').length"
TEXTS = "s => [...s.querySelectorAll('.plot text')].map(t => t.textContent).join(' | ')"


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("name", ["pilot", "study"])
def test_every_chart_is_drawn_and_the_page_is_accessible(visit, name, language):
    scheme = "dark" if (name, language) == ("pilot", "en") else "light"
    viewport = {"width": 1400, "height": 800}
    page = visit(name, language, color_scheme=scheme, bypass_csp=True, viewport=viewport)
    found = page.eval_on_selector_all(".chart", "all => all.map(s => s.id)")
    assert found == CHARTS[name]
    for chart in found:
        section = page.locator(f"#{chart}")
        assert section.evaluate(COUNT_MARKS) > 0, chart
        assert section.locator(".plot").get_attribute("role") == "img"
        assert section.locator(".plot").get_attribute("aria-label")
        assert section.locator("details tbody tr").count() > 0
    headings_and_landmarks_are_in_order(page)
    if language == "ja":
        no_width_scrolls_sideways(page)
    page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    if (name, language) in (("pilot", "en"), ("study", "ja")):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        violations = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
    if language == "ja":
        no_english_sentence_is_left(page)


def headings_and_landmarks_are_in_order(page):
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for landmark in ("header", "main", "nav", "footer"):
        assert page.locator(landmark).count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def no_width_scrolls_sideways(page):
    for width in (1400, 768, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for _ in range(100):  # Plotly waits before it follows
            if page.evaluate("document.documentElement.scrollWidth") <= width:
                break
            page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def no_english_sentence_is_left(page):
    page.evaluate("document.querySelectorAll('[translate=no]').forEach(e => e.remove())")
    text = page.evaluate("document.body.innerText")
    labels = page.evaluate("[...document.querySelectorAll('[aria-label]')].map(e => e.ariaLabel)")
    charts = page.evaluate("[...document.querySelectorAll('.plot text')].map(e => e.textContent)")
    for line in [*text.splitlines(), *labels, *charts]:
        assert not ENGLISH.search(line.replace(EVIL, "")), line
    assert len([line for line in text.splitlines() if JAPANESE.search(line)]) > 40
    assert len([text for text in charts if JAPANESE.search(text)]) > 5


@pytest.fixture(scope="module")
def pilot_page(opener):
    """The pilot's page, for tests of sections of their own."""
    return opener("pilot", accept_downloads=True)


def test_views_are_switched_by_mouse_and_by_keyboard(pilot_page):
    page = pilot_page
    section = page.locator("#curves")
    assert "validation accuracy, %" in section.evaluate(TEXTS)
    section.get_by_role("button", name="training loss by seconds").click()
    assert "training loss" in section.evaluate(TEXTS)
    assert "seconds" in section.evaluate(TEXTS)
    pressed = section.locator("button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["training loss by seconds"]
    button = section.get_by_role("button", name="validation loss by steps")
    button.focus()
    page.keyboard.press("Enter")
    assert pressed.all_inner_texts() == ["validation loss by steps"]
    assert "validation loss" in section.evaluate(TEXTS)


def test_a_point_tells_its_seed(pilot_page):
    page = pilot_page
    page.locator("#paired").scroll_into_view_if_needed()
    page.locator("#paired .plot .point").first.hover(force=True)
    label = page.locator("#paired .hoverlayer text")
    label.first.wait_for()
    assert re.search(r"seed 0: ", " ".join(label.all_text_contents()))


def test_a_mean_leads_to_its_runs_and_filters_narrow_them(pilot_page):
    page = pilot_page
    rows = page.locator("#run-rows tr")
    row = page.locator("#table tbody tr", has=page.locator("th", has_text=re.compile("^plp$")))
    row.locator("a").first.click()
    assert rows.count() == 8
    assert {r.split("\t")[0] for r in rows.all_inner_texts()} == {"plp"}
    assert page.locator("#shown").inner_text() == "8 of 8 rows"
    assert page.evaluate("document.activeElement.id") == "runs"
    row.get_by_role("link", name=re.compile(r"\+1\.\d\d \(")).first.click()  # minus the base
    assert page.locator("#shown").inner_text() == "16 of 16 rows"
    assert page.locator("[data-by=method]").input_value() == "plp + sgd"
    assert {r.split("\t")[0] for r in rows.all_inner_texts()} == {"plp", "sgd"}
    page.locator("[data-by=status]").select_option("diverged")
    assert page.locator("#shown").inner_text() == "No run fits."
    page.locator("#reset").click()
    assert rows.count() == 100
    page.locator("#more").click()
    assert rows.count() == 108
    assert not page.locator("#more").is_visible()
    page.locator("[data-by=text]").fill(rows.first.inner_text().split("\t")[-1])
    assert rows.count() == 1


@pytest.fixture(scope="module")
def study_page(opener):
    return opener("study")


def test_another_comparison_of_a_study_is_drawn(study_page):
    page = study_page
    before = page.locator("#paired .plot").evaluate("p => JSON.stringify(p.data.map(t => t.y))")
    first = page.locator("#paired").evaluate("s => s.querySelector('tbody').textContent")
    page.locator("#pick").select_option("5")
    after = page.locator("#paired .plot").evaluate("p => JSON.stringify(p.data.map(t => t.y))")
    assert before != after
    assert page.locator("#paired").evaluate("s => s.querySelector('tbody').textContent") != first
    page.locator("#predictions summary").click()
    page.locator("#predictions tbody a", has_text="plp").last.click()
    assert page.locator("#shown").inner_text() == "6 of 6 rows"
    assert page.locator("[data-by=cell]").input_value() == "5"


def test_names_are_text_wherever_they_are(pilot_page):
    page = pilot_page
    assert page.locator("h1").inner_text() == f"Should plp replace sgd on {EVIL}?"
    assert page.locator("img").count() == 0
    assert "<b>no</b> such file" in page.locator("#failed").inner_text()


def test_the_policy_stops_a_script_and_a_request(visit: Visit, files: Any, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(files["pilot", "en"].as_uri())
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')"
    )
    page.evaluate("""() => { const s = document.createElement('script');
        s.textContent = 'window.hit = 2'; document.body.append(s); }""")
    refused = page.evaluate("fetch('https://example.org/').then(() => 0, () => 1)")
    assert refused == 1
    assert page.evaluate("window.hit === undefined")
    context.close()


def test_data_and_figures_are_saved(pilot_page, tmp_path):
    page = pilot_page
    with page.expect_download() as waiting:
        page.get_by_role("link", name="runs.csv").click()
    path = tmp_path / "runs.csv"
    waiting.value.save_as(path)
    assert len(list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))) == 108
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as SVG: Learning curves").click()
    waiting.value.save_as(tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text("utf-8").startswith("<svg")


def test_dark_and_print_have_their_own_colours(visit: Visit) -> None:
    page = visit("pilot", color_scheme="dark")
    colour = "document.querySelector('#effect .plot').data[0].marker.color"
    frames = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    page.evaluate(frames)
    light = page.evaluate(colour)
    assert dark != light
    page.emulate_media(color_scheme="dark")
    page.evaluate(frames)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(colour) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(colour) == dark
    page.emulate_media(color_scheme="dark", media="print")
    page.evaluate(frames)
    assert page.evaluate(colour) == light
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 50_000


def test_a_long_table_is_printed_to_its_end(study_page):
    page = study_page
    page.emulate_media(media="print")
    page.locator("#table .wide").evaluate("e => e.classList.add('tall')")
    page.locator("#table tbody").evaluate(
        "body => { for (let i = 0; i < 4; i++) body.append(...body.cloneNode(true).rows); }"
    )
    end, after = (page.locator(s).bounding_box() for s in ("#table tbody tr:last-child", "#failed"))
    assert end["y"] + end["height"] <= after["y"]


def test_a_chart_out_of_sight_waits_until_it_is_seen(browser: Any, files: Any) -> None:
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    page = context.new_page()
    page.add_init_script("window.requestIdleCallback = () => {}")  # a busy machine is never idle
    page.goto(files["pilot", "en"].as_uri())
    page.locator("#effect[data-drawn]").wait_for()
    assert page.locator("#tuning[data-drawn]").count() == 0
    page.locator("#tuning").scroll_into_view_if_needed()
    page.locator("#tuning[data-drawn]").wait_for()
    context.close()


def test_a_capture_of_the_whole_page_has_all_charts(visit: Visit) -> None:
    """Nothing was scrolled into view."""
    page = visit("pilot")
    page.wait_for_function("[...document.querySelectorAll('.chart')].every(c => c.dataset.drawn)")
