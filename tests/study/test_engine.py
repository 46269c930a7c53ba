"""Worker processes: any number gives the same results; a run that fails takes nobody with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from paramcast.study.engines import Finished, Job, LocalEngine
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find

AT_SEED_1 = """
import os, signal, sys, time
from pathlib import Path
from paramcast.study.spec import axis_seed

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        self.seed_1 = torch.initial_seed() == axis_seed("initialisation", "final", 1)

    def forward(self, x):
        if self.seed_1 and self.training:
            self.happen()
        return super().forward(x)

    def happen(self):
        {what}

def make_model():
    return Net()
"""
"""A model to which something happens in the runs of final seed 1, and in no others."""

ONCE = """marker = Path(__file__).with_name("happened")
        if not marker.exists():
            marker.touch()
            {what}"""


def spec(method: str = "base", seed: int = 0, phase: str = "final") -> RunSpec:
    return RunSpec(
        task="blobs", fingerprint="", method=method, base="sgd", lr=0.05, schedule="cosine",
        epochs=2, batch_size=8, share=1.0, phase=phase, seed=seed, device="cpu", versions="",
    )  # fmt: skip


def run_specs(file: Path, specs: list[RunSpec], **settings: Any) -> list[Finished]:
    finished: list[Finished] = []
    settings = {"workers": 2} | settings
    source = find(str(file))
    LocalEngine(**settings).run([Job(spec, source) for spec in specs], finished.append)
    return finished


def ends(finished: list[Finished]) -> dict[tuple[str, int], list[str]]:
    """The status of each attempt, by method and seed."""
    seen: dict[tuple[str, int], list[str]] = {}
    for done in finished:
        attempts = seen.setdefault((done.spec.method, done.spec.seed), [])
        attempts.append(done.outcome["status"])
        assert done.attempt == len(attempts)
    return seen


SPECS = [spec(method, seed) for seed in range(3) for method in ("base", "plp", "demon")]


def test_one_and_two_workers_give_the_same_outcomes(task_file: Callable[..., Path]) -> None:
    file = task_file()

    def outcomes(workers: int) -> dict[RunSpec, Any]:
        finished = run_specs(file, SPECS, workers=workers)
        return {done.spec: (done.outcome["test"], done.outcome["gap"]) for done in finished}

    one, two = outcomes(1), outcomes(2)
    assert one == two
    assert set(one) == set(SPECS)


def test_the_order_of_the_runs_changes_nothing(task_file: Callable[..., Path]) -> None:
    file = task_file()
    forward, backward = run_specs(file, SPECS), run_specs(file, SPECS[::-1], workers=1)
    tests = [{done.spec: done.outcome["test"] for done in runs} for runs in (forward, backward)]
    assert tests[0] == tests[1]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("raise MemoryError", "MemoryError"),
        ("os._exit(7)", "the worker process died (exit code 7)"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "killed, probably for want of memory (exit code -9)",
        ),
        ("sys.exit('boom')", "boom"),
    ],
    ids=["raises", "memory", "exits", "is-killed", "sys-exit"],
)
def test_a_run_that_fails_is_tried_twice_and_the_others_go_on(
    task_file: Callable[..., Path], what: str, reason: str
) -> None:
    file = task_file(more=AT_SEED_1.replace("{what}", what))
    finished = run_specs(file, SPECS)
    assert ends(finished) == {
        (s.method, s.seed): ["failed", "failed"] if s.seed == 1 else ["done"] for s in SPECS
    }
    reasons = {done.outcome["reason"] for done in finished if done.outcome["status"] == "failed"}
    assert all(reason in found for found in reasons)


def test_a_run_that_fails_once_is_done_the_second_time(task_file: Callable[..., Path]) -> None:
    healthy = run_specs(task_file(more=AT_SEED_1.replace("{what}", "pass")), SPECS)
    dies = AT_SEED_1.replace("{what}", ONCE.replace("{what}", "os._exit(7)"))
    finished = run_specs(task_file(more=dies, name="dies.py"), SPECS)
    assert sorted(map(len, ends(finished).values())) == [1] * 8 + [2]
    expected, found = (
        {done.spec: done.outcome["test"] for done in runs if done.outcome["status"] == "done"}
        for runs in (healthy, finished)
    )
    assert found == expected


def test_a_run_that_takes_too_long_is_stopped(task_file: Callable[..., Path]) -> None:
    file = task_file(more=AT_SEED_1.replace("{what}", "time.sleep(60)"))
    finished = run_specs(file, [spec(seed=0), spec(seed=1), spec(seed=2)], timeout=2.0)
    assert ends(finished) == {
        ("base", 0): ["done"],
        ("base", 1): ["timeout", "timeout"],
        ("base", 2): ["done"],
    }
    reasons = {d.outcome["reason"] for d in finished if d.outcome["status"] == "timeout"}
    assert reasons == {"took longer than 2 s"}


# --- as a pilot ---------------------------------------------------------------------------------

PILOT = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 3, "--methods", "plp", "--out", "out")


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "out" / "pilot.db")) as connection:
        return connection.execute(query).fetchall()


def test_failed_runs_end_a_pilot_with_one_and_a_reason(
    paramcast: Any, task_file: Callable[..., Path], tmp_path: Path
) -> None:
    task_file(more=AT_SEED_1.replace("{what}", "os._exit(7)"))
    ran = paramcast(*PILOT)
    assert ran.code == 1
    assert ran.out == ""
    last = ran.err.splitlines()[-1]
    assert last.startswith("paramcast: 8 of 24 final runs failed twice, so there is no verdict")
    assert "the worker process died (exit code 7)" in last
    assert "out" in last
    assert "trying once more" in ran.err
    assert rows(tmp_path, "SELECT count(*), min(status) FROM runs") == [(16, "done")]
    assert rows(tmp_path, "SELECT count(*), min(status) FROM failures") == [(16, "failed")]
    assert not (tmp_path / "out" / "pilot.json").exists()


def test_a_pilot_survives_a_worker_that_dies_once(
    paramcast: Any, task_file: Callable[..., Path], tmp_path: Path
) -> None:
    dies = AT_SEED_1.replace("{what}", ONCE.replace("{what}", "os._exit(7)"))
    task_file(more=dies)
    ran = paramcast(*PILOT)
    assert ran.code == 0
    assert "trying once more" in ran.err
    assert "died (exit code 7)" in ran.err
    assert rows(tmp_path, "SELECT count(*), min(status) FROM runs") == [(24, "done")]
    again = paramcast(*PILOT, "--json")
    assert again.result["reused_runs"] == 24


def test_a_timeout_is_a_failure(
    paramcast: Any, task_file: Callable[..., Path], tmp_path: Path
) -> None:
    task_file(more=AT_SEED_1.replace("{what}", ONCE.replace("{what}", "time.sleep(60)")))
    ran = paramcast(*PILOT, "--timeout", 3)
    assert ran.code == 0
    assert "took longer than 3 s; trying once more" in ran.err
    assert rows(tmp_path, "SELECT status FROM failures") == [("timeout",)]
