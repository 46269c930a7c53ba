"""Names are data: never HTML, formulas, SQL, paths, or commands to a terminal."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from analyse import command as analyse
from blobs import BLOBS
from command import call
from folders import copy_of, pilot_folder, study_folder
from paramcast.report.html.write import content
from paramcast.study.sheets import harmless
from paramcast.study.store.store import Store
from runs import cell

EVIL = (
    "=1+1</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload=alert(1) "
    "[x](javascript:alert(1)) {{7*7}} %{x} $$\\input{x} '); DROP TABLE runs;-- \x1b[2J"
)
FORMULAS = ("=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1")


def poison(value: Any, keys: tuple[str, ...]) -> Any:
    """A result whose free texts all end in something evil."""
    if isinstance(value, dict):
        return {
            k: f"{v} {EVIL}" if k in keys and isinstance(v, str) else poison(v, keys)
            for k, v in value.items()
        }
    return [poison(each, keys) for each in value] if isinstance(value, list) else value


FREE = ("question", "command", "predictor", "control", "a", "b", "task", "out", "cpu",
        "platform", "git_commit", "text", "label", "versions", "schedule", "base")  # fmt: skip


def evil_folder(place: Path, kind: str) -> Path:
    folder = copy_of(pilot_folder() if kind == "pilot" else study_folder(), place / kind)
    path = folder / "result.json"
    result = poison(json.loads(path.read_text()), FREE if kind == "study" else FREE[1:])
    for one in result["cells"]:
        one["metric"]["name"] = EVIL
        one["notes"] = [{"note": "lowest", "arms": [EVIL], "range": [0.1, 1.0]}]
        one["table"][0]["method"] = EVIL
        one["settings"] = {**one["settings"], EVIL: EVIL}
    result["environment"][EVIL] = EVIL
    result["notes"] = [EVIL]
    path.write_text(json.dumps(result))
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as connection, connection:
        query = "SELECT key, spec, outcome FROM runs LIMIT 1"
        key, spec, outcome = connection.execute(query).fetchone()
        evil = {"status": "diverged", "divergence": {"how": "step", "step": EVIL}}
        spoilt = json.dumps(json.loads(spec) | {"task": EVIL, "phase": EVIL})
        connection.execute(
            "UPDATE runs SET spec = ?, outcome = ?, finished_at = ? WHERE key = ?",
            (spoilt, json.dumps(json.loads(outcome) | evil), EVIL, key),
        )
        connection.execute(
            "INSERT INTO failures VALUES (1, ?, ?, ?, ?, ?)", (EVIL, EVIL, EVIL, spoilt, EVIL)
        )
    return folder


class Shape(HTMLParser):
    """What a browser would act on: elements with their attributes, scripts, links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, tuple[str, ...]]] = set()
        self.scripts, self.links = 0, set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.scripts += tag == "script"
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action")}


@pytest.mark.parametrize("kind", ["pilot", "study"])
def test_no_stored_text_is_html_in_a_report(kind: str, tmp_path: Path) -> None:
    folder = pilot_folder() if kind == "pilot" else study_folder()
    good = Shape(content(folder, "en", "html").decode())
    page = content(evil_folder(tmp_path, kind), "ja", "html").decode()
    evil = Shape(page)
    assert "alert(1)" in page
    more = {("td", ("translate",)), ("th", ("scope", "translate")), ("li", ("translate",))}
    assert evil.elements - good.elements <= more  # of failures and notes, which only evil has
    assert evil.scripts == good.scripts == 3
    assert all(link.startswith(("#", "data:text/csv;")) for link in evil.links)
    assert "{{7*7}}" in page  # and not 49
    assert "\\input" in page


@pytest.mark.parametrize("kind", ["pilot", "study"])
def test_no_stored_text_is_html_or_a_link_in_markdown(kind: str, tmp_path: Path) -> None:
    markdown = pytest.importorskip("markdown")
    text = content(evil_folder(tmp_path, kind), "en", "md").decode()
    made = Shape(markdown.markdown(text, extensions=["tables", "fenced_code"]))
    assert not {tag for tag, _ in made.elements} & {"script", "img", "a"}


def test_no_stored_text_is_html_or_a_link_in_an_analysis(tmp_path: Path) -> None:
    markdown = pytest.importorskip("markdown")
    evil_folder(tmp_path, "study")
    ran = call(tmp_path, "measures", "study", command=analyse)
    assert ran.code == 2  # no run measured anything
    ran = call(tmp_path, "table", "study", command=analyse)
    assert ran.code == 0, ran.err
    assert "alert(1)" in ran.out
    made = Shape(markdown.markdown(ran.out, extensions=["tables"]))
    assert not {tag for tag, _ in made.elements} & {"script", "img", "a"}


def test_an_analysis_writes_into_its_folder_only(tmp_path: Path) -> None:
    folder = copy_of(study_folder(), tmp_path / "study")
    result = json.loads((folder / "result.json").read_text())
    for each in result["cells"]:
        each["settings"]["task"] = "../../../up\0/" + "a" * 300
    (folder / "result.json").write_text(json.dumps(result))
    ran = call(tmp_path, "heatmap", "study", "--out", "pages", command=analyse)
    assert ran.code == 0, ran.err
    made = {path.name for path in (tmp_path / "pages").iterdir()} - {"small.md"}
    assert made
    assert all(re.fullmatch(r"small-[\w.:-]+\.svg", name) for name in made)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pages", "study"]


def cells_of(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text)) for cell in row]


def is_formula(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lstrip(" ")[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    return False


def test_a_formula_gets_an_apostrophe_and_nothing_else_does() -> None:
    assert [harmless(text) for text in FORMULAS] == [f"'{text}" for text in FORMULAS]
    for value in ("plp", "a=1", "", " ", "1-1", -1.5, None, True):
        assert harmless(value) is value


@pytest.mark.parametrize("words", [(), ("--runs",)], ids=["cells", "runs"])
def test_an_export_holds_no_formula(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = copy_of(study_folder(), tmp_path / "study")
    result = json.loads((folder / "result.json").read_text())
    for i, each in enumerate(result["cells"]):
        each["settings"] |= {"task": FORMULAS[i], FORMULAS[i + 4]: FORMULAS[-1 - i]}
    (folder / "result.json").write_text(json.dumps(result))
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as connection, connection:
        for (key,), evil in zip(connection.execute("SELECT key FROM runs").fetchall(), FORMULAS,
                                strict=False):  # fmt: skip
            (text,) = connection.execute("SELECT spec FROM runs WHERE key = ?", (key,)).fetchone()
            spoilt = json.dumps(json.loads(text) | {"task": evil, evil: evil})
            connection.execute("UPDATE runs SET spec = ? WHERE key = ?", (spoilt, key))
    ran = call(tmp_path, "study", "export", "study", "out.csv", *words)
    assert ran.code == 0, ran.err
    cells = cells_of((tmp_path / "out.csv").read_text("utf-8"))
    assert [cell for cell in cells if is_formula(cell)] == []
    assert sum(cell.startswith("'") for cell in cells) >= len(FORMULAS)


def test_the_tables_in_a_report_hold_no_formula(tmp_path: Path) -> None:
    page = content(evil_folder(tmp_path, "pilot"), "en", "html").decode()
    texts = [unquote(found) for found in re.findall(r'href="data:text/csv[^,]*,([^"]*)"', page)]
    assert len(texts) == 3
    cells = [cell for text in texts for cell in cells_of(text.lstrip("\ufeff"))]
    assert [cell for cell in cells if is_formula(cell)] == []
    assert any(cell.startswith("'=1+1") for cell in cells)


def test_names_are_no_sql(tmp_path: Path) -> None:
    folder = copy_of(pilot_folder(), tmp_path / "pilot")
    with contextlib.closing(Store(folder / "runs.db")) as store:
        before = store.counts()
        assert store.outcomes([EVIL, "' OR '1'='1"]) == {}
        assert store.about(EVIL) is None
        store.set_about(EVIL, {EVIL: EVIL})
        assert store.about(EVIL) == {EVIL: EVIL}
        assert store.adopt("' OR '1'='1", 1) == 1
        assert store.counts() == before


def readers(folder: Path) -> dict[str, Callable[[], Any]]:
    return {
        "status": lambda: call(folder, "study", "status", "study"),
        "analyse": lambda: call(folder, "table", "study", command=analyse),
        "roi": lambda: call(folder, "roi", "pilot"),
        "report": lambda: call(folder, "report", "pilot\x1b[2J"),
    }


@pytest.mark.parametrize("name", ["status", "analyse", "roi", "report"])
def test_no_stored_text_is_a_command_to_the_terminal(name: str, tmp_path: Path) -> None:
    pilot = copy_of(pilot_folder(), tmp_path / "pilot")
    path = pilot / "result.json"
    result = json.loads(path.read_text())
    judged = cell(result)
    judged["metric"]["name"] = judged["task"] = "accuracy\x1b[2J\x07\u202e"
    path.write_text(json.dumps(result))
    evil_folder(tmp_path, "study")
    about = json.dumps({"kind": "study", "name": EVIL, "text": EVIL, "device": "cpu"})
    with contextlib.closing(sqlite3.connect(tmp_path / "study" / "runs.db")) as c, c:
        c.execute("INSERT OR REPLACE INTO about VALUES ('specification', ?)", (about,))
    ran = readers(tmp_path)[name]()
    shown = ran.out + ran.err
    assert r"\x1b[2J" in shown or name == "roi"
    assert "Traceback" not in shown
    assert [line for line in shown.split("\n") if not line.isprintable()] == []


# --- whose code runs ------------------------------------------------------------------------------


def notice(path: Path) -> str:
    return f"paramcast: running the code in {path}, with your rights\n"


def test_whoever_runs_a_task_file_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "blobs.py").write_text(BLOBS)
    words = ("--lr", 0.1, "--seeds", 2, "--methods", "plp", "--workers", 1, "--json")
    ran = call(tmp_path, "pilot", "blobs.py", *words)
    assert (ran.code, ran.said) == (0, "")
    assert ran.err.count(notice(tmp_path / "blobs.py")) == 1
    assert ran.cell["task"] == "blobs"


def test_a_study_tells_it_for_each_of_its_task_files(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(BLOBS)
    text = 'name = "mine"\nquestion = "Which?"\n[[grid]]\ntask = ["a.py", "b.py", "digits/mlp"]\n'
    (tmp_path / "my.toml").write_text(text + 'methods = ["plp"]\nseeds = 2\nlr = [0.1, 0.2]\n')
    ran = call(tmp_path, "study", "run", "my.toml", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.err == notice(tmp_path / "a.py") + notice(tmp_path / "b.py")
    assert ran.result["cells"] == 6


@pytest.mark.parametrize("task", ["digits/mlp", "data.csv"])
def test_what_is_no_code_is_not_announced(task: str, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2}\n" for i in range(40))
    (tmp_path / "data.csv").write_text("a,y\n" + rows)
    target = ("--target", "y") if task.endswith("csv") else ()
    ran = call(tmp_path, "pilot", task, *target, "--lr", 0.1, "--seeds", 2, "--dry-run")
    assert (ran.code, ran.said) == (0, "")
    assert "running the code" not in ran.err
