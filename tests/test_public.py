"""The public surface: names, types, what an import costs, and the examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
from pathlib import Path

import pytest

import paramcast as pc

ROOT = Path(pc.__file__).parent
APART = ("study", "report", "interactive", "integrations", "__main__")
"""Rooms that the wrapper does not need; and the command line."""
LIBRARY = sorted(
    name
    for path in ROOT.rglob("*.py")
    if (name := ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    and not name.startswith((*APART, "cli", "__init__"))
)
WITH_EXAMPLES = [
    "_directions",
    "anomalies",
    "averaging",
    "combining.combine",
    "combining.rules",
    "combining.series",
    "forecast",
    "monitors.base",
    "monitors.ranks",
    "schedules",
    "tensors.functional",
    "trials",
    *(name for name in LIBRARY if name.startswith("predictors.")),
]
WITHOUT = ("predictors.base", "predictors.controls")


def test_the_public_names_are_these() -> None:
    assert " ".join(pc.__all__) == (
        "PLP Forecast ForecastEvent ParamcastError Trial anomalies averaging combine errors "
        "gates judge monitors pilot predictors schedules trial"
    )


@pytest.mark.parametrize("name", pc.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(pc, name).__doc__
    assert name in dir(pc)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pc.no_such_name


def test_a_star_import_brings_the_public_names_and_no_other() -> None:
    namespace: dict[str, object] = {}
    exec("from paramcast import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == sorted(pc.__all__)


def test_types_are_published() -> None:
    assert importlib.resources.files("paramcast").joinpath("py.typed").is_file()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("paramcast") == pc.__version__


FOREIGN = [
    "sqlalchemy",
    "scipy",
    "sklearn",
    "rich",
    "click",
    "pandas",
    "psutil",
    "torch.distributed.tensor",
    "paramcast.study",
    "paramcast.report",
    "paramcast.interactive.findings",
    "paramcast.cli.main",
]


def loaded_by(*lines: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after these lines."""
    code = "\n".join([*lines, "import json, sys", "print(json.dumps(list(sys.modules)))"])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("statement", ["import paramcast", "from paramcast import *"])
def test_an_import_loads_nothing_of_the_study_nor_dtensor(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "paramcast" in loaded
    assert [name for name in FOREIGN if name in loaded] == []


def test_running_the_wrapper_loads_nothing_but_the_library() -> None:
    def use(wrapper: str) -> set[str]:
        return loaded_by(
            "import torch",
            "p = torch.zeros(2, requires_grad=True)",
            "base = torch.optim.SGD([p], lr=0.1)",  # torch itself loads DTensor here
            f"optimizer = {wrapper}",
            "for _ in range(4):",
            "    p.grad = torch.ones(2)",
            "    optimizer.step()",
            "optimizer.load_state_dict(optimizer.state_dict())",
        )

    ours = use("__import__('paramcast').PLP(base)") - use("base")
    library = {f"paramcast.{name}" for name in LIBRARY} | {"paramcast"}
    standard = {name for name in ours if name.split(".")[0] in sys.stdlib_module_names}
    assert ours - standard <= library
    assert "paramcast.forecast" in ours


@pytest.mark.parametrize("name", LIBRARY)
def test_every_example_in_a_docstring_runs(name: str) -> None:
    module = importlib.import_module(f"paramcast.{name}")
    examples = doctest.DocTestFinder().find(module)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    for example in examples:
        runner.run(example, out=report.append)
    assert "".join(report) == ""
    assert (runner.tries > 0) is (name in WITH_EXAMPLES and name not in WITHOUT)


@pytest.mark.parametrize(
    "thing",
    [
        pc.PLP,
        pc.Forecast,
        *pc.predictors.COMPARED.values(),
        pc.predictors.Affine,
        pc.averaging.EMA,
        pc.combine,
        pc.schedules.Linear,
        pc.schedules.Cosine,
        pc.schedules.Piecewise,
        pc.schedules.Demon,
        pc.schedules.demon,
    ],
    ids=lambda thing: thing.__name__,
)
def test_what_users_call_shows_an_example(thing: object) -> None:
    assert ">>>" in thing.__doc__
