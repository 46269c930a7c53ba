"""Read files and texts that somebody else may have written: bounded, strict, never blocking.

Everything here raises OSError or ValueError, and the callers know what to say about them; only
`usable_path` and `as_written` raise StudyError themselves.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import re
import stat
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ParamcastError, StudyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_TOML = 256 * 2**10  # bytes of a file, characters of a text
MOST_JSON = 256 * 2**20  # bytes
MOST_PARTS = 500  # of one dotted TOML key
MOST_SEEDS = 10_000  # of a comparison
DAMAGE = (KeyError, TypeError, IndexError, AttributeError, ValueError, ArithmeticError,
          RecursionError, StopIteration)  # fmt: skip
"""What code raises when the values it reads have an unexpected form."""
RUNS = Path("paramcast-runs")
"""Where folders without an --out are made, and looked for."""


def shown(value: object, most: int = 80) -> str:
    """A value for a message: its repr, cut to `most` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int with thousands of digits, a list in itself
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    """Escape what a terminal would act on instead of showing; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def moment(when: datetime) -> str:
    """A time for a message, in UTC, because machines may be in different time zones."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def tell(text: str) -> None:
    """Print a line on standard error that the user should know and did not ask for."""
    print(f"paramcast: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201 - that is it


def is_text(text: str) -> bool:
    """Whether the text can be written and shown: no lone surrogates, no NUL."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def usable_path(given: str | Path, what: str, *, home: bool = False) -> Path:
    """Check that a path can be looked up, whether or not anything is there.

    Args:
        given: what the user wrote.
        what: the name of the argument.
        home: whether ~ means a home folder.

    Raises:
        StudyError: it is empty or too long, it holds a NUL or bytes that are not UTF-8, or it leads
            through a folder that may not be entered.
    """
    try:
        if not str(given):
            raise ValueError("it is empty")
        str(given).encode()
        path = Path(given).expanduser() if home else Path(given)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # the system's own limits: length, permissions, loops of links
    except (OSError, ValueError, RuntimeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else _reason(error)
        raise StudyError(
            f"{what} {shown(str(given))} is not a usable path ({reason}); choose another"
        ) from None
    return path


def read_text(path: Path, most: int) -> str:
    """The content of a regular file of at most `most` bytes."""
    with open(_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()  # some editors write one
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _regular(path: Path) -> Path:
    """The path of a regular file; opening a pipe would block."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")
    return path


def from_json(text: str) -> Any:
    """Parse strict JSON: no NaN, no infinity, no nesting deeper than the interpreter can follow."""
    if not isinstance(text, str):
        raise ValueError(f"it holds {shown(text, 40)}, not text")
    try:
        value = _decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate raises here
    return value


def object_from_json(text: str) -> dict[str, Any]:
    """Parse strict JSON that must be an object."""
    value = from_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {shown(value, 40)}, not an object")
    return value


def from_toml(text: str) -> dict[str, Any]:
    """Parse TOML; refuse a key of very many parts, whose cost grows with their square."""
    if not isinstance(text, str) or len(text) > MOST_TOML:
        raise ValueError(f"it is not text of at most {MOST_TOML} characters")
    if any(piece.count(".") > MOST_PARTS for piece in re.split(r"[=,{}\[\]#\n]", text)):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return values
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextlib.contextmanager
def as_written(where: object, remedy: str) -> Iterator[None]:
    """A context for reading what `where` holds: a value of the wrong form becomes one sentence.

    Args:
        where: the file or store that holds the values.
        remedy: what the user can do about it.

    Raises:
        StudyError: what `where` holds has another form than this paramcast gives it.
    """
    try:
        yield
    except ParamcastError:
        raise
    except DAMAGE as error:
        raise StudyError(
            f"{where} is not as this paramcast writes it "
            f"({type(error).__name__}: {str(error)[:160]}); {remedy}"
        ) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is out of range")
    return number


_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode
"""Made once, because large stores hold very many small texts."""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".")
