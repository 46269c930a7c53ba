"""What a driver tells beside the store while runs go on: for watching, and only for that."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paramcast.study.engines import Finished
from paramcast.study.engines.worker import execute
from paramcast.study.grid.run import run_pilot
from paramcast.study.store import live
from paramcast.study.store.live import DRIVER, FOLDER, Live, Telling, in_progress
from paramcast.study.store.store import Store
from runs import run_spec, timeless

SPEC = run_spec(task="t", method="plp", seed=3)
POINT = {"step": 5, "validation_loss": 0.5}


def test_a_run_tells_its_specification_and_each_point(tmp_path: Path) -> None:
    with Live(tmp_path) as driver:
        tell = Telling(str(driver.path), SPEC, 10)
        assert [run.curve for run in in_progress(tmp_path)] == [[]]
        tell(POINT)
        tell({**POINT, "step": 10})
        (run,) = in_progress(tmp_path)
        assert (run.key, run.steps) == (SPEC.key, 10)
        assert run.spec["method"] == "plp"
        assert [point["step"] for point in run.curve] == [5, 10]
        driver.ended(SPEC.key)
        assert list(in_progress(tmp_path)) == []
        who = f"process {os.getpid()} on {socket.gethostname()}, since 2"
        assert (live.driver(tmp_path) or "").startswith(who)
    assert live.driver(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    with Live(tmp_path) as driver:
        Telling(str(driver.path), SPEC, 10)(POINT)
        file = driver.path / f"{SPEC.key}.jsonl"
        file.write_text(file.read_text() + '{"step": 10, "val')
        assert [run.curve for run in in_progress(tmp_path)] == [[POINT]]
        file.write_text('{"spec')
        assert list(in_progress(tmp_path)) == []


def test_telling_stops_no_run_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file is in the way")
    with Live(tmp_path) as driver:
        Telling(str(driver.path), SPEC, 10)(POINT)
        driver.ended(SPEC.key)
        assert live.driver(tmp_path) is None
    Telling(None, SPEC, 10)(POINT)


def test_a_driver_that_was_killed_is_not_at_work_and_is_cleared_away(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from paramcast.study.store.live import Live\n"
        "Live(Path(sys.argv[1])).__enter__(); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 9
    (left,) = (tmp_path / FOLDER).iterdir()
    (tmp_path / FOLDER / "before-it-wrote").mkdir()
    assert live.driver(tmp_path) is None
    with Live(tmp_path) as driver:
        assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [driver.path.name]
        assert left != driver.path
    assert list(tmp_path.iterdir()) == []


def test_a_driver_of_another_machine_is_at_work_while_it_gives_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / FOLDER / "elsewhere-1"
    folder.mkdir(parents=True)
    (folder / DRIVER).write_text(json.dumps({"host": "else.where", "pid": 1, "started": 0.0}))
    assert live.driver(tmp_path) == "process 1 on else.where, since 1970-01-01 00:00 UTC"
    monkeypatch.setattr(live, "SILENCE", -1.0)
    assert live.driver(tmp_path) is None


def test_telling_changes_no_result(
    plan: Callable[..., Any], task_file: Callable[..., Path], tmp_path: Path
) -> None:
    """The same outcome with and without; every point of the curve is told as it is stored."""
    made = plan(task_file(), seeds=2)
    spec, source = replace(made.common, lr=0.1, method="plp"), made.options.source
    bare = execute(spec, source)
    told = execute(spec, source, str(tmp_path))
    lines = (tmp_path / f"{spec.key}.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["steps"] == told["steps"] == 10

    assert timeless(bare) == timeless(told)
    stored = [{k: v for k, v in p.items() if k != "predictions"} for p in told["curve"]]
    assert [json.loads(line) for line in lines[1:]] == stored


class Here:
    """An engine that runs everything in this process, and a watcher that looks at each end."""

    workers = 1

    def __init__(self, out: Path) -> None:
        self.out, self.seen = out, []

    def describe(self) -> dict[str, Any]:
        return {"engine": "here"}

    def run(self, jobs: Any, finished: Callable[[Finished], None]) -> None:
        for job in jobs:
            finished(Finished(job.spec, execute(*job)))

    def phase(self, *_: Any) -> None:
        pass

    def finished(self, done: Finished) -> None:
        going_on = [run.key for run in in_progress(self.out)]
        self.seen.append((live.driver(self.out) is not None, going_on == [done.spec.key]))


def test_a_pilot_says_how_many_runs_it_has_and_leaves_nothing_beside_the_store(
    plan: Callable[..., Any], task_file: Callable[..., Path]
) -> None:
    made = plan(task_file(), "plp", seeds=2, trials=2, trial_seeds=1)
    here = Here(made.out)
    run_pilot(made, engine=here, watcher=here)
    assert set(here.seen) == {(True, True)}  # a run is taken away when it is stored, not before
    assert not (made.out / FOLDER).exists()
    with contextlib.closing(Store(made.out / "runs.db", write=False)) as store:
        counts = store.counts()
        planned = {"tuning": counts["tune"], "final": counts["final"], "seeds": 2}
        price = store.about("planned")["price"]
        assert {k: v for k, v in store.about("planned").items() if k != "price"} == planned
        assert price[0] <= sum(counts.values()) <= price[2]
