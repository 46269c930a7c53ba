"""The folder of a judged table: result.json, as a pilot writes it, without a store of runs."""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import StoreError
from ..options import written
from ..reading import MOST_JSON, RUNS, object_from_json, read_text
from ..spec import hash_of
from ..store.folder import RESULT, make_folder, remembers
from ..stored import Judged, Result, write_result
from ..tasks.frames import TableOptions
from .judge import judge_results
from .options import OF_VALUES, JudgeOptions
from .reading import read_results


def judge_file(table: Path, given: JudgeOptions) -> Result:
    """Judge a table's file, and write the result.

    Raises:
        StudyError: it cannot be read or judged, or the folder cannot be used.
    """
    begun = time.perf_counter()
    of_file = tuple((key, value) for key, value in given.read if key not in OF_VALUES)
    judged = judge_results(read_results(table, TableOptions(read=of_file)), given, table.name)
    words = written(JudgeOptions, given)
    command = " ".join(["paramcast judge", shlex.quote(str(table)), *words])
    return save(judged, table.stem, given.out, begun, command=command, file=table)


def save(
    judged: Judged,
    name: str,
    out: Path | None,
    begun: float,
    *,
    command: str = "",
    file: Path | None = None,
) -> Result:
    """Write the result of a table; judging a table again replaces its result.

    Args:
        judged: the comparison.
        name: part of the folder's name.
        out: the folder; None chooses one by the values, the columns and the margin.
        begun: when it began, by `time.perf_counter`.
        command: what judges it again, without the folder; "" for a call from Python.
        file: the table's file, if it came from one.

    Raises:
        StoreError: the folder cannot be used, or holds another comparison's results.
    """
    if file is not None:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        judged["specification"] |= {"file": file.name, "sha256": content}
    # the same table judged in the same way goes to the same folder
    values = [(row["method"], row["role"], row["values"]) for row in judged["table"]]
    identity = hash_of([judged["specification"], values])
    label = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:40]
    out = out or RUNS / f"{label}-{identity[:8]}"
    if remembers(out) or _kind(out / RESULT) in ("pilot", "study"):
        raise StoreError(f"{out} holds a pilot's or study's results; choose another --out folder")
    make_folder(out)
    return write_result(
        out, begun, kind="table", identity=identity, name=judged["task"], cells=[judged],
        command=command and f"{command} --out {shlex.quote(str(out))}", reused_runs=0,
        environment={"paramcast": __version__, "python": platform.python_version()},
    )  # fmt: skip


def _kind(result: Path) -> object:
    """The kind of the result there; None if there is none, or it cannot be read."""
    try:
        return object_from_json(read_text(result, MOST_JSON)).get("kind")
    except (OSError, ValueError):
        return None


def runs_of(judged: Judged) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The table's rows as runs: for each its key, specification and outcome, as a store has them.

    The key says where the table holds it; what a table does not tell is None.
    """
    pairs = judged["specification"]["pairs"]
    for row in judged["table"]:
        measured = row["measures"].get("seconds")
        lost = {each["place"]: each for each in row["divergences"]}
        for i, (key, value) in enumerate(zip(row["keys"], row["values"], strict=True)):
            spec = {"method": row["method"], "phase": "final", "share": 1.0, "lr": row["lr"],
                    "seed": pairs[i] if pairs else ""}  # fmt: skip
            yield (
                key,
                spec,
                {
                    "status": "diverged" if i in lost else "done",
                    "divergence": lost.get(i),
                    "steps": None,
                    "seconds": measured["values"][i] if measured else None,
                    "peak_memory": None,
                    "validation": {},
                    "test": {"metric": value},
                },
            )
