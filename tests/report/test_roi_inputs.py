"""The file of inputs, and everything that `paramcast roi` refuses in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from roi_pilots import adopted, store

import command
from command import Ran
from paramcast.errors import StudyError
from paramcast.report import roi
from paramcast.report.roi.inputs import QUANTITIES
from paramcast.study.judging.verdict import Metric
from paramcast.study.stored import read_result
from runs import cell


def call(*words: Any) -> Ran:
    return command.call(Path.cwd(), "roi", *words)


def refused(*words: Any) -> str:
    """What the command says when it ends with exit code 2: one line."""
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("paramcast: ")
    return err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store(tmp_path_factory.mktemp("pilot"), adopted())


# --- the template ---------------------------------------------------------------------------------


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    code, text, _ = call("--template")
    assert code == 0
    read = roi.read_inputs(text, "roi.toml")
    assert read == roi.defaults()
    assert set(read.estimates) == set(QUANTITIES) - {"cost_per_error"}
    for estimate in read.estimates.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_every_optional_line_of_the_template_works() -> None:
    lines = roi.template().splitlines()
    lines = [line for line in lines if not line.startswith("value_per_point")]
    optional = ("# cost_per_error", "# positive_class")
    text = "\n".join(line[2:] if line.startswith(optional) else line for line in lines)
    read = roi.read_inputs(text, "roi.toml")
    assert read.positive_class == 1
    assert read.estimates["cost_per_error"].value == 0.5


def test_what_is_left_out_keeps_its_default() -> None:
    read = roi.read_inputs("watts = 100\ntransfer = { value = 0.3, high = 0.4 }", "mine.toml")
    assert read.given == {"watts", "transfer"}
    assert read.estimates["watts"]._asdict() == {"value": 100, "low": 100, "high": 100}
    assert read.estimates["transfer"]._asdict() == {"value": 0.3, "low": 0.3, "high": 0.4}
    others = roi.defaults().estimates
    assert all(read.estimates[k] == others[k] for k in others if k not in read.given)


def test_defaults_are_named_as_such(folder: Path, tmp_path: Path) -> None:
    assert "19 of 19 inputs are defaults. Fill in first: hours per training, " in call(folder)[1]
    (tmp_path / "roi.toml").write_text('currency = "£"\nwatts = 100', "utf-8")
    code, out, _ = call(folder, "--inputs", tmp_path / "roi.toml", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["currency"] == "£"
    assert [k for k, v in found["inputs"].items() if not v["default"]] == ["watts"]
    assert found["inputs"]["hourly_rate"]["unit"] == "£/h"
    assert "All from defaults" not in call(folder, "--inputs", tmp_path / "roi.toml")[1]


# --- bad inputs, beside those in tests/hostile ---------------------------------------------------


def test_inputs_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    said = refused(folder, "--inputs", tmp_path / "none.toml")
    assert "cannot be read (No such file or directory)" in said
    assert "paramcast roi --template > roi.toml" in said
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8 text" in refused(folder, "--inputs", tmp_path / "binary.toml")


def test_inputs_that_do_not_fit_the_task(tmp_path: Path, folder: Path) -> None:
    arms = adopted()
    pilot = store(tmp_path / "mse", arms, Metric("mse", False, 0.05))
    text = "cost_per_error = 1\npredictions_per_month = 10"
    (tmp_path / "roi.toml").write_text(text)
    said = refused(pilot, "--inputs", tmp_path / "roi.toml")
    assert "cost_per_error needs the metric accuracy, this pilot's is mse" in said
    counts = {"actual": [50, 50], "predicted": [50, 50], "hits": [45, 45]}
    pilot = store(tmp_path / "two", [replace(arm, counts=counts) for arm in arms])
    (tmp_path / "roi.toml").write_text("positive_class = 2")
    said = refused(pilot, "--inputs", tmp_path / "roi.toml")
    assert "positive_class is 2, the task has the classes 0 to 1" in said


# --- bad folders ----------------------------------------------------------------------------------


def one_seed(result: dict[str, Any]) -> None:
    cell(result)["seeds"] = 1
    for row in cell(result)["table"]:
        row["values"], row["early_values"] = row["values"][:1], row["early_values"][:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda result: result.update(schema=5),
         "has schema 5, this paramcast reads 4; use the paramcast that wrote it"),
        (lambda result: cell(result).update(verdicts={}),
         "judges no method; run the pilot with a predictor"),
        (lambda result: cell(result).pop("table"),
         "is not as this paramcast writes it (cells.0.table: Field required"),
        (lambda result: cell(result)["table"][0].update(keys=["none"] * 8),
         "lacks 8 of the runs behind sgd; run the pilot's command again"),
        (lambda result: cell(result)["table"][0]["values"].append(0.9),
         "is not as this paramcast writes it ('sgd' has more than 8 values); start"),
        (lambda result: cell(result)["verdicts"].update(x=cell(result)["verdicts"]["plp"]),
         "(there is a verdict on 'x', but no row); start"),
        (one_seed,
         "has 1 seed; without a spread there is no interval: run the pilot with --seeds 8"),
    ],
)  # fmt: skip
def test_bad_results(tmp_path: Path, change: Any, message: str) -> None:
    assert message in refused(store(tmp_path / "out", adopted(), change=change))


@pytest.mark.parametrize(("left", "name"), [(1, "sgd-lr-matched"), (2, "random-jump")])
def test_a_missing_control(tmp_path: Path, left: int, name: str) -> None:
    arms = adopted()
    del arms[left]
    said = refused(store(tmp_path / "out", arms))
    assert f"the control {name} of plp is missing" in said


def test_folders_without_a_pilot(tmp_path: Path, folder: Path) -> None:
    assert "has no result.json; give the folder of a pilot or study" in refused(tmp_path)
    text = (folder / "result.json").read_text()
    (tmp_path / "result.json").write_text(text)
    assert "holds no runs.db; give the whole folder of a pilot or study" in refused(tmp_path)
    (tmp_path / "runs.db").write_text("no database at all, but long enough to be read as one")
    assert "runs.db" in refused(tmp_path)
    (tmp_path / "result.json").write_text("{")
    assert "result.json cannot be read (" in refused(tmp_path)
    (tmp_path / "result.json").write_text("[]")
    assert "result.json cannot be read (it holds []" in refused(tmp_path)


def test_a_bare_result_has_no_runs(folder: Path) -> None:
    result = read_result(folder)
    with pytest.raises(StudyError, match=r"open the folder with paramcast\.report\.roi\.read"):
        roi.summary({**result}, roi.defaults())


# --- where the output goes ------------------------------------------------------------------------


def test_output_to_a_file_never_over_inputs_that_are_filled_in(
    folder: Path, tmp_path: Path
) -> None:
    code, out, _ = call(folder, "--out", tmp_path / "roi.txt")
    assert (code, out) == (0, f"wrote {tmp_path / 'roi.txt'}\n")
    assert (tmp_path / "roi.txt").read_text().startswith("plp against sgd on made")
    said = refused(folder, "--out", tmp_path / "none" / "roi.txt")
    assert "cannot be written (No such file or directory); choose another file" in said
    assert "cannot be written (Is a directory)" in refused("--template", "--out", tmp_path)
    inputs = tmp_path / "roi.toml"
    assert call("--template", "--out", inputs)[0] == 0
    inputs.write_text("watts = 250\n")
    assert "roi.toml exists already and was left alone" in refused("--template", "--out", inputs)
    assert inputs.read_text() == "watts = 250\n"


def test_options_that_exclude_each_other(folder: Path) -> None:
    said = "--template prints the file of inputs and takes nothing but"
    assert said in refused(folder, "--template")
    assert "--json holds all that --full prints" in refused(folder, "--json", "--full")
