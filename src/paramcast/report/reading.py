"""Opening a folder's store to read it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..study.store.folder import where
from ..study.store.store import Store

KINDS = {"pilot": ("pilot.json", "pilot.db"), "study": ("study.json", "study.db")}
"""The result and the database of each kind of folder."""


@contextlib.contextmanager
def opened(folder: Path, database: str, url: str | None = None) -> Iterator[Store]:
    """The store, to read. SQLite's log needs a folder to write in: where it has none, a copy.

    Raises:
        StoreError: it cannot be read.
    """
    place = where(folder, database, url)
    with contextlib.ExitStack() as stack:
        if isinstance(place, Path) and not os.access(folder, os.W_OK):
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paramcast-")))
            for file in (place, place.with_name(f"{database}-wal")):
                if file.is_file():
                    shutil.copyfile(file, copies / file.name)
            place = copies / database
        yield stack.enter_context(contextlib.closing(Store(place, write=False)))
