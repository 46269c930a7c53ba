"""What a new predictor, gate, average or task still lacks, each with the file to edit."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import paramcast as pc
import test_conformance
from paramcast.predictors.affine import Line
from paramcast.study.tasks.builtin import BUILTIN
from paramcast.study.words import catalogue
from reference import FAMILY

ROOT = Path(__file__).parents[1]
PAGES = "".join(
    page.read_text("utf-8")
    for page in (*(ROOT / "docs" / "methods").glob("*.md"), ROOT / "docs" / "choosing.md")
)
REFERENCE = set(
    re.findall(
        r"^::: paramcast\.(\S+)$",
        "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")),
        re.MULTILINE,
    )
)
COMPARED = {**pc.predictors.COMPARED, **pc.averaging.COMPARED}
TWINS = {type(row.predictor) for row in FAMILY}
CONTROLS = pc.predictors.SignFlipped, pc.predictors.RandomDirection


def parts(module: ModuleType, kind: type) -> pytest.MarkDecorator:
    """Every public part of a kind in a module and, where it is a package, in its modules."""
    inside = pkgutil.iter_modules(getattr(module, "__path__", []), f"{module.__name__}.")
    modules = [module, *(importlib.import_module(info.name) for info in inside)]
    found = [
        thing
        for each in modules
        for name, thing in vars(each).items()
        if isinstance(thing, type) and issubclass(thing, kind) and not inspect.isabstract(thing)
        if thing.__module__ == each.__name__ and not name.startswith("_") and thing is not Line
    ]
    return pytest.mark.parametrize("part", found, ids=lambda part: part.__name__)


def made(table: dict) -> set[type]:
    return {type(make()) for make in table.values()}


def check(needed: dict[str, bool]) -> None:
    missing = [what for what, there in needed.items() if not there]
    assert not missing, "\n".join(missing)


@parts(pc.predictors, pc.predictors.Predictor)
def test_a_predictor_is_complete(part: type) -> None:
    name, package = part.__name__, "src/paramcast/predictors/__init__.py"
    alone = part in CONTROLS or part is pc.predictors.Affine  # they need more than knobs
    needed = {
        f"{package}: import it": getattr(pc.predictors, name, None) is part,
        f"{package}: a name in __all__": name in pc.predictors.__all__,
        f"{package}: a row in COMPARED": alone or part in pc.predictors.COMPARED.values(),
        "tests/reference.py: its twin and a row in FAMILY": part in TWINS,
        "docs/methods/: a card that names it": part in CONTROLS or name in PAGES,
    }
    check(needed)


def public() -> list[str]:
    """What a user may name: what the package exports, and what its documented modules hold."""
    found = [name for name in pc.__all__ if not isinstance(getattr(pc, name), ModuleType)]
    found.remove("ParamcastError")  # with the other errors
    found += [f"predictors.{name}" for name in pc.predictors.__all__]
    found += [f"monitors.{name}" for name in vars(pc.monitors) if name[0].isupper()]
    for module in (pc.anomalies, pc.averaging, pc.errors, pc.gates, pc.schedules):
        found += [
            f"{module.__name__.partition('.')[2]}.{name}"
            for name, thing in vars(module).items()
            if getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_")
            if inspect.isclass(thing) or inspect.isfunction(thing)
        ]
    return found


@pytest.mark.parametrize("name", public())
def test_a_public_name_is_in_the_reference(name: str) -> None:
    there = {name, name.rpartition(".")[0]} & REFERENCE
    assert there, f'docs/reference/: a line "::: paramcast.{name}"'


@parts(pc.gates, pc.gates.Gate)
def test_a_gate_is_complete(part: type) -> None:
    needed = {
        "tests/test_conformance.py: a row in GATES": part in made(test_conformance.GATES),
        "docs/choosing.md: a row in the table of gates": part.__name__ in PAGES,
    }
    check(needed)


@parts(pc.averaging, pc.averaging.Average)
def test_an_average_is_complete(part: type) -> None:
    needed = {
        "src/paramcast/averaging.py: a row in COMPARED": part in pc.averaging.COMPARED.values(),
        "tests/test_conformance.py: a row in AVERAGES": part in made(test_conformance.AVERAGES),
        "docs/methods/averages.md: a line": part.__name__ in PAGES,
    }
    check(needed)


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_compared_method_has_a_line_in_each_language(name: str, language: str) -> None:
    file = f"src/paramcast/study/text/{language}.json"
    lines = json.loads((ROOT / file).read_text("utf-8"))["method"]
    assert lines.get(name), f'{file}: a line for {name} under "method"'


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_task_is_complete(name: str) -> None:
    text = (ROOT / "docs/tasks.md").read_text("utf-8")
    assert re.search(rf"`{name}[`/@]", text), f"docs/tasks.md: a line for {name}"


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_the_readme_quotes_the_sentences_of_the_catalogue(readme: str) -> None:
    """The verdicts at its top are those that the terminal prints, up to the numbers."""
    text = (ROOT / readme).read_text("utf-8")
    values = {"p": "plp", "b": "sgd", "margin": "0.50 points", "early": "80"}
    said = catalogue("en")
    lead = said["verdict"]["lead"].format(**values, ends=said["ends"]["worse"])
    for question, rule, kind in (
        ("quality", "same", "no difference"),
        ("speed", "speed_worse", "not faster"),
    ):
        start = said["verdict"][rule].partition(". ")[0].format(**values, lead=lead)
        line = re.search(rf"^plp, {question}, at its best: (.*)\n  (.*)\.", text, re.MULTILINE)
        assert line, f"{readme} shows no verdict on {question}"
        shown = f"{readme}: the verdict on {question} is another one today"
        assert (line[1], line[2]) == (said["kind"][kind], start), shown
