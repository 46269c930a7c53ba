"""`paramcast.pilot`: the command's pilot from Python, and what it returns."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paramcast
from blobs import BLOBS
from command import Ran, call
from paramcast.errors import RunError, StudyError, TaskError
from paramcast.interactive.findings import Findings
from paramcast.interactive.sources import _code_of, source_of
from paramcast.study import Task
from paramcast.study.store.folder import to_json
from runs import cell, kept, timeless

SMALL: dict[str, Any] = {"lr": 0.05, "methods": "plp", "seeds": 6, "all_arms": True}
WORDS = ("--lr", 0.05, "--methods", "plp", "--seeds", 6, "--all-arms")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("python")
    (place / "blobs.py").write_text(BLOBS)
    return place


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a task's folder is put there


@pytest.fixture(scope="module")
def found(folder: Path) -> Iterator[Findings]:
    """Of a pilot that several tests read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield paramcast.pilot("blobs.py", out="by-python", **SMALL)


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """The same pilot by the command."""
    return call(folder, "pilot", "blobs.py", *WORDS, "--out", "by-command")


def as_read(result: Any) -> Any:
    return timeless(json.loads(to_json(result)))


# --- what it finds ------------------------------------------------------------------------------


def test_the_result_is_bitwise_the_commands(found: Findings, ran: Ran, folder: Path) -> None:
    assert ran.code == 0
    stored = (folder / "by-command" / "result.json").read_text()
    told = json.loads(stored.replace("by-command", "by-python"))
    assert as_read(found.stored) == timeless(told)


def test_the_frame_has_a_row_for_each_arm_and_seed(found: Findings) -> None:
    frame, table = found.frame, cell(found.stored)["table"]
    assert len(frame) == 6 * len(table)
    for row in table:
        own = frame[frame["method"] == row["method"]]
        assert [*own["seed"]] == [0, 1, 2, 3, 4, 5]
        assert [*own["value"]] == row["values"]
        assert [*own["early_value"]] == row["early_values"]
        assert (own["lr"] == row["lr"]).all()
        assert own["seconds"].median() == row["seconds"]
    assert set(frame["status"]) == {"done"}


def test_as_text_it_is_what_the_terminal_shows(
    found: Findings, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "170")
    table, told = str(found).split("\n\n")[0], ran.out.split("\n\n")[0]
    # without the seconds, which no two pilots share
    assert [line.split()[0] for line in table.splitlines()] == [
        line.split()[0] for line in told.splitlines()
    ]
    assert repr(found) == str(found)
    assert "Details: by-python/result.json" in str(found)


def test_the_report_is_written_where_it_is_asked_for(found: Findings, folder: Path) -> None:
    assert found.report() == Path("by-python/report.html")
    assert found.report("my.md", language="ja") == Path("my.md")
    assert "シード" in (folder / "my.md").read_text()
    with pytest.raises(StudyError, match=r"\.docx is not a format; end it in \.html"):
        found.report("my.docx")


def test_the_first_screen_is_light_and_has_no_script(found: Findings) -> None:
    page = found._repr_html_()
    assert len(page.encode()) < 32_000
    assert "<script" not in page
    assert "http" not in page
    assert "Should plp replace sgd on blobs?" in page
    assert page.count("<circle") == 3  # an interval for each arm but the base


def test_without_its_folder_it_shows_the_table(found: Findings) -> None:
    gone = Findings({**found.stored, "out": "no/such/folder"})
    assert gone._repr_html_().startswith("<pre>blobs. As you train today")
    assert len(gone.frame) == 24
    assert "seconds" not in gone.frame.columns


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seedz": 3}, "there is no option 'seedz'; did you mean speed or seeds?"),
        ({"colour": 3}, "there is no option 'colour'; see `paramcast pilot --help`"),
        ({"dry_run": True}, "dry_run is an option of the command line alone; add --dry-run"),
        ({"seeds": 8.5}, "'8.5' is not a valid integer"),
        ({"lr": "fast"}, "'fast' is not a valid number"),
        ({"lr": True}, "lr needs a value, got True"),
        ({"quick": 1}, "quick needs True or False, got 1"),
        ({"lr_range": (0.1,)}, "--lr-range must be LOW:HIGH, such as 1e-4:1e-1, got '0.1'"),
        ({"base": "sdg"}, "sdg"),
        ({"margin": -1}, "--margin must be a number above 0, such as 0.5 or 5%, got '-1'"),
        ({"lr": 0.1, "trials": 8}, "--lr tunes nothing, so --trials has no use"),
        ({"methods": "plq"}, "plq"),
        ({"store": "x"}, "--store must be postgresql://USER@HOST/DATABASE"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        paramcast.pilot("blobs.py", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MUON = """
import torch

def mine(parameters, lr):
    return torch.optim.Adagrad(parameters, lr=lr)
"""


def test_options_may_be_objects(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paramcast.cli import pilot as command
    from paramcast.interactive.options import options_of

    def read(**options: Any) -> Any:
        return options_of(command.pilot, command.PilotCommand, options)

    (folder / "my_optimizers.py").write_text(MUON)
    monkeypatch.syspath_prepend(str(folder))
    mine = importlib.import_module("my_optimizers").mine
    assert read(methods=[mine, "plp"]).methods == "my_optimizers.py:mine, plp"
    assert read(methods=torch.optim.RAdam).methods.endswith(":RAdam")
    with pytest.raises(StudyError, match="method '<lambda>' has no file that workers could impor"):
        read(methods=[lambda parameters, lr: None])
    one = read(search={"weight_decay": (1e-5, 0.01), "beta": [0.6, 0.9]}).search
    two = read(search=["weight_decay=1e-5:0.01", "beta=0.6,0.9"]).search
    assert one == two
    assert read(seeds=np.int64(8), lr=np.float64(0.1), margin=0.5) == read(
        seeds=8, lr=0.1, margin="0.5"
    )
    assert read(lr_range=[1e-4, 1e-1]).lr_range == (1e-4, 1e-1)


def test_bad_tasks() -> None:
    with pytest.raises(TaskError, match="unknown task 'no-such-task'"):
        paramcast.pilot("no-such-task")
    with pytest.raises(TaskError, match="a task is a name, a file, a Task or a function, got 3"):
        paramcast.pilot(3)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="the command is empty; write the command that trains"):
        paramcast.pilot([])
    with pytest.raises(TaskError, match="candidate is for commands alone, beside base"):
        paramcast.pilot("digits", base="true {seed}", candidate=["new=true {seed}"])
    with pytest.raises(TaskError, match="target is for a task that is named by a text"):
        paramcast.pilot(lambda: None, target="y")


# --- tasks that are objects ---------------------------------------------------------------------


def points(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    centres = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    return centres[targets] + torch.randn(count, 4, generator=generator), targets


def make_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def my_task() -> Task:
    return Task(
        "blobs", make_model, points(40, 1), points(40, 2), points(60, 3),
        epochs=2, batch_size=8, lr_range=(0.01, 0.3),
    )  # fmt: skip


def test_a_task_is_trained_here_and_gives_what_workers_give(
    found: Findings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    here = paramcast.pilot(my_task(), out="here", **SMALL)
    assert torch.get_num_threads() == threads
    assert "blobs is trained in this process, one run after the other" in capsys.readouterr().err
    assert here.stored["environment"]["engine"] == "here"
    for one, two in zip(cell(here.stored)["table"], cell(found.stored)["table"], strict=True):
        assert one["values"] == two["values"]
    # the call that continues it, as it stands
    call = here.stored["command"]
    assert call.startswith("paramcast.pilot(blobs, ")
    assert call.endswith(", seeds=6, out='here')")
    again = eval(call, {"paramcast": paramcast, "blobs": my_task()})
    assert again.stored["reused_runs"] == kept(folder / "here" / "runs.db")
    assert as_read(again.stored["cells"]) == as_read(here.stored["cells"])


def test_a_function_of_a_file_is_trained_by_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "mine.py").write_text(BLOBS)
    mine = importlib.import_module("mine")

    result = paramcast.pilot(mine.task, out="mine", **{**SMALL, "seeds": 2})
    assert result.stored["environment"]["engine"] == "local"
    assert "mine.py:task" in result.stored["command"]


def test_workers_are_refused_where_only_this_process_can_train() -> None:
    with pytest.raises(StudyError, match="workers is for other processes, and only this one can"):
        paramcast.pilot(my_task(), workers=2)


def test_a_task_that_fails_says_why() -> None:
    def broken() -> Task:
        raise ValueError("no data")

    with pytest.raises(TaskError, match="failed with ValueError: no data"):
        paramcast.pilot(broken)
    bad = Task("bad", lambda: torch.nn.Linear(4, 3), points(8, 1), points(8, 2), points(8, 3),
               loss=lambda outputs, targets: outputs.no_such_thing())  # fmt: skip
    with pytest.raises((TaskError, RunError), match="no_such_thing"):
        paramcast.pilot(bad, out="bad", **SMALL)


TRAIN = """
import torch
from blobs import blobs, make_model

metric = "accuracy"

def train(trial):
    torch.manual_seed(trial.seed)
    (inputs, targets), model = blobs(60, 1), make_model()
    optimizer = trial.wrap(torch.optim.SGD(model.parameters(), lr=trial.lr))
    for _ in range(trial.steps(10)):
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with trial.eval_weights(model):
        right = (model(inputs).argmax(1) == targets).float().mean()
    return {"validation_loss": float(loss), "accuracy": float(right)}
"""


def test_a_function_of_one_trial_gives_here_what_workers_give(folder: Path) -> None:
    (folder / "points.py").write_text(BLOBS)
    (folder / "own_loop.py").write_text(TRAIN.replace("from blobs", "from points"))
    few = {**SMALL, "seeds": 2}
    workers = paramcast.pilot("own_loop.py:train", out="trial", **few)
    assert workers.stored["environment"]["engine"] == "local"
    # as in a notebook: a module without a file
    cells = sys.modules["cells"] = types.ModuleType("cells")
    names = vars(cells)
    exec((folder / "own_loop.py").read_text(), names)
    state, drawn = torch.get_rng_state(), random.getstate()
    here = paramcast.pilot(names["train"], out="trial-here", **few)
    assert here.stored["environment"]["engine"] == "here"
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == drawn
    for one, two in zip(cell(here.stored)["table"], cell(workers.stored)["table"], strict=True):
        assert one["values"] == two["values"]


def code(*parts: Any) -> list[Any]:
    return [*_code_of([*parts])]


def test_code_without_a_file_is_known_by_what_it_does() -> None:
    def made(text: str) -> Callable[..., Any]:
        names: dict[str, Any] = {"__name__": "made"}
        exec(text, names)
        return names["f"]  # type: ignore[no-any-return]

    one = "RATE = 1\ndef g(): return RATE\ndef f(): return g()"
    assert code(made(one)) == code(made("# a remark\n" + one.replace("\n", "\n\n")))
    for changed in ("RATE = 2", "return RATE + 1", "return g() or 3"):
        other = one.replace(changed.split(" + ")[0].split(" or ")[0], changed, 1)
        other = other if other != one else one.replace("RATE = 1", changed)
        assert code(made(one)) != code(made(other)), changed


# --- scripts ------------------------------------------------------------------------------------

SCRIPT = """
import paramcast
print("script")
result = paramcast.pilot("blobs.py", lr=0.05, methods="plp", seeds=2, out="script", workers=2)
print(result.verdicts["plp"]["quality"].kind)
"""


def test_a_script_needs_no_main_guard_and_runs_once(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "script\ninconclusive\n"), done.stderr


def test_a_script_whose_own_function_is_judged_needs_one(folder: Path) -> None:
    (folder / "own.py").write_text(f"{BLOBS}\nimport paramcast\nparamcast.pilot(task, lr=0.05)\n")
    done = subprocess.run(
        [sys.executable, "own.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "put the call under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


LONG = 'import paramcast\nparamcast.pilot("digits", trials=64, out="long", workers=1)\n'
SLOW = "    optimizer.step()\n        import time\n        time.sleep(0.02)"
HERE = BLOBS + "\nimport paramcast\n" + TRAIN.split("import blobs, make_model")[1]
HERE = HERE.replace("    optimizer.step()", SLOW)
HERE += "\nparamcast.pilot(lambda trial: train(trial), lr=0.05, out='here-long')\n"


@pytest.mark.parametrize(("out", "code"), [("long", LONG), ("here-long", HERE)])
def test_an_interrupt_keeps_what_is_done_and_says_so(folder: Path, out: str, code: str) -> None:
    """In workers, and in the process itself."""
    (folder / f"{out}.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, f"{out}.py"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    while kept(folder / out / "runs.db") < 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    number = kept(folder / out / "runs.db")
    assert process.returncode not in (0, 2)
    last = told.splitlines()[-1]
    assert re.search(
        rf"interrupted; {number} of \d+ runs are kept in {out}; the same call goes on", last
    )


def test_a_source_of_a_function_that_a_file_has(folder: Path) -> None:
    from paramcast.cli.pilot import PilotCommand

    source = source_of(my_task, PilotCommand())
    assert (source.kind, source.where, source.item) == ("file", __file__, "my_task")
    assert source_of(lambda: None, PilotCommand()).where == "<python>/<lambda>"


WITHOUT = """
import sys
sys.modules["click"] = None
import paramcast
for call in (paramcast.pilot, paramcast.judge):
    try:
        call("digits")
    except paramcast.ParamcastError as error:
        print(error)
"""


def test_without_the_packages_of_the_study_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"paramcast.{name} needs packages that are not installed (click): "
        "pip install 'paramcast[study]'"
        for name in ("pilot", "judge")
    ]
