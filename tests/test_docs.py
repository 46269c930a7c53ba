"""Every Python block of the README and the docs runs, in a folder of its own."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import pytest
import torch

from paramcast.study.engines.server import workers_context

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WARNINGS = [
    ("error", "", Warning),
    # one that Lightning 2.6 and torch 2.13 have with each other
    ("ignore", "`isinstance(treespec, LeafSpec)`", FutureWarning),
    ("ignore", "The 'train_dataloader' does not have many workers", UserWarning),
    ("ignore", "The 'val_dataloader' does not have many workers", UserWarning),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def _python_blocks(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL))


def _run(code, file, folder, log):
    """In a process forked from one that has imported torch already."""
    os.chdir(folder)
    with open(log, "w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    torch.set_num_threads(1)
    warnings.resetwarnings()
    for action, message, category in WARNINGS:
        warnings.filterwarnings(action, re.escape(message), category)
    main = types.ModuleType("__main__")
    main.__file__ = str(file)
    sys.modules["__main__"] = main
    sys.argv = [str(file)]  # not those of pytest
    exec(compile(code, file, "exec"), main.__dict__)


CODE = {page: _python_blocks(page) for page in PAGES}
CODE |= {example: example.read_text("utf-8") for example in EXAMPLES}


SLOW = ("19_lightning_pilot.py", "20_transformers_pilot.py", "21_judge_table.py")
"""Whole trainings of a framework, which tests/integrations covers, and a report."""


@pytest.mark.parametrize(
    "file",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in SLOW else []) for p in CODE if CODE[p]],
    ids=lambda p: p.name,
)
def test_the_code_of_a_page_or_an_example_runs(file, tmp_path):
    log = tmp_path / "log"
    child = workers_context().Process(target=_run, args=(CODE[file], file, tmp_path, log))
    child.start()
    child.join()
    assert child.exitcode == 0, log.read_text()
    assert log.read_text().strip() or file not in EXAMPLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def _blocks(page, language):
    text = page.read_text("utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.M)
    return [textwrap.dedent(block) for _, block in found]


SMALL = ["--epochs", "1", "--seeds", "6", "--workers", "1"]
TUNED = ["--trials", "1", "--trial-seeds", "1"]


def test_the_commands_of_the_adoption_guide_run_in_order(tmp_path, monkeypatch):
    """As they stand, but for smaller pilots."""
    from click.testing import CliRunner

    from paramcast.cli.main import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a task's folder is put there
    lines = "".join(_blocks(ROOT / "docs" / "adopt.md", "sh")).splitlines()
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "paramcast"
        if words[0] == "pilot":
            words += SMALL if "--lr" in words else SMALL + TUNED
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
    made = ("pilot/report.html", "today/report.html", "report.ja.html", "report.md", "roi.toml")
    assert all((tmp_path / name).stat().st_size > 1000 for name in made)
    assert "--lr 0.02" in (tmp_path / "today" / "report.html").read_text("utf-8")


def test_the_manifests_for_kubernetes_parse_and_have_what_kuberay_asks_for():
    yaml = pytest.importorskip("yaml")
    made = {m["kind"]: m for m in map(yaml.safe_load, _blocks(ROOT / "docs/cluster.md", "yaml"))}
    assert set(made) == {"PersistentVolumeClaim", "RayJob", "RayCluster"}
    for cluster in (made["RayJob"]["spec"]["rayClusterSpec"], made["RayCluster"]["spec"]):
        assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
        assert (
            f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text("utf-8").split()
        )
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            assert container["resources"]["limits"] == container["resources"]["requests"]
            mounts = {m["name"] for m in container.get("volumeMounts", [])}
            assert mounts == {v["name"] for v in group["template"]["spec"].get("volumes", [])}


def test_the_command_line_can_read_every_command():
    """It reads them, and runs nothing."""
    import click

    from paramcast.cli.main import cli

    text = "\n".join(page.read_text("utf-8") for page in PAGES).replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"^ *```.*?^ *```", text, re.DOTALL | re.M))
    lines = re.findall(r"^ *(?:\S+=\S+ )*paramcast ([a-z].*)$", blocks, re.M)
    assert len(lines) > 50
    for line in lines:
        line = re.split(r" > |  +", line.replace("$URL", "postgresql://u@h/runs"))[0]
        words = shlex.split(line, comments=True)
        command = cli
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)


def test_the_slurm_script_is_a_script():
    (script,) = _blocks(ROOT / "docs" / "cluster.md", "bash")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
