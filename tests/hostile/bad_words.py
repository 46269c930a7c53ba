"""Bad words on the command line, and tasks that cannot be trained."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs import Bad

from blobs import BLOBS
from folders import copy_of, pilot_folder, study_folder
from optimizers import OPTIMIZERS

Made = Callable[[Path], tuple[Any, ...]]
LONG = "x" * 5000
HUNDRED = ", ".join(f"plp(horizon={i})" for i in range(1, 101))
CUT = "'" + "x" * 76 + "..."
MORE = """
import numpy as np
shared = make_model()
column = (blobs(40, 1)[0], blobs(40, 1)[1][:, None])
NUMBER = 3

def with_one(value):
    x = torch.zeros(6, 4)
    x[2, 1] = value
    return x

def unseeded():
    net = make_model()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(np.random.default_rng().normal(size=(8, 4))))
    return net

class Broken:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        if index == 2:
            raise KeyError("no such image")
        return torch.zeros(4), 0

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


def rows(make: Callable[[str], Made], *pairs: tuple[str, str]) -> list[Bad]:
    """What is bad names the row; of what comes back, a part is given."""
    return [Bad(what, f"…{says}…", make(what)) for what, says in pairs]


def words(*given: Any) -> Made:
    """A command in a folder with a file and with a folder called folder.py."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "file").write_text("")
        (folder / "folder.py").mkdir()
        return given

    return make


def task(changes: str = "", *more: Any, task: str = "blobs.py") -> Made:
    """A pilot of the blobs with changed settings, and more words."""

    def make(folder: Path) -> tuple[Any, ...]:
        code = f"{BLOBS}{MORE}\ndef changes():\n    return dict({changes})\n"
        (folder / "blobs.py").write_text(code)
        (folder / "file").write_text("")
        return ("pilot", task, *(more or ("--lr", 0.1, "--seeds", 2)))

    return make


def optimizer(methods: str) -> Made:
    """A pilot with an optimizer of the user's."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "blobs.py").write_text(BLOBS)
        (folder / "my.py").write_text(OPTIMIZERS)
        return ("pilot", "blobs.py", "--methods", methods)

    return make


def on(kind: str, *given: Any) -> Made:
    """A command on a finished pilot or study."""

    def make(folder: Path) -> tuple[Any, ...]:
        copy_of(pilot_folder() if kind == "pilot" else study_folder(), folder / kind)
        return given

    return make


def imported(content: str) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "bad.py").write_text(content)
        return ("pilot", "bad.py")

    return make


NO_URL = "--store must be postgresql://USER@HOST/DATABASE, "
OPTIONS = rows(
    lambda what: task("", *what.split()),
    ("--seeds 1", "'--seeds': 1 is not in the range 2<=x<=10000; see paramcast pilot --help"),
    ("--seeds 1e3", "'--seeds': '1e3' is not a valid integer; see paramcast pilot --help"),
    ("--seeds", "'--seeds' requires an argument"),
    ("--trials 3", "'--trials': '3' is not one of '1', '2', '4', …, '1024'"),
    ("--lr 0", "'--lr': 0.0 is not in the range x>0"),
    ("--lr nan", "'--lr': nan is not a finite number"),
    ("--lr fast", "'--lr': 'fast' is not a valid number"),
    ("--lr-range 1:0.1", "--lr-range must satisfy 0 < low < high < infinity, got 1 to 0.1"),
    ("--lr-range --dry-run", "--lr-range must be LOW:HIGH, such as 1e-4:1e-1, got '--dry-run'"),
    ("--lr 0.1 --trials 4", "--lr tunes nothing, so --trials has no use"),
    ("--margin 0", "--margin must be a number above 0, …got '0'"),
    ("--workers 0", "'--workers': 0 is not in the range x>=1"),
    ("--base adam", "--base must be one of sgd, …, ema, own, got 'adam'"),
    ("--base own", "--base own needs a task whose base is a function; name an optimizer"),
    ("--schedule linear", "'linear' is not one of 'constant', 'warmup', 'cosine', 'cyclic', 'wsd'"),
    ("--metric f2", "--metric must be one of accuracy, …, r2, got 'f2'"),
    ("--read sepp=;", "--read takes KEY=VALUE with sep, decimal, … got 'sepp=;'"),
    ("--kind classes", "--kind is for tables (a .csv file), the task is 'blobs.py'"),
    ("--seeds 2 --splits 2", "--splits is also the number of seeds; leave out --seeds"),
    ("--splits 2", "--splits is for tables and folders of images, which are split here"),
    ("--device tpu", "--device must be cpu, cuda or cuda:N, got 'tpu'"),
    ("--device cuda:99", "--device cuda:99 is not there (… CUDA devices); use cpu"),
    ("--methods plpp", "unknown method 'plpp'; choose from plp, secant"),
    ("--methods plp(horizn=1)", "no knob 'horizn'; it has horizon, start, every"),
    ("--methods plp(every=2)", "every must be >= 3 (Midline reads 3 points), got 2"),
    ("--methods nesterov --base adamw", "nesterov compares with base sgd, got base adamw"),
    # its velocity gain is (3 - 10.5) / 3: the control's learning rate would be below 0
    ("--lr 0.1 --methods plp(horizon=-10)", "horizon=-10"),
    ("--target y", "--target is for tables (a .csv file), the task is 'blobs.py'"),
    ("--bogus", "No such option …--bogus…; see paramcast pilot --help"),
    ("more", "unexpected extra argument (more)"),
    ("--address auto", "--address is for Ray; add --engine ray"),
    ("--engine ray --cpus-per-run 0", "'--cpus-per-run': 0.0 is not in the range 0<x<=1000000"),
    ("--engine ray --gpus-per-run 1.5", "must be from 0 to 1 or a whole number"),
    ("--engine ray --gpus-per-run 1", "--device cpu and --gpus-per-run 1 do not fit"),
    ("--engine ray --device cuda", "runs on GPUs need --device cuda and"),
    ("--engine ray --device cuda:1", "--device must be cpu or cuda, got 'cuda:1'"),
    ("--engine dask", "'dask' is not one of 'local', 'ray'"),
    ("--store mysql://u:secret@h/db", f"{NO_URL}got the scheme 'mysql'"),
    ("--store sqlite:///x.db", "leave it out for the SQLite file in the --out folder"),
    ("--store postgresql://u:secret@h:port/db", f"{NO_URL}got something that is not a URL"),
    ("--out file", "--out file cannot be a folder (File exists)"),
)  # fmt: skip
EMPTY = rows(  # not taken for the default
    lambda what: task("", "--dry-run", *shlex.split(what)),
    ("--methods ''", "--method"), ("--base ''", "--base"), ("--schedule ''", "--schedule"),
    ("--target ''", "--target"),
)  # fmt: skip
COMMANDS = rows(
    lambda what: words(*what.split()),
    ("bogus", "No such command …bogus…; see paramcast --help"),
    ("new-task", "Missing argument 'FILE'"),
    ("new-task task.txt", "FILE must end in .py, got 'task.txt'"),
    ("new-task no/such/folder/task.py", "cannot be written: No such file"),
    ("new-task folder.py", "folder.py exists already and was left alone"),
    ("pilot digit", "unknown task 'digit'; give one of digits, …, a file my_task.py:function"),
    ("pilot nope.py", "there is no file 'nope.py'; check the path"),
    ("pilot nope.csv", "nope.csv is a table; say which column to predict with --target COLUMN"),
    ("pilot digits --methods plp(on_drift='reset')", "reacts to drift, … is not a stream"),
    ("pilot digits-drift --methods plp(on_drift='now')",
     "on_drift must be 'reset' or 'oracle', got 'now'"),
    ("pilot digits-drift --methods demon(on_drift='reset')", "demon has no knob 'on_drift'"),
    ("pilot --metric accuracy --lr 0.1 -- train {rate}",
     "the command has the unknown placeholder {rate}; there are {lr}, {seed}, {share}"),
    ("pilot --metric accuracy --lr 0.1 -- train {seed!r}", "unknown placeholder {seed!r}"),
    ("pilot --metric accuracy --", "the command is empty; write the command that trains once"),
    ("pilot digits -- train", "a pilot trains a TASK or a command, got both"),
    ("pilot -- train", "which result of the command is judged? Name it with --metric NAME"),
    ("pilot --metric speed --lr 1 -- train", "is a higher speed better? Say so with --higher"),
    ("pilot --metric accuracy -- train", "which learning rates may be tried?"),
    ("pilot --candidate x=y", "--candidate needs the command to compare with: --base COMMAND"),
    ("pilot --base a{seed} --candidate y", "--candidate must be NAME=COMMAND"),
    ("pilot --base a{seed} --candidate x=y", "the command of x has no {seed}"),
    ("study run nothing",
     "no study 'nothing'; give a file ending in .toml, or one of hybrids, paper"),
    ("study run nothing.toml", "nothing.toml cannot be read: No such file or directory"),
    ("study show nothing", "no study 'nothing'; give a file ending in .toml, or one of hybrids"),
    ("study status nowhere", "nowhere holds no runs.db; give the whole folder of a pilot or study"),
    ("study export nowhere x.csv", "nowhere is not a folder; give the folder of a pilot or study"),
    ("watch missing", "missing holds no pilot or study yet; give the folder of one (its --out)"),
    ("watch missing --every 0", "'--every': 0.0 is not in the range 0.1<=x<=3600"),
    ("watch missing --port 80", "--port is for --web, got 80 without it"),
    ("watch missing --web --port 70000", "'--port': 70000 is not in the range 0<=x<=65535"),
    ("watch missing --lang ja", "--lang is for --web, got ja without it"),
    ("watch missing --web --once", "--once prints and --web serves; give one of them"),
    ("watch file", "file is a file; give the folder of a pilot or study"),
    ("report gone", "gone is not a folder; give the folder of a pilot or study"),
    ("roi", "paramcast-runs is not a folder; give the folder of a pilot or study"),
    ("report", "paramcast-runs is not a folder; give the folder of a pilot or study"),
    ("roi .", "has no result.json; give the folder of a pilot or study"),
    ("roi . --template", "--template prints the file of inputs and takes nothing but"),
    ("roi . --json --full", "--json holds all that --full prints"),
    ("roi --template --out .", "cannot be written (Is a directory)"),
    ("roi --template --out file", "file exists already and was left alone"),
)  # fmt: skip
OTHER_WORDS = [
    Bad("a task of 5,000 characters",
        f"TASK {CUT} is not a usable path (File name too long); choose another",
        words("pilot", LONG)),
    Bad("a task in two lines", "unknown task …", words("pilot", "no\nsuch 'task'")),
    Bad("a task file in the home of nobody",
        "TASK '~nobody-of-that-name/task.py' is not a usable path (Could not determine home "
        "directory); choose another", words("pilot", "~nobody-of-that-name/task.py")),
    Bad("a task that would clear the screen",
        r"TASK '\x1b[2J\udcff' is not a usable path (it is not UTF-8); choose another",
        words("pilot", "\x1b[2J\udcff")),
    Bad("an empty --out", "--out '' is not a usable path (it is empty); choose another",
        task("", "--out", "")),
    Bad("--out of bytes that are not UTF-8",
        r"--out 'out\udcff' is not a usable path (it is not UTF-8); choose another",
        task("", "--out", "out\udcff")),
    Bad("--out with a NUL",
        r"--out 'a\x00b' is not a usable path (embedded null byte); choose another",
        task("", "--out", "a\0b")),
    Bad("--data-dir of 5,000 characters",
        f"--data-dir {CUT} is not a usable path (File name too long); choose another",
        words("pilot", "fashion", "--data-dir", LONG)),
    Bad("a window of a thousand million points",
        "method least-squares(window=1000000000): window must be at most 100000, got 1000000000",
        task("", "--methods", "least-squares(window=1000000000)")),
    Bad("a horizon of 5,000 digits",
        "the knob horizon of plp must be a number or a quoted word, got '999…...",
        task("", "--methods", f"plp(horizon={'9' * 5000})")),
    Bad("20,000 blanks among the methods",
        "methods are 20004 characters, more than 10000; name fewer",
        task("", "--methods", f"plp{' ' * 20_000}x")),
    Bad("six million runs",
        "that would be about 6020000 runs, and at most 2000000 can be planned; take fewer seeds, "
        "learning rates, methods or cells",
        task("", "--methods", HUNDRED, "--lr", 0.1, "--seeds", 10_000)),
    Bad("--address with a name that no host can have",
        "no Ray cluster answers at ray://a..b; start one with `ray start --head`, or check "
        "host, firewall and port (6379 of `ray start`, 10001 of its clients)",
        task("", "--engine", "ray", "--address", "ray://a..b")),
    Bad("--store with half a character",
        "--store must be postgresql://USER@HOST/DATABASE, got something that is not a URL",
        task("", "--store", "postgresql://\udcff@127.0.0.1:1/runs")),
    Bad("--store with a password, and nobody there",
        "postgresql://me@127.0.0.1:1/runs cannot be reached (…); check the address, the database, "
        "the user and the password (PGPASSWORD or ~/.pgpass)",
        words("study", "status", "mine", "--store", "postgresql://me:secret@127.0.0.1:1/runs")),
    Bad("an export to a file without a name", ". must end in .csv or .parquet",
        on("study", "study", "export", "study", ".")),
    Bad("an export into a folder that is not there",
        "no/cells.csv cannot be written: No such file or directory",
        on("study", "study", "export", "study", "no/cells.csv")),
    Bad("a report of 5,000 characters' name",
        f"--out {CUT} is not a usable path (File name too long); choose another",
        on("pilot", "report", "pilot", "-o", LONG)),
]  # fmt: skip
COMMAND_LINE = OPTIONS + EMPTY + COMMANDS + OTHER_WORDS

# --- task files -----------------------------------------------------------------------------------

FUNCTIONS = rows(
    lambda what: task(task=what),
    ("blobs.py:missing", "has no function 'missing'; it has blobs, make_model, task"),
    # one argument: a function that trains
    ("blobs.py:needs", "which result of blobs.py is judged? Name it with --metric NAME"),
    ("blobs.py:raises", "blobs.py:raises failed with KeyError: 'no such key' (line …)"),
    ("blobs.py:exits", "blobs.py:exits failed with SystemExit"),
    ("blobs.py:nothing", "returned None, it must return a paramcast Task"),
    ("blobs.py:dictionary", "returned a dict, it must return a paramcast Task"),
    ("blobs.py:Task", "blobs.py:Task needs the arguments name, model, train, …; a function that"),
)  # fmt: skip
IMPORTS = rows(
    imported,
    ("def task(:\n", "bad.py cannot be imported: SyntaxError…line 1"),
    ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named…line 1"),
    ("x = 1\ny = x.z\n", "cannot be imported: AttributeError…(line 2)"),
    ("import sys\nsys.exit(0)\n", "bad.py cannot be imported: SystemExit"),
    ("", "bad.py has no function 'task'; it has none"),
    ("\0", "bad.py cannot be imported: SyntaxError"),
)
TEST = "the test split"
SETTINGS = rows(
    task,
    ("epochs=1.5", "Task.epochs must be a whole number from 1, got 1.5"),
    ("batch_size='8'", "Task.batch_size must be a whole number from 1, got '8'"),
    ("schedule='linear'", "Task.schedule must be one of constant, warmup, cosine, cyclic, wsd"),
    ("base='adam'", "Task.base must be sgd, nesterov, adamw, …, ema or a function, got 'adam'"),
    ("metric='f2'", "Task.metric must be accuracy, …, r2 or a function, got 'f2'"),
    ("loss=3", "Task.loss must be a function"),
    ("lr_range=(0.1, 0.01)", "Task.lr_range must satisfy 0 < low < high"),
    ("lr_range=0.1", "Task.lr_range must be two numbers"),
    (r"name='a\0b'", r"Task.name must be a word or two, got 'a\x00b'"),
    (r"name='\ud800'", r"Task.name must be a word or two, got '\ud800'"),
    ("momentum=-1.0", "omentum"),
    ("momentum=0.0, base='nesterov'", "omentum"),
    ("weight_decay=-1.0", "weight_decay"),
    ("augment=3", "Task.augment"),
    ("augment=lambda inputs: inputs", "augment"),
    ("augment=lambda inputs, generator: inputs[:, :2]", "augment"),
    ("surprise=3", "blobs.py:task failed with TypeError…'surprise'"),
    ("model=3", "Task.model is a int; give a function that builds a fresh model"),
    ("model=make_model()", "Task.model is a model; give a function that builds a fresh model"),
    ("model=lambda: 3", "Task.model returned a int, it must return a torch.nn.Module"),
    ("model=lambda: 1 / 0", "Task.model failed with ZeroDivisionError: division by zero"),
    ("model=torch.nn.Identity", "the model has no learnable parameters"),
    ("model=lambda: torch.nn.Linear(5, 3)",
     "the model failed on training inputs of shape (4, 4)…mat1 and mat2"),
    ("model=lambda: torch.nn.Linear(4, 2)",
     "the labels go up to 2, the model has 2 outputs; give it at least 3"),
    ("model=lambda: torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0))",
     "the labels go up to 2, the model has 1 outputs"),
    ("model=lambda: torch.nn.RNN(4, 3)", "the model returned a tuple, it must return one tensor"),
    ("model=lambda: shared", "same model"),
    ("model=unseeded", "same seed"),
    ("loss=torch.nn.functional.binary_cross_entropy_with_logits",
     "output of shape (4, 3) does not fit the loss with targets of shape (4,): ValueError"),
    ("loss=lambda o, t: torch.nn.functional.cross_entropy(o, t, reduction='none')",
     "Task.loss must return one number that depends on the model's parameters"),
    ("loss=lambda o, t: torch.nn.functional.cross_entropy(o.detach(), t)",
     "Task.loss must return one number"),
    ("metric='mse'", "mse needs numbers, the train targets are whole-number labels; … log_loss"),
    ("metric=lambda o, t: 1 / 0", "Task.metric failed with ZeroDivisionError"),
    ("base=lambda parameters, lr: None",
     "Task.base must return a torch.optim.Optimizer, it returned NoneType"),
    ("base=lambda parameters, lr: 1 / 0", "Task.base…ZeroDivisionError"),
    ("base=lambda parameters, lr: torch.optim.LBFGS(parameters, lr)", "must not be LBFGS"),
    *[(f"{name}=(torch.zeros(0, 4), torch.zeros(0).long())",
       f"the {name} split is empty; give it at least one example")
      for name in ("train", "validation", "test")],
    ("test=None", f"{TEST} is None; give (inputs, targets) as two tensors"),
    ("test='photos'", "the test dataset must give pairs of input and target"),
    ("test=Broken()", "the test dataset failed with KeyError: 'no such image'; it must give an "
     "example for every index from 0 to its length - 1"),
    ("test=(torch.zeros(3, 4), torch.zeros(4).long())",
     f"{TEST} has 3 inputs and 4 targets; it needs one target per input"),
    ("test=(torch.zeros(3, 4), None)", f"{TEST} cannot be read as a tensor"),
    ("test=(1.0, 2.0)", f"{TEST} holds a single number"),
    ("test=[(torch.zeros(4), 0), (torch.zeros(5), 1), (torch.zeros(4), 1)]",
     "the examples of the test dataset cannot be stacked…resize or pad"),
    ("test=(with_one(float('nan')), torch.arange(6) % 3)",
     f"the inputs of {TEST} hold 1 values that are NaN or infinite; fill or drop them"),
    ("train=(with_one(float('-inf')), torch.arange(6) % 3)",
     "the inputs of the train split hold 1 values"),
    ("validation=(torch.zeros(6, 4), with_one(float('nan'))), metric='mse', "
     "loss=torch.nn.functional.mse_loss", "the targets of the validation split hold 1 values"),
    ("test=(torch.zeros(3, 4), torch.tensor([0, 1, 7]))",
     "the labels go up to 7, the model has 3 outputs; give it at least 8, or correct"),
    ("validation=(torch.zeros(3, 4), torch.tensor([0, 1, -1]))",
     "the validation targets hold the label -1; labels start at 0"),
    ("train=(torch.zeros(3, 4), torch.zeros(3))",
     "accuracy needs whole-number labels, the train targets are torch.float32"),
    ("train=column, validation=column, test=column, "
     "loss=lambda o, t: torch.nn.functional.cross_entropy(o, t[:, 0])", "targets…(…, 1)"),
)  # fmt: skip
DEMON = [
    Bad("demon without momentum",
        "…demon does not fit base sgd…leave it out with --methods…",
        task("momentum=0.0", "--methods", "demon, plp", "--seeds", 2)),
    Bad("demon on something that is no optimizer", "…torch.optim.Optimizer…",
        task("base=lambda parameters, lr: None", "--methods", "demon")),
]  # fmt: skip
TASK_FILES = FUNCTIONS + IMPORTS + SETTINGS + DEMON

OPTIMIZERS_OF_USERS = rows(
    optimizer,
    ("no.py:muon", "method no.py:muon: there is no file no.py; name it as FILE.py:FUNCTION"),
    ("my.py:muon", "my.py has no function 'muon'; it has Lion, same, rate_by_place, halved"),
    ("my.py:Lion(gamma=1)", "method my.py:Lion has no knob 'gamma'; it has lr, beta1, beta2"),
    ("my.py:Lion(beta1=x)", "the knob beta1 of my.py:Lion must be a number or a quoted word, got"),
    ("my.py:Lion(lr=0.1)", "method my.py:Lion: lr is what the comparison sets; leave it out"),
    (
        "my.py:some",
        "the optimizer of my.py:some leaves out 3 of 4 parameters, such as (8,), (3, 8)",
    ),
    (
        "my.py:fails",
        "does not fit base sgd: my.py:fails failed with KeyError: 'x' (line 41); leave",
    ),
    ("torch.optim:LBFGS", "the optimizer of torch.optim:LBFGS needs closure in each step"),
    ("no_package:X", "method no_package:X: no_package cannot be imported; install its package"),
)
