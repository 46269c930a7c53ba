"""Every Python block of the README and the docs runs, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Warnings are errors, but for one that Lightning 2.6 and torch 2.13 have with each other.
STRICT = ["-W", "error", "-W", "ignore:`isinstance(treespec, LeafSpec)`:FutureWarning",
          "-W", "ignore:The 'train_dataloader' does not have many workers:UserWarning",
          "-W", "ignore:The 'val_dataloader' does not have many workers:UserWarning"]  # fmt: skip
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def _python_blocks(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path):
    code = _python_blocks(page)
    done = subprocess.run(
        [sys.executable, *STRICT, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example, tmp_path):
    done = subprocess.run(
        [sys.executable, *STRICT, str(example)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
