"""Bad files that users write: studies and costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bad_words import CUT, LONG, Made, rows
from inputs import Bad

from folders import copy_of, pilot_folder


def study(content: str | bytes, *more: str) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        text = content.encode() if isinstance(content, str) else content
        (folder / "my.toml").write_bytes(text)
        return ("study", "run", "my.toml", *(more or ("--dry-run",)))

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
    Bad("a study in Latin-1", "my.toml cannot be read: it is not UTF-8 text",
        study("name = \"caf\xe9\"\n".encode("latin-1"))),
    Bad("a study of 300,000 bytes", "my.toml cannot be read: it has more than 262144 bytes",
        study(HEAD + GRID + "#" * 300_000)),
    Bad("a study that is a pipe", "my.toml cannot be read: it is not a regular file",
        pipe("my.toml", "study", "run", "my.toml")),
    Bad("a study that is a folder", "my.toml cannot be read: it is a folder",
        below("my.toml", "study", "run", "my.toml")),
    Bad("a list of 100,000 brackets", "my.toml is not valid TOML: it is nested too deeply",
        study("a = " + "[" * 100_000)),
    Bad("a key of 20,000 parts, which would take minutes and gigabytes",
        "my.toml is not valid TOML: a key has more than 500 parts", study("a." * 20_000 + "a = 1")),
    Bad("a whole number of 5,000 digits", "my.toml is not valid TOML: Exceeds the limit …",
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
        r"grid[1]: task 'a\x00b' is not a usable path (embedded null byte); choose another",
        study(HEAD + GRID.replace("digits", r"a\u0000b"))),
    Bad("a study of a task of 5,000 characters",
        f"grid[1]: task {CUT} is not a usable path (File name too long); choose another",
        study(HEAD + GRID.replace("digits", LONG))),
]  # fmt: skip


GRIDS = rows(  # what stands there instead of the task, the methods or the seeds
    lambda what: study(HEAD + GRID.replace(what.split("=")[0].strip() + " = ", "#", 1) + what,
                       "--out", "out"),
    ('task = "digitz"', "grid[1]: unknown task 'digitz'"),
    ('task = "digits/vgg"', "grid[1]: …vgg…cnn"),
    ('methods = ["plq"]', "grid[1]: unknown method 'plq'"),
    ('probes = ["jump"]', "grid[1]: unknown probe 'jump'; "),
    ('methods = ["plp(far=1)"]', "grid[1]: method plp has no knob 'far'"),
    ('momentum = 0\nbase = "demon"', "grid[1]: …momentum"),
    ('methods = ["plp", "demon"]\nbase = "demon"', "method demon is the base itself"),
)  # fmt: skip


def costs(content: str) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        copy_of(pilot_folder(), folder / "pilot")
        (folder / "roi.toml").write_text(content)
        return ("roi", "pilot", "--inputs", "roi.toml")

    return make


ROI_FILES = [
    Bad("costs of 100,000 brackets", "roi.toml is not valid TOML: it is nested too deeply",
        costs("watts = " + "[" * 100_000)),
    Bad("a price of 400 digits", "roi.toml: price_per_kwh must be a …, got 9999…...",
        costs("price_per_kwh = " + "9" * 400)),
    Bad("costs that are a pipe", "--inputs roi.toml cannot be read (it is not a regular file); "
        "write one with `paramcast roi --template > roi.toml`",
        pipe("roi.toml", "roi", ".", "--inputs", "roi.toml")),
]  # fmt: skip
COSTS = rows(
    costs,
    ("watts = ", "is not valid TOML"),
    ("wats = 300", "unknown key wats (its value is 300); allowed are currency, positive_class, tr"),
    ("watts = { value = 300, lo = 1 }", "unknown key watts.lo (its value is 1); allowed are value"),
    ("watts = { low = 1, high = 2 }", "watts.value is missing; give a best guess"),
    ("watts = 'many'", "watts must be a valid number, got 'many'"),
    ("watts = nan", "watts must be a finite number, got nan"),
    ("watts = -1", "watts must not be negative, got -1"),
    ("watts = 0.3", "watts = 0.3 looks like another unit; give watts, not kilowatts"),
    ("discount_rate = 8", "discount_rate = 8 looks like another unit; give a share per year: 0.08"),
    ("transfer = 50", "transfer = 50 looks like another unit; give a share from 0 to 1"),
    ("price_per_compute_hour = 20000", "give the price of one hour (at most 10000)"),
    ("training_hours = 36000", "give hours of one training, not seconds"),
    ("watts = { value = 2, low = 3, high = 1 }", "watts: low 3 is above high 1; swap them"),
    ("watts = { value = 9, low = 1, high = 3 }", "watts: value 9 lies outside low 1 to high 3"),
    ("horizon_months = 1.5", "horizon_months must be a whole number from 1, got 1.5"),
    ("cost_per_error = 1", "predictions_per_month is missing: cost_per_error is the cost of one"),
    ("cost_per_error = 1\nvalue_per_point = 1", "both say what accuracy is worth; leave out one"),
    ("critical_trainings_per_month = 30", "is 30, more than the 20 of trainings_per_month"),
    ("currency = 5", 'currency must be a short text such as "EUR", got 5'),
    ("positive_class = -1", "positive_class must be a whole number from 0, got -1"),
)
