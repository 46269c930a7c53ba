"""Every row of the table: one sentence, nothing changed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from inputs import BOMBS, Bad, table

from command import call
from paramcast.errors import ParamcastError

ROWS = table()
ELSEWHERE = BOMBS if sys.platform == "linux" else ()
"""In test_memory.py."""
SQLITE_OWN = ("-wal", "-shm", ".lock")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder but what SQLite, the lock and Python keep for themselves."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.name.endswith(SQLITE_OWN) and "__pycache__" not in path.parts
    }


def answer(made: Any, folder: Path) -> str:
    """What comes back from a command's words, or from a function."""
    if callable(made):
        with pytest.raises(ParamcastError) as caught:
            made()
        return str(caught.value)
    ran = call(folder, *made)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert ran.said.startswith("paramcast: ")
    assert ran.said.endswith("\n")
    assert ran.said.count("\n") == 1
    return ran.said.removeprefix("paramcast: ").removesuffix("\n")


def check(row: Bad, made: Any, folder: Path) -> None:
    """One sentence, the right one, and nothing changed."""
    before = contents(folder)
    message = answer(made, folder)
    assert row.fits(message), message
    assert message.isprintable()
    assert "secret" not in message
    assert contents(folder) == before


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name not in ELSEWHERE], ids=lambda row: row.name
)
def test_a_bad_input_gives_one_sentence_and_changes_nothing(row: Bad, tmp_path: Path) -> None:
    check(row, row.make(tmp_path), tmp_path)


def test_the_table_is_large_and_names_each_input_once() -> None:
    assert len(ROWS) >= 300
    assert [name for name, n in Counter(row.name for row in ROWS).items() if n > 1] == []
