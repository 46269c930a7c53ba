"""The command line as a user calls it, task files, and the two digits pilots that many share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from postgres_server import Server, binaries

from blobs import BLOBS
from command import Ran, call
from paramcast.study.plan import Options, Plan
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Prepared, Task, prepare
from paramcast.study.training.methods import parse_methods
from runs import PAPER, TUNED

COMMAND = [sys.executable, "-m", "paramcast"]
NOBODY = 65534


@pytest.fixture
def paramcast(tmp_path: Path) -> Callable[..., Ran]:
    """paramcast("pilot", ...): the command, started in the test's own folder."""
    return lambda *words: call(tmp_path, *words)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start("pilot", ...): the command as a process in its own group, ended with the test."""
    begun: list[subprocess.Popen[str]] = []

    def run(*words: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        if process.poll() is None:  # else its number may be somebody else's by now
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# --- tasks --------------------------------------------------------------------------------------


@pytest.fixture
def task_file(tmp_path: Path) -> Callable[..., Path]:
    """task_file(changes="epochs=3"): the blobs as a user's file, with changed settings.

    `more` is code that comes before, `name` the file's.
    """

    def write(changes: str = "", more: str = "", name: str = "blobs.py") -> Path:
        file = tmp_path / name
        text = BLOBS + textwrap.dedent(more)
        file.write_text(text + f"\n\ndef changes():\n    return dict({changes})\n", "utf-8")
        return file

    return write


def blob_split(count: int, seed: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    centres = torch.randn(classes, 4, generator=torch.Generator().manual_seed(0))
    return centres[targets] + torch.randn(count, 4, generator=generator), targets


@pytest.fixture
def prepared() -> Callable[..., Prepared]:
    """prepared(epochs=3): the blobs in this process, with changed settings."""

    def make(*, classes: int = 3, **changes: Any) -> Prepared:
        def model() -> torch.nn.Module:
            return torch.nn.Sequential(
                torch.nn.Linear(4, 8),
                torch.nn.BatchNorm1d(8),
                torch.nn.Tanh(),
                torch.nn.Dropout(0.2),
                torch.nn.Linear(8, classes),
            )

        settings: dict[str, Any] = {
            "name": "blobs",
            "model": model,
            "train": blob_split(60, 1, classes),
            "validation": blob_split(60, 2, classes),
            "test": blob_split(80, 3, classes),
            "epochs": 4,
            "batch_size": 16,
        }
        return prepare(Task(**(settings | changes)))

    return make


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """plan(file, seeds=3): what the command line would make of a task file and some options."""

    def make(file: Path, methods: str = "demon, plp", **changes: Any) -> Plan:
        source = find(str(file))
        settings: dict[str, Any] = {
            "source": source, "methods": parse_methods(methods), "base": "sgd", "lr": None,
            "lr_range": (0.01, 0.3), "trials": 4, "trial_seeds": 2, "seeds": 3, "epochs": 2,
            "batch_size": 8, "schedule": "cosine", "margin": None, "device": "cpu",
        }  # fmt: skip
        out = changes.pop("out", tmp_path / "planned")
        return Plan(Options(**(settings | changes)), load(source), out)

    return make


# --- what many tests read -----------------------------------------------------------------------


Pilot = Callable[..., tuple[Ran, Path]]


@pytest.fixture(scope="session")
def pilot(shared_folder: Path) -> Pilot:
    """pilot(name, words): run once, whatever the number of pytest workers, and its folder."""

    def run(name: str, *words: Any) -> tuple[Ran, Path]:
        folder = shared_folder / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                folder.mkdir()
                ran = call(folder, "pilot", *words, "--out", "out")
                (folder / "ran.json").write_text(json.dumps(ran), "utf-8")
            return Ran(*json.loads((folder / "ran.json").read_text("utf-8"))), folder / "out"

    return run


@pytest.fixture(scope="session")
def tuned_digits(pilot: Pilot) -> tuple[Ran, Path]:
    """A small pilot of digits whose rates are tuned, and its folder."""
    return pilot("tuned", *TUNED)


@pytest.fixture(scope="session")
def paper_digits(pilot: Pilot) -> tuple[Ran, Path]:
    """One at the paper's base rate, without tuning, and its folder."""
    return pilot("paper", *PAPER)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Run as somebody who is not root, to whom permissions apply."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def unprivileged() -> Iterator[tuple[Path, Callable[[], contextlib.AbstractContextManager[None]]]]:
    """A folder that anyone may write in, and a context in which one is not root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder), nobody


# --- databases ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A real PostgreSQL server."""
    pytest.importorskip("psycopg")
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    server = Server(found)
    yield server
    server.remove()


@pytest.fixture
def schema(postgres: Server) -> Iterator[str]:
    """An empty schema of it."""
    name = postgres.schema()
    yield name
    postgres.sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray_cluster import Cluster

    # a short name: Ray's sockets lie below it, and their paths may have 107 characters
    with tempfile.TemporaryDirectory(prefix="pcr", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder))
        try:
            yield made
        finally:
            made.stop()
