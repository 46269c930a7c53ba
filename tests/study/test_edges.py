"""The command line where the system is unkind: permissions, closed streams, byte-order marks."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from command import Ran
from paramcast.cli import main as cli
from paramcast.report.roi import read, read_inputs, summary
from paramcast.study.grid.file import open_study
from paramcast.study.reading import from_toml, read_text
from paramcast.study.store.folder import reading

Unprivileged = tuple[Path, Callable[[], AbstractContextManager[None]]]
STUDY = 'name = "s"\nquestion = "q"\n[[grid]]\ntask = "digits"\nmethods = ["plp"]\nseeds = 2\n'


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_are_no_accident(closed: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m paramcast pilot nosuch.csv --target y {closed}"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    said = "" if "2>&-" in closed else "paramcast: there is no file 'nosuch.csv'; check the path\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)
    assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(b"\xef\xbb\xbf" + STUDY.encode())
    assert from_toml(read_text(file, 1000))["name"] == "s"
    assert open_study(str(file))[0].grid[0].task == ["digits"]


def test_a_studys_metric_and_margin_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(STUDY + 'metric = "auroc"\nmargin = "5%"\n')
    grid = open_study(str(file))[0].grid[0]
    assert (grid.metric, grid.margin) == ("auroc", "5%")
    file.write_text(STUDY + 'metric = "beauty"\n')
    with pytest.raises(Exception, match=r"grid\[1\].metric.*must be one of accuracy, .*'beauty'"):
        open_study(str(file))


def test_an_unreadable_table_ends_in_one_sentence(
    unprivileged: Unprivileged,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, nobody = unprivileged
    file = folder / "t.csv"
    file.write_text("a,y\n1,2\n")
    file.chmod(0o000)
    for name, said in (
        ("none.csv", "there is no file"),  # first, while imports may still be read
        ("t.csv", "may not be used (Permission denied); give access to it"),
    ):
        words = ["paramcast", "pilot", str(folder / name), "--target", "y"]
        monkeypatch.setattr(sys, "argv", words)
        with nobody() if name == "t.csv" else contextlib.nullcontext():
            assert cli._main() == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_roi_counts_the_mistakes_of_a_real_pilot(paper_digits: tuple[Ran, Path]) -> None:
    found = read(paper_digits[1])
    rows = {row["method"]: row for row in found["table"]}
    for row in (rows["sgd"], rows["plp"]):
        for counts, value in zip(row["runs"]["class_counts"], row["values"], strict=True):
            assert sum(counts["hits"]) / sum(counts["actual"]) == pytest.approx(value)
    inputs = read_inputs("positive_class = 2\npredictions_per_month = 6000", "mine")
    figures = {row["key"]: row for row in summary(found, inputs)["methods"]["plp"]["kpis"]}
    wrong = [
        statistics.fmean((c["predicted"][2] - c["hits"][2]) / sum(c["actual"]) for c in counts)
        for counts in (rows[name]["runs"]["class_counts"] for name in ("plp", "sgd"))
    ]
    assert figures["false_positives"]["value"] == pytest.approx(6000 * (wrong[0] - wrong[1]))


def test_roi_reads_a_folder_in_which_nothing_may_be_written(
    unprivileged: Unprivileged, paper_digits: tuple[Ran, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, nobody = unprivileged
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    out = folder / "out"
    out.mkdir()
    for name in ("result.json", "runs.db"):
        (out / name).write_bytes((paper_digits[1] / name).read_bytes())
    before = {path.name for path in out.iterdir()}
    out.chmod(0o555)
    with nobody():
        assert not os.access(out, os.W_OK)
        assert read(out)["pilot_hours"] > 0
        with reading(out) as store:
            assert store.runs()
    assert {path.name for path in out.iterdir()} == before
    out.chmod(0o755)
