"""Bad tables, images, and data files of built-in tasks."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from inputs import Bad
from PIL import Image

from folders import copy_of, pilot_folder
from paramcast.study.tasks.data.idx import read_idx
from paramcast.study.tasks.data.parquet import read_parquet

Made = Callable[[Path], tuple[Any, ...]]

# --- tables ---------------------------------------------------------------------------------------

GOOD = [f"{i * 37 % 50},{'uv'[i % 2]},{i % 3 // 2}" for i in range(60)]


def table(
    *lines: str,
    content: bytes | Callable[[], bytes] = b"",
    name: str = "data.csv",
    target: str = "y",
) -> Made:
    def make(folder: Path) -> tuple[Any, ...]:
        made = content() if callable(content) else content
        (folder / name).write_bytes(made or "".join(f"{x}\n" for x in lines).encode())
        return ("pilot", name, "--target", target)

    return make


def unpacks_to_much() -> bytes:
    return gzip.compress(b"a,y\n" + b"1,2\n" * 50_000_000, 1)


def repeating_text() -> bytes:
    """One text of ten megabytes that 20,000 rows repeat."""
    text = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pa.array(["x" * 10_000_000]))
    out = io.BytesIO()
    columns = pa.table({"a": text, "y": np.arange(20_000) % 2})
    pq.write_table(columns, out, compression="zstd", dictionary_pagesize_limit=2**30)
    return out.getvalue()


def claims_terabytes() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": np.arange(60), "y": np.arange(60) % 2}), out)
    return lying(out.getvalue(), 10**13, "group")


TABLES = [
    Bad("a table with more cells in its rows than names in its first line",
        "data.csv has more cells in its rows than names in its first line, 'b,y'; name every "
        "column there, or leave out lines that do not belong to the table with --read skiprows=1 "
        "or --read comment='#'",
        table("b,y", *GOOD)),
    Bad("a table with a quotation mark that never closes",
        "data.csv cannot be read as a table: Error tokenizing data. C error: EOF inside string …",
        table("a,b,y", *GOOD, '"5,u,1')),
    Bad("a table with a number of 400 digits", "data.csv has infinite cells in a; replace them",
        table("a,b,y", *GOOD, "9" * 400 + ".0,u,1")),
    Bad("a table whose column is called like a command for the terminal",
        r"data.csv has no column 'y'; it has a, b, \x1b[2J; if those are not its names, say how "
        "it is written with --read sep=, skiprows=, comment=", table("a,b,\x1b[2J", *GOOD)),
    Bad("a table that is a compressed file",
        "data.csv cannot be read as a table: it is compressed; end its name in .csv.gz or .csv.zip",
        table(content=gzip.compress(b"a,y\n1,2\n"))),
    Bad("a table of a megabyte that unpacks to 200", "data.csv.gz cannot be read as a "
        "table: it unpacks to more than 128 MiB; take a sample of its rows",
        table(content=unpacks_to_much, name="data.csv.gz")),
    Bad("a Parquet table of a kilobyte whose rows repeat a text of ten megabytes",
        "data.parquet cannot be read as a table: a holds texts of more than 1000 characters; leave "
        "it out", table(content=repeating_text, name="data.parquet")),
    Bad("a Parquet table that claims ten terabytes", "data.parquet cannot be read as a table: it "
        "says that 60 rows and 2 columns fill 10000000000000 bytes, more than 50000000 cells or "
        "512 MiB; take a sample of its rows",
        table(content=claims_terabytes, name="data.parquet")),
]  # fmt: skip


def results(text: str | bytes, *more: str, name: str = "runs.csv") -> Made:
    """A table of results that is to be judged."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return ("judge", name, *more)

    return make


PAIRS = "model,seed,acc\n" + "".join(f"{m},{s},0.{m}{s}\n" for m in (8, 9) for s in range(6))
NAMED = PAIRS.replace("8,", "sgd,").replace("9,", "new,")
JUDGED = [
    Bad("results that are not there",
        "none.csv does not exist; give a table of results: .csv, .tsv, .parquet, .jsonl",
        lambda _: ("judge", "none.csv")),
    Bad("results in a file of another kind", "runs.docx does not end as a table does; …",
        results(NAMED, name="runs.docx")),
    Bad("results with one method only", "there is only one method in 'model', 'sgd', and nothing "
        "to compare it with; add the base's rows, or name the column of the methods with --method",
        results("model,seed,acc\nsgd,0,0.5\nsgd,1,0.6\n")),
    Bad("results with a pair twice", "'sgd' with seed '0' is in lines 2 and 14; keep one of "
        "them or, if they differ in another column, such as the learning rate, name both: "
        "--method A --method B", results(NAMED + "sgd,0,0.7\n")),
    Bad("results whose seeds never meet",
        "0 of 12 values of seed have every method, and pairs need 2 or more; give all methods the "
        "same, leave methods out with --only, or compare groups with --unpaired",
        results("model,seed,acc\n" + "".join(f"{m},{m}{s},0.5\n" for m in ("sgd", "b")
                                             for s in range(6)))),
    Bad("results with text among the values", "column 'acc' holds 'good' in line 14, which is not "
        "a number; correct it, or name another column", results(NAMED + "new,7,good\n")),
    Bad("results with a percent sign now and then", "column 'acc' holds '91 %' in line 14 and "
        "'0.80' in line 2; write all of them with a percent sign, or none",
        results(NAMED + "new,7,91 %\n")),
    Bad("results with one share of 1 in per cent",
        "'acc' holds 0.8 in line 2 and 87.74 in line 14, which look like a share of 1 and per "
        "cent; write all alike, or with percent signs if all are per cent",
        results(NAMED + "new,7,87.74\n")),
    Bad("results with an accuracy of 250", "'acc' has the name of a share, and holds 250 in line "
        "14, which lies neither from 0 to 1 nor from 0 to 100; correct it, or rename the column",
        results(NAMED + "new,7,250\n")),
    Bad("results without a column of values", "no column name says that it holds the values; "
        "name it with --value. There are 'x'", results(NAMED.replace("acc", "x"))),
    Bad("results with a base that is not there",
        "--base 'adam' is not a method of the table: 'sgd', 'new'",
        results(NAMED, "--base", "adam")),
    Bad("results whose better direction nobody knows", "the name 'x' does not tell "
        "whether higher is better; say --lower-is-better or --higher-is-better",
        results(NAMED.replace("acc", "x"), "--value", "x")),
    Bad("results with a column that is called like a command for the terminal",
        r"no column name says that it holds the methods; name it with --method, or say --wide "
        r"if every method has a column. There are '\x1b[2J', 'seed', 'acc'",
        results(NAMED.replace("model", "\x1b[2J"))),
    Bad("results of 101 methods", "there are 101 different methods in 'model', such as 'm0', at "
        "most 100 can be judged; name the column of the methods with --method, or some of them "
        "with --only", results("model,acc\n" + "".join(f"m{i},0.5\n" for i in range(101)))),
    Bad("results with a method of 5,000 characters", f"method '{'x' * 36}... is not a name of at "
        "most 100 characters; shorten it, or name the column of the methods with --method",
        results(NAMED.replace("new", "x" * 5000))),
    Bad("results in JSON of 100,000 brackets",
        "runs.jsonl is nested too deeply; write one object per line",
        results("[" * 100_000, name="runs.jsonl")),
    Bad("results in JSON that are no objects", "runs.jsonl, line 1, holds 3, not an object",
        results("3\n", name="runs.jsonl")),
    Bad("results in JSON with half a line", "runs.jsonl cannot be read as JSON (…); write one "
        "object per line", results('{"model": "sgd", "se', name="runs.jsonl")),
    Bad("results in Latin-1", "runs.jsonl is not UTF-8 text; write it as UTF-8",
        results('{"model": "\xe9"}'.encode("latin-1"), name="runs.jsonl")),
    Bad("results into the folder of a pilot",
        "pilot holds a pilot's or study's results; choose another --out folder",
        lambda folder: (copy_of(pilot_folder(), folder / "pilot")
                        and results(NAMED, "--out", "pilot")(folder))),
]  # fmt: skip

YES = ["a,b,y", *(f"{i * 37 % 50},{'uv'[i % 2]},{['yes', 'no'][i % 3 // 2]}" for i in range(60))]


def cells(name: str, lines: list[str], says: str, target: str = "y") -> Bad:
    return Bad(f"a table: {name}", f"…{says}…", table(*lines, target=target))


def replaced(text: str) -> list[str]:
    return [*YES[:7], text, *YES[8:]]


CELLS = [
    cells("missing column", YES, "data.csv has no column 'z'; it has a, b, y", "z"),
    cells("header only", ["a,b,y"], "data.csv"),
    cells("empty cell", replaced("1,,yes"),
          "1 empty or NaN cells in 1 of 60 rows, in b (1); leave those rows out with "
          "--missing drop, or fill the cells with --missing impute"),
    cells("infinite", replaced("inf,u,yes"), "data.csv …infinite… in a"),
    cells("ragged", replaced("1,u,yes,9,9,9,9,9"), "cannot be read as a table…line 8"),
    cells("one class", [line.replace("yes", "no") for line in YES], "only the class ['no']"),
    cells("class of one", replaced("1,u,maybe"), "'maybe' of data.csv has only 1 of the 5"),
    cells("few rows", YES[:16], "has 15 examples; at least 20 are needed"),
    cells("only the target", ["y", *("01"[i % 2] for i in range(60))], "no column besides"),
    cells("many texts", ["a,y", *(f"t{i},{i % 2}" for i in range(60))],
          "column 'a' of data.csv holds 60 different texts (at most 50); drop it"),
    cells("one number", ["a,y", *(f"{i},1.5" for i in range(60))], "y"),
]  # fmt: skip
NO_TEXT = [
    Bad(f"a table of {name}", "data.csv cannot be read as a table…", table(content=content))
    for name, content in {
        "nothing": b"\n", "Latin-1": "a,y\nsí,1\n".encode("latin-1"),
        "all bytes": bytes(range(256)) * 20, "odd UTF-16": b"\xff\xfeodd", "zip": b"PK\x03\x04",
    }.items()
]  # fmt: skip

# --- images ---------------------------------------------------------------------------------------


def png(side: int = 4, *, claims: tuple[int, int] | None = None) -> bytes:
    """A PNG, whose header may claim another size."""
    out = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(out, "PNG")
    content = out.getvalue()
    if claims is not None:
        head = content[12:16] + struct.pack(">II", *claims) + content[24:29]
        content = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    return content


def photos(content: bytes | Callable[[Path], Any]) -> Made:
    """A folder of images with one more."""

    def make(folder: Path) -> tuple[Any, ...]:
        for label in "ab":
            (folder / "photos" / label).mkdir(parents=True)
        place = folder / "photos" / "a" / "x.png"
        place.write_bytes(content) if isinstance(content, bytes) else content(place)
        return ("pilot", "photos")

    return make


BAD = "files that cannot be read as images (1): a/x.png ({}); remove them"
IMAGES = [
    Bad("an image that claims 100,000 x 100,000 pixels", BAD.format("Image size (10000000000 "
        "pixels) exceeds limit of …, could be decompression bomb DOS attack."),
        photos(png(claims=(100_000, 100_000)))),
    Bad("an image that claims 15,000 x 10,000 pixels",
        BAD.format("15000 x 10000 pixels, more than 100000000"),
        photos(png(claims=(15_000, 10_000)))),
    Bad("a PostScript program that is called x.png, for which Ghostscript would be started",
        BAD.format("it is not PNG, JPEG, BMP, GIF, WEBP or TIFF"),
        photos(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")),
    Bad("a pipe that is called x.png", BAD.format("it is not a regular file"), photos(os.mkfifo)),
    Bad("a link to an endless device that is called x.png", BAD.format("it is not a regular file"),
        photos(lambda path: path.symlink_to("/dev/zero"))),
]  # fmt: skip


def image(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def folder(name: str, files: dict[str, bytes], says: str) -> Bad:
    def make(root: Path) -> tuple[Any, ...]:
        for place, content in files.items():
            (root / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
            (root / "photos" / place).write_bytes(content)
        return ("pilot", "photos")

    return Bad(f"a folder of images: {name}", f"…{says}…", make)


PHOTOS = {f"{label}/{i}.png": image(i) for label in "ab" for i in range(12)}
FOLDERS = [
    folder("text", PHOTOS | {"a/x.png": b"hello"}, "as images (1): a/x.png (it is not PNG"),
    folder("half an image", PHOTOS | {"a/x.png": image(1)[:200]},
           "images (1): a/x.png (…truncated…); remove them"),
    folder("one class", {k: v for k, v in PHOTOS.items() if k[0] == "a"},
           "photos holds 1 folders with 12 images; put the images of each class into a folder"),
    folder("no classes", {"x.png": image(1)},
           "0 folders with 0 images and 1 images outside them; put"),
    folder("class without images", PHOTOS | {"c/notes.txt": b""}, "class 'c' of photos has only 0"),
    folder("few", {k: v for k, v in PHOTOS.items() if int(k[2:-4]) < 6}, "at least 20 are needed"),
]  # fmt: skip

# --- data files -----------------------------------------------------------------------------------


def shard(**changes: Any) -> bytes:
    """A parquet file of images."""
    settings = {"store_schema": False, "write_statistics": False, "compression": "none"} | changes
    rows, value = settings.pop("rows", 2), settings.pop("value", png(32))
    images = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
    column = pa.StructArray.from_arrays([images, pa.array([""] * rows)], ["bytes", "path"])
    out = io.BytesIO()
    pq.write_table(
        pa.table({"img": column, "fine_label": np.zeros(rows, np.int64)}), out, **settings
    )
    return out.getvalue()


def repeating() -> bytes:
    """One value of ten megabytes that 50,000 rows repeat."""
    value = bytes(10_000_000)
    return shard(rows=50_000, value=value, compression="zstd", dictionary_pagesize_limit=2**30)


def large_page() -> bytes:
    return shard(value=bytes(200_000_000), compression="zstd", dictionary_pagesize_limit=2**30)


def varint(value: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    value, out = value << 1, bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def lying(content: bytes, claimed: int, *names: str) -> bytes:
    """A parquet file whose footer says another number in place of some of its true ones."""
    meta = pq.ParquetFile(io.BytesIO(content)).metadata
    group = meta.row_group(0)
    true = {
        "num_rows": meta.num_rows,
        "group": group.total_byte_size,
        "packed": group.column(0).total_compressed_size,
        "unpacked": group.column(0).total_uncompressed_size,
    }
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    for name in names:
        footer = footer.replace(varint(true[name]), varint(claimed))
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def parquet(content: Callable[[], bytes], rows: int = 2) -> Callable[[Path], Callable[[], Any]]:
    def make(folder: Path) -> Callable[[], Any]:
        (folder / "test-00000-of-00001.parquet").write_bytes(content())
        return lambda: read_parquet(folder, "test", rows, "fine_label", 10)

    return make


def idx(content: bytes) -> Callable[[Path], Callable[[], Any]]:
    def make(folder: Path) -> Callable[[], Any]:
        (folder / "labels.gz").write_bytes(content)
        return lambda: read_idx(folder / "labels.gz", (3,))

    return make


UNDAMAGED = "; replace it with an undamaged copy"
ONE = "…test-00000-of-00001.parquet cannot be used: {}" + UNDAMAGED
DATA_FILES = [
    Bad("a parquet file that claims ten million million images",
        "… cannot be used: its test shards hold 10000000000000 images, not 2003" + UNDAMAGED,
        parquet(lambda: lying(shard(rows=2003), 10**13, "num_rows"), 2003)),
    Bad("a parquet file whose images claim ten terabytes",
        ONE.format("it says that 2 small images fill 10000000000000 bytes"),
        parquet(lambda: lying(shard(), 10**13, "group"))),
    Bad("a parquet file with a column that claims ten terabytes",
        ONE.format("it breaks off after 0 of 2 rows (Invalid column metadata (corrupt file?))"),
        parquet(lambda: lying(shard(), 10**13, "packed"))),
    Bad("a parquet file of 1.4 kilobytes whose rows repeat ten megabytes each",
        ONE.format("the image in row 0 has 10000000 bytes, more than any of 32x32"),
        parquet(repeating, 50_000)),
    Bad("a parquet file of 7 kilobytes with a page of 200 megabytes, which its footer denies",
        ONE.format("the image in row 0 has 200000000 bytes, more than any of 32x32"),
        parquet(lambda: lying(large_page(), 5000, "group", "unpacked"))),
    Bad("a parquet file that breaks off", ONE.format("it is not a parquet file (…)"),
        parquet(lambda: shard()[:400])),
    Bad("a labels file that unpacks to 100 megabytes",
        "…labels.gz cannot be used: it holds more than the 11 bytes of its header's shape"
        + UNDAMAGED, idx(gzip.compress(b"\0\0\x08\x01\0\0\0\x03" + bytes(100_000_000), 1))),
    Bad("a labels file that claims four thousand million labels",
        "…labels.gz cannot be used: it says it has the shape (4294967295,), not (3,)"
        + UNDAMAGED, idx(gzip.compress(b"\0\0\x08\x01\xff\xff\xff\xffabc"))),
    Bad("a labels file that is no gzip", "…labels.gz cannot be used: it cannot be read (Not a "
        "gzipped file (b'no'))" + UNDAMAGED, idx(b"no gzip")),
]  # fmt: skip
