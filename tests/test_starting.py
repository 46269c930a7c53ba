"""What starts without torch, which takes seconds to import, and what an import adds to torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from paramcast.cli import main as cli
from paramcast.cli.running import say_loading
from paramcast.study.store.store import Store


def run(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        inner = (*path, name)
        found += commands(command, inner) if isinstance(command, click.Group) else [inner]
    return found


def outside(names: str) -> set[str]:
    """The packages among the loaded modules that are not Python's own."""
    packages = {name.split(".")[0] for name in json.loads(names)}
    return {name for name in packages - sys.stdlib_module_names if not name.startswith("_")}


HELP = """
import json, sys
from paramcast.cli import main as cli
for path in json.loads(sys.argv[1]):
    cli.cli.main([*path, "--help"], standalone_mode=False)
print(json.dumps(list(sys.modules)))
"""


def test_help_of_every_command_loads_click_alone() -> None:
    paths = commands(cli.cli)
    assert {("pilot",), ("study", "status"), ("report",)} <= set(paths)
    out = run(HELP, json.dumps(paths))
    assert out.count("Usage: ") == len(paths)
    assert outside(out.splitlines()[-1]) == {"click", "paramcast"}


ADDED = """
import json, sys, torch
before = set(sys.modules)
import paramcast
paramcast.PLP
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_library_adds_nothing_but_itself_to_torch() -> None:
    added = json.loads(run(ADDED))
    assert "paramcast.forecast" in added
    assert [name for name in added if name.split(".")[0] != "paramcast"] == []


FIRST_LINE = """
import json, sys
from paramcast.cli import main as cli

class Terminal:
    def isatty(self):
        return True
    def write(self, text):
        if text.strip():
            sys.__stderr__.write(text)
            print(json.dumps(list(sys.modules)))
            sys.stdout.flush()
            import os
            os._exit(0)
    def flush(self):
        pass

sys.stderr = Terminal()
sys.argv[0] = "paramcast"
cli.main()
"""


def test_a_pilot_says_what_it_does_before_it_imports_anything_slow() -> None:
    assert outside(run(FIRST_LINE, "pilot", "digits")) == {"click", "paramcast"}


def test_a_study_says_what_it_does_before_it_imports_torch() -> None:
    assert "torch" not in outside(run(FIRST_LINE, "study", "run", "paper-small"))


STATUS = """
import json, sys
from paramcast.cli import main as cli
cli.cli.main(["study", "status", sys.argv[1]], standalone_mode=False)
print(json.dumps(list(sys.modules)))
"""


def test_the_status_of_a_study_needs_no_torch(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.db")
    store.set_about("specification", {"kind": "study", "name": "mine", "text": "", "device": "cpu"})
    store.close()
    said, modules = run(STATUS, str(tmp_path)).splitlines()
    assert said.endswith("study mine, not finished; 0 of ? tuning runs, 0 of at most ? final runs")
    assert outside(modules) & {"torch", "numpy", "scipy", "pandas", "rich"} == set()


def test_what_is_loaded_is_said_on_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_loading("torch")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    say_loading("torch and task digits")
    assert capsys.readouterr().err == "loading torch and task digits ...\n"
