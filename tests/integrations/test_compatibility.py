"""The compatibility table: what the command writes, and that the page is up to date."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = """
import pytest

@pytest.mark.compat(stack="Good", feature="train")
@pytest.mark.compat(stack="Good", feature="metrics")
@pytest.mark.parametrize("i", [1, 2])
def test_good(i): pass

@pytest.mark.compat(stack="Mixed", feature="train")
@pytest.mark.parametrize("i", [1, 2])
def test_mixed(i): assert i == 1

@pytest.mark.compat(stack="Mixed", feature="sharded", no="it has one process")
def test_refused(): pass

@pytest.mark.compat(stack="Missing", feature="train")
def test_missing(): pytest.importorskip("no_such_package")
"""


def run(folder: Path, cases: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir()
    (folder / "tests" / "known_limits.txt").write_text("")
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "test_cases.py").write_text(cases)
    command = [sys.executable, "-m", "pytest", "--compat", "table.md", "test_cases.py", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.ci
@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_table_says_what_the_tests_showed(workers: str, tmp_path: Path) -> None:
    run(tmp_path, CASES, "-n", workers)
    rows = [r for r in (tmp_path / "table.md").read_text().splitlines() if r.startswith("| ")]
    cells = {row.split(" | ")[0][2:]: row[:-2].split(" | ")[1:] for row in rows[1:]}
    assert list(cells) == ["Good", "Missing", "Mixed"]
    untested = "not tested"
    assert cells["Good"] == ["yes", untested, untested, untested, "yes"]
    assert cells["Missing"][0] == "**fails** [1]"
    assert cells["Mixed"] == ["**fails** [2]", untested, "no [3]", untested, untested]
    notes = (tmp_path / "table.md").read_text().splitlines()[-3:]
    assert notes[0].endswith("did not pass: test_cases.py::test_missing")
    assert notes[1].endswith("did not pass: test_cases.py::test_mixed[2]")
    assert notes[2] == "3. it has one process"


def test_an_unknown_feature_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, CASES.replace('"metrics"', '"colour"'), "-n", "0")
    assert "feature must be one of" in done.stderr + done.stdout
    assert not (tmp_path / "table.md").exists()


def test_the_page_has_every_marked_cell_and_no_other() -> None:
    marked = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.compat"):
                given = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
                answer = "no" if "no" in given else "yes"
                marked.add((given["stack"], given["feature"], answer))
    page = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
    head, *rows = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")
    ]
    written = {
        (row[0], feature, cell.split(" [")[0])
        for row in rows
        for feature, cell in zip(head[1:], row[1:], strict=True)
        if cell != "not tested"
    }
    assert written == marked, "run: python -m pytest -m compat --compat docs/compatibility.md"
