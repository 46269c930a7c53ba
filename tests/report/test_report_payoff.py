"""The section on key figures and return: what `paramcast roi` says, in two languages."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from roi_pilots import adopted, store, useless
from synthetic import write_pilot
from test_report_words import ENGLISH, JAPANESE

from paramcast.errors import StudyError
from paramcast.report import roi
from paramcast.report.html import payoff
from paramcast.report.html.data import build
from paramcast.report.html.load import Stored, load
from paramcast.report.html.page import render
from paramcast.report.html.text import markdown
from paramcast.report.html.words import Words, catalogue
from paramcast.report.roi.inputs import QUANTITIES
from paramcast.report.roi.money import FORMULAS

OWN = "positive_class = 1\nwatts = 250\ntransfer = { value = 0.3, low = 0.1, high = 0.6 }"


def section(folder: Path, language: str = "en", inputs: str | None = OWN) -> dict[str, Any]:
    given = None if inputs is None else roi.read_inputs(inputs, "mine")
    result = json.loads((folder / "pilot.json").read_text())
    found = payoff.section(_stored(folder, result), Words(language), given)
    assert found is not None
    return found


def _stored(folder: Path, result: dict[str, Any]) -> Stored:
    """As `load` reads it; these folders have no specification to find runs by."""
    from paramcast.report.html.load import read_runs

    return Stored("pilot", folder, result, *read_runs(folder, "pilot.db"))


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


def test_english_says_what_the_command_says(adopt: Path, nothing: Path) -> None:
    for folder in (adopt, nothing):
        summary = roi.summary(roi.read(folder), roi.read_inputs(OWN, "mine"))
        (method,) = section(folder)["methods"]
        stored = summary["methods"]["plp"]
        assert method["sentence"] == stored["sentence"]
        assert [row[0] for row in method["kpis"]["rows"]] == [k["label"] for k in stored["kpis"]]
        for row, key in zip(method["kpis"]["rows"], stored["kpis"], strict=True):
            if not key["reason"]:
                assert float(row[1].replace(",", "")) == pytest.approx(key["value"], rel=6e-3)
                assert row[3] == key["unit"]
        assert [c["title"].lower() for c in method["cases"]] == [
            f"{c['question']}, over {c['alternative'].lower()} (verdict: {c['verdict']})"
            for c in stored["cases"].values()
        ]


def test_a_return_has_its_probability_its_distribution_and_its_tornado(adopt: Path) -> None:
    summary = roi.summary(roi.read(adopt), roi.read_inputs(OWN, "mine"))
    case = summary["methods"]["plp"]["cases"]["quality"]
    shown = section(adopt)["methods"][0]["cases"][0]
    assert f"{100 * case['probability']:.0f} %." in shown["lines"][1]
    assert [row[0] for row in shown["terms"]["rows"]][-3:] == ["NPV", "ROI", "pay-back, months"]
    distribution, tornado = shown["charts"]
    assert [v["label"] for v in distribution["views"]] == [
        "net present value (NPV)", "monthly net (N)", "return on investment (ROI)", "pay-back time",
    ]  # fmt: skip
    below, above = distribution["views"][0]["data"]
    drawn = case["distribution"]["npv"]["histogram"]
    assert [*below["y"], *above["y"]] == pytest.approx([100 * s for s in drawn["shares"]], abs=1e-3)
    assert sum(drawn["shares"]) == pytest.approx(0.99, abs=0.002)
    assert all(x < 0 for x in below["x"])
    assert all(x >= 0 for x in above["x"])
    low, high = tornado["views"][0]["data"]
    first = case["tornado"][0]
    assert tornado["table"]["rows"][0][0] == catalogue("en")["input"][first["input"]]
    assert low["base"] + low["x"][0] == pytest.approx(first["npv_at_low"], rel=1e-3)
    assert high["base"] + high["x"][0] == pytest.approx(first["npv_at_high"], rel=1e-3)


def test_without_adopt_or_faster_it_says_so_first_and_prints_no_probability(nothing: Path) -> None:
    found = section(nothing)
    (method,) = found["methods"]
    assert "so there is no return to count" in method["sentence"]
    assert found["charts"] == []
    assert all(not case["charts"] for case in method["cases"])
    text = json.dumps(found)
    assert "robability" not in text
    assert "Beside it, free: sgd-lr-matched, NPV" in text
    assert "It comes from an effect of" in text


@pytest.mark.parametrize("folder", ["adopt", "nothing"])
def test_all_of_it_is_in_japanese(folder: str, request: pytest.FixtureRequest) -> None:
    found = section(request.getfixturevalue(folder), "ja")
    texts: list[str] = []

    def walk(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(each, name)
        elif isinstance(value, (list, tuple)):
            for each in value:
                walk(each, key)
        elif isinstance(value, str) and key not in ("formulas", "hovertemplate", "id"):
            texts.append(value)

    walk(found)
    for text in texts:
        bare = re.sub(r"paramcast \w+( FOLDER)?|--\w+|roi\.toml", "", text)
        assert not ENGLISH.search(bare), text
    assert len([text for text in texts if JAPANESE.search(text)]) > 60


def test_inputs_and_formulas_are_those_of_the_command(adopt: Path) -> None:
    en = catalogue("en")
    assert en["formula"] == FORMULAS
    assert set(en["input"]) == {*QUANTITIES, "effect"}
    assert set(catalogue("ja")["formula"]) == set(FORMULAS)
    rows = {row[0]: row for row in section(adopt)["inputs"]["rows"]}
    assert rows["watts"][2:] == ["250", "250 to 250", "W", "yours"]
    assert rows["transfer"][2:] == ["0.3", "0.1 to 0.6", "share", "yours"]
    assert rows["hourly_rate"][-1] == "default"


def test_a_missing_control_is_told_and_the_rest_of_the_report_stands(tmp_path: Path) -> None:
    write_pilot(tmp_path, seeds=6)
    result = json.loads((tmp_path / "pilot.json").read_text())
    result["table"] = [row for row in result["table"] if row["method"] != "random-jump"]
    (tmp_path / "pilot.json").write_text(json.dumps(result))
    for language, sentence in (("en", "the control random-jump of plp is missing"),
                               ("ja", "plp の対照手法 random-jump が")):  # fmt: skip
        data = build(load(tmp_path), Words(language))
        assert data["payoff"]["reason"].startswith(sentence)
        assert sentence in render(data, Words(language))
        assert sentence in markdown(data, Words(language))
    with pytest.raises(StudyError, match="the control random-jump of plp is missing"):
        build(load(tmp_path), Words("en"), roi.defaults())


def test_a_control_without_runs_is_told(tmp_path: Path) -> None:
    write_pilot(tmp_path, seeds=6)
    with sqlite3.connect(tmp_path / "pilot.db") as connection:
        connection.execute("DELETE FROM runs WHERE method = 'random-jump:plp' AND share = 1.0")
    data = build(load(tmp_path), Words("en"))
    assert "lacks 6 of the runs behind random-jump" in data["payoff"]["reason"]
    assert "lacks 6 of the runs behind random-jump" in render(data, Words("en"))


def test_a_study_and_references_alone_have_no_such_section(study: Path, tmp_path: Path) -> None:
    assert build(load(study), Words("en"))["payoff"] is None
    write_pilot(tmp_path, methods="demon", seeds=6)
    assert build(load(tmp_path), Words("en"))["payoff"] is None
