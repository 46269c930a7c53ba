"""Charts against values worked out by hand: predictions and rates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from synthetic import write_study

from paramcast.report.html import tuning
from paramcast.report.html.load import load
from paramcast.report.html.predictions import LONG
from paramcast.report.html.report import build
from paramcast.study.training import predictions as noted
from paramcast.study.words import Words

EN = Words("en")


def chart(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in (*data["whole"], *data["cells"][0]["charts"]) if c["id"] == name)


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_over_training_with_their_anomalies_counted(pilot: Path) -> None:
    found = chart(build(load(pilot), EN), "predictions")
    assert [v["label"] for v in found["views"]] == [
        "prediction error", "agreement (cosine)", "jump, % of the weights",
    ]  # fmt: skip
    error, cosine, jump = ({t.get("name"): t for t in v["data"]} for v in found["views"])
    assert error["plp"]["x"] == [10, 30, 50]  # every other epoch is scored
    assert error["plp"]["y"] == pytest.approx([0.2 + 0.1 * k / 6 for k in (1, 3, 5)], rel=1e-4)
    assert cosine["plp"]["y"] == pytest.approx([0.835] * 3)  # 0.8 + 0.01 x the mean seed
    assert cosine["random-jump"]["y"] == pytest.approx([0.035] * 3)
    assert jump["plp"]["y"] == pytest.approx([0.6 * (1 - k / 6) for k in range(1, 7)], abs=1e-4)
    assert "sgd" not in error
    shape = found["views"][2]["layout"]["shapes"][0]
    assert shape["y0"] == shape["y1"] == LONG == 100 * noted.LONG
    assert found["table"]["rows"][1] == [
        "plp", "480", "100 %", "0.250 %", "+0.835", "0.250",
        "jump longer than the rule allows: nobody acted (96 / 480)",
    ]  # fmt: skip


# --- rates ----------------------------------------------------------------------------------------


def test_each_method_is_compared_at_its_own_best_rate(study: Path) -> None:
    data, result = build(load(study), EN), json.loads((study / "result.json").read_text())
    found = chart(data, "rates")
    assert [v["label"] for v in found["views"]] == ["batch size 16", "batch size 32"]
    lines = {t["name"]: t for t in found["views"][0]["data"]}
    assert lines["sgd"]["x"] == [0.01, 0.05, 0.2]
    assert lines["sgd"]["marker"]["symbol"] == ["circle-open", "star", "circle-open"]
    # drawn accuracies fall with the distance to 0.05, plp's by 0.02 - 0.4 x rate besides
    rows = [dict(zip(found["table"]["head"], row, strict=True)) for row in found["table"]["rows"]]
    plp = next(row for row in rows if row["Method"] == "plp")
    cells = [c for c in result["cells"] if c["settings"]["batch_size"] == 16]
    tables = {c["settings"]["lr"]: {r["method"]: r for r in c["table"]} for c in cells}
    best = float(plp["Best rate"])
    pairs = zip(tables[best]["plp"]["values"], tables[0.05]["sgd"]["values"], strict=True)
    mean = math.fsum(100 * (a - b) for a, b in pairs) / 6
    assert plp["Minus sgd, each at its best"] == f"{mean:+.2f}"
    assert {row["Interval"] for row in rows if row["Method"] == "sgd"} == {"\u2013"}


def test_one_rate_makes_no_curve(tmp_path: Path) -> None:
    text = """
name = "one"
question = "?"
[[grid]]
task = "digits"
methods = ["plp"]
seeds = 6
epochs = 2
batch_size = [16, 32]
lr = 0.05
"""
    write_study(tmp_path, text)
    assert tuning.rates([], EN) is None
    assert [c["id"] for c in build(load(tmp_path), EN)["whole"]] == ["verdicts", "all-0"]
