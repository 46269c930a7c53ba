"""Stores and results that are damaged, foreign, of another version, or made to harm."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs import Bad

from folders import copy_of, pilot_folder, study_folder
from runs import cell

Made = Callable[[Path], tuple[Any, ...]]
REPORT = ("report", "pilot", "-o", "page.html")
WATCH = ("watch", "pilot", "--once")
AWAY = "move it away, or choose another folder"
USED = "pilot/runs.db cannot be used as a store of runs ({}); " + AWAY
READ = "pilot/runs.db cannot be read ({}); " + AWAY
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"


def pilot(spoil: Callable[[Path], Any], *words: Any) -> Made:
    """A finished pilot, of which something is spoilt, and a command that reads it."""

    def make(folder: Path) -> tuple[Any, ...]:
        spoil(copy_of(pilot_folder(), folder / "pilot"))
        return words or REPORT

    return make


def study(spoil: Callable[[Path], Any], *words: Any) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        spoil(copy_of(study_folder(), folder / "study"))
        return words or ("study", "status", "study")

    return make


def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The database as one file, with changed bytes."""

    def spoil(folder: Path) -> None:
        path = folder / "runs.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        path.write_bytes(change(path.read_bytes()))

    return spoil


def sql(*statements: str, name: str = "runs.db") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / name)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return spoil


def outcome(value: str) -> Callable[[Path], None]:
    return sql(f"UPDATE runs SET outcome = {value}")


def placed(make: Callable[[Path], Any], name: str = "runs.db") -> Callable[[Path], None]:
    """Something else in the place of a file."""

    def spoil(folder: Path) -> None:
        for old in folder.glob(f"{name}*"):
            old.unlink()
        make(folder / name)

    return spoil


def foreign(path: Path) -> None:
    sql("CREATE TABLE photos (name TEXT)", name=path.name)(path.parent)


def resumed(value: Any) -> Made:
    """A study whose store says something else of itself."""
    text = value if isinstance(value, str) else json.dumps(value)
    spoil = sql(f"INSERT OR REPLACE INTO about VALUES ('specification', '{text}')", name="runs.db")
    return study(spoil, "study", "resume", "study")


AGAIN = ("pilot", "digits/mlp", "--lr", 0.1, "--seeds", 2, "--out", "pilot")
ABOUT = {"kind": "study", "name": "small", "text": "a = 1", "device": "cpu"}
STORES = [
    Bad("a pilot into a folder whose store is a text",
        "pilot/runs.db cannot be used …not a database…move it away…",
        pilot(placed(lambda path: path.write_text("dear diary")), *AGAIN)),
    Bad("a store that breaks off", USED.format("database disk image is malformed"),
        pilot(bytes_of(lambda content: content[:9000]))),
    Bad("a store in whose place there is a folder",
        "pilot holds no runs.db; give the whole folder of a pilot or study",
        pilot(placed(Path.mkdir))),
    Bad("a store in whose place there is a database of something else",
        f"pilot/runs.db is a database of something else (tables photos); {AWAY}",
        pilot(placed(foreign))),
    Bad("a store whose version is a word", "pilot/runs.db has schema version 'new', this "
        "paramcast reads 2; use the paramcast that wrote it, or choose another folder",
        pilot(sql("""UPDATE about SET value = '"new"' WHERE name = 'schema'"""))),
    Bad("a store whose table of runs is a view that never ends",
        f"pilot/runs.db is a database of something else (tables about, failures, looks); {AWAY}",
        pilot(sql("DROP TABLE runs", f"CREATE VIEW runs AS {ENDLESS}"))),
    Bad("a store without the column of the outcomes", READ.format("no such column: runs.outcome"),
        pilot(sql("ALTER TABLE runs RENAME COLUMN outcome TO other"))),
    Bad("a store watched whose runs have no phase", "pilot is not as this paramcast writes it "
        "(KeyError: …); start its command again, or move it away",
        pilot(sql("UPDATE runs SET spec = '{}'"), *WATCH)),
    Bad("a store watched whose failures are a list",
        "pilot/runs.db cannot be read (it holds [1], not an object); move it away and run again",
        pilot(sql("INSERT INTO failures VALUES (1, 'k', 'failed', 'r', '[1]', 'soon')"), *WATCH)),
    Bad("a store watched with a failure at no time", "pilot is not as this paramcast writes it "
        "(ValueError: …'soon'…); start its command again, or move it away",
        pilot(sql("INSERT INTO failures SELECT 1, key, 'failed', 'r', spec, 'soon' FROM runs"
                  " LIMIT 1"), *WATCH)),
    Bad("a store watched that is of nothing", "pilot/runs.db is not of a pilot or study; give the "
        "folder or --store of one",
        pilot(sql("DELETE FROM about WHERE name = 'specification'"), *WATCH)),
    Bad("an outcome of 100,000 brackets",
        "pilot/runs.db cannot be read (it is nested too deeply); move it away and run again",
        pilot(outcome("'" + "[" * 100_000 + "'"))),
    Bad("an outcome that is a list",
        "pilot/runs.db cannot be read (it holds [1], not an object); move it away and run again",
        pilot(outcome("'[1]'"))),
    Bad("an outcome of bytes",
        "pilot/runs.db cannot be read (…not text); move it away and run again",
        pilot(outcome("x'ff00'"))),
    Bad("an outcome with NaN",
        "pilot/runs.db cannot be read (NaN is not JSON); move it away and run again",
        pilot(outcome("""'{"seconds": NaN}'"""))),
    Bad("an outcome with nothing in it", "what pilot holds is not as this paramcast writes it "
        "(KeyError: 'seconds'); start the command that made it once more, which rewrites it",
        pilot(outcome("'{}'"), "roi", "pilot")),
    Bad("a .url file that is not a URL",
        "pilot/runs.url does not hold the URL of a store; give it again with --store",
        pilot(placed(lambda path: path.with_suffix(".url").write_text("mysql://root@home")))),
    Bad("a lock that is a link to another file",
        "--out pilot cannot be locked (Too many levels of symbolic links); make room or access",
        lambda folder: locked(folder)),
    Bad("a study whose store holds no study",
        "study/runs.db is not of a pilot or study; give the folder or --store of one", resumed([])),
    Bad("a study whose stored text is no study",
        "study: unknown key a; choose from name, question, notes, grid, precision, compile, "
        "channels_last; name is missing; question is missing", resumed(ABOUT)),
    Bad("a study whose stored text is a number", "study is not valid TOML: it is not text of at "
        "most 262144 characters", resumed(ABOUT | {"text": 3})),
    Bad("a study whose stored numerics are a word", "study/runs.db is not as this paramcast "
        "writes it (TypeError: …); give the folder of a study that this paramcast wrote",
        resumed(ABOUT | {"numerics": "fast"})),
    Bad("a study stored with a device that is none",
        "--device must be cpu, cuda or cuda:N, got 'cuda:x'",
        resumed(ABOUT | {"device": "cuda:x"})),
]  # fmt: skip


def locked(folder: Path) -> tuple[Any, ...]:
    """Opening the lock would empty the file behind the link."""
    (folder / "pilot").mkdir()
    (folder / "precious").write_text("precious")
    (folder / "pilot" / ".lock").symlink_to(folder / "precious")
    return ("pilot", "digits/mlp", "--lr", 0.1, "--seeds", 2, "--out", "pilot")


# --- results --------------------------------------------------------------------------------------


def text(value: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "result.json").write_text(value)


def changed(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def changed_cell(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "result.json"
        result = json.loads(path.read_text())
        cell(result).update(changes)
        path.write_text(json.dumps(result))

    return spoil


def mixed(folder: Path) -> None:
    """A number in one row of a column, a text in the next."""
    result = json.loads((folder / "result.json").read_text())
    for i, each in enumerate(result["cells"]):
        each["settings"]["epochs"] = "one" if i % 2 else 1
    (folder / "result.json").write_text(json.dumps(result))


def doubled(folder: Path) -> None:
    path = folder / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"cells": 2 * result["cells"]}))


def of_one_seed(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    for row in cell(result)["table"]:
        row["values"], row["early_values"] = row["values"][:1], row["early_values"][:1]
    cell(result)["seeds"] = 1
    (folder / "result.json").write_text(json.dumps(result))


NOT = "{0}/result.json is not as this paramcast writes it ({1}); {2}"
ANEW = "start the command that made it once more, which rewrites it"
NO_JSON = f"pilot/result.json cannot be read ({{}}); {ANEW}"
EXPORT = ("study", "export", "study", "cells.csv")
RESULTS = [
    Bad("a folder of neither pilot nor study",
        "pilot has no result.json; give the folder of a pilot or study",
        lambda folder: (folder / "pilot").mkdir() or REPORT),
    Bad("a pilot that has not finished", "pilot has no result.json: nothing has finished there; "
        "start the command that made it again, and it goes on",
        pilot(lambda folder: (folder / "result.json").unlink())),
    Bad("a pilot without runs",
        "…holds no finished runs; start the command that made it again…",
        pilot(sql("DELETE FROM runs"))),
    Bad("a pilot of one seed",
        "…result.json has fewer than 2 seeds, and a report compares seeds in pairs…",
        pilot(of_one_seed)),
    Bad("a result without a row", NOT.format("pilot", "cells.0.table: …, got []", ANEW),
        pilot(changed_cell(table=[]))),
    Bad("a report into a folder that is not there",
        "missing/report.html cannot be written: …; give another file with -o",
        pilot(bool, "report", "pilot", "-o", "missing/report.html")),
    Bad("a report in the place of a folder",
        "pilot cannot be written: …; give another file with -o",
        pilot(bool, "report", "pilot", "-o", "pilot")),
    Bad("a result of 100,000 brackets", NO_JSON.format("it is nested too deeply"),
        pilot(text("[" * 100_000))),
    Bad("a result with half a character", "pilot/result.json cannot be read ('utf-8' codec can't "
        f"encode character '\\ud800' in position …: surrogates not allowed); {ANEW}",
        pilot(text('{"task": "\\ud800"}'))),
    Bad("a result with a number of 5,000 digits",
        NO_JSON.format("Exceeds the limit …"), pilot(text("9" * 5000))),
    Bad("a result that is a pipe", "pilot has no result.json: nothing has finished there; start "
        "the command that made it again, and it goes on", pilot(placed(os.mkfifo, "result.json"))),
    Bad("a result of a version that is a list", "pilot/result.json has schema [1], this paramcast "
        "reads 4; use the paramcast that wrote it", pilot(changed(schema=[1]))),
    Bad("a result with many seeds",
        NOT.format("pilot", "cells.0.seeds: …, got 'many'", ANEW),
        pilot(changed_cell(seeds="many"))),
    Bad("a result with 10^15 seeds, which would be counted up to",
        NOT.format("pilot", "cells.0.seeds: …, got 1000000000000000", ANEW),
        pilot(changed_cell(seeds=10**15))),
    Bad("a result without a metric", NOT.format("pilot", "cells.0.metric: …, got None", ANEW),
        pilot(changed_cell(metric=None))),
    Bad("a study's result that is called ../../up, as its files would be",
        NOT.format("study", "the study is called '../../up'", ANEW),
        study(changed(name="../../up"), *EXPORT)),
    Bad("a study's result without cells",
        NOT.format("study", "cells: …, got []", ANEW), study(changed(cells=[]), *EXPORT)),
    Bad("a pilot's result with two cells", NOT.format("pilot", "it has 2 cells", ANEW),
        pilot(doubled)),
    Bad("the return of a study",
        "study holds the result of a study; give the folder of a pilot or table",
        study(bool, "roi", "study")),
    Bad("the export of a pilot",
        "pilot holds the result of a pilot; give the folder of a study",
        pilot(bool, "study", "export", "pilot", "cells.csv")),
    Bad("a study's result whose cells are words",
        NOT.format("study", "cells.0: …, got 'digits'", ANEW),
        study(changed(cells=["digits"]), *EXPORT)),
    Bad("a study's result that a spreadsheet's columns cannot hold",
        "what the study holds is not as this paramcast writes it (…); " + ANEW,
        study(mixed, *EXPORT[:-1], "cells.parquet")),
]  # fmt: skip
