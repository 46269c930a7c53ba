"""Where a study's results lie; light, so that asking how far a study is waits for no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ...errors import StoreError
from ..store.folder import remembers, where
from ..store.store import Store

DATABASE, RESULT = "study.db", "study.json"


@contextmanager
def stored(folder: Path, url: str | None = None) -> Iterator[Store]:
    """The store of a study's folder, to read, or of a URL.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    if url is None and not remembers(folder, DATABASE):
        raise StoreError(f"{folder} holds no {DATABASE}; give the folder of a study")
    with closing(Store(where(folder, DATABASE, url), write=False)) as store:
        yield store
