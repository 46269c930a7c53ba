"""The output folder: its store, its lock, and the files that are written into it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..._files import replacing
from ...errors import StoreError
from ..reading import read_text, tell
from .database import in_use, parse, without_password
from .live import driver
from .store import Store

LOCK = ".lock"
MOST_URL = 4096


@contextmanager
def opened(
    out: Path,
    database: str,
    kind: str,
    identity: dict[str, Any],
    differ: Callable[[dict[str, Any]], str],
    url: str | None = None,
) -> Iterator[Store]:
    """The folder's store, checked to hold this specification's runs, locked for one driver.

    Args:
        out: the folder; made where missing.
        database: the file in it; where the store is elsewhere, a file with the ending .url says
            where.
        kind: "pilot" or "study": under this name the identity is kept in the store.
        identity: what the store must be of; {"identity": hash, ...}.
        differ: tells in words how a stored identity differs.
        url: of a PostgreSQL database; None for the one that the folder names, else the file.

    Raises:
        StoreError: the folder or the store cannot be used, is in use by another driver, or holds
            another specification's results.
    """
    _make(out)
    place = where(out, database, url)
    with contextlib.ExitStack() as stack:
        if isinstance(place, Path):
            stack.enter_context(_locked(out))
        store = stack.enter_context(contextlib.closing(Store(place)))
        found = store.adopt(kind, identity)
        if not isinstance(found, dict) or found.get("identity") != identity["identity"]:
            raise StoreError(
                f"{out if isinstance(place, Path) else store.name} holds the results of another "
                f"specification ({differ(found) if isinstance(found, dict) else 'unknown'}); "
                f"choose another {'--out folder' if isinstance(place, Path) else '--store'}, "
                "nothing was changed"
            )
        if isinstance(place, str):
            write_text(_url_file(out, database), store.name + "\n")
        yield store


def where(out: Path, database: str, url: str | None = None) -> Path | str:
    """The file or the URL of a folder's store.

    Raises:
        StoreError: the folder has a file of its own, so no URL fits it; or a damaged .url file.
    """
    path, remembered = out / database, _url_file(out, database)
    if url is not None:
        parse(url)
        if path.exists():
            raise StoreError(f"{out} has a {database} of its own; choose another --out for --store")
        return url
    if not remembered.is_file():
        return path
    try:
        kept = read_text(remembered, MOST_URL).strip()
        parse(kept)
    except (OSError, ValueError, StoreError):
        raise StoreError(
            f"{remembered} holds no URL of a store; give it again with --store"
        ) from None
    _tell_once(f"connecting to {without_password(parse(kept))}, as {remembered} says")
    return kept


@functools.cache
def _tell_once(text: str) -> None:
    """Whoever watches a folder opens its store every second."""
    tell(text)


def remembers(folder: Path, database: str) -> bool:
    """Whether a folder has a store or the URL of one."""
    return (folder / database).is_file() or _url_file(folder, database).is_file()


def check_url(url: str | None) -> str | None:
    """The URL, if it can be one of a store.

    Raises:
        StoreError: it cannot.
    """
    if url is not None:
        without_password(parse(url))
    return url


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one, whoever else writes.

    Raises:
        StoreError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """As write_json."""
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); what had finished is kept: "
            "make room or access, and start the command again"
        ) from None


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be a folder ({error.strerror}); choose another"
        ) from None
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out} is not writable; choose another folder")


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise in_use(str(out), driver(out), "choose another --out") from None
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be locked ({error.strerror}); make room or access"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _url_file(out: Path, database: str) -> Path:
    return (out / database).with_suffix(".url")
