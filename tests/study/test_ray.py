"""A real Ray cluster of two nodes: the same outcomes as here, whatever dies on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import QUIET, Cluster, kill_tree

import paramcast
from paramcast.errors import StudyError, TaskError
from paramcast.study.engines import node
from paramcast.study.engines.node import pack, unpack
from paramcast.study.engines.ray import check_reachable
from paramcast.study.tasks.source import Source, find, load
from runs import cell, kept, rows, run_spec, timeless

pytest.importorskip("ray")
BIN = [sys.executable, "-m", "paramcast"]
PILOT = ("pilot", "slow.py", "--lr", "0.05", "--seeds", "2", "--all-arms", "--json")
RUNS = 16
SLOW = """
import time
import torch
from paramcast.study import Task

class Slow(torch.nn.Linear):
    def forward(self, x):
        if self.training:
            time.sleep(0.03)
        return super().forward(x)

def split(seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(40) % 3
    return torch.eye(3)[y].repeat(1, 2)[:, :4] + torch.randn(40, 4, generator=g), y

def task():
    return Task(name="slow", model=lambda: Slow(4, 3), train=split(1), validation=split(2),
                test=split(3), epochs=2, batch_size=8)
"""
"""A third of a second a run, so that something is in progress when a node is killed."""


class Driver:
    """paramcast as a process of its own, in the folder of the test."""

    def __init__(self, folder: Path, *words: str, out: str = "out") -> None:
        self.database = folder / out / "runs.db"
        self.process = subprocess.Popen(
            [*BIN, *PILOT, "--out", out, *words], cwd=folder, env={**os.environ, **QUIET},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=150)
        return self.process.returncode, out, err

    def rows(self, query: str = "SELECT key, spec, outcome FROM runs ORDER BY key") -> list[Any]:
        return rows(self.database, query)

    def wait_for_runs(self, count: int) -> None:
        for _ in range(3600):
            if kept(self.database) >= count:
                return
            assert self.process.poll() is None, self.ended()
            time.sleep(0.05)
        raise TimeoutError(count)


def stored(driver: Driver) -> dict[str, Any]:
    """Every run by its key: specification and outcome."""
    found = {key: (spec, timeless(json.loads(outcome))) for key, spec, outcome in driver.rows()}
    assert len(found) == RUNS
    return found


# --- addresses ----------------------------------------------------------------------------------


def test_whoever_is_no_ray_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(StudyError, match=r"no Ray cluster answers at 127\.0\.0\.1:\d+; start"):
            check_reachable(address)


def test_without_ray_the_extra_is_named(paramcast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = paramcast("pilot", "digits/mlp", "--engine", "ray")
    assert ran.code == 2
    assert "paramcast: --engine ray needs one more package: pip install 'paramcast[ray]'" in ran.err


# --- what is sent -------------------------------------------------------------------------------


def test_a_task_loads_from_a_parcel_as_from_its_folder(
    task_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("EPOCHS = 3\n")
    file = task_file("epochs=beside.EPOCHS", more="import beside")
    source = find(str(file))
    here = load(source).fingerprint()
    parcel = pack(source)
    assert sorted(name for name, _ in parcel) == ["beside.py", "blobs.py"]
    assert unpack(source, parcel) == source  # the files are here: used in their place
    unpack.cache_clear()  # as on another node
    for name in ("blobs.py", "beside.py"):
        (tmp_path / name).unlink()
    sys.modules.pop("beside")
    moved = unpack(source, parcel)
    assert moved.where != source.where
    try:
        assert load(moved).fingerprint() == here
    finally:
        sys.modules.pop("beside")
        sys.path.remove(str(Path(moved.where).parent))


def test_a_task_in_a_clone_of_paramcast_leaves_paramcast_out() -> None:
    clone = Path(paramcast.__file__).parents[2]
    source = Source("file", str(clone / "conftest.py"), "task")  # any file: it is not loaded
    inside = [name for name, _ in pack(source) if name.startswith("src/paramcast")]
    assert inside == []


def test_a_parcel_stays_in_its_folder(task_file: Callable[..., Path], tmp_path: Path) -> None:
    source = find(str(task_file()))
    for name in ("../escaped.py", str(tmp_path / "escaped.py")):
        with pytest.raises(TaskError, match="may not lie outside its folder"):
            unpack(source, ((name, b"x"),))
    assert not list(tmp_path.rglob("escaped.py"))


# --- what a node does ---------------------------------------------------------------------------


def on_node(file: Path, timeout: float | None = None, versions: str = "") -> dict[str, Any]:
    source = find(str(file))
    return node.execute(run_spec(versions=versions), source, pack(source), timeout)


@pytest.mark.timeout(method="thread")  # it has the alarm for itself
def test_a_run_that_takes_too_long_is_stopped_on_its_node(task_file: Callable[..., Path]) -> None:
    handler = signal.getsignal(signal.SIGALRM)
    endless = """
    import time
    def eat(x, g):
        try:
            time.sleep(60)
        except Exception:
            pass
    """
    found = on_node(task_file("augment=eat", more=endless), timeout=1.0)
    assert found == {"status": "timeout", "reason": "took longer than 1 s"}
    assert on_node(task_file(), timeout=60.0)["status"] == "done"
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_error_on_a_node_becomes_the_reason(task_file: Callable[..., Path]) -> None:
    raises = "def eat(x, g):\n    raise RuntimeError('boom')"
    found = on_node(task_file("augment=eat", more=raises))
    assert found["status"] == "failed"
    assert found["reason"].endswith("RuntimeError: boom")
    found = on_node(task_file(), versions="paramcast 0.0.1, torch 1.0")
    assert found["status"] == "failed"
    assert "the run needs paramcast 0.0.1, torch 1.0; install the same" in found["reason"]


# --- two nodes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """What the local engine makes of the task."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "slow.py").write_text(SLOW)
    driver = Driver(folder)
    code, _, err = driver.ended()
    assert code == 0, err
    return driver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def wait_until_busy(pid: int) -> None:
    """Until a worker of that node runs something; Ray writes what into its title."""
    import psutil

    for _ in range(1800):
        titles: list[str] = []
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                titles += process.cmdline()[:1]
        if any(re.match(r"ray::(?!IDLE|\w*Agent)", title) for title in titles):
            return
        time.sleep(0.1)
    raise TimeoutError(titles)


@pytest.mark.ci
def test_a_node_that_dies_loses_the_runs_in_progress_only(
    cluster: Cluster, local: Driver, folder: Path
) -> None:
    node = cluster.start()
    cluster.wait_for_nodes(2)
    driver = Driver(folder, "--engine", "ray", "--address", cluster.address)
    driver.wait_for_runs(4)
    wait_until_busy(node.pid)  # its workers may still be importing
    kill_tree(node.pid, but_root=True)
    node.wait()  # it collects its dead: Ray stumbles over zombies
    code, out, err = driver.ended()
    assert code == 0, err
    assert stored(driver) == stored(local)
    lost = driver.rows("SELECT key, reason FROM failures")
    assert 1 <= len(lost) <= 4
    assert all("the worker process or its node died" in reason for _, reason in lost)
    assert err.count("; trying once more") == len(lost)
    # the same but for the folder in the command that extends it
    there = local.database.parents[1]
    result = json.loads(out.replace(str(folder), str(there)))
    local_result = json.loads((there / "out" / "result.json").read_text("utf-8"))
    assert timeless(cell(result)) == timeless(cell(local_result))
    environment = result["environment"]
    assert (environment["engine"], environment["nodes"]) == ("ray", 2)
    assert (environment["cluster_cpus"], environment["cpus_per_run"]) == (2.0, 1.0)


@pytest.mark.slow
def test_a_driver_that_is_stopped_or_killed_goes_on_where_it_was(
    cluster: Cluster, local: Driver, folder: Path
) -> None:
    cluster.wait_for_nodes(1)  # a node that another test has killed is known to be dead
    where = ("--engine", "ray", "--address", f"ray://127.0.0.1:{cluster.client}")
    kept = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        driver = Driver(folder, *where)
        driver.wait_for_runs(kept + 3)
        driver.process.send_signal(number)
        ended, out, err = driver.ended()
        assert (ended, out) == (code, ""), err
        kept, before = len(driver.rows()), kept
        assert before + 3 <= kept < RUNS
        if code == 130:
            assert f"{kept} of {RUNS} runs are kept in out" in err.splitlines()[-1]
    driver = Driver(folder, *where)
    code, out, err = driver.ended()
    assert code == 0, err
    assert json.loads(out)["reused_runs"] == kept
    assert stored(driver) == stored(local)
    assert driver.rows("SELECT count(*) FROM failures") == [(0,)]


@pytest.mark.ci
def test_what_cannot_run_on_any_node_is_said_at_once(cluster: Cluster, folder: Path) -> None:
    where = ("--engine", "ray", "--address", cluster.address, "--cpus-per-run", "64")
    code, out, err = Driver(folder, *where).ended()
    assert (code, out) == (2, "")
    assert "a run needs 64 CPUs and 0 GPUs, and no node of the Ray cluster has them" in err


@pytest.mark.ci
def test_a_wrong_token_is_one_sentence(cluster: Cluster, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUIET, "RAY_AUTH_TOKEN", "f" * 64)
        begun = Driver(folder, "--engine", "ray", "--address", cluster.address)
    code, out, err = begun.ended()
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("paramcast: no Ray cluster can be used at 127.0.0.1:")
