"""Bad input: one sentence that says what came and what to do, exit code 2, nothing touched."""

from __future__ import annotations

import io
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Paramcast = Callable[..., Any]
TaskFile = Callable[..., Path]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder but Python's own cache."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.fixture
def refused(paramcast: Paramcast, tmp_path: Path) -> Callable[..., None]:
    """refused(words, message): the law of every test here."""

    def check(words: tuple[Any, ...], message: str, code: int = 2) -> None:
        before = snapshot(tmp_path)
        ran = paramcast(*words)
        assert (ran.code, ran.out) == (code, "")
        assert re.search(message, ran.said), ran.said
        assert ran.said.startswith("paramcast: ")
        assert ran.said.count("\n") == 1
        assert ran.said.endswith("\n")
        assert "Traceback" not in ran.said
        assert snapshot(tmp_path) == before

    return check


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 1", r"--seeds must be from 2 to 10000, got 1 .*no interval is possible"),
        ("--seeds 0", r"--seeds must be from 2 .*got 0"),
        ("--seeds -3", r"--seeds must be from 2 .*got -3"),
        ("--seeds 10001", r"--seeds must be from 2 to 10000, got 10001"),
        ("--seeds 99999999999999999999", r"--seeds must be from 2 to 10000"),
        ("--seeds 1e3", r"'--seeds': '1e3' is not a valid integer; see paramcast pilot --help"),
        ("--seeds", r"'--seeds' requires an argument"),
        ("--epochs 0", r"--epochs must be from 1 .*got 0"),
        ("--epochs -1", r"--epochs must be from 1"),
        ("--epochs 1.5", r"'1.5' is not a valid integer"),
        ("--batch-size 0", r"--batch-size must be from 1"),
        ("--trials 3", r"--trials must be a power of 2 up to 1024, got 3"),
        ("--trials 0", r"--trials must be a power of 2 .*got 0"),
        ("--trials -4", r"--trials must be a power of 2"),
        ("--trials 2048", r"--trials must be a power of 2 up to 1024, got 2048"),
        ("--trial-seeds 0", r"--trial-seeds must be from 1"),
        ("--lr 0", r"--lr must be a finite number above 0, got 0"),
        ("--lr -0.1", r"--lr must be a finite number above 0, got -0.1"),
        ("--lr nan", r"--lr must be a finite number above 0, got nan"),
        ("--lr inf", r"--lr must be a finite number above 0, got inf"),
        ("--lr fast", r"'fast' is not a valid float"),
        ("--lr-range 1 0.1", r"--lr-range must satisfy 0 < low < high .*got 1 to 0.1"),
        ("--lr-range 0.1 0.1", r"--lr-range must satisfy 0 < low < high"),
        ("--lr-range 0 1", r"--lr-range must satisfy 0 < low < high"),
        ("--lr-range -1 1", r"--lr-range must satisfy 0 < low < high"),
        ("--lr-range nan 1", r"--lr-range must satisfy 0 < low < high"),
        ("--lr-range 0.1 inf", r"--lr-range must satisfy 0 < low < high"),
        ("--lr-range 0.1", r"'--lr-range' requires 2 arguments"),
        ("--lr 0.1 --trials 4", r"--lr tunes nothing, so --trials has no use"),
        ("--lr 0.1 --trial-seeds 4", r"--lr tunes nothing, so --trial-seeds has no use"),
        ("--lr 0.1 --lr-range 0.1 1", r"--lr tunes nothing, so --lr-range has no use"),
        ("--margin 0", r"--margin must be a number above 0, .*got '0'"),
        ("--margin -1", r"--margin must be a number above 0"),
        ("--margin nan", r"--margin must be a number above 0, .*got 'nan'"),
        ("--margin inf", r"--margin must be a number above 0"),
        ("--workers 0", r"--workers must be at least 1, got 0"),
        ("--timeout 0", r"--timeout must be above 0 seconds, got 0"),
        ("--timeout nan", r"--timeout must be above 0 seconds"),
        (
            "--base adam",
            r"--base must be one of sgd, nesterov, adamw, .*, ema, got 'adam'",
        ),
        (
            "--base own",
            r"--base must be one of sgd, nesterov, adamw, .*, ema, got 'own'",
        ),
        (
            "--schedule linear",
            r"--schedule must be one of constant, warmup, cosine, cyclic, wsd, got",
        ),
        ("--device tpu", r"--device must be cpu, cuda or cuda:N, got 'tpu'"),
        ("--device meta", r"--device must be cpu, cuda or cuda:N"),
        ("--device cuda:99", r"--device cuda:99 is not there \(\d+ CUDA devices\); use cpu"),
        ("--methods plpp", r"unknown method 'plpp'; choose from plp, secant"),
        ("--methods plp,plp", r"method plp is named twice"),
        ("--methods plp(horizn=1)", r"no knob 'horizn'; it has horizon, start, every"),
        ("--methods plp(every=2)", r"every must be >= 3 \(Midline reads 3 points\), got 2"),
        ("--methods nesterov --base adamw", r"nesterov compares with base sgd, got base adamw"),
        ("--target y", r"--target is for tables \(a .csv file\), the task is 'blobs.py'"),
        ("--bogus", r"No such option '?--bogus'?.*; see paramcast pilot --help"),
        ("more", r"unexpected extra argument \(more\)"),
    ],
)
def test_option_values(
    refused: Callable[..., None], task_file: TaskFile, words: str, message: str
) -> None:
    task_file()
    refused(("pilot", "blobs.py", *words.split()), message)


@pytest.mark.parametrize("option", ["--methods", "--base", "--schedule", "--target"])
def test_an_empty_option_is_not_taken_for_the_default(
    refused: Callable[..., None], task_file: TaskFile, option: str
) -> None:
    task_file()
    refused(("pilot", "blobs.py", "--dry-run", option, ""), option.removesuffix("s"))


def test_a_predictor_that_goes_backward_has_no_matched_rate(
    refused: Callable[..., None], task_file: TaskFile
) -> None:
    # Its velocity gain is (3 - 10.5) / 3: the control's learning rate would be below 0.
    task_file()
    refused(("pilot", "blobs.py", "--lr", 0.1, "--methods", "plp(horizon=-10)"), "horizon=-10")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bogus",), r"No such command '?bogus'?; see paramcast --help"),
        (("new-task",), r"Missing argument 'FILE'"),
        (("new-task", "task.txt"), r"FILE must end in .py, got 'task.txt'"),
        (("new-task", "no/such/folder/task.py"), r"cannot be written: No such file"),
    ],
)
def test_other_commands(refused: Callable[..., None], words: tuple[str, ...], message: str) -> None:
    refused(words, message)


def test_new_task_overwrites_nothing(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("precious")
    refused(("new-task", "mine.py"), r"mine.py exists already and was left alone")


def test_no_command_shows_the_help_as_it_is(paramcast: Paramcast) -> None:
    ran = paramcast()
    assert ran.code in (0, 2)
    assert ran.out + ran.said == paramcast("--help").out


@pytest.mark.parametrize("words", [("--help",), ("pilot", "-h"), ("new-task", "--help")])
def test_help_is_help(paramcast: Paramcast, words: tuple[str, ...]) -> None:
    ran = paramcast(*words)
    assert (ran.code, ran.said) == (0, "")
    assert ran.out.startswith("Usage: ")


# --- which task ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"unknown task 'digit'; give one of digits, .*, a file my_task.py:function"),
        ("no\nsuch 'task'", r"unknown task"),
        ("nope.py", r"there is no file 'nope.py'; check the path"),
        ("nope.py:task", r"there is no file 'nope.py'"),
        ("folder.py", r"there is no file 'folder.py'"),
        ("blobs.py:missing", r"has no function 'missing'; it has blobs, make_model, task"),
        ("blobs.py:NUMBER", r"has no function 'NUMBER'"),
        ("blobs.py:needs", r"blobs.py:needs failed with TypeError: needs\(\) missing 1 required"),
        ("blobs.py:raises", r"blobs.py:raises failed with KeyError: 'no such key' \(line \d+\)"),
        ("blobs.py:exits", r"blobs.py:exits failed with SystemExit"),
        ("blobs.py:nothing", r"returned None, it must return a paramcast Task"),
        ("blobs.py:dictionary", r"returned a dict, it must return a paramcast Task"),
        ("blobs.py:Task", r"blobs.py:Task failed with TypeError"),
        ("nope.csv --target y", r"there is no file 'nope.csv'"),
        ("nope.csv", r"nope.csv is a table; say which column to predict with --target COLUMN"),
    ],
)
def test_task_names(
    refused: Callable[..., None], task_file: TaskFile, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.py").mkdir()
    task_file(
        more="""
        NUMBER = 3
        def needs(path):
            return task()
        def raises():
            return {}["no such key"]
        def exits():
            raise SystemExit(0)
        def nothing():
            task()
        def dictionary():
            return {}
        """
    )
    words = [name] if "\n" in name else name.split()
    refused(("pilot", *words, "--seeds", 2), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def task(:\n", r"bad.py cannot be imported: SyntaxError.*line 1"),
        ("import no_such_module_anywhere\n", r"ModuleNotFoundError: No module named.*line 1"),
        ("x = 1\ny = x.z\n", r"cannot be imported: AttributeError.*\(line 2\)"),
        ("import sys\nsys.exit(0)\n", r"bad.py cannot be imported: SystemExit"),
        ("", r"bad.py has no function 'task'; it has none"),
        ("\0", r"bad.py cannot be imported: SyntaxError"),
    ],
    ids=["syntax", "import", "attribute", "exit", "empty", "null"],
)  # fmt: skip
def test_files_that_cannot_be_imported(
    refused: Callable[..., None], tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(content)
    refused(("pilot", "bad.py"), message)


# --- what the task says -------------------------------------------------------------------------

SETTINGS = [
    ("epochs=0", r"Task.epochs must be a whole number from 1, got 0"),
    ("epochs=1.5", r"Task.epochs must be a whole number from 1, got 1.5"),
    ("epochs=True", r"Task.epochs must be a whole number"),
    ("batch_size='8'", r"Task.batch_size must be a whole number from 1, got '8'"),
    ("schedule='linear'", r"Task.schedule must be one of constant, warmup, cosine, cyclic, wsd"),
    (
        "base='adam'",
        r"Task.base must be sgd, nesterov, adamw, .*, ema or a function, got 'adam'",
    ),
    (
        "metric='f2'",
        r"Task.metric must be accuracy, .*, r2 or a function, got 'f2'",
    ),
    ("loss=3", r"Task.loss must be a function"),
    ("lr_range=(0.1, 0.01)", r"Task.lr_range must satisfy 0 < low < high"),
    ("lr_range=(0, 0.01)", r"Task.lr_range must satisfy 0 < low < high"),
    ("lr_range=0.1", r"Task.lr_range must be two numbers"),
    ("lr_range=(1, 2, 3)", r"Task.lr_range must be two numbers"),
    ("lr_range=('a', 'b')", r"Task.lr_range must be two numbers"),
    ("name=3", r"Task.name"),
    ("momentum=-1.0", r"[Mm]omentum"),
    ("momentum=1.5", r"[Mm]omentum"),
    ("momentum='high'", r"[Mm]omentum"),
    ("weight_decay=-1.0", r"weight_decay"),
    ("weight_decay='high'", r"weight_decay"),
    ("augment=3", r"Task.augment"),
    ("augment=lambda inputs: inputs", r"augment"),
    ("augment=lambda inputs, generator: inputs[:, :2]", r"augment|training inputs"),
    ("surprise=3", r"blobs.py:task failed with TypeError.*'surprise'"),
]

MODELS = [
    ("model=3", r"Task.model is a int; give a function that builds a fresh model"),
    ("model=make_model()", r"Task.model is a model; give a function that builds one"),
    ("model=lambda: 3", r"Task.model returned a int, it must return a torch.nn.Module"),
    ("model=lambda: 1 / 0", r"Task.model failed with ZeroDivisionError: division by zero"),
    ("model=torch.nn.Identity", r"the model has no learnable parameters"),
    ("model=lambda: torch.nn.Linear(5, 3)",
     r"the model failed on training inputs of shape \(4, 4\).*mat1 and mat2"),
    ("model=lambda: torch.nn.Linear(4, 2)",
     r"the labels go up to 2, the model has 2 outputs; give it at least 3"),
    ("model=lambda: torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0))",
     r"the labels go up to 2, the model has 1 outputs"),
    ("model=lambda: torch.nn.RNN(4, 3)", r"the model put out a tuple, it must put out one tensor"),
    ("model=lambda: shared", r"every run needs its own|same model"),
    ("model=unseeded", r"torch's generator|same seed"),
]  # fmt: skip

LOSSES = [
    ("loss=torch.nn.functional.binary_cross_entropy_with_logits",
     r"output of shape \(4, 3\) does not fit the loss with targets of shape \(4,\): ValueError"),
    ("loss=lambda o, t: torch.nn.functional.cross_entropy(o, t, reduction='none')",
     r"Task.loss must return one number that depends on the model's parameters"),
    ("loss=lambda o, t: torch.nn.functional.cross_entropy(o.detach(), t)",
     r"Task.loss must return one number"),
    ("loss=lambda o, t: 1.0", r"Task.loss must return one number"),
    ("metric='mse'", r"mse needs numbers, the train targets are whole-number labels; .* log_loss"),
    ("metric=lambda o, t: 1 / 0", r"Task.metric failed with ZeroDivisionError"),
    ("metric=lambda o, t: o", r"Task.metric failed with"),
    ("base=lambda parameters, lr: None",
     r"Task.base must return a torch.optim.Optimizer, it returned NoneType"),
    ("base=lambda parameters, lr: 1 / 0", r"Task.base.*ZeroDivisionError"),
    ("base=lambda parameters: torch.optim.SGD(parameters, lr=1)", r"Task.base.*TypeError"),
    ("base=lambda parameters, lr: torch.optim.LBFGS(parameters, lr)", r"must not be LBFGS"),
]  # fmt: skip

DATA = [
    *[
        (f"{name}=(torch.zeros(0, 4), torch.zeros(0).long())",
         f"the {name} split is empty; give it at least one example")
        for name in ("train", "validation", "test")
    ],
    ("test=[]", r"the test split is empty"),
    ("test=None", r"the test split is None; give \(inputs, targets\) as two tensors"),
    ("test=7", r"the test split is a int"),
    ("test='photos'", r"the test dataset must give pairs of input and target"),
    ("test=[1, 2, 3]", r"the test dataset must give pairs"),
    ("test=(torch.zeros(3, 4), torch.zeros(4).long())",
     r"the test split has 3 inputs and 4 targets; it needs one target per input"),
    ("test=(torch.zeros(3, 4), None)", r"the test split cannot be read as a tensor"),
    ("test=(1.0, 2.0)", r"the test split holds a single number"),
    ("test=([[1, 2], [3]], [0, 1])", r"the test split cannot be read as a tensor"),
    ("test=[(torch.zeros(4), 0), (torch.zeros(5), 1), (torch.zeros(4), 1)]",
     r"the examples of the test dataset cannot be stacked.*resize or pad"),
    ("test=(with_one(float('nan')), torch.arange(6) % 3)",
     r"the inputs of the test split hold 1 values that are NaN or infinite; fill or drop them"),
    ("train=(with_one(float('-inf')), torch.arange(6) % 3)",
     r"the inputs of the train split hold 1 values"),
    ("validation=(torch.zeros(6, 4), with_one(float('nan'))), metric='mse', "
     "loss=torch.nn.functional.mse_loss",
     r"the targets of the validation split hold 1 values"),
    ("test=(torch.zeros(3, 4), torch.tensor([0, 1, 7]))",
     r"the labels go up to 7, the model has 3 outputs; give it at least 8, or correct"),
    ("validation=(torch.zeros(3, 4), torch.tensor([0, 1, -1]))",
     r"the validation targets hold the label -1; labels start at 0"),
    ("train=(torch.zeros(3, 4), torch.zeros(3))",
     r"accuracy needs whole-number labels, the train targets are torch.float32"),
    ("train=(torch.zeros(3, 4), torch.zeros(3, 1))",
     r"are torch.float32; use targets.long\(\) \(of a table: --kind classes\), or metric 'mse'"),
    ("train=column, validation=column, test=column, "
     "loss=lambda o, t: torch.nn.functional.cross_entropy(o, t[:, 0])",
     r"targets.*\(\d+, 1\)"),
]  # fmt: skip

MORE = """
    import numpy as np
    shared = make_model()
    column = (blobs(40, 1)[0], blobs(40, 1)[1][:, None])

    def with_one(value):
        x = torch.zeros(6, 4)
        x[2, 1] = value
        return x

    def unseeded():
        net = make_model()
        with torch.no_grad():
            net[0].weight.copy_(torch.tensor(np.random.default_rng().normal(size=(8, 4))))
        return net
    """


@pytest.mark.parametrize(("changes", "message"), SETTINGS + MODELS + LOSSES + DATA)
def test_what_a_task_says(
    refused: Callable[..., None], task_file: TaskFile, changes: str, message: str
) -> None:
    task_file(changes=changes, more=MORE)
    refused(("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2), message)


def test_data_that_every_process_draws_anew(paramcast: Paramcast, task_file: TaskFile) -> None:
    # Each worker would train on a split of its own: nothing would be paired.
    task_file(
        changes="train=(x[:40], y[:40])",
        more="""
        import numpy as np
        chosen = np.random.default_rng().permutation(200)
        x, y = (part[chosen] for part in blobs(200, 1))
        """,
    )
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code in (1, 2), ran.out) == (True, "")
    assert "seed" in ran.said.splitlines()[-1]


def test_nesterov_without_momentum(refused: Callable[..., None], task_file: TaskFile) -> None:
    task_file(changes="momentum=0.0")
    refused(("pilot", "blobs.py", "--base", "nesterov"), "[Mm]omentum")


def test_demon_without_momentum(refused: Callable[..., None], task_file: TaskFile) -> None:
    task_file(changes="momentum=0.0")
    refused(("pilot", "blobs.py"), r"demon does not fit base sgd.*leave it out with --methods")


def test_demon_on_something_that_is_no_optimizer(
    refused: Callable[..., None], task_file: TaskFile
) -> None:
    task_file(changes="base=lambda parameters, lr: None")
    refused(("pilot", "blobs.py", "--methods", "demon"), r"torch.optim.Optimizer")


FAILS_IN_TRAINING = """
    class Net(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                raise RuntimeError("only in training")
            return super().forward(x)
    def make_model():
        return Net(4, 3)
    """


def test_a_dry_run_of_a_failing_task_ends_in_words(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file(more=FAILS_IN_TRAINING)
    ran = paramcast("pilot", "blobs.py", "--dry-run")
    assert ran.code in (1, 2)
    assert ran.said.startswith("paramcast: ")
    assert "only in training" in ran.said


def test_a_metric_that_is_no_number_fails_the_runs(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file(changes="metric=lambda o, t: float('nan')")
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code, ran.out) == (1, "")
    last = ran.said.splitlines()[-1]
    assert last.startswith("paramcast: 20 of 20 final runs failed twice")
    assert "the metric <lambda> returned nan on test" in last


@pytest.mark.parametrize(
    "name", ['it\'s "quoted"', "two\nlines", "[red]tag", "[/b] closed", "50 % {x}", "💥", "../up"]
)
def test_any_name_is_shown_as_it_is(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path, name: str
) -> None:
    task_file(changes=f"name={name!r}")
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code, ran.said) == (0, "")
    assert ran.out.startswith(f"{name}: as I train today")
    (folder,) = (tmp_path / "paramcast-runs").iterdir()
    assert (folder / "pilot.json").is_file()


# --- where the results go -----------------------------------------------------------------------

SMALL = ("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2, "--methods", "plp", "--out")


def test_out_is_a_file(refused: Callable[..., None], task_file: TaskFile, tmp_path: Path) -> None:
    task_file()
    (tmp_path / "results").write_text("precious")
    refused((*SMALL, "results"), r"--out results cannot be a folder \(File exists\)")
    refused((*SMALL, "results/below"), r"cannot be a folder \(Not a directory\); choose another")


def test_out_may_not_be_written(command: Callable[..., Any], unprivileged: Any) -> None:
    folder, nobody = unprivileged
    readonly = folder / "readonly"
    readonly.mkdir()
    readonly.chmod(0o555)
    command(folder, "pilot", "digits", "--dry-run")  # imports what nobody may not read
    command(folder, "pilot", "nope.py")
    with nobody():
        for out in (readonly, readonly / "below"):
            ran = command(folder, "pilot", "digits", "--quick", "--out", out)
            assert (ran.code, ran.out) == (2, "")
            assert re.search(r"is not writable; choose another|cannot be a folder", ran.said)
            assert ran.said.count("\n") == 1
    assert not list(readonly.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dear diary", r"pilot.db cannot be used .*not a database.*move it away"),
        (b"SQLite format 3\0" + b"\1" * 5000, r"pilot.db cannot be used"),
    ],
    ids=["text", "broken"],
)
def test_pilot_db_is_no_store(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path, content: bytes, message: str
) -> None:
    task_file()
    database = tmp_path / "out" / "pilot.db"
    database.parent.mkdir()
    database.write_bytes(content)
    ran = paramcast(*SMALL, "out")
    assert (ran.code, ran.out) == (2, "")
    assert re.search(message, ran.said)
    assert database.read_bytes() == content
    assert {p.name for p in database.parent.iterdir()} <= {"pilot.db", ".lock"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET outcome = '{'",
        "UPDATE about SET value = '{' WHERE name = 'pilot'",
        "UPDATE about SET value = '7' WHERE name = 'schema'",
    ],
)
def test_a_store_that_was_tampered_with(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path, statement: str
) -> None:
    task_file()
    assert paramcast(*SMALL, "out").code == 0
    kept = (tmp_path / "out" / "pilot.json").read_bytes()
    connection = sqlite3.connect(tmp_path / "out" / "pilot.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    ran = paramcast(*SMALL, "out")
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(r"paramcast: \S*pilot\.db .*\n", ran.said)
    assert (tmp_path / "out" / "pilot.json").read_bytes() == kept


# --- tables -------------------------------------------------------------------------------------

GOOD = ["a,b,y", *(f"{i * 37 % 50},{'uv'[i % 2]},{['yes', 'no'][i % 3 // 2]}" for i in range(60))]


def replaced(line: int, text: str) -> list[str]:
    return [*GOOD[:line], text, *GOOD[line + 1 :]]


TABLES = [
    ("missing-column", GOOD, "z", r"data.csv has no column 'z'; it has a, b, y"),
    ("spelling", GOOD, "Y", r"has no column 'Y'; it has a, b, y"),
    ("empty-file", [], "y", r"data.csv cannot be read as a table: No columns"),
    ("header-only", ["a,b,y"], "y", r"data.csv"),
    ("empty-cell", replaced(7, "1,,yes"), "y",
     r"1 empty or NaN cells in 1 of 60 rows, in b \(1\); leave those rows out with "
     r"--missing drop, or fill the cells with --missing impute"),
    ("nan-cell", replaced(7, "nan,u,yes"), "y", r"empty or NaN cells in 1 of 60 rows, in a \(1\)"),
    ("no-target-cell", replaced(7, "1,u,"), "y",
     r"in y \(1\); leave those rows out with --missing drop$"),
    ("infinite", replaced(7, "inf,u,yes"), "y", r"data.csv .*infinite.* in a"),
    ("ragged", replaced(7, "1,u,yes,9,9,9,9,9"), "y", r"cannot be read as a table.*line 8"),
    ("one-class", [line.replace("yes", "no") for line in GOOD], "y", r"only the class \['no'\]"),
    ("class-of-one", replaced(7, "1,u,maybe"), "y", r"'maybe' of data.csv has only 1 of the 5"),
    ("few-rows", GOOD[:16], "y", r"has 15 examples; at least 20 are needed|at least 5 are needed"),
    ("only-the-target", ["y", *("01"[i % 2] for i in range(60))], "y", r"no column beside"),
    ("many-texts", ["a,y", *(f"t{i},{i % 2}" for i in range(60))], "y",
     r"column 'a' of data.csv holds 60 different texts \(at most 50\); drop it"),
    ("one-number", ["a,y", *(f"{i},1.5" for i in range(60))], "y",
     r"y.*(constant|same|one value)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "target", "message"),
    [pytest.param(*case[1:], id=case[0]) for case in TABLES],
)
def test_tables(
    refused: Callable[..., None], tmp_path: Path, lines: list[str], target: str, message: str
) -> None:
    (tmp_path / "data.csv").write_text("".join(line + "\n" for line in lines))
    refused(("pilot", "data.csv", "--target", target, "--lr", 0.1, "--seeds", 2), message)


@pytest.mark.parametrize(
    "content",
    [
        "a,y\nsí,1\n".encode("latin-1"),
        bytes(range(256)) * 20,
        b"\xff\xfe" + b"odd",
        b"PK\x03\x04",
    ],
    ids=["latin-1", "binary", "utf-16", "zip"],
)
def test_tables_that_are_no_text(
    refused: Callable[..., None], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    refused(("pilot", "data.csv", "--target", "y"), r"data.csv cannot be read as a table")


# --- images -------------------------------------------------------------------------------------


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PHOTOS = {f"{label}/{i}.png": png(i) for label in "ab" for i in range(12)}
FOLDERS: list[Any] = [
    ("text-for-image", PHOTOS | {"a/x.png": b"hello"}, r"a/x.png cannot be read as an image"),
    ("half-an-image", PHOTOS | {"a/x.png": png(1)[:200]},
     r"a/x.png cannot be read as an image \(.*truncated.*\); remove it"),
    ("empty-image", PHOTOS | {"a/x.png": b""}, r"a/x.png cannot be read as an image"),
    ("one-class", {k: v for k, v in PHOTOS.items() if k[0] == "a"},
     r"photos holds 1 folders with 12 images; put the images of each class into a folder"),
    ("no-classes", {"x.png": png(1)}, r"0 folders with 0 images and 1 images outside them; put"),
    ("class-without-images", PHOTOS | {"c/notes.txt": b""}, r"class 'c' of photos has only 0 of"),
    ("class-of-one", PHOTOS | {"c/1.png": png(1)}, r"class 'c' of photos has only 1 of the 5"),
    ("few", {k: v for k, v in PHOTOS.items() if int(k[2:-4]) < 6}, r"at least 20 are needed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"), [pytest.param(*case[1:], id=case[0]) for case in FOLDERS]
)
def test_folders_of_images(
    refused: Callable[..., None], tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    for name, content in files.items():
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    refused(("pilot", "photos"), message)


# --- as a process -------------------------------------------------------------------------------


def test_a_real_process_says_it_on_standard_error(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    process = start("pilot", "nope.py", "--json")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "paramcast: there is no file 'nope.py'; check the path\n"
    assert not list(tmp_path.iterdir())


def test_new_task_starts_without_torch(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start("new-task", "task.txt")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "paramcast: FILE must end in .py, got 'task.txt'\n"
    assert not list(tmp_path.iterdir())
