"""The section on key figures and return: what `paramcast roi` says, in two languages."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from roi_pilots import adopted, store, useless
from synthetic import write_pilot
from test_report_words import ENGLISH, JAPANESE

from paramcast.errors import StudyError
from paramcast.report import roi
from paramcast.report.html import payoff
from paramcast.report.html.load import load
from paramcast.report.html.page import render
from paramcast.report.html.report import build
from paramcast.report.html.text import markdown
from paramcast.report.roi.lines import lines, table
from paramcast.study.store.folder import to_json
from paramcast.study.words import Words
from runs import cell

OWN = "positive_class = 1\nwatts = 250\ntransfer = { value = 0.3, low = 0.1, high = 0.6 }"


def section(folder: Path, language: str = "en", inputs: str | None = OWN) -> dict[str, Any]:
    given = None if inputs is None else roi.read_inputs(inputs, "mine")
    found = payoff.section(load(folder), Words(language), given)
    assert found is not None
    return found


def counts(predicted: int) -> dict[str, list[int]]:
    return {"actual": [50, 50], "predicted": [100 - predicted, predicted], "hits": [45, 45]}


@pytest.fixture(scope="module")
def adopt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = adopted()
    for each, predicted in zip(arms, (50, 51, 52, 53), strict=True):
        each.counts = counts(predicted)
    return store(tmp_path_factory.mktemp("adopt"), arms)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store(tmp_path_factory.mktemp("useless"), useless())


def test_the_section_says_what_the_command_says(adopt: Path, nothing: Path) -> None:
    """Each row of its table is as wide as its head."""
    for folder in (adopt, nothing):
        found = roi.summary(roi.read(folder), roi.read_inputs(OWN, "mine"))
        (method,) = section(folder)["methods"]
        assert method["lines"] == lines("plp", found, Words("en"))
        shown = method["table"]
        assert shown == table("plp", found, Words("en"))
        assert {len(row) for row in shown["rows"]} == {len(shown["head"])}
        measured = [row[0] for row in shown["rows"] if row[0].startswith("effect measured")]
        assert all(("counted as 0" in each) == (folder == nothing) for each in measured)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_has_five_lines_a_table_and_no_chart(pilot: Path, language: str) -> None:
    words = Words(language)
    data = build(load(pilot), words)
    page = render(data, words)
    part = page[page.index('<section id="payoff"') : page.index('<section id="table"')]
    methods = data["payoff"]["methods"]
    assert "plp" in [method["name"] for method in methods]
    assert {len(method["lines"]) for method in methods} == {5}
    assert all(str(escape(line)) in part for method in methods for line in method["lines"])
    assert part.count("<table>") == len(methods)
    assert 'class="chart"' not in part
    assert f"- {methods[0]['lines'][1]}\n" in markdown(data, words)


@pytest.mark.parametrize("folder", ["adopt", "nothing"])
def test_all_of_it_is_in_japanese(folder: str, request: pytest.FixtureRequest) -> None:
    found = section(request.getfixturevalue(folder), "ja")
    (method,) = found["methods"]
    table = method["table"]
    cells = [cell for row in table["rows"] for cell in row]
    texts = [*method["lines"], *found["notes"], *table["head"], *map(str, cells)]
    for text in texts:
        bare = re.sub(r"paramcast \w+( FOLDER)?|--\w+|roi\.toml", "", text)
        assert not ENGLISH.search(bare), text
    assert len([text for text in texts if JAPANESE.search(text)]) > 40
    if folder == "nothing":
        assert "回収不能" in found["methods"][0]["lines"][4]


def test_a_key_figure_without_a_value_says_why(adopt: Path, tmp_path: Path) -> None:
    rows = section(store(tmp_path, adopted()))["methods"][0]["table"]["rows"]
    told = {row[0]: row[1:] for row in rows}
    why = "no counts per class are stored (a stream, or more than 100 classes)"
    assert told["false positives of class 1, difference"] == [why, "", "", "a month"]


def test_what_is_left_at_its_default_is_named(adopt: Path) -> None:
    left = section(adopt)["notes"][-1]
    assert left.startswith("Left at their defaults: training_hours, ")
    assert "watts" not in left
    assert "Left" not in str(section(adopt, inputs=None)["notes"])


def test_a_missing_control_is_told_and_the_rest_of_the_report_stands(tmp_path: Path) -> None:
    write_pilot(tmp_path, seeds=6, effects={"plp": 0.02})
    result = json.loads((tmp_path / "result.json").read_text())
    table = cell(result)["table"]
    table[:] = [row for row in table if row["method"] != "random-jump"]
    (tmp_path / "result.json").write_text(to_json(result))
    for language, sentence in (("en", "the control random-jump of plp is missing"),
                               ("ja", "plp の対照 random-jump の")):  # fmt: skip
        data = build(load(tmp_path), Words(language))
        assert data["payoff"]["reason"].startswith(sentence)
        assert sentence in render(data, Words(language))
        assert sentence in markdown(data, Words(language))
    with pytest.raises(StudyError, match="the control random-jump of plp is missing"):
        build(load(tmp_path), Words("en"), roi.defaults())


def test_a_control_without_runs_is_told(tmp_path: Path) -> None:
    write_pilot(tmp_path, seeds=6)
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("DELETE FROM runs WHERE method = 'random-jump:plp' AND share = 1.0")
    data = build(load(tmp_path), Words("en"))
    assert "lacks 6 of the runs behind random-jump" in data["payoff"]["reason"]
    assert "lacks 6 of the runs behind random-jump" in render(data, Words("en"))


def test_a_study_and_references_alone_have_no_such_section(study: Path, tmp_path: Path) -> None:
    assert build(load(study), Words("en"))["payoff"] is None
    write_pilot(tmp_path, methods="demon", seeds=6)
    assert build(load(tmp_path), Words("en"))["payoff"] is None
