"""A table's file as pandas reads it: any separator and encoding, compressed or Parquet; bounded."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ...errors import TaskError
from ..reading import shown
from .data.files import parquet_bytes, parquet_file

ENDINGS = re.compile(r"\.((csv|tsv|txt)(\.(gz|bz2|zip))?|parquet)$", re.IGNORECASE)
Kind = Literal["classes", "regression"]
Missing = Literal["drop", "impute"]
KINDS, MISSING = get_args(Kind), get_args(Missing)
CHARACTERS = ("sep", "decimal", "thousands", "comment")
READ = (*CHARACTERS, "encoding", "na_values", "skiprows")  # what --read passes to pandas.read_csv
# the likeliest encodings of text that is not UTF-8
ENCODINGS = ("shift_jis", "gb18030", "cp1252", "cp1251")
MOST_UNPACKED = 128 * 2**20  # the most bytes of a compressed table once unpacked
# the most cells and bytes of a Parquet file; a number takes 8 bytes
MOST_CELLS, MOST_PARQUET_BYTES = 50_000_000, 512 * 2**20
MOST_TEXT = 1000  # the most characters of a text in a Parquet file


class TableOptions(NamedTuple):
    """How a table is read; None leaves it to the table."""

    kind: str | None = None  # the task's, "classes" or "regression"
    missing: str | None = None  # what becomes of rows with empty cells, "drop" or "impute"
    read: tuple[tuple[str, str], ...] = ()  # names of `READ` and their values


AS_IT_IS = TableOptions()


def read_setting(text: str) -> tuple[str, str]:
    """Check a setting of `TableOptions.read`, written KEY=VALUE."""
    key, _, value = text.partition("=")
    if key not in READ:
        raise TaskError(f"--read takes KEY=VALUE with {', '.join(READ)}, got {shown(text)}")
    value = {r"\t": "\t", "tab": "\t"}.get(value, value) if key == "sep" else value
    if key in CHARACTERS and len(value) != 1 and (key, value) != ("sep", r"\s+"):
        more = r", tab, or \s+ for any white space" if key == "sep" else ""
        raise TaskError(f"--read {key} must be one character{more}, got {shown(value)}")
    if key == "skiprows" and not (value.isascii() and value.isdigit() and len(value) < 7):
        raise TaskError(f"--read skiprows must be a number of lines, got {shown(value)}")
    if key == "encoding":
        try:
            "a".encode(value)  # codecs.lookup knows some that are not for text
        except (LookupError, ValueError):
            raise TaskError(
                f"--read encoding must be one that Python knows, such as {', '.join(ENCODINGS)}, "
                f"got {shown(value)}"
            ) from None
    return key, value


# how pandas leaves cells as they are written, and every line a row
AS_TEXT = {"dtype": str, "na_filter": False, "skip_blank_lines": False}


def read_frame(
    path: Path, target: str | None, options: TableOptions, *, as_text: bool = False
) -> tuple[Any, list[str]]:
    """The table, and how it was read where that is unusual; blanks around names are removed.

    Args:
        path, options: the file, and how it is written.
        target: a column that must appear only once.
        as_text: leave the cells of a text file as they are written; the index is then called "line"
            and has the numbers of the rows' lines, if no cell is longer than a line.
    """
    import pandas as pd

    given = dict(options.read)
    try:
        if path.suffix.lower() == ".parquet":
            if given:
                raise ValueError("--read is for text, leave it out")
            return _parquet(path), []
        # text: unpacked, decoded, then the separator that the header has most of
        text, encoding = _text(_content(path), given.pop("encoding", None))
        settings = {"skipinitialspace": True, "low_memory": False, **given}
        settings |= AS_TEXT if as_text else {}
        settings["skiprows"] = int(given.get("skiprows", 0))
        header = _header(text, settings)
        settings.setdefault("sep", max(",;\t|", key=re.sub(r'"[^"]*"', "", header).count))
        first = pd.read_csv(io.StringIO(text), header=None, nrows=1, **settings).iloc[0]
        if target and [str(name).strip() for name in first].count(target) > 1:
            raise TaskError(
                f"column {target!r} appears twice in {path.name}, so one would reveal the other; "
                "rename or remove one"
            )
        frame = pd.read_csv(io.StringIO(text), **settings)
    except (ValueError, OSError, OverflowError, EOFError, RuntimeError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise TaskError(f"{path.name} cannot be read as a table: {error}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # cells would shift by a column
        raise TaskError(
            f"{path.name} has more cells in its rows than names in its first line, "
            f"{shown(header, 40)}; name every column there, or leave out lines that do not "
            "belong to the table with --read skiprows=1 or --read comment='#'"
        )
    names = frame.columns.str.strip()
    frame.columns = names if names.is_unique else frame.columns
    if as_text:
        frame = frame.fillna("")  # lines that are too short
        if "comment" not in given:
            first_line = int(given.get("skiprows", 0)) + 2
            frame.index = pd.RangeIndex(first_line, first_line + len(frame), name="line")
        frame = frame[(frame != "").any(axis=1)]
    unusual = {"sep": settings["sep"] if settings["sep"] != "," else None, **given}
    unusual["encoding"] = encoding if encoding != "utf-8-sig" else None
    return frame, [f"{k}={v!r}" for k, v in unusual.items() if v is not None]


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked: a small file may unpack to terabytes."""
    ending = path.suffix.lower()
    if ending == ".zip":
        with zipfile.ZipFile(path) as archive:
            inside = [each for each in archive.infolist() if not each.is_dir()]
            if len(inside) != 1 or inside[0].compress_type not in (0, zipfile.ZIP_DEFLATED):
                raise ValueError(f"it holds {len(inside)} files instead of one (deflated)")
            with archive.open(inside[0]) as file:
                content = file.read(MOST_UNPACKED + 1)
    elif ending in (".gz", ".bz2"):
        with (gzip if ending == ".gz" else bz2).open(path) as file:
            content = file.read(MOST_UNPACKED + 1)
    else:
        return path.read_bytes()
    if len(content) > MOST_UNPACKED:
        raise ValueError(
            f"it unpacks to more than {MOST_UNPACKED // 2**20} MiB; take a sample of its rows"
        )
    return content


def _text(content: bytes, encoding: str | None) -> tuple[str, str]:
    """The file's text and its encoding: UTF-8, UTF-16 by its mark, or as asked."""
    if content.startswith((b"\x1f\x8b", b"PK")):
        raise ValueError("it is compressed; end its name in .csv.gz or .csv.zip")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    asked, encoding = encoding, encoding or ("utf-16" if wide else "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        if asked or wide:
            raise ValueError(f"its text is not {encoding} ({error})") from None
        readings = []  # what the first line beyond ASCII would be in each
        for name in ENCODINGS:
            with contextlib.suppress(UnicodeError):
                lines = content.decode(name).splitlines()
                line = next((line for line in lines if not line.isascii()), "")
                readings.append(f"{name} ({shown(line, 40)})")
        raise ValueError(
            "it is not UTF-8 text; say --read encoding= with what reads right: "
            f"{', '.join(readings) or 'its encoding'}"
        ) from None
    if "\0" in text:
        raise ValueError("it is not text")
    return text, encoding


def _header(text: str, settings: dict[str, Any]) -> str:
    """The line that names the columns."""
    comment = settings.get("comment")
    for line in text.split("\n", 20 + settings["skiprows"])[settings["skiprows"] :]:
        if line.strip() and not (comment and line.startswith(comment)):
            return line.strip("\r")
    return ""


def _parquet(path: Path) -> Any:
    """A Parquet file of plain columns.

    Texts stay as dictionaries: a value of megabytes that thousands of rows share is held once.
    """
    import pyarrow as pa

    with parquet_file(path) as file:
        schema, meta, size = file.schema_arrow, file.metadata, parquet_bytes(file)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise ValueError(f"{', '.join(nested)} holds lists; leave it out")
    # what the file says of itself is checked before anything is unpacked
    cells = meta.num_rows * meta.num_columns
    if cells > MOST_CELLS or size > MOST_PARQUET_BYTES:
        raise ValueError(
            f"it says that {meta.num_rows} rows and {meta.num_columns} columns fill {size} bytes, "
            f"more than {MOST_CELLS} cells or {MOST_PARQUET_BYTES // 2**20} MiB; take a sample of "
            "its rows"
        )
    plain = ("is_integer", "is_floating", "is_boolean", "is_temporal", "is_decimal")
    texts = [f.name for f in schema if not any(getattr(pa.types, k)(f.type) for k in plain)]
    with parquet_file(path, read_dictionary=texts) as file:
        frame = file.read(use_threads=False).to_pandas(ignore_metadata=True, use_threads=False)
    for text in texts:
        if max(map(len, frame[text].astype("category").cat.categories), default=0) > MOST_TEXT:
            raise ValueError(
                f"{text} holds texts of more than {MOST_TEXT} characters; leave it out"
            )
    return frame
