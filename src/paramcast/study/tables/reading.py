"""A file of results as a frame: text, Parquet or JSON lines; the index says where a row is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ..reading import shown
from ..tasks.frames import ENDINGS, MOST_CELLS, TableOptions, read_frame

JSON = re.compile(r"\.(jsonl|ndjson|json)$", re.IGNORECASE)
MOST_BYTES = 128 * 2**20
"""The most bytes of a file."""
MOST_DEPTH = 8
"""The deepest nesting of JSON objects."""


def read_results(path: Path, options: TableOptions) -> Any:
    """The frame of a file; its index has the number of each row's line ("row" in Parquet).

    A text file's cells stay as they are written, so that nothing is taken for a missing value or
    for a number that is not one.

    Raises:
        StudyError: the file is not there, or cannot be read as a table.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise StudyError(f"{path} {what}; give a table of results: .csv, .tsv, .parquet, .jsonl")
    if not ENDINGS.search(path.name) and not JSON.search(path.name):
        raise StudyError(
            f"{path.name} does not end as a table does; end it in .csv, .tsv, .txt (also .gz, "
            ".bz2, .zip), .parquet, .jsonl or .json"
        )
    # pandas takes several times that much memory
    if path.stat().st_size > MOST_BYTES:
        raise StudyError(
            f"{path.name} has more than {MOST_BYTES // 2**20} MiB; keep only the last row of each "
            "training, and the columns that are judged"
        )
    if JSON.search(path.name):
        return _json_frame(path, options)
    frame, _ = read_frame(path, None, options, as_text=True)
    return frame


def _json_frame(path: Path, options: TableOptions) -> Any:
    import pandas as pd

    if options.read:
        raise StudyError(f"--read is for text, and {path.name} is JSON; leave it out")
    records = list(_records(path))
    # objects may differ in their names; the frame has a column for each
    names = {name for _, record in records for name in record}
    if len(names) * len(records) > MOST_CELLS:
        raise StudyError(
            f"{path.name} has {len(records)} objects with {len(names)} different names, more than "
            f"{MOST_CELLS} cells; leave out what is not judged"
        )
    index = pd.Index([line for line, _ in records], name="line")
    return pd.DataFrame([record for _, record in records], index=index, dtype=object)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its line or, in a list of objects, its number."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if text.lstrip().startswith("["):
            found = [*enumerate(json.loads(text), 1)]
        else:  # split at line ends alone: text may hold other separators
            lines = enumerate(text.split("\n"), 1)
            found = [(line, json.loads(each)) for line, each in lines if each.strip()]
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate raises here
    except UnicodeError:
        raise StudyError(f"{path.name} is not UTF-8 text; write it as UTF-8") from None
    except RecursionError:
        raise StudyError(f"{path.name} is nested too deeply; write one object per line") from None
    except ValueError as error:
        raise StudyError(
            f"{path.name} cannot be read as JSON ({error}); write one object per line"
        ) from None
    for line, each in found:
        if not isinstance(each, dict):
            raise StudyError(f"{path.name}, line {line}, holds {shown(each, 40)}, not an object")
        yield line, dict(_flat(each))


def _flat(record: dict[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """The record's values; those of a nested object under both names, joined by a dot."""
    for name, value in record.items():
        if isinstance(value, dict) and depth < MOST_DEPTH:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            plain = value is None or isinstance(value, (str, int, float))
            yield f"{prefix}{name}", value if plain else shown(value)
