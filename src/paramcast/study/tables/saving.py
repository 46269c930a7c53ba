"""The folder of a judged table: result.json, as a pilot writes it, and no store of runs."""

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
from ..reading import MOST_JSON, object_from_json, read_text
from ..spec import hash_of
from ..store.folder import RESULT, remembers, write_json
from ..stored import SCHEMA, Judged, Result


def save(judged: Judged, table: Path, out: Path | None, command: list[str], begun: float) -> Result:
    """Write the result of a table; a table that is judged again replaces its own.

    Args:
        judged: the comparison.
        table: the file that it was made from.
        out: the folder; None chooses one by the table's content and the columns.
        command: the words that judge it again, but for the folder.
        begun: when it began, by `time.perf_counter`.

    Raises:
        StoreError: the folder cannot be used, or holds another comparison's results.
    """
    content = hashlib.sha256(table.read_bytes()).hexdigest()
    judged["specification"] |= {"file": table.name, "sha256": content}
    identity = hash_of(judged["specification"])
    label = re.sub(r"[^A-Za-z0-9_-]", "-", table.stem)[:40]
    out = out or Path("paramcast-runs") / f"{label}-{identity[:8]}"
    if remembers(out) or _kind(out / RESULT) in ("pilot", "study"):
        raise StoreError(f"{out} holds a pilot's or study's results; choose another --out folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be a folder ({error.strerror}); choose another"
        ) from None
    result: Result = {
        "schema": SCHEMA,
        "kind": "table",
        "identity": identity,
        "name": judged["task"],
        "question": "",
        "notes": [],
        "cells": [judged],
        "command": shlex.join([*command, "--out", str(out)]),
        "out": str(out),
        "environment": {"paramcast": __version__, "python": platform.python_version()},
        "reused_runs": 0,
        "wall_seconds": time.perf_counter() - begun,
        "text": "",
    }
    write_json(out / RESULT, result)
    return result


def _kind(result: Path) -> object:
    """Of the result that lies there; None if none does, or if it cannot be read."""
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
