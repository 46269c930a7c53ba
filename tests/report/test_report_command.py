"""`paramcast report`: formats, bad input, no torch; and the page that pilots and studies leave."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import EVIL, write_pilot

from command import without_notice
from paramcast.cli.running import beside
from paramcast.errors import StudyError
from paramcast.report.html import meeting, pdf, write
from paramcast.report.html.load import load
from paramcast.report.html.report import build
from paramcast.study.words import Words

Paramcast = Callable[..., Any]

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not to be imported")

sys.meta_path.insert(0, Refuse())
from paramcast.cli.main import _main
pilot, study = sys.argv[1:]
for words in (["report", pilot, "-o", "pilot.html", "--lang", "ja"], ["roi", pilot],
              ["report", study, "-o", "study.html"], ["watch", study, "--once"]):
    sys.argv = ["paramcast", *words]
    assert _main() == 0
"""


def test_neither_report_nor_roi_nor_watch_needs_torch(
    pilot: Path, study: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, pilot, study]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote pilot.html\n")
    assert '<html lang="ja">' in (tmp_path / "pilot.html").read_text("utf-8")


def test_where_the_report_goes(paramcast: Paramcast, pilot: Path, tmp_path: Path) -> None:
    """Into the folder, to a file or to standard output."""
    ran = paramcast("report", pilot)
    assert (ran.code, ran.out, ran.err) == (0, f"wrote {pilot}/report.html\n", "")
    (pilot / "report.html").unlink()
    made = tmp_path / "report.md"
    ran = paramcast("report", pilot, "-o", made)
    assert (ran.code, ran.out) == (0, f"wrote {made}\n")
    dash = paramcast("report", pilot, "-o", "-", "--format", "md")
    assert (dash.code, dash.out) == (0, made.read_text("utf-8"))
    assert not Path("-").exists()
    # the ending tells the format
    assert dash.out.startswith("# Should plp replace sgd on &lt;img")
    ran = paramcast("report", pilot, "-o", "report.docx")
    said = "-o report.docx: .docx is not a format; end it in .html, .md, .pdf, or say --format"
    assert (ran.code, ran.err) == (2, f"paramcast: {said}\n")


def test_without_a_folder_it_is_the_one_that_finished_last(
    paramcast: Paramcast, pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, when in (("a", 2000), ("b", 3000), ("c", 1000), ("unfinished", 4000)):
        folder = Path("paramcast-runs") / name
        shutil.copytree(pilot, folder)
        os.utime(folder / "result.json", (when, when))
    (folder / "result.json").unlink()
    written = "wrote paramcast-runs/b/report.md\n"
    assert paramcast("report", "--format", "md").out == written
    assert paramcast("report", "paramcast-runs", "--format", "md").out == written
    assert paramcast("roi", "--json").out == paramcast("roi", "paramcast-runs/b", "--json").out
    assert "no result.json" in paramcast("report", folder).err


def test_a_pipe_is_written_to_and_stays_a_pipe(
    paramcast: Paramcast, pilot: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    assert paramcast("report", pilot, "-o", pipe, "--format", "md").code == 0
    reader.join(timeout=30)
    assert pipe.is_fifo()
    assert read[0].startswith("# Should ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_standard_output_that_is_full_is_one_sentence(pilot: Path) -> None:
    words = ["report", str(pilot), "-o", "-"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "paramcast", *words], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    said = "paramcast: the output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_inputs_of_your_own_are_counted_with(
    paramcast: Paramcast, pilot: Path, study: Path, tmp_path: Path
) -> None:
    out, toml = tmp_path / "r.md", tmp_path / "roi.toml"
    toml.write_text('currency = "CHF"')
    assert paramcast("report", pilot, "-o", out, "--inputs", toml).code == 0
    assert re.search(r"[\d,]+ CHF", out.read_text("utf-8"))
    toml.write_text("watts = -1")
    ran = paramcast("report", pilot, "-o", out, "--inputs", toml)
    assert (ran.code, ran.err) == (
        2, "paramcast: roi.toml: watts must not be negative, got -1\n"
    )  # fmt: skip
    toml.write_text("")
    ran = paramcast("report", study, "--inputs", toml)
    assert ran.code == 2
    assert f"and {study} judges none; give the folder of a pilot" in ran.err


def test_markdown_is_a_table_that_names_cannot_break(pilot: Path, study: Path) -> None:
    markdown = pytest.importorskip("markdown")
    for folder in (pilot, study):
        text = write.content(folder, "en", "md").decode()
        made = markdown.markdown(text, extensions=["tables", "fenced_code"])
        assert "<img" not in made
        rows = [re.findall("<t[hd]", row) for row in re.findall("(?s)<tr>(.*?)</tr>", made)]
        result = json.loads((folder / "result.json").read_text())
        arms = [r for c in result["cells"] for r in c["table"]]
        assert len({len(row) for row in rows[: len(arms) + 1]}) == 1


def test_a_pdf_is_printed(chromium: str, paramcast: Paramcast, pilot: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    assert paramcast("report", pilot, "-o", out).code == 0
    assert out.read_bytes().startswith(b"%PDF-")
    assert out.stat().st_size > 50_000
    assert len(re.findall(rb"/Type\s*/Page\b", out.read_bytes())) >= 4


def test_for_a_meeting_there_is_one_page(
    chromium: str, paramcast: Paramcast, tmp_path: Path
) -> None:
    effects = {"plp": 0.012, "random-jump:plp": 0.0121}
    write_pilot(tmp_path / "pilot", methods="demon, plp", effects=effects)
    out = tmp_path / "meeting.pdf"
    ran = paramcast("report", tmp_path / "pilot", "--one-page", "--lang", "ja", "-o", out)
    assert ran.code == 0
    assert len(re.findall(rb"/Type\s*/Page\b", out.read_bytes())) == 1


MANY = "plp, secant, quadratic, lookahead, outer-nesterov, forward-ema, rre, aitken, ema, swa, lawa"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_pilot(folder, methods=MANY, effects={"ema": 0.02, "swa": 0.012, "rre": -0.03})
    return folder


def test_of_many_methods_one_page_has_the_most_important(chromium: str, many: Path) -> None:
    printed = write.content(many, "en", "pdf", one_page=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


def test_what_a_meeting_decides_comes_first_and_the_rest_is_counted(many: Path) -> None:
    stored, words = load(many), Words("en")
    pages = list(meeting.ever_shorter(stored, words, None))
    assert len(pages) == len(meeting.CUTS)  # with so many, all of all is not even tried
    shown = [verdict["method"] for verdict in pages[0]["verdicts"]]
    assert shown == ["ema", "ema", "swa", "rre"]  # adopt, adopt, harmful; of the first its speed
    assert pages[0]["more"][0].startswith("And 8 more: ")
    # the table has no line of what is left out, and the pilot cost what it cost
    methods = {row["cells"][0] for row in pages[0]["table"]["rows"]}
    assert {"sgd", "ema", "swa", "rre"} <= methods
    assert not {name for name in methods if "quadratic" in name}
    whole = build(stored, words)["payoff"]["methods"]
    assert [page["payoff"]["methods"] for page in pages] == [
        [each for each in whole if each["name"] == "ema"]
    ] * len(pages)


def test_one_page_is_for_a_pdf(paramcast: Paramcast, pilot: Path) -> None:
    ran = paramcast("report", pilot, "--one-page", "--format", "html")
    assert ran.code == 2
    assert "--one-page is for a PDF, got html; leave out --one-page or --format" in ran.err


def test_without_a_browser_there_is_no_pdf(
    paramcast: Paramcast, pilot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    ran = paramcast("report", pilot, "--format", "pdf")
    assert ran.code == 2
    assert ran.err.startswith("paramcast: --format pdf prints with Chromium, and none was found; ")
    assert ran.err.count("\n") == 1


def test_a_browser_that_prints_nothing_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho first >&2\necho no display >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StudyError, match=r"did not print the report: no display$"):
        pdf.to_pdf("<p>x</p>")


# --- bad input, beside that in tests/hostile ------------------------------------------------------


def test_a_full_disk_leaves_the_old_page(
    pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StudyError, match="cannot be written: No space left on device"):
        write.write_report(pilot, out)
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_read_only_folder_is_read(pilot: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pilot, tmp_path / "copy"))
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    folder.chmod(0o555)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from paramcast.report.html.load import load\n"
        "from paramcast.report.watch.board import Board\n"
        "load(Path(sys.argv[1])), Board(Path(sys.argv[1])).look()\n"  # imports everything now
        "os.getuid() or os.setresuid(65534, 65534, 65534)\n"
        "runs, watched = load(Path(sys.argv[2])).runs, Board(Path(sys.argv[2])).look()\n"
        "print(len(runs), len(watched.ended), len(watched.ended[0].curve), watched.state)"
    )
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", code, pilot, folder], capture_output=True, text=True
    )
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "108 108 6 finished\n"
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


# --- at the end of a pilot and a study ------------------------------------------------------------

TASK = f"""
import torch
from paramcast.study import Task

def split(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.nn.functional.one_hot(y, 3) + 0.5 * torch.randn(n, 3, generator=g), y

def task():
    return Task("{EVIL}", lambda: torch.nn.Linear(3, 3), split(60, 0), split(60, 1), split(60, 2),
                epochs=2, batch_size=10)
"""


def test_a_pilot_leaves_its_report(
    paramcast: Paramcast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("evil.py").write_text(TASK)
    words = ("pilot", "evil.py:task", "--lr", 0.1, "--seeds", 6, "--workers", 1, "--out", "out")
    ran = paramcast(*words, "--tensorboard")
    notice = f"paramcast: running the code in {tmp_path}/evil.py, with your rights\n"
    assert (ran.code, without_notice(ran.err)) == (0, "")
    assert ran.err.count(notice) == 1
    assert ran.out.endswith("Report: out/report.html\n")
    text = Path("out/report.html").read_text("utf-8")
    assert EVIL not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    written = [p for p in Path("out/tensorboard").rglob("events*") if "overview" not in p.parts]
    assert len(written) == len(load(Path("out")).runs) >= 12
    Path("out/report.html").unlink()
    Path("out/report.html").mkdir()  # cannot be written now
    again = paramcast(*words, "--json")
    assert again.code == 0
    assert again.cell["seeds"] == 6
    assert without_notice(again.err).startswith(
        "paramcast: no report was written: out/report.html cannot"
    )


def test_a_mistake_of_the_report_costs_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(folder: Path) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(write, "write_report", fails)
    assert beside(tmp_path) == ""
    assert capsys.readouterr().err == "paramcast: no report was written: of ours\n"
