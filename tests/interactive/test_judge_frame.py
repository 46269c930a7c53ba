"""`paramcast.judge`: the command's verdict on a frame, and frames that cannot be judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import paramcast
from command import call
from paramcast.errors import StudyError
from paramcast.study.store.folder import to_json
from runs import cell

SEEDS = 8


def results(**columns: Any) -> pd.DataFrame:
    """Two points between sgd and new at every seed."""
    draw = np.random.default_rng(0)
    base = 0.9 + 0.01 * draw.standard_normal(SEEDS)
    new = base + 0.02 + 0.001 * draw.standard_normal(SEEDS)
    frame = pd.DataFrame(
        {
            "model": ["sgd"] * SEEDS + ["new"] * SEEDS,
            "seed": [*range(10, 10 + SEEDS)] * 2,
            "accuracy": [*base, *new],
        }
    )
    return frame.assign(**columns)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "170")


def judged(found: Any) -> Any:
    one = json.loads(to_json(cell(found.stored)))
    # the names of the table, and where its rows stand
    for name in ("task", "description", "specification"):
        del one[name]
    for row in one["table"]:
        del row["keys"]
    return one


def test_a_frame_and_its_file_get_the_same_verdict(tmp_path: Path) -> None:
    frame = results()
    frame.to_csv("results.csv", index=False)
    here = paramcast.judge(frame, base="sgd", margin=0.5, out="frame")
    file = paramcast.judge("results.csv", base="sgd", margin=0.5)
    ran = call(tmp_path, "judge", "results.csv", "--base", "sgd", "--margin", 0.5, "--out", "c")
    assert ran.code == 0
    assert judged(here) == judged(file)
    told = json.loads((tmp_path / "c" / "result.json").read_text())
    assert json.loads(to_json(file.stored["cells"])) == told["cells"]
    assert str(file).split("\nDetails")[0] == ran.out.split("\nDetails")[0]
    assert here.verdicts["new"]["quality"].kind == "adopt"
    assert here.folder == Path("frame")


def test_the_result_has_a_frame_a_report_and_a_first_screen() -> None:
    found = paramcast.judge(results(), base="sgd")
    assert [*found.frame["seed"]] == [str(seed) for seed in range(10, 18)] * 2
    assert [*found.frame["value"]] == [*results()["accuracy"]]
    assert [*found.frame.columns] == ["method", "role", "seed", "value"]
    assert "should new replace sgd" in found.report("report.html").read_text().lower()
    assert found._repr_html_().count("<circle") == 1


def test_options_may_be_texts_or_lists_and_an_index_counts_as_columns() -> None:
    found = paramcast.judge(
        results().rename(columns={"model": "who", "seed": "draw"}),
        method="who", seed=["draw"], value="accuracy", base="sgd", margin="1%",
    )  # fmt: skip
    assert cell(found.stored)["metric"].margin == pytest.approx(0.009, rel=0.01)
    indexed = paramcast.judge(results().set_index(["model", "seed"]), base="sgd")
    assert indexed.verdicts["new"]["quality"].kind == "adopt"
    wide = results().pivot_table(index="seed", columns="model", values="accuracy").reset_index()
    found = paramcast.judge(wide, wide=True, value="accuracy", base="sgd")
    assert found.verdicts["new"]["quality"].kind == "adopt"


def test_names_that_would_be_code_are_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    found = paramcast.judge(results().replace("new", evil), base="sgd")
    assert evil not in found._repr_html_()
    assert "&lt;img src=x" in found._repr_html_()
    assert evil not in found.report("report.html").read_text()


def test_frames_of_other_packages_are_converted() -> None:
    class Polars:
        def to_pandas(self) -> pd.DataFrame:
            return results()

    assert paramcast.judge(Polars(), base="sgd").verdicts["new"]["quality"].kind == "adopt"


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([1, 2], {}, "a table is a pandas or polars frame, or a file, got a list; put it into"),
        ("no.csv", {}, "no.csv"),
        (pd.DataFrame(), {}, "the table has no rows"),
        (results(), {"base": "adam"}, "--base 'adam' is not a method of the table: 'sgd', 'new'"),
        (results(), {"metod": "model"}, "there is no option 'metod'; did you mean method?"),
        (results(), {"colour": 1}, "there is no option 'colour'; see `paramcast judge --help`"),
        (results(), {"value": "loss"}, "--value 'loss' is not a column of the table"),
        (results(), {"wide": "yes"}, "wide needs True or False, got 'yes'"),
        (results(accuracy=1j), {}, "column 'accuracy' holds complex numbers; leave it out"),
        (results(accuracy="good"), {}, "column 'accuracy' holds 'good' in row 0"),
        (pd.concat([results(), results()], axis=1), {}, "two columns of the table are called 'mod"),
        (results(accuracy=np.nan), {"wide": True}, "no column of the table holds numbers"),
        (results(seed=1), {"base": "sgd"}, "'sgd' with seed '1' is in rows 0 and 1 and 2"),
    ],
    ids=range(13),
)
def test_what_cannot_be_judged_is_one_sentence(
    table: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError) as caught:
        paramcast.judge(table, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
