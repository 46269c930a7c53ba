"""Comparisons from Python, in a script or a notebook: `paramcast.pilot`, `paramcast.judge`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import StudyError


@contextlib.contextmanager
def needs_study(call: str) -> Iterator[None]:
    """Guard the imports of a call that needs more than the library.

    Raises:
        StudyError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise StudyError(
            f"{call} needs packages that are not installed ({error.name}): "
            "pip install 'paramcast[study]'"
        ) from None
