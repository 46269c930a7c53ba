"""What a report says is what is stored."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import sqlite3
import statistics
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from synthetic import write_pilot

from paramcast.report.html.load import load
from paramcast.report.html.page import render
from paramcast.report.html.report import build
from paramcast.study.judging.sentences import advice, sentence
from paramcast.study.judging.stats import interval
from paramcast.study.spec import NEVER, OPEN
from paramcast.study.words import Words
from runs import cell


def data_of(folder: Path, language: str = "en") -> dict[str, Any]:
    return build(load(folder), Words(language))


def chart(data: dict[str, Any], name: str, cell: int = 0) -> dict[str, Any]:
    return next(c for c in data["cells"][cell]["charts"] if c["id"] == name)


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def behind(rows: list[dict[str, Any]], filters: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page shows for a link: its filters over those that it takes for granted."""
    wanted = {"phase": "final", "share": "1", "status": "", **filters}
    methods = wanted["method"] if isinstance(wanted["method"], list) else [wanted["method"]]
    return [
        row for row in rows
        if wanted["cell"] in row["cells"] and set(methods) & set(row["methods"])
        and all(row[k] == wanted[k] for k in ("phase", "share", "status") if wanted[k])
    ]  # fmt: skip


def stored_runs(folder: Path, kind: str = "pilot") -> list[dict[str, Any]]:
    with sqlite3.connect(folder / "runs.db") as connection:
        return [json.loads(spec) for (spec,) in connection.execute("SELECT spec FROM runs")]


def test_the_first_screen_is_the_stored_verdict(pilot: Path) -> None:
    data, result = data_of(pilot), cell(result_of(pilot))
    read = cell(load(pilot).result)
    stored = [v for answers in read["verdicts"].values() for v in answers.values()]
    for say, key in ((sentence, "sentence"), (advice, "next")):
        told = [say(verdict, read["metric"], Words("en")) for verdict in stored]
        assert [v[key] for v in data["verdicts"]] == told
    assert [v["kind"] for v in data["verdicts"]] == [v.kind for v in stored]
    facts = {label: value for label, value, _ in data["facts"]}
    assert facts["Seeds"] == "n = 8, paired"
    assert facts["Diverged, failed"] == "2, 1"  # at T and at 0.8 T
    to_base = next(r for r in result["table"] if r["method"] == "plp")["to_base"]
    trace = data["effect"]["views"][0]["data"][0]
    assert trace["x"] == [pytest.approx(100 * to_base["mean"], rel=1e-4)]
    low = trace["x"][0] - trace["error_x"]["arrayminus"][0]
    assert low == pytest.approx(100 * to_base["low"], abs=1e-3)
    layout = data["effect"]["views"][0]["layout"]
    (zone,), (low, high) = layout["shapes"], layout["xaxis"]["range"]
    assert (zone["x0"], zone["x1"]) == (-0.5, 0.5)
    assert 1.0 / (high - low) < 0.5  # the margin does not fill the plot
    assert facts["Runs stored"].startswith(f"{len(data['runs']['rows'])} (")


def test_every_seed_is_a_dot(pilot: Path) -> None:
    result, views = cell(result_of(pilot)), chart(data_of(pilot), "paired")["views"]
    base = result["table"][0]["values"]
    for row in result["table"][1:]:
        for view, name in ((views[0], "values"), (views[1], "early_values")):
            dots = next(t for t in view["data"] if t["name"] == row["method"])
            wanted = [100 * (a - b) for a, b in zip(row[name], base, strict=True)]
            assert dots["y"] == pytest.approx(wanted, abs=1e-3)
            assert len(dots["x"]) == len(set(dots["x"])) == result["seeds"]
        # at T, beside the dots, the interval of the table
        c = row["to_base"]
        bar = next(t for t in views[0]["data"] if t["name"] == row["method"] and "error_y" in t)
        assert bar["error_y"]["array"] == [pytest.approx(100 * (c["high"] - c["mean"]), abs=1e-3)]


def test_every_run_is_found_behind_its_number(pilot: Path, study: Path) -> None:
    for folder, kind in ((pilot, "pilot"), (study, "study")):
        data = data_of(folder)
        rows = data["runs"]["rows"]
        assert len(rows) == len(stored_runs(folder, kind))
        assert all(row["cells"] for row in rows)
        seeds, names = 8 if kind == "pilot" else 6, data["table"]["names"]
        tuning = result_of(folder)["cells"][0]["learning_rates"]["keys"]
        if tuning:  # all eight rates on one seed, the better half on another
            assert sorted(map(len, tuning["base"])) == 4 * [1] + 4 * [2]
        for row in data["table"]["rows"]:
            for place, filters in row["runs"].items():
                if place not in names or not row["cells"][names.index(place)]:
                    continue
                found = behind(rows, filters)
                if place == "lr":
                    assert {r["phase"] for r in found} == {"tune"}
                    method = row["cells"][names.index("method")].replace("sgd", "base")
                    assert len(found) == sum(map(len, tuning[method])) >= 8
                elif place == "diverged":
                    assert len(found) == 2 * (filters["method"] == "demon")  # at T and at 0.8 T
                else:
                    pair = place in ("minus_base", "p", "minus_matched")
                    base = filters["method"] == [row["cells"][names.index("method")]] * 2
                    assert len(found) == seeds * (2 if pair and not base else 1)
        charts = [c for cell in data["cells"][:1] for c in cell["charts"]]
        for each in [*charts, *data["whole"], *([data["effect"]] if data["effect"] else [])]:
            links = each["table"]["behind"]
            assert len(links) in (0, len(each["table"]["rows"]))
            assert all(behind(rows, {"cell": 0, **link}) for link in links)


def test_curves_are_means_with_t_bands_and_end_where_the_runs_end(pilot: Path) -> None:
    data, stored = data_of(pilot), load(pilot)
    last = [
        run.curve[-1]["validation_loss"] for run in stored.runs
        if (run.spec["method"], run.spec["phase"], run.spec["share"]) == ("plp", "final", 1.0)
    ]  # fmt: skip
    mean, low, high = interval(last)
    views = chart(data, "curves")["views"]
    assert [v["label"] for v in views] == [
        f"{what} by {along}"
        for what in ("validation accuracy, %", "validation loss", "training loss")
        for along in ("steps", "seconds")
    ]
    line = next(t for t in views[2]["data"] if t.get("name") == "plp")
    assert line["y"][-1] == pytest.approx(mean, rel=1e-4)
    assert [each[-1] for each in line["band"]] == pytest.approx([low, high], rel=1e-4)
    assert views[3]["like"] == 2
    assert views[3]["x"][views[2]["data"].index(line)][-1] == 2.0
    assert line["x"] == [10, 20, 30, 40, 50, 60]


def test_a_diverged_run_leaves_the_curve_and_stays_in_the_tables(pilot: Path) -> None:
    data = data_of(pilot)
    row = next(r for r in data["table"]["rows"] if r["cells"][0] == "demon")
    assert row["cells"][data["table"]["names"].index("diverged")] == "1/8"
    lr = row["cells"][2]
    assert [r[1:] for r in data["failed"]["rows"]] == [
        ["demon", "final", "2", "100 %", lr, "diverged", "loss not finite at step 7"],
        ["demon", "final", "2", "80 %", lr, "diverged", "loss not finite at step 7"],
        ["plp", "final", "0", "100 %", lr, "failed", "ValueError: <b>no</b> such file"],
    ]  # fmt: skip
    reached = next(r for r in chart(data, "target")["table"]["rows"] if r[0] == "demon")
    assert reached[1].endswith("/ 8")


def test_a_run_that_has_not_learned_yet_is_told_and_stays_in_the_means(tmp_path: Path) -> None:
    lost = (("plp", 2), ("plp", 5))
    result = write_pilot(tmp_path / "p", not_learned=lost)
    found = cell(result)
    assert {"note": "not_learned", "by_arm": {"plp": 2}} in found["notes"]
    assert [len(row["values"]) for row in found["table"] if row["method"] == "plp"] == [8]
    rows = data_of(tmp_path / "p")["runs"]["rows"]
    said = [row["shown"] for row in rows if row["status"] == "not_learned"]
    assert {(row[0], row[2]) for row in said} == {("plp", 2), ("plp", 5)}
    assert all("done, not learned yet" in row for row in said)


def test_the_tuning_chart_marks_the_chosen_rate_and_hollows_those_left(pilot: Path) -> None:
    rates = cell(result_of(pilot))["learning_rates"]
    traces = {t["name"]: t for t in chart(data_of(pilot), "tuning")["views"][0]["data"]}
    for name, method in (("sgd", "base"), ("plp", "plp"), ("demon", "demon")):
        symbols = dict(zip(traces[name]["x"], traces[name]["marker"]["symbol"], strict=True))
        assert sorted(symbols) == sorted(rates["tried"])
        starred = [lr for lr, symbol in symbols.items() if symbol == "star"]
        assert starred == [rates["chosen"][method]]
        # those that the search left were tried on fewer seeds
        keys = dict(zip(rates["tried"], map(len, rates["keys"][method]), strict=True))
        left = {lr for lr, n in keys.items() if n < max(keys.values())}
        assert {lr for lr, symbol in symbols.items() if symbol.endswith("-open")} == left
        assert len(left) == (4 if method == "base" else 0)


def test_time_to_target_counts_those_that_reach_it(tmp_path: Path) -> None:
    write_pilot(tmp_path, effects={"plp": -0.2}, seeds=6)
    rows = {r[0]: r for r in chart(data_of(tmp_path), "target")["table"]["rows"]}
    assert rows["plp"][1:] == ["0 / 6", "\u2013", "\u2013"]
    ends = [
        run.outcome["validation"]["metric"] for run in load(tmp_path).runs
        if (run.spec["method"], run.spec["phase"], run.spec["share"]) == ("base", "final", 1.0)
        and run.spec["lr"] == cell(result_of(tmp_path))["learning_rates"]["chosen"]["base"]
    ]  # fmt: skip
    assert f"{100 * statistics.median(ends):.2f} %" in chart(data_of(tmp_path), "target")["read"]
    assert rows["sgd"][1] == "3 / 6"


def test_two_predictors_one_given_rate_and_no_speed(tmp_path: Path) -> None:
    write_pilot(
        tmp_path, methods="plp, plp(horizon=0.5), ema", lr=0.05, speed=NEVER, seeds=6, classes=3
    )
    data = data_of(tmp_path)
    assert {v["method"] for v in data["verdicts"]} == {"plp", "plp(horizon=0.5)", "ema"}
    assert len(data["effect"]["views"][0]["data"][0]["x"]) == 3
    names = [c["id"] for c in data["cells"][0]["charts"]]
    assert names == ["paired", "controls", "curves", "target", "predictions"]
    assert len(chart(data, "paired")["views"]) == 1
    assert "early" not in data["table"]["names"]
    assert all(row["cells"] for row in data["runs"]["rows"])


LAZY = {"methods": "plp", "seeds": 24, "lazy": True, "once": False, "speed": OPEN}
"""A comparison as a pilot makes it, which runs and looks only as far as it must."""


@pytest.mark.parametrize("language", ["en", "ja"])
def test_arms_that_were_settled_at_different_looks(tmp_path: Path, language: str) -> None:
    """Quality is settled with 6 seeds, speed with 12; no control was needed."""
    write_pilot(tmp_path, **LAZY, margin=0.7)
    data, judged = data_of(tmp_path, language), cell(result_of(tmp_path))
    lengths = {r["method"]: (len(r["values"]), len(r["early_values"])) for r in judged["table"]}
    assert lengths == {"sgd": (12, 12), "plp": (6, 12)}
    names = [c["id"] for c in data["cells"][0]["charts"]]
    assert names == ["paired", "curves", "target", "tuning", "predictions"]
    # each arm's own number of seeds
    table = data["table"]
    rows = {row["cells"][0]: dict(zip(table["names"], row["cells"], strict=True))
            for row in table["rows"]}  # fmt: skip
    assert {k: (row["n"], row["diverged"]) for k, row in rows.items()} == {
        "sgd": ("12", "0/12"), "plp": ("6", "0/6"),
    }  # fmt: skip
    said = {"en": "n = 6 for quality, 12 for speed", "ja": "n = 品質は 6、速度は 12"}[language]
    assert said in data["facts"][0][1]
    assert said in data["payoff"]["methods"][0]["lines"][0]
    full, early = chart(data, "paired")["views"]
    assert [[len(t["y"]) for t in v["data"][::2]] for v in (full, early)] == [[6], [12, 12]]
    assert [r[1] for r in chart(data, "target")["table"]["rows"]] == [
        r if r.endswith(f"/ {lengths[name][0]}") else "" for name, r, *_ in
        chart(data, "target")["table"]["rows"]
    ]  # fmt: skip
    files = {f["file"]: f["csv"] for f in data["downloads"]}
    comparisons = list(csv.DictReader(io.StringIO(files["comparisons.csv"])))
    assert [row["seeds"] for row in comparisons] == ["12", "6"]
    # the protocol says how it was looked at
    assert any("6" in line and "12" in line and "98" in line for line in data["protocol"])
    assert "plp" in render(data, Words(language))


def test_controls_are_drawn_where_they_ran(tmp_path: Path) -> None:
    """Two predictors: one is adopted with 6 seeds, one stays open to the end."""
    methods = "plp, plp(horizon=0.5)"
    write_pilot(tmp_path, **LAZY | {"methods": methods}, effects={"plp": 0.02}, margin=0.1)
    data, judged = data_of(tmp_path), cell(result_of(tmp_path))
    lengths = {r["method"]: len(r["values"]) for r in judged["table"]}
    assert lengths == {"sgd": 24, "sgd-lr-matched of plp": 6, "random-jump of plp": 6, "plp": 6,
                       "plp(horizon=0.5)": 24}  # fmt: skip
    assert len(chart(data, "paired")["views"]) == 1  # nothing ran at 0.8 T
    rows = [row[0].replace(" \u2212 ", " - ") for row in chart(data, "controls")["table"]["rows"]]
    assert {"plp - sgd", "plp - sgd-lr-matched of plp", "plp - random-jump of plp",
            "sgd-lr-matched of plp - sgd", "plp(horizon=0.5) - sgd"} <= set(rows)  # fmt: skip
    assert len(rows) == len(set(rows))
    first = [m["lines"][0] for m in data["payoff"]["methods"]]
    assert first[0].startswith("plp against sgd on digits, n = 6: ")
    assert first[1].startswith("plp(horizon=0.5) against sgd on digits, n = 24: ")


def test_the_controls_of_a_settled_comparison_are_drawn_too(tmp_path: Path) -> None:
    """The verdict did not need them, but they ran."""
    write_pilot(tmp_path, methods="plp", seeds=6, margin=1.0)
    (verdict,) = [v for v in data_of(tmp_path)["verdicts"] if v["about"] == "quality"]
    assert verdict["kind"] == "no difference"
    rows = [row[0].replace(" \u2212 ", " - ") for row in
            chart(data_of(tmp_path), "controls")["table"]["rows"]]  # fmt: skip
    assert rows == [
        "plp - sgd",
        "sgd-lr-matched - sgd",
        "random-jump - sgd",
        "plp - sgd-lr-matched",
    ]


def test_a_base_that_its_user_tuned_has_no_line(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="plp", seeds=6, tuned_base=0.05)
    traces = chart(data_of(tmp_path), "tuning")["views"][0]["data"]
    assert [t["name"] for t in traces] == ["plp"]
    assert 0.05 in traces[0]["x"]


def test_only_references(tmp_path: Path) -> None:
    write_pilot(tmp_path, methods="demon", seeds=6)
    data = data_of(tmp_path)
    assert data["effect"] is None
    assert data["verdicts"][0]["sentence"].startswith("No method was judged")
    assert "No method was judged" in render(data, Words("en"))


def test_a_study_counts_its_verdicts_and_maps_its_cells(study: Path) -> None:
    data, result = data_of(study), result_of(study)
    kinds = [cell["verdicts"]["plp"]["quality"]["kind"] for cell in result["cells"]]
    assert data["verdicts"][0]["sentence"] == (
        f"plp: of 6 comparisons, {kinds.count('adopt')} say adopt, 0 use the control instead, "
        f"{kinds.count('slightly better')} slightly better, {kinds.count('no difference')} no "
        f"difference, {kinds.count('slightly worse')} slightly worse, "
        f"{kinds.count('inconclusive')} inconclusive, {kinds.count('harmful')} harmful."
    )
    assert [c["id"] for c in data["whole"]] == ["verdicts", "all-0", "rates"]
    assert [c["label"] for c in data["cells"]] == [
        f"{i}: batch size {b}, learning rate {lr}"
        for i, (b, lr) in enumerate([(b, lr) for b in (16, 32) for lr in (0.01, 0.05, 0.2)], 1)
    ]


def test_downloads_are_csv_that_no_spreadsheet_executes(tmp_path: Path) -> None:
    write_pilot(tmp_path, name="=HYPERLINK(1)", seeds=6, diverged=(("plp", 0),))
    data = data_of(tmp_path)
    tables = {f["file"]: list(csv.DictReader(io.StringIO(f["csv"]))) for f in data["downloads"]}
    assert {k: len(v) for k, v in tables.items()} == {
        "comparisons.csv": 5, "runs.csv": len(stored_runs(tmp_path)),
        "curves.csv": 5 * 3 * 6 + 2 * (3 + 3 + 6),
    }  # fmt: skip
    assert {row["task"] for row in tables["runs.csv"]} == {"'=HYPERLINK(1)"}
    plp = next(r for r in tables["comparisons.csv"] if r["method"] == "plp")
    stored = next(r for r in cell(result_of(tmp_path))["table"] if r["method"] == "plp")
    assert float(plp["minus_base_mean"]) == stored["to_base"]["mean"]
    assert float(plp["mean"]) == stored["mean"]
    assert float(plp["early_mean"]) == stored["early_mean"]
    assert float(plp["median_seconds"]) == stored["seconds"]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_page_is_closed_to_code_and_to_the_network(pilot: Path, language: str) -> None:
    page = render(data_of(pilot, language), Words(language))
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href|action)=\"(?!#|data:)", own)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert "unsafe-eval" not in policy[1]
    assert len(page) < 6e6


@pytest.mark.parametrize("name", ["a, \"b\" <i> #1 % 'c'\nd", "\u8868 100 %"])
def test_the_csv_in_the_page_is_the_csv(name: str, tmp_path: Path) -> None:
    write_pilot(tmp_path, name=name, seeds=6)
    data = data_of(tmp_path)
    page = render(data, Words("en"))
    links = re.findall(r'download="(\w+\.csv)" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    found = {
        name: unquote(html.unescape(text), errors="strict").removeprefix("\ufeff")
        for name, text in links
    }
    assert found == {f["file"]: f["csv"] for f in data["downloads"]}


def test_the_first_chart_shows_the_control_that_is_to_be_used_instead(tmp_path: Path) -> None:
    effects = {"plp": 0.012, "random-jump:plp": 0.0121}
    found = cell(write_pilot(tmp_path, methods="plp", effects=effects))
    verdict = found["verdicts"]["plp"]["quality"]
    assert (verdict.kind, verdict.control) == ("use the control instead", "random-jump")
    drawn = data_of(tmp_path)["effect"]
    assert [row[0] for row in drawn["table"]["rows"]] == [
        "plp − sgd", "plp − random-jump", "random-jump − sgd",  # noqa: RUF001 - minus
    ]  # fmt: skip
