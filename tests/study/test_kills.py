"""Workers and drivers killed at random moments and resumed: the study that was left alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from command import without_notice
from runs import kept, rows, timeless

SEED = int(os.environ.get("PARAMCAST_SEED", "0"))
KILLS = int(os.environ.get("PARAMCAST_KILLS", "200"))
INTERRUPTS = int(os.environ.get("PARAMCAST_INTERRUPTS", "40"))
"""Of the long tests: PARAMCAST_KILLS=1000 pytest -m slow tests/study/test_kills.py"""
STUDY = """
name = "killed"
question = "Is it the same?"
[[grid]]
task = "blobs.py:task"
methods = "plp"
schedule = {schedules}
seeds = {seeds}
{rates}
epochs = 1
"""
SLOW = """
    import itertools, os, time
    from pathlib import Path
    steps = itertools.count(1)
    def wait(inputs, generator):
        time.sleep(0.02)
        stuck = Path(__file__).with_name("stuck")
        if next(steps) == 13 and not stuck.exists():
            stuck.write_text(str(os.getpid()))
            time.sleep(3600)
        return inputs
    """
"""A tenth of a second a run. The first worker to come to its third run hangs there for an hour."""
LEFT = {".lock", "runs.db", "result.json", "report.html"}


def whole(folder: Path) -> dict[str, Any]:
    """All that a finished study left, checked to be whole."""
    assert {file.name for file in folder.iterdir()} - {"runs.db-wal", "runs.db-shm"} == LEFT
    assert rows(folder / "runs.db", "PRAGMA integrity_check") == [("ok",)]
    columns = "key, method, lr, phase, seed, share, status, spec, outcome, curve"
    runs = {}
    for key, *plain, spec, outcome, curve in rows(
        folder / "runs.db", f"SELECT {columns} FROM runs"
    ):
        read = timeless([json.loads(text) for text in (spec, outcome, curve)])
        assert key not in runs
        runs[key] = (plain, read)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    return {"runs": runs, "cells": timeless(result["cells"])}


class Killer:
    """Starts the study in a folder again and again, and kills; where and when is drawn."""

    def __init__(
        self, start: Callable[..., subprocess.Popen[str]], folder: Path, seed: int
    ) -> None:
        self.start, self.folder, self.draw = start, folder, random.Random(seed)
        self.workers = self.drivers = 0

    def live(self, *words: Any, early: bool = False) -> bool:
        """One life of a driver; whether it lived to the end."""
        process = self.start("study", *words, "--workers", 2)
        driver = psutil.Process(process.pid)
        if early:  # anywhere from the first import to the first runs
            time.sleep(self.draw.uniform(0, 5))
        elif not self.wait(process):
            self.kill_worker(driver)
            self.wait(process)
        family = driver.children(recursive=True) if process.poll() is None else []
        process.kill()
        out, err = process.communicate()
        if process.returncode == 0:
            return True
        assert process.returncode == -signal.SIGKILL, (out, err)
        self.drivers += 1
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive  # also those whose run had an hour to go
        return False

    def wait(self, process: subprocess.Popen[str]) -> bool:
        """Until a drawn number of runs more are kept, and a moment; whether it ended before."""
        enough = kept(self.folder / "runs.db") + self.draw.randint(1, 8)
        while kept(self.folder / "runs.db") < enough:
            if process.poll() is not None:
                return True
            time.sleep(0.01)
        time.sleep(self.draw.uniform(0, 0.15))
        return process.poll() is not None

    def kill_worker(self, driver: psutil.Process) -> None:
        """One of those that hang on the process that forks them; not the one that is stuck."""
        file = self.folder.parent / "stuck"
        stuck = file.read_text() if file.exists() else ""
        with contextlib.suppress(psutil.NoSuchProcess):  # the study has ended
            workers = [w for server in driver.children() for w in server.children()]
            workers = [w for w in workers if str(w.pid) != stuck]
            self.draw.choice(workers).send_signal(signal.SIGKILL)
            self.workers += 1


@pytest.fixture
def study(task_file: Callable[..., Path], tmp_path: Path, paramcast: Any) -> Any:
    """study(seeds, schedules, rates): write it, leave it alone once, and return what that left."""

    def write(seeds: int, schedules: str, rates: str) -> dict[str, Any]:
        task_file(changes="augment=wait", more=SLOW)
        text = STUDY.format(seeds=seeds, schedules=schedules, rates=rates)
        (tmp_path / "killed.toml").write_text(text)
        (tmp_path / "stuck").touch()
        ran = paramcast("study", "run", "killed.toml", "--workers", 2, "--out", "alone")
        assert ran.code == 0, ran.err
        return whole(tmp_path / "alone")

    return write


@pytest.mark.slow
def test_a_study_killed_at_200_random_moments_is_the_one_left_alone(
    study: Any, paramcast: Any, start: Any, tmp_path: Path
) -> None:
    """Each study that comes to its end is compared, and the next one begins."""
    alone = study(16, '["constant", "cosine"]', "tune = {trials = 2, seeds = 2}")
    assert len(alone["runs"]) > 2 * 4 * 16  # the final ones; the search stops where it knows enough
    workers = drivers = studies = 0
    while workers + drivers < KILLS:
        folder = tmp_path / f"study{studies}"
        killer = Killer(start, folder, SEED + studies)
        words, ended = ("run", "killed.toml", "--out", folder.name), False
        while not ended and workers + drivers + killer.workers + killer.drivers < KILLS:
            ended = killer.live(*words, early=killer.draw.random() < 0.25)
            words = ("resume", folder.name) if kept(folder / "runs.db") else words
        if not ended:
            assert paramcast("study", *words).code == 0
        workers, drivers, studies = workers + killer.workers, drivers + killer.drivers, studies + 1
        assert whole(folder) == alone
        reasons = rows(folder / "runs.db", "SELECT reason FROM failures")
        assert set(reasons) <= {("killed, probably because memory ran out (exit code -9)",)}
        assert len(reasons) <= killer.workers
        print(f"{studies} studies, {workers} workers and {drivers} drivers killed", file=sys.stderr)


@pytest.mark.slow
def test_ctrl_c_at_any_moment_once_or_twice_is_one_sentence(
    study: Any, paramcast: Any, start: Any, tmp_path: Path
) -> None:
    """As a terminal does it: to all processes of the group."""
    alone = study(10, '"constant"', "lr = 0.05")
    draw, out, ended = random.Random(SEED), tmp_path / "out", 0
    for _ in range(INTERRUPTS):
        process = start("study", "run", "killed.toml", "--out", "out", "--workers", 2)
        moment = draw.choice(["early", "running", "late"])
        if moment == "early":
            time.sleep(draw.uniform(0, 6))
        else:
            enough = (
                kept(out / "runs.db") + draw.randint(1, 8)
                if moment == "running"
                else len(alone["runs"])
            )
            while process.poll() is None and kept(out / "runs.db") < enough:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.2 if moment == "running" else 2))
        for _ in range(draw.choice([1, 1, 2, 3])):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(draw.uniform(0, 0.3))
        printed, err = process.communicate(timeout=60)
        err = without_notice(err)
        if printed:  # it was too late
            assert (process.returncode, err) == (0, "")
            assert whole(out) == alone
            shutil.rmtree(out)
            ended += 1
            continue
        assert process.returncode in (130, -signal.SIGINT), (moment, err)
        assert re.fullmatch(r"\s*paramcast: interrupted[^\n]*\n", err), (moment, err)
    print(f"{INTERRUPTS} times interrupted, {ended} times too late", file=sys.stderr)
    assert paramcast("study", "run", "killed.toml", "--out", "out").code == 0
    assert whole(out) == alone
