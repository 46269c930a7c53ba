"""`paramcast.pilot` in a real kernel of Jupyter: pictures, progress, workers, an interrupt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blobs import BLOBS
from runs import kept

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*TCP without encryption:RuntimeWarning"
)  # of Jupyter's own packages

Notebook = Callable[..., list[Any]]


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    """notebook("1 + 1"): the outputs of each cell, executed in the test's folder."""
    import nbformat

    def execute(*cells: str) -> list[Any]:
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
        place = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(made, timeout=200, allow_errors=True, resources=place).execute()
        return [cell.outputs for cell in made.cells]

    return execute


def text_of(outputs: list[Any]) -> str:
    return "".join(each["text"] for each in outputs if each["output_type"] == "stream")


@pytest.mark.ci
def test_a_notebook_shows_progress_the_first_screen_and_errors(
    notebook: Notebook, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(BLOBS)
    started, shown, printed, frame, wrong, own, same = notebook(
        "import paramcast, mine\n"
        "result = paramcast.pilot(mine.task, lr=0.05, methods='plp', seeds=6, workers=2)",
        "result",
        "print(result)",
        "{'method', 'seed', 'value'} <= {*result.frame}, len(result.frame) >= 12, "
        "result.stored['environment']['engine']",
        "paramcast.pilot(mine.task, marginn=6)",
        # a task of the notebook, whose loss changes from one call to the next
        "from paramcast.study import Task\nimport torch\n"
        "def loss(outputs, targets):\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets)\n"
        "def task():\n"
        "    a, b, c = (mine.blobs(40, seed) for seed in (1, 2, 3))\n"
        "    return Task('mine', mine.make_model, a, b, c, epochs=2, batch_size=8, loss=loss)\n"
        "few = dict(lr=0.05, methods='plp', seeds=2)\n"
        "first = paramcast.pilot(task, **few)\n"
        "def loss(outputs, targets):\n"
        "    return 2 * torch.nn.functional.cross_entropy(outputs, targets)\n"
        "second = paramcast.pilot(task, **few)\n",
        "third = paramcast.pilot(task, **few)\n"
        "first.folder != second.folder, third.folder == second.folder, "
        "[each.stored['reused_runs'] > 0 for each in (first, second, third)], "
        "first.stored['environment']['engine']",
    )
    # progress, as one picture that is drawn again; notices are not red
    (picture,) = [each for each in started if each["output_type"] == "display_data"]
    assert re.search(r"done +\S+ (\d+) of \1 ", picture["data"]["text/plain"])
    assert "<pre" in picture["data"]["text/html"]
    assert {each.get("name") for each in started} == {None, "stdout"}
    assert "paramcast: data: 40 examples to train" in text_of(started)
    # the first screen, and nothing beside it
    (result,) = shown
    assert "Should plp replace sgd on blobs?" in result["data"]["text/html"]
    assert "<script" not in result["data"]["text/html"]
    assert result["data"]["text/plain"].startswith("blobs. As you train today")
    assert text_of(printed).startswith("blobs. As you train today: ")
    assert "\x1b" not in text_of(printed)
    assert frame[0]["data"]["text/plain"] == "(True, True, 'local')"
    assert (wrong[0]["ename"], wrong[0]["evalue"]) == (
        "StudyError", "there is no option 'marginn'; did you mean margin?"
    )  # fmt: skip
    # what only the notebook has is trained in it, and known by its code
    assert "task is trained in this process, one run after the other" in text_of(own)
    assert same[-1]["data"]["text/plain"] == "(True, True, [False, False, True], 'here')"


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    import nbformat

    file = Path(__file__).parents[2] / "examples" / "13_notebook.ipynb"
    made = nbformat.read(file, as_version=4)
    assert all(not cell.get("outputs") for cell in made.cells)  # what they would show gets stale
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(made, timeout=200, resources=place).execute()
    pages = [
        each["data"]["text/html"]
        for cell in made.cells
        for each in cell.get("outputs", [])
        if "paramcast-first" in each.get("data", {}).get("text/html", "")
    ]
    assert ["on rings?" in page for page in pages] == [True, False]
    assert (tmp_path / "rings.html").stat().st_size > 10**6


@pytest.mark.slow
def test_an_interrupted_kernel_keeps_what_is_done_and_says_so(tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        call = 'import paramcast\npilot = paramcast.pilot("digits/mlp", out="out", workers=1)'
        asked = client.execute(call)
        deadline = time.monotonic() + 100
        while kept(tmp_path / "out" / "runs.db") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        manager.interrupt_kernel()
        answer: dict[str, Any] = {}
        while answer.get("parent_header", {}).get("msg_id") != asked:
            answer = client.get_shell_msg(timeout=100)
        number = kept(tmp_path / "out" / "runs.db")
        told = answer["content"]
        assert told["status"] == "error"
        assert told["traceback"] == [told["evalue"]]
        assert told["evalue"].startswith(f"interrupted; {number} of ")
        assert told["evalue"].endswith("runs are kept in out; the same call goes on from there")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
