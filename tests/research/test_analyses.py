"""What a finished study says: tables by pencil, rules on planted data, figures that are drawn."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyse import STUDIES, command
from analyses import ANALYSES, analyse
from analyses.conditions import Rule, apply, fit
from analyses.maps import differences
from analyses.online import without_reaction
from analyses.page import Page, spread
from command import call
from paramcast.errors import StudyError
from paramcast.study.grid.file import open_study, ready_made
from paramcast.study.judging.table import LR_MATCHED
from paramcast.study.judging.verdict import Metric, Verdict
from paramcast.study.spec import RunSpec
from paramcast.study.store.folder import DATABASE, to_json
from paramcast.study.store.store import Store
from runs import whole

ENVIRONMENT = {"cpus": 2, "cpu": "x", "torch": "2", "python": "3", "paramcast": "0"}
METRIC = Metric("accuracy", True, 0.005, 0.0005)
SAME = Verdict("no difference", "same", ("same_next",), "sgd", "plp")


def row(name: str, role: str, values: list[float], lr: float, of: str = "", **more: Any) -> dict:
    return {
        "method": name, "role": role, "family": LR_MATCHED if "lr-" in name else role,
        "control_of": of, "run": name, "keys": [], "early_keys": [], "settings": {}, "lr": lr,
        "values": values,
        "mean": float(np.mean(values)), "low": 0.0, "high": 1.0, "gap": 0.25, "loss": 1.0,
        "early_mean": None, "early_values": [], "seconds": 1.0, "peak_memory": 1.0, "diverged": 0,
        "divergences": [],
        "top1_error": 1 - float(np.mean(values)), "top5_error": None, "measures": {},
        "to_base": None, "to_lr_matched": None, **more,
    }  # fmt: skip


def cell(task: str = "digits", gain: float = 0.0, matched: float = 0.0, **settings: Any) -> dict:
    """Four seeds around 90 %; PLP and the larger step differ from the base by so many points."""
    noise = np.array([-0.003, 0.001, 0.002, 0.0])
    base = 0.9 + np.array([-0.01, 0.0, 0.02, 0.01])
    lr = settings.get("lr", 0.1)
    rows = [
        row("sgd", "base", base.tolist(), lr),
        row(
            "sgd-lr-matched",
            "control",
            (base + matched / 100 + noise / 2).tolist(),
            lr * 7 / 6,
            "plp",
        ),
        row("plp", "predictor", (base + gain / 100 + noise).tolist(), lr),
    ]
    names = ("task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay", "lr")
    filled = dict.fromkeys(names) | {"task": task, "base": "sgd", "lr": lr} | settings
    return {
        "settings": filled, "label": "", "task": task, "question": "today", "description": {},
        "steps": 10, "early_steps": None, "confidence": 0.95, "notes": [], "specification": {},
        "learning_rates": {"tried": [], "settings": [], "chosen": {}, "keys": {}, "seeds": 3},
        "looks": [{"seeds": 4, "confidence": 0.95}], "trainings": 12, "planned_seeds": 4,
        "lazy": False, "seeds": 4, "metric": METRIC, "table": rows,
        "verdicts": {"plp": {"quality": SAME}},
    }  # fmt: skip


def result(*cells: dict) -> dict[str, Any]:
    return whole(
        *cells, kind="study", name="made-up", question="Is it so?", environment=ENVIRONMENT,
        wall_seconds=3.0,
    )  # fmt: skip


def table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[part.strip() for part in line.strip("|").split("|")] for line in lines]


# --- numbers ------------------------------------------------------------------------------------


def test_differences_are_points_of_accuracy_and_their_sign_is_plus_for_better() -> None:
    one = cell(gain=2.0)
    assert np.mean(differences(one, "plp")) == pytest.approx(2.0)
    assert np.mean(differences(one, "plp", "sgd-lr-matched")) == pytest.approx(2.0)
    one["metric"] = Metric("mse", False, 0.005)
    assert np.mean(differences(one, "plp")) == pytest.approx(-0.02)


def test_an_interval_in_words_is_the_t_interval() -> None:
    # mean 2, sd 1, n 3: t(2; 97.5 %) = 4.303, half-width 4.303 / sqrt(3) = 2.484
    assert spread([1.0, 2.0, 3.0]) == "+2.00 (-0.48 to +4.48)"


def test_synergy_by_pencil() -> None:
    cells = [cell(gain=1.0), cell(gain=3.0, base="adamw")]
    rows = table(analyse(result(*cells), ["synergy"], None))
    assert rows[1][0] == "sgd"
    assert rows[1][4] == ""
    assert rows[2][0] == "adamw"
    assert rows[2][4] == "+2.00 (+2.00 to +2.00)"
    with pytest.raises(StudyError, match="a cell of base sgd, task digits has none"):
        analyse(result(cells[1]), ["synergy"], None)
    with pytest.raises(StudyError, match="one cell per task and base, there are several"):
        analyse(result(cells[0], cells[0]), ["synergy"], None)


def test_the_heat_map_has_a_row_per_setting_and_a_column_per_rate(tmp_path: Path) -> None:
    cells = [
        cell(lr=lr, momentum=m, gain=10 * lr + (m or 0.0))
        for lr in (0.01, 0.1)
        for m in (None, 0.0, 0.5, 0.9)
    ]
    text = analyse(result(*cells), ["heatmap"], tmp_path)
    rows = table(text)
    assert rows[0] == ["minus SGD, momentum", "lr 0.01", "lr 0.1"]
    assert [r[0] for r in rows[1:4]] == ["0", "0.5", "0.9"]  # the task's own is one of them
    assert rows[3][1:] == ["+1.00", "+1.90"]
    assert rows[1][1] == "(+0.10)"  # its interval crosses 0: 0.1 -+ 0.35
    figure = (tmp_path / "made-up-digits-momentum.svg").read_text()
    assert "made-up-digits-momentum.svg" in text
    assert figure.startswith("<?xml")
    with pytest.raises(StudyError, match="learning rate and one setting"):
        analyse(result(cell()), ["heatmap"], None)


def test_measures_are_listed_without_those_of_quarters_and_layers() -> None:
    one = cell(gain=1.0)
    found = {"values": [1.0] * 4, "mean": 1.0, "to_base": {"mean": 0.5, "low": 0.25, "high": 0.75}}
    for each in one["table"]:
        each["measures"] = {"sharpness": found, "r2_3@1": found, "r2_3:w": found}
    rows = table(analyse(result(one), ["measures"], None))
    assert rows[0] == ["method", "lr", "accuracy", "minus base", "gap", "sharpness", "diverged"]
    assert rows[1][5] == "1"
    assert rows[3][5] == "1 (+0.25 to +0.75)"
    with pytest.raises(StudyError, match=r"give its grids `probes"):
        analyse(result(cell()), ["measures"], None)


def test_the_table_leaves_out_what_no_row_has() -> None:
    rows = table(analyse(result(cell(gain=1.0), cell(gain=1.0, lr=0.2)), ["table"], None))
    assert "lr" in rows[0]
    assert "top-5 error" not in rows[0]
    assert "minus base" not in rows[0]


def test_text_from_a_task_cannot_break_the_table() -> None:
    page = Page()
    page.table(("a",), [("x|y",)])
    assert "x\\|y" in page.text()


# --- the rule of thumb ----------------------------------------------------------------------------


def planted(cells: int = 24) -> dict[str, Any]:
    """PLP helps by 2 points where cosine_10 > 0.8 and else costs 2; all else is noise."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(cells):
        cosine = rng.uniform(0.6, 1.0)
        gain = 2.0 if cosine > 0.8 else -2.0
        one = cell(("digits/mlp", "fashion@9")[number % 2], gain, gain - 0.1, batch_size=number)
        one["table"][0]["measures"] = {
            name: {"mean": value}
            for name, value in (("r2_3", rng.uniform()), ("cosine_10", cosine), ("r2_10:w", 0.5),
                                ("cosine_10@4", rng.uniform()), ("cosine_10@1", 0.1))
        }  # fmt: skip
        made.append(one)
    return result(*made)


def test_a_planted_rule_is_found_on_both_data_sets(tmp_path: Path) -> None:
    text = analyse(planted(), ["conditions"], tmp_path)
    rows = {r[0]: r for r in table(text)}
    found = rows["PLP clearly above the base"]
    assert re.match(r"cosine_10 > 0\.(79|8)", found[1])
    assert found[2].startswith("0 %")
    assert float(found[3].split()[0]) <= 10
    assert float(found[4].split()[0]) >= 30
    assert rows["PLP clearly below the base"][1].startswith("cosine_10 <= ")
    assert float(rows["cosine_10"][1].split()[0]) > 0.8
    slope = re.search(r"gain = ([+-][\d.]+) \+ ([\d.]+)", text)
    assert slope is not None
    assert float(slope.group(2)) == pytest.approx(1.0, abs=0.01)
    assert float(slope.group(1)) == pytest.approx(0.1, abs=0.01)
    assert (tmp_path / "made-up-gain.svg").is_file()


def test_a_rule_fitted_on_noise_does_not_pretend() -> None:
    """Labels that depend on nothing: what is right where it was fitted fails where it was not."""
    study = planted(60)
    rng = np.random.default_rng(5)
    cells = study["cells"]
    for one in cells:
        one["table"][0]["measures"]["cosine_10"]["mean"] = rng.uniform()
    rows = {r[0]: r for r in table(analyse(study, ["conditions"], None))}
    inside, outside = (float(rows["PLP clearly above the base"][i].split()[0]) for i in (2, 3))
    assert outside > inside
    assert outside > 30


def test_rules_by_pencil() -> None:
    features = np.array([[0.1], [0.2], [0.8], [0.9]])
    helps = np.array([False, False, True, True])
    rule = fit(features, helps, ["x"])
    assert rule == Rule("x", True, pytest.approx(0.5))
    assert str(Rule("x", False, 0.5)) == "x <= 0.5"
    assert apply(rule, features, ["x"], False).tolist() == helps.tolist()
    assert fit(features, ~helps, ["x"]) == Rule("x", False, pytest.approx(0.5))
    assert fit(features, np.array([True] * 4), ["x"]) is None
    assert apply(None, features, ["x"], True).all()


def test_conditions_says_what_it_needs() -> None:
    for made in (planted(6), result(*[cell() for _ in range(12)])):
        with pytest.raises(StudyError, match="at least 8 cells of two data sets"):
            analyse(made, ["conditions"], None)


# --- stability ------------------------------------------------------------------------------------


def test_stability_shows_edges_beside_rate_times_sharpness(tmp_path: Path) -> None:
    one = cell(gain=-1.0, momentum=0.9)
    for each, sharpness in zip(one["table"], (30.0, 25.0, 6.0), strict=True):
        each["measures"] = {"sharpness_most": {"mean": sharpness, "to_base": None}}
    one["table"][2]["measures"]["jump_loss"] = {"mean": 0.5, "to_base": None}
    text = analyse(result(one), ["stability"], tmp_path)
    rows = table(text)
    assert ["no prediction", "2.00", "3.00", "3.80", "3.98"] in rows
    real = {r[1]: r for r in rows if len(r) == 9}
    assert real["sgd"][5:7] == ["3", "3.80"]
    assert real["plp"][5:8] == ["0.6", "0.67", "+0.5"]
    assert (tmp_path / "made-up-radius.svg").is_file()


# --- the command ----------------------------------------------------------------------------------

OWN = sorted((Path(__file__).parents[2] / "research" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_study_of_a_finding_can_be_read_and_says_what_it_asks(path: Path) -> None:
    study, _ = open_study(str(path))
    assert study.name == path.stem
    assert study.question.endswith(("?", "."))


def test_every_study_has_its_analyses() -> None:
    assert {path.stem for path in OWN} | set(ready_made()) | set(ANALYSES) == set(STUDIES)
    assert {name for names in STUDIES.values() for name in names} == set(ANALYSES)
    assert not {path.stem for path in OWN} & set(ready_made())


def test_the_command_writes_a_page_with_its_figures(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "result.json").write_text(to_json(result(cell(gain=1.0))))
    assert "synergy" in call(tmp_path, "synergy", folder, command=command).out
    done = call(tmp_path, "stability", folder, "--out", "new", command=command)
    assert (done.code, done.out) == (0, "wrote new/made-up.md\n")
    page = (tmp_path / "new" / "made-up.md").read_text()
    assert page.startswith("# Study made-up\n")
    for name in re.findall(r"\]\((.*?)\)", page):
        assert (tmp_path / "new" / name).is_file()
    for words, message in (
        (("heat", folder), "'heat' is not one of 'anytime', 'bar-base'"),
        (("heatmap", folder), "a heat map needs cells"),
        (("table", tmp_path / "nowhere"), "is not a folder; give the folder of a pilot or study"),
        (("table", folder, "--out", folder / "result.json"), "cannot be written"),
    ):
        done = call(tmp_path, *words, command=command)
        assert (done.code, done.out) == (2, "")
        assert message in done.err


def test_a_result_of_another_form_is_refused_in_a_sentence() -> None:
    with pytest.raises(StudyError, match=r"result.json is not as .*; start the command"):
        analyse({**result(cell()), "environment": None}, ["table"], None)


# --- online -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("plp", None),
        ("plp(on_drift='reset')", "plp"),
        ("plp(every=4, on_drift='oracle')", "plp(every=4)"),
        ("state-reset", ""),
        ("demon", None),
    ],
)
def test_the_same_method_without_its_reaction(label: str, plain: str | None) -> None:
    assert without_reaction(label) == plain


def test_online_compares_with_and_without() -> None:
    def arm(name: str, values: list[float], of: str = "") -> dict[str, Any]:
        recovery = {"mean": 5.0, "to_base": {"mean": 1.0, "low": -0.5, "high": 2.5}}
        return {
            "method": name, "values": values, "lr": 0.1, "control_of": of,
            "family": LR_MATCHED if of else name,
            "to_base": None if name == "sgd" else {}, "measures": {"recovery": recovery},
        }  # fmt: skip

    stream = {
        "settings": {"task": "digits-drift", "base": "sgd"},
        "metric": METRIC,
        "table": [
            arm("sgd", [0.5, 0.5, 0.5]),
            arm("sgd-lr-matched of plp", [0.1, 0.1, 0.1], of="plp"),
            arm("state-reset", [0.52, 0.52, 0.52]),
            arm("plp", [0.6, 0.6, 0.6]),
            arm("plp(on_drift='reset')", [0.61, 0.61, 0.61]),
        ],
    }
    text = analyse({"cells": [stream], "study": "x"}, ["online"], None)
    assert "| state-reset | 0.1 | 0.1 | +2.00 (+2.00 to +2.00) |" in text
    assert "| plp(on_drift='reset') | 0.1 | 0.1 | +1.00 (+1.00 to +1.00) |" in text
    assert "| plp |  | 5.0 [+1.0 (-0.5 to +2.5)] |" in text
    assert "| sgd |  | 5.0 |" in text
    assert "lr-matched" not in text
    for each in stream["table"]:
        each["measures"] = {}  # type: ignore[index]
    with pytest.raises(StudyError, match="online needs tasks with a stream"):
        analyse({"cells": [stream], "study": "x"}, ["online"], None)


# --- fewer steps --------------------------------------------------------------------------------

NOISE = np.array([-0.01, 0.0, 0.02, 0.01, 0.0, -0.02])


def arms(task: str, schedule: str, epochs: int, **points: float) -> dict:
    """A cell of six seeds: the base at 90 %, and each arm so many points above it at every seed."""
    rows = [
        row("adamw" if name == "base" else name, "base" if name == "base" else "average",
            (0.9 + NOISE + shift / 100).tolist(), 0.01)
        for name, shift in points.items()
    ]  # fmt: skip
    names = ("task", "base", "schedule", "epochs", "batch_size", "momentum", "weight_decay", "lr")
    settings = dict.fromkeys(names) | {"task": task, "base": "adamw", "schedule": schedule}
    settings |= {"epochs": epochs, "batch_size": 32}
    judged = {name: {"quality": {"kind": "x"}} for name in points if name == "trend"}
    return {"settings": settings, "seeds": 6, "metric": METRIC, "table": rows, "verdicts": judged}


def test_fewer_steps_judges_each_arm_by_half_of_what_the_missing_steps_cost() -> None:
    text = analyse(
        result(
            arms("digits", "wsd", 5, base=0),
            arms("digits", "warmup", 4, base=-3, trend=-0.2, ema=-1.5),
            arms("digits", "wsd", 4, base=-1, ema=-2, lookahead=1),
        ),
        ["fewer-steps"], None,
    )  # fmt: skip
    assert "T = 5 epochs, T' = 4, n = 6 seeds, margin 0.50" in text
    rows = {(line[0], line[1], line[2]): line[3:] for line in table(text) if line[0] in ("T", "T'")}
    assert rows["T", "adamw", "wsd"] == ["0.01", "90.00", "", ""]
    assert rows["T'", "adamw", "wsd"][2:] == ["-1.00 (-1.00 to -1.00)", "worse"]
    assert rows["T'", "trend", "warmup"][2:] == ["-0.20 (-0.20 to -0.20)", "equal"]
    assert rows["T'", "lookahead", "wsd"][2:] == ["+1.00 (+1.00 to +1.00)", "better"]


def test_fewer_steps_standardises_by_the_base_and_averages_over_tasks() -> None:
    cells = []
    for task, gain in (("digits", 1.0), ("fashion", 2.0)):
        own = "wsd" if task == "digits" else "warmup"
        cells.append(arms(task, own, 5, base=0))
        cells.append(arms(task, "warmup", 4, base=-1, trend=0, ema=-gain))
        if own == "wsd":
            cells.append(arms(task, "wsd", 4, base=-1, lawa=-5))
    text = analyse(result(*cells), ["fewer-steps"], None)
    sd = np.std(100 * NOISE, ddof=1)
    rows = {line[0]: line[1:] for line in table(text)[-4:]}
    z = f"{1.5 / sd:+.2f}"
    assert rows["ema, warmup"] == [
        f"{1 / sd:+.2f}", f"{2 / sd:+.2f}", f"{z} ({z} to {z})", "better",
    ]  # fmt: skip
    assert "base, the base's schedule" in rows  # wsd of the one, warmup of the other
    assert not any("lawa" in name for name in rows)  # not every task has it


def test_an_arm_with_the_bases_own_schedule_on_every_task_stands_once() -> None:
    cells = [
        arms(task, "warmup", epochs, base=5 - epochs, trend=0, ema=0)
        for task in ("digits", "fashion")
        for epochs in (5, 4)
    ]
    rows = [line[0] for line in table(analyse(result(*cells), ["fewer-steps"], None))]
    assert rows.count("ema, the base's schedule") == 1
    assert "ema, warmup" not in rows


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([arms("digits", "wsd", 5, base=0, trend=0)], "cells of 5"),
        (
            [arms("digits", "wsd", e, base=0, trend=0) for e in (3, 4, 5)],
            "task digits has cells of 5, 3, 4",
        ),
        (
            [arms("digits", "wsd", 5, base=0), arms("digits", "warmup", 4, base=0, trend=0)],
            "the base's own schedule, wsd, among the shorter cells of task digits",
        ),
        (
            [arms("digits", "wsd", 5, base=0), arms("digits", "wsd", 4, base=0, ema=0)],
            "needs a predictor or an average",
        ),
    ],
)
def test_fewer_steps_says_what_a_study_lacks(cells: list[dict], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        analyse(result(*cells), ["fewer-steps"], None)


# --- on the way -----------------------------------------------------------------------------------


def stored(folder: Path, method: str, curves: list[list[float]]) -> list[str]:
    """Keys of runs with these validation accuracies, one per 5 steps."""
    keys = []
    with contextlib.closing(Store(folder / DATABASE)) as store:
        for seed, values in enumerate(curves):
            spec = RunSpec(
                task="t", fingerprint="f", method=method, base="sgd", lr=0.1, schedule="cosine",
                epochs=2, batch_size=8, share=1.0, phase="final", seed=seed, device="cpu",
                versions="v",
            )  # fmt: skip
            curve = [{"step": 5 * (i + 1), "validation_metric": v} for i, v in enumerate(values)]
            store.put(spec, {"status": "done", "curve": curve}, {})
            keys.append(spec.key)
    return keys


def test_means_on_the_way_are_of_the_runs_that_have_a_whole_curve(tmp_path: Path) -> None:
    study = cell(schedule="cosine")
    base, _, plp = study["table"]
    base["keys"] = stored(tmp_path, "base", [[0.5, 0.8], [0.7, 0.9], [0.1]])  # one diverged
    plp["keys"] = stored(tmp_path, "plp", [[0.6, 0.7]])
    made = result(study) | {"out": str(tmp_path)}
    text = analyse(made, ["anytime"], tmp_path)
    assert table(text)[1:] == [
        ["sgd, cosine, 1 T", "0.1", "2", "", "", "", "", "85"],
        ["plp over sgd, cosine, 1 T", "0.1", "1", "", "", "", "", "70"],
    ]
    assert (tmp_path / "made-up-digits.svg").read_text().count("<svg") == 1
    base["keys"] = plp["keys"] = []
    with pytest.raises(StudyError, match="no run of digits has a curve"):
        analyse(result(study) | {"out": str(tmp_path)}, ["anytime"], None)
