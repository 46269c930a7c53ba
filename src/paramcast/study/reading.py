"""Files and texts that somebody else may have written: bounded, strict, and never waited for.

Everything here fails with OSError or ValueError, whose callers know what to say, but for
`usable_path` and `as_written`.
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

MOST_TOML = 256 * 2**10
MOST_JSON = 256 * 2**20
MOST_PARTS = 500
MOST_SEEDS = 10_000
"""Of a comparison."""
DAMAGE = (KeyError, TypeError, IndexError, AttributeError, ValueError, ArithmeticError,
          RecursionError, StopIteration)  # fmt: skip
"""What code raises that reads values of another form than it was written for."""


def shown(value: object, most: int = 80) -> str:
    """A value for a message: its repr, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int with thousands of digits, a list in itself
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    """What a terminal would act on instead of showing it, as an escape; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def moment(when: datetime) -> str:
    """A time for a message, in UTC: machines may stand in different zones."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def tell(text: str) -> None:
    """A line on standard error: what the user should know and did not ask for."""
    print(f"paramcast: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201 - that is it


def is_text(text: str) -> bool:
    """Whether it can be written and shown: no half characters, no NUL."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def usable_path(given: str | Path, what: str, *, home: bool = False) -> Path:
    """A path that can be looked up, whether or not anything is there.

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
            path.stat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else _reason(error)
        raise StudyError(
            f"{what} {shown(str(given))} is not a usable path ({reason}); choose another"
        ) from None
    return path


def read_text(path: Path, most: int) -> str:
    """The content of a regular file that has at most so many bytes."""
    with open(_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()  # which some editors put first
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _regular(path: Path) -> Path:
    """The path, but not of a pipe, which would be waited for."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")
    return path


def from_json(text: str) -> Any:
    """Strict JSON: no NaN, no infinity, no depth that the interpreter cannot follow."""
    if not isinstance(text, str):
        raise ValueError(f"it holds {shown(text, 40)}, not text")
    try:
        value = _decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half a character can be shown nowhere
    return value


def object_from_json(text: str) -> dict[str, Any]:
    """As from_json, of an object."""
    value = from_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {shown(value, 40)}, not an object")
    return value


def from_toml(text: str) -> dict[str, Any]:
    """TOML; a key of very many parts, which takes time and memory by their square, is refused."""
    if not isinstance(text, str) or len(text) > MOST_TOML:
        raise ValueError(f"it is not text of at most {MOST_TOML} characters")
    if any(piece.count(".") > MOST_PARTS for piece in re.split(r"[=,{}\[\]#\n]", text)):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return values
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def count_of_seeds(value: Any) -> int:
    """A number of seeds that a file names: it is counted up to."""
    if type(value) is not int or not 0 <= value <= MOST_SEEDS:
        raise ValueError(f"{shown(value, 40)} is not a number of seeds")
    return value


@contextlib.contextmanager
def as_written(where: object, remedy: str) -> Iterator[None]:
    """Inside it, values are read that `where` holds; what does not fit them is said in a sentence.

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
"""Made once: large stores hold very many small texts."""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".")
