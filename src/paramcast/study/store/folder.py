"""The output folder: its store, its lock, and the files that are written into it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..._files import replacing
from ...errors import StoreError
from ..reading import read_text, tell
from ..spec import DEFAULT
from .database import in_use, parse, without_password
from .live import driver
from .store import Store

DATABASE, URL, LOCK = "runs.db", "runs.url", ".lock"
"""The store; the file with the URL of a store elsewhere; the driver's lock."""
RESULT = "result.json"
"""The file that a comparison writes at its end."""
KINDS = ("pilot", "study")
"""Of the comparisons that a store can hold."""
SPECIFICATION = "specification"
"""The name under which a store keeps the specification of its comparison."""
LONG = {"fingerprint": "the task's data or code changed", "text": "the study's file changed"}
MOST_URL = 4096  # bytes


@contextmanager
def opened(out: Path, specification: dict[str, Any], url: str | None = None) -> Iterator[Store]:
    """Open a folder's store to write; lock it, and check that it holds this comparison's runs.

    Args:
        out: the folder; created if it is missing.
        specification: the comparison: "kind" ("pilot" or "study"), "identity" (a hash of what makes
            two comparisons the same), and settings that say how two of them differ.
        url: of a PostgreSQL database; None for the one that the folder names, else the file.

    Raises:
        StoreError: the folder or the store cannot be used, is in use by another driver, or holds
            another comparison's results.
    """
    make_folder(out)
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out} is not writable; choose another folder")
    place = where(out, url)
    with contextlib.ExitStack() as stack:
        if isinstance(place, Path):
            stack.enter_context(_locked(out))
        store = stack.enter_context(contextlib.closing(Store(place)))
        # the first comparison in a store claims it
        found = store.adopt(SPECIFICATION, specification)
        names = ("kind", "identity")
        if not isinstance(found, dict) or any(found.get(n) != specification[n] for n in names):
            raise StoreError(
                f"{out if isinstance(place, Path) else store.name} holds the results of another "
                f"specification ({_differences(found, specification)}); "
                f"choose another {'--out folder' if isinstance(place, Path) else '--store'}, "
                "nothing was changed"
            )
        if isinstance(place, str):
            write_text(out / URL, store.name + "\n")
        yield store


def make_folder(out: Path) -> None:
    """Make the folder for a comparison's results, unless it is there.

    Raises:
        StoreError: it cannot be a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--out {out} cannot be a folder ({error.strerror}); choose another"
        ) from None


@contextmanager
def reading(folder: Path, url: str | None = None) -> Iterator[Store]:
    """Open a folder's store to read.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    if url is None and not remembers(folder):
        raise StoreError(f"{folder} holds no {DATABASE}; give the whole folder of a pilot or study")
    place = where(folder, url)
    with contextlib.ExitStack() as stack:
        # even to read, SQLite writes a log beside the file; in a read-only folder a copy is read
        if isinstance(place, Path) and not os.access(folder, os.W_OK):
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paramcast-")))
            for file in (place, folder / f"{DATABASE}-wal"):
                if file.is_file():
                    shutil.copyfile(file, copies / file.name)
            place = copies / DATABASE
        yield stack.enter_context(contextlib.closing(Store(place, write=False)))


def specification_of(store: Store) -> dict[str, Any]:
    """The specification of a store's comparison, as `opened` received it.

    Raises:
        StoreError: the store is not of a pilot or study.
    """
    found = store.about(SPECIFICATION)
    if not isinstance(found, dict) or found.get("kind") not in KINDS:
        raise StoreError(
            f"{store.name} is not of a pilot or study; give the folder or --store of one"
        )
    return found


def where(out: Path, url: str | None = None) -> Path | str:
    """The file or the URL of a folder's store.

    Raises:
        StoreError: a URL is given for a folder that has a file, or the .url file is damaged.
    """
    # one folder has one store
    if url is not None:
        parse(url)
        if (out / DATABASE).exists():
            raise StoreError(f"{out} has a {DATABASE} of its own; choose another --out for --store")
        return url
    if not (out / URL).is_file():
        return out / DATABASE
    try:
        kept = read_text(out / URL, MOST_URL).strip()
        public = without_password(parse(kept))
    except (OSError, ValueError, StoreError):
        raise StoreError(
            f"{out / URL} does not hold the URL of a store; give it again with --store"
        ) from None
    _tell_once(f"connecting to {public}, as {out / URL} says")
    return kept


@functools.cache
def _tell_once(text: str) -> None:
    """Tell a line once per process, because watching opens the store every few seconds."""
    tell(text)


def remembers(folder: Path) -> bool:
    """Whether a folder has a store or the URL of one."""
    return (folder / DATABASE).is_file() or (folder / URL).is_file()


def finished_last(place: Path) -> Path:
    """The folder itself if it has a result, else that of its folders whose result is the newest."""
    found = [place / RESULT, *place.glob(f"*/{RESULT}")]
    kept = [path for path in found if path.is_file()]
    if not kept or place / RESULT in kept:
        return place
    return max(kept, key=lambda path: (path.stat().st_mtime_ns, path)).parent


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, even with two writers.

    Raises:
        StoreError: it cannot be written.
    """
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """Strict JSON, in which a dataclass is an object of its fields."""
    return json.dumps(value, indent=1, allow_nan=False, default=asdict)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as `write_json`."""
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); what had finished is kept: "
            "make room or access, and start the command again"
        ) from None


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    # the system drops it with the process, however that ends
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


def _differences(found: Any, wanted: dict[str, Any]) -> str:
    """The first settings in which a stored specification differs, in words."""
    if not isinstance(found, dict):
        return "unknown"
    if found.get("kind") != wanted["kind"]:
        return f"it is of a {found.get('kind')}, not of a {wanted['kind']}"
    # compare as JSON, in which tuples are lists
    there, asked = _settings(found), _settings(json.loads(json.dumps(wanted)))
    names = [name for name in asked if there.get(name) != asked[name]]
    return "; ".join(
        LONG.get(name) or f"{name}: there {there.get(name)}, asked {asked[name]}"
        for name in names[:3]
    )


def _settings(specification: dict[str, Any]) -> dict[str, Any]:
    """The settings of a specification, flat: its own and those that its runs share."""
    settings = dict(specification) | DEFAULT._asdict()
    for group in ("identity", "common", "numerics"):
        inner = settings.pop(group, None)
        settings |= inner if isinstance(inner, dict) else {}
    return settings
