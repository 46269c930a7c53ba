"""What holds for the repository as a whole."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "paramcast"
SOURCES = sorted(PACKAGE.rglob("*.py"))
RESEARCH = sorted((ROOT / "research").rglob("*.py"))


def test_ci_runs_exactly_the_readmes_test_command():
    commands = re.findall(
        r"^python3 -m venv .*pytest.*$", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_the_readmes_first_command_installs_and_runs_the_pilot():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert commands[0].endswith(".venv/bin/paramcast pilot")
    assert "-c constraints.txt" in commands[0]


def test_constraints_pin_every_direct_dependency():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    part = text[text.index("\ndependencies") : text.index("[project.scripts]")]
    needed = {re.split(r"[><=\[]", name)[0] for name in re.findall(r'"([^"]+)"', part)}
    needed.remove("paramcast")  # the test extra asks for all others
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    )
    assert needed <= pinned, needed - pinned


@pytest.mark.parametrize("tool", [["ruff", "check", "."], ["ruff", "format", "--check", "."]])
def test_ruff_has_nothing_to_say(tool):
    done = subprocess.run(
        [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.ci
def test_bandit_has_nothing_to_say():
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-ll", "-r", "src", "research"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.ci
def test_mypy_has_nothing_to_say():
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@cache
def tree(path):
    return ast.parse(path.read_text("utf-8"))


def test_the_quick_subset_names_files_that_are_there():
    names = (ROOT / "tests" / "quick.txt").read_text("utf-8").split()
    assert [name for name in names if not (ROOT / name).is_file()] == []


def nodes(path, *kinds):
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def test_sources_validate_with_errors_and_load_nothing_unsafe():
    for path in SOURCES + RESEARCH:
        if path.stem == "testing":  # a test suite: it asserts, and loads what it has just saved
            continue
        assert not nodes(path, ast.Assert), path
        for node in nodes(path, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "os.system"}, path
            if called == "torch.load":
                assert "weights_only=True" in map(ast.unparse, node.keywords), path


def test_nothing_in_the_library_imports_research():
    """It is not in the wheel; its scripts import each other by their bare names."""
    research = {"research", *(path.relative_to(ROOT / "research").parts[0] for path in RESEARCH)}
    forbidden = {name.removesuffix(".py") for name in research}
    for path in SOURCES:
        for node in nodes(path, ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [] if node.level else [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & forbidden, path


ROOMS = (
    "errors events _files _checks tensors",
    "schedules predictors averaging gates anomalies monitors",
    "running", "forecast", "testing integrations trials study combining", "report", "cli",
    "interactive", "__main__",
)  # fmt: skip
FLOORS = {name: floor for floor, names in enumerate(ROOMS) for name in names.split()}
MOST_FLOORS = 13
"""Of modules that the library has above each other."""


def imported(path):
    """The modules of the package that a module imports when it is imported itself."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    left, found = list(tree(path).body), set()
    while left:
        node = left.pop()
        if isinstance(node, ast.ImportFrom) and node.level:
            module = (*inside[: len(inside) - node.level], *(node.module or "").split("."))
            module = tuple(part for part in module if part)
            found |= {_file(*module, alias.name) or _file(*module) for alias in node.names}
        elif isinstance(node, (ast.If, ast.Try)) and "TYPE_CHECKING" not in ast.dump(node):
            left += [*node.body, *node.orelse]
    return found - {None, path, PACKAGE / "__init__.py"}


def _file(*parts):
    path = PACKAGE.joinpath(*parts)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def test_no_imports_run_in_a_circle_and_the_library_is_not_high():
    floors = {}

    def floor(path, below=()):
        assert path not in below, f"a circle: {[p.stem for p in (*below, path)]}"
        if path not in floors:
            found = [floor(other, (*below, path)) for other in imported(path)]
            floors[path] = 1 + max(found, default=0)
        return floors[path]

    for path in SOURCES:
        floor(path)
    assert floors[PACKAGE / "forecast.py"] <= MOST_FLOORS


def test_imports_run_downward_only():
    """No module imports one of a higher floor (design: arrows only run down)."""
    for path in SOURCES:
        inside = path.relative_to(PACKAGE).with_suffix("").parts
        for node in nodes(path, ast.ImportFrom) if inside[0] != "__init__" else ():
            base = inside[: len(inside) - node.level] if node.level else ("elsewhere",)
            target = [part for part in (*base, *(node.module or "").split(".")) if part]
            for name in target[:1] or [alias.name for alias in node.names]:
                if name in FLOORS:
                    assert FLOORS[name] <= FLOORS[inside[0]], f"{path} imports {name}"
