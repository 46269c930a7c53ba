"""Bad words on the command line, and bad files that users write: studies, costs, tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs import Bad

from folders import copy_of, pilot_folder, study_folder

LONG = "x" * 5000
CUT = "'" + "x" * 76 + "..."
TASK = """
import torch
from paramcast.study import Task

class Broken:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        if index == 2:
            raise KeyError("no such image")
        return torch.zeros(4), 0

def blobs(seed):
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(40) % 3

def task():
    settings = dict(name="blobs", model=lambda: torch.nn.Linear(4, 3), epochs=1, batch_size=8,
                    train=blobs(1), validation=blobs(2), test=blobs(3))
    return Task(**(settings | dict(CHANGES)))
"""

Made = Callable[[Path], tuple[Any, ...]]


def words(*given: Any) -> Made:
    return lambda folder: given


def task(changes: str = "", *more: Any) -> Made:
    """A pilot of the task above with changed settings, and more words."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "blobs.py").write_text(TASK.replace("CHANGES", changes))
        return ("pilot", "blobs.py", *(more or ("--lr", 0.1, "--seeds", 2)))

    return make


def on(kind: str, *given: Any) -> Made:
    """A command on a finished pilot or study."""

    def make(folder: Path) -> tuple[Any, ...]:
        copy_of(pilot_folder() if kind == "pilot" else study_folder(), folder / kind)
        return given

    return make


COMMAND_LINE = [
    Bad("a task of 5,000 characters",
        f"TASK {CUT} is no usable path (File name too long); choose another",
        words("pilot", LONG)),
    Bad("a task file in the home of nobody",
        "TASK '~nobody-of-that-name/task.py' is no usable path (Could not determine home "
        "directory); choose another", words("pilot", "~nobody-of-that-name/task.py")),
    Bad("a task that would clear the screen",
        r"TASK '\x1b[2J\udcff' is no usable path (it is no UTF-8); choose another",
        words("pilot", "\x1b[2J\udcff")),
    Bad("an empty --out", "--out '' is no usable path (it is empty); choose another",
        task("", "--out", "")),
    Bad("--out of bytes that are no UTF-8",
        r"--out 'out\udcff' is no usable path (it is no UTF-8); choose another",
        task("", "--out", "out\udcff")),
    Bad("--out with a NUL",
        r"--out 'a\x00b' is no usable path (embedded null byte); choose another",
        task("", "--out", "a\0b")),
    Bad("--data-dir of 5,000 characters",
        f"--data-dir {CUT} is no usable path (File name too long); choose another",
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
    Bad("thirty million runs",
        "that would be about 30720120 runs, and at most 2000000 can be planned; take fewer seeds, "
        "learning rates, methods or cells", task("", "--trials", 1024, "--trial-seeds", 10_000)),
    Bad("--address with a name that no host can have",
        "no Ray cluster can be reached at ray://a..b:10001 (…); start one with `ray start --head`, "
        "or check host, port and firewall", task("", "--engine", "ray", "--address", "ray://a..b")),
    Bad("--store with half a character",
        "--store must be postgresql://USER@HOST/DATABASE, got something that is no URL",
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
        f"--out {CUT} is no usable path (File name too long); choose another",
        on("pilot", "report", "pilot", "-o", LONG)),
]  # fmt: skip


def study(content: str | bytes) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        text = content.encode() if isinstance(content, str) else content
        (folder / "my.toml").write_bytes(text)
        return ("study", "run", "my.toml", "--dry-run")

    return make


def pipe(name: str, *given: Any) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        os.mkfifo(folder / name)
        return given

    return make


def below(name: str, *given: Any) -> Made:
    """A folder where a file should be."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / name).mkdir()
        return given

    return make


GRID = '[[grid]]\ntask = "digits"\nmethods = ["plp"]\nseeds = 2\n'
HEAD = 'name = "mine"\nquestion = "Does it help?"\n'
VALUES = ", ".join(map(str, range(1, 201)))
STUDY_FILES = [
    Bad("a study in Latin-1", "my.toml cannot be read: it is no UTF-8 text",
        study("name = \"caf\xe9\"\n".encode("latin-1"))),
    Bad("a study of 300,000 bytes", "my.toml cannot be read: it has more than 262144 bytes",
        study(HEAD + GRID + "#" * 300_000)),
    Bad("a study that is a pipe", "my.toml cannot be read: it is no regular file",
        pipe("my.toml", "study", "run", "my.toml")),
    Bad("a study that is a folder", "my.toml cannot be read: it is a folder",
        below("my.toml", "study", "run", "my.toml")),
    Bad("a list of 100,000 brackets", "my.toml is no valid TOML: it is nested too deeply",
        study("a = " + "[" * 100_000)),
    Bad("a key of 20,000 parts, which would take minutes and gigabytes",
        "my.toml is no valid TOML: a key has more than 500 parts", study("a." * 20_000 + "a = 1")),
    Bad("a whole number of 5,000 digits", "my.toml is no valid TOML: Exceeds the limit …",
        study(HEAD + GRID.replace("2", "9" * 5000))),
    Bad("a hexadecimal number of 20,000 digits",
        "my.toml: grid[1].seeds must be less than or equal to 10000, got a int too long to show",
        study(HEAD + GRID.replace("2", "0x" + "f" * 20_000))),
    Bad("a grid of 1,600,000,000 cells",
        "my.toml: grid[1]: its axes make 1600000000 cells, more than 10000; name fewer",
        study(HEAD + GRID + f"epochs = [{VALUES}]\nbatch_size = [{VALUES}]\nlr = [{VALUES}]\n"
              f"weight_decay = [{VALUES}]\n")),
    Bad("a study of 8,000,000 runs",
        "grid[1]: that would be about … runs, and at most 2000000 can be planned; take fewer "
        "seeds, learning rates, methods or cells",
        study(HEAD + GRID.replace("seeds = 2", "seeds = 10000") + f"lr = [{VALUES}]\n")),
    Bad("a study that is called ../../up",
        "my.toml: name String should match pattern '^[a-z0-9][a-z0-9-]{0,40}$', got '../../up'",
        study(HEAD.replace("mine", "../../up") + GRID)),
    Bad("a study of a task with a NUL in its name",
        r"grid[1]: task 'a\x00b' is no usable path (embedded null byte); choose another",
        study(HEAD + GRID.replace("digits", r"a\u0000b"))),
    Bad("a study of a task of 5,000 characters",
        f"grid[1]: task {CUT} is no usable path (File name too long); choose another",
        study(HEAD + GRID.replace("digits", LONG))),
]  # fmt: skip


def costs(content: str) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        copy_of(pilot_folder(), folder / "pilot")
        (folder / "roi.toml").write_text(content)
        return ("roi", "pilot", "--inputs", "roi.toml")

    return make


ROI_FILES = [
    Bad("costs of 100,000 brackets", "roi.toml is no valid TOML: it is nested too deeply",
        costs("watts = " + "[" * 100_000)),
    Bad("a price of 400 digits", "roi.toml: price_per_kwh must be a …, got 9999…...",
        costs("price_per_kwh = " + "9" * 400)),
    Bad("a currency that a terminal would act on",
        r"roi.toml: currency must be a short text such as " r'"EUR", got '
        r"'\x1b[31m'", costs(r'currency = "\u001b[31m"')),
    Bad("costs that are a pipe", "--inputs roi.toml cannot be read (it is no regular file); write "
        "one with `paramcast roi --template > roi.toml`",
        pipe("roi.toml", "roi", ".", "--inputs", "roi.toml")),
]  # fmt: skip

TASK_FILES = [
    Bad("a task file that is a pipe", "there is no file 'blobs.py'; check the path",
        pipe("blobs.py", "pilot", "blobs.py")),
    Bad("a task with a NUL in its name", r"Task.name must be a word or two, got 'a\x00b'",
        task(r"name='a\0b'")),
    Bad("a task with half a character in its name",
        r"Task.name must be a word or two, got '\ud800'", task(r"name='\ud800'")),
    Bad("a data set whose third example cannot be read",
        "the test dataset failed with KeyError: 'no such image'; it must give an example for every "
        "index from 0 to its length - 1", task("test=Broken()")),
]  # fmt: skip
