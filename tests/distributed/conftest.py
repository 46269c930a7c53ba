"""One pair of processes for all tests of this folder, whatever the number of pytest workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from two_processes import chosen, run_all

LIMIT = 300.0
"""Seconds for all bodies together."""


@pytest.fixture(scope="session")
def outcome(request: pytest.FixtureRequest, shared_folder: Path) -> Callable[..., None]:
    """A function that fails if a body failed in one of the two processes."""
    shared = shared_folder / "two_processes"
    with FileLock(f"{shared}.lock"):
        done = shared / "outcomes.json"
        if not done.exists():
            shared.mkdir()
            done.write_text(json.dumps(run_all(chosen(request.session.items), shared, LIMIT)))
        problems = json.loads(done.read_text())

    def outcome(name: str, case: str | None = None) -> None:
        key = name if case is None else f"{name}[{case}]"
        if problems[key]:
            pytest.fail(problems[key], pytrace=False)

    return outcome
