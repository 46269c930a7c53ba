"""Worker processes: any number gives the same results; a run that fails takes nobody with it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from paramcast.cli.options import RunOptions, make_engine
from paramcast.errors import RunError
from paramcast.study.engines import Finished, Job, LocalEngine, local
from paramcast.study.engines.crew import Crew, _work
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find
from runs import rows, run_spec

AT_SEEDS = """
import os, signal, sys, time
from pathlib import Path
from paramcast.study.spec import axis_seed

WAYS = {axis_seed("initialisation", "final", seed): what for seed, what in WHAT.items()}

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        self.what = WAYS.get(torch.initial_seed(), "")

    def forward(self, x):
        if self.training:
            exec(self.what)
        return super().forward(x)

def make_model():
    return Net()
"""
"""A model to which something happens in the final runs of some seeds, and in no others."""


def at_seeds(what: dict[int, str]) -> str:
    return f"WHAT = {what!r}\n{AT_SEEDS}"


def once(what: str, marker: str = "happened") -> str:
    return f"""marker = Path(__file__).with_name("{marker}")
if not marker.exists():
    marker.touch()
    {what}"""


NO_MEMORY = """import resource
_, hard = resource.getrlimit(resource.RLIMIT_AS)
size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, hard))
try:
    torch.ones(2**27)
finally:
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))"""
MID_SENTENCE = """frame = sys._getframe()
while "pipe" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["pipe"].fileno(), (10**6).to_bytes(4, "big") + b"half a message")
os.kill(os.getpid(), signal.SIGKILL)"""
"""The worst moment: the driver has read a part of what the worker was saying."""
KILLED = "killed, probably because memory ran out (exit code -9)"
FAILURES = {
    1: ("raise RuntimeError('boom')", "RuntimeError: boom"),
    2: ("raise MemoryError", "MemoryError"),
    3: (NO_MEMORY, "can't allocate memory"),
    4: ("os._exit(7)", "the worker process died (exit code 7)"),
    5: ("os.kill(os.getpid(), signal.SIGKILL)", KILLED),
    6: ("sys.exit('boom')", "boom"),
    7: (MID_SENTENCE, KILLED),
}
"""By seed: what happens, and what is said of it."""


def spec(method: str = "base", seed: int = 0, phase: str = "final") -> RunSpec:
    return run_spec(method=method, lr=0.05, phase=phase, seed=seed)


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
    return seen


SPECS = [spec(method, seed) for seed in range(3) for method in ("base", "plp", "demon")]


def test_neither_the_number_of_workers_nor_the_order_changes_outcomes(
    task_file: Callable[..., Path],
) -> None:
    file = task_file()
    forward, backward = run_specs(file, SPECS), run_specs(file, SPECS[::-1], workers=1)
    one, two = (
        {done.spec: (done.outcome["test"], done.outcome["gap"]) for done in runs}
        for runs in (forward, backward)
    )
    assert one == two
    assert set(one) == set(SPECS)


def workers_now() -> set[int]:
    """Processes that the fork server has made."""
    found: set[int] = set()
    for server in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that another test has ended
            if any("multiprocessing.forkserver" in word for word in server.cmdline()):
                found |= {p.pid for p in server.children() if p.status() != psutil.STATUS_ZOMBIE}
    return found


def test_within_its_context_an_engine_keeps_its_workers_until_something_fails(
    task_file: Callable[..., Path],
) -> None:
    source = find(str(task_file()))
    jobs = [Job(spec, source) for spec in SPECS[:6]]
    finished: list[Finished] = []

    def fail(_: Finished) -> None:
        raise OSError("no space left")

    with LocalEngine(2) as engine:
        engine.run(jobs[:2], finished.append)
        first = workers_now()
        engine.run(jobs[2:4], finished.append)
        assert workers_now() == first
        assert len(first) == 2
        psutil.Process(min(first)).kill()  # one that has nothing to do is replaced
        with pytest.raises(OSError, match="no space left"):
            engine.run(jobs[4:], fail)
        assert not workers_now()
        engine.run(jobs[4:], finished.append)
        assert len(workers_now()) == 2
    assert not workers_now()
    assert [f.outcome["status"] for f in finished] == ["done"] * 6


def test_a_run_that_fails_is_tried_twice_and_the_others_go_on(
    task_file: Callable[..., Path],
) -> None:
    file = task_file(more=at_seeds({seed: what for seed, (what, _) in FAILURES.items()}))
    finished = run_specs(file, [spec(seed=seed) for seed in range(10)])
    assert ends(finished) == {
        ("base", seed): ["failed", "failed"] if seed in FAILURES else ["done"] for seed in range(10)
    }
    for done in finished:
        if done.outcome["status"] == "failed":
            assert FAILURES[done.spec.seed][1] in done.outcome["reason"]


def test_workers_that_die_before_they_are_ready_are_not_started_for_ever() -> None:
    crew = Crew(2, None, os._exit, 3)
    with pytest.raises(RunError, match="cannot start; standard error says why"):
        crew.start()
    crew.stop()


def test_a_worker_whose_driver_is_gone_before_it_is_ready_ends_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # in a process of its own it may
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    _work(theirs, lambda: None, ())


def test_a_run_that_takes_too_long_is_stopped_whatever_the_time_of_day(
    task_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    days = itertools.count(time.time(), 86_400)
    monkeypatch.setattr(time, "time", lambda: next(days))  # each look at the clock is a day later
    file = task_file(more=at_seeds({1: "time.sleep(60)"}))
    finished = run_specs(file, [spec(seed=0), spec(seed=1), spec(seed=2)], timeout=2.0)
    assert ends(finished) == {
        ("base", 0): ["done"],
        ("base", 1): ["timeout", "timeout"],
        ("base", 2): ["done"],
    }
    reasons = {d.outcome["reason"] for d in finished if d.outcome["status"] == "timeout"}
    assert reasons == {"took longer than 2 s"}


# --- cores and memory ---------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such call")
def test_there_is_a_worker_for_each_core_that_may_be_used() -> None:
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    try:
        assert make_engine(RunOptions()).workers == 1
    finally:
        os.sched_setaffinity(0, ours)


def test_available_memory_stays_within_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, machine = tmp_path / "memory.max", psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(local, "MEMORY_LIMITS", (tmp_path / "none", file))
    assert local.available_memory() == machine.available
    for unlimited in ("max", str(2**63 - 4096)):
        file.write_text(f"{unlimited}\n")
        assert local.available_memory() == machine.available
    file.write_text(str(psutil.Process().memory_info().rss // 2))  # this process alone holds more
    assert local.available_memory() == 0


def test_as_many_workers_start_as_the_memory_holds(
    task_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job(spec(), find(str(task_file())))]
    size, said = psutil.Process().memory_full_info().uss, list[str]()
    for memory, count in ((1, 1), (3 * size, 2), (100 * size, 3)):
        monkeypatch.setattr(local, "available_memory", lambda memory=memory: memory)
        with LocalEngine(3) as engine:
            engine.say = said.append
            engine.run(jobs, lambda done: None)
            assert len(workers_now()) == count
    assert [text.partition(":")[0] for text in said] == [
        f"{count} of 3 workers run at once" for count in (1, 2)
    ]


def test_a_kernel_that_does_not_tell_shared_memory_is_no_obstacle(
    task_file: Callable[..., Path], monkeypatch: Any
) -> None:
    monkeypatch.setattr(psutil.Process, "memory_full_info", psutil.Process.memory_info)
    done: list[Finished] = []
    LocalEngine(1).run([Job(spec(), find(str(task_file())))], done.append)
    assert done[0].outcome["status"] == "done"


def test_a_killed_run_is_tried_again_alone(task_file: Callable[..., Path]) -> None:
    """The second attempt finds no other run beside it."""
    alone = """others = [p for p in Path(__file__).parent.glob("busy*")]
if not Path(__file__).with_name("killed").exists():
    Path(__file__).with_name("killed").touch()
    os.kill(os.getpid(), 9)
Path(__file__).with_name("beside").write_text(str(len(others)))"""
    busy = """

def changes():
    return dict(augment=work)

def work(inputs, generator):
    import os, time
    from pathlib import Path
    busy = Path(__file__).with_name(f"busy{os.getpid()}")
    if torch.initial_seed() == 0:
        return inputs
    busy.touch()
    time.sleep(0.03)
    busy.unlink()
    return inputs
"""
    file = task_file(more=at_seeds({1: alone}))
    file.write_text(file.read_text() + busy)
    finished = run_specs(file, [spec(seed=n) for n in (0, 1, 2, 3, 4, 5)], workers=2)
    assert ends(finished)["base", 1] == ["failed", "done"]
    again = {f.spec.seed: f.again for f in finished if f.outcome["status"] == "failed"}
    assert again == {1: True}
    assert file.with_name("beside").read_text() == "0"


def test_jobs_are_taken_as_there_is_room(task_file: Callable[..., Path]) -> None:
    """No more than twice as many as run at once lie ahead."""
    source, taken, done, ahead = find(str(task_file())), 0, 0, []

    def lazily() -> Iterator[Job]:
        nonlocal taken
        for each in SPECS:
            taken += 1
            ahead.append(taken - done)
            yield Job(each, source)

    def note(_: Finished) -> None:
        nonlocal done
        done += 1

    LocalEngine(2).run(lazily(), note)
    assert (taken, done) == (len(SPECS), len(SPECS))
    assert max(ahead) <= 4


# --- as a pilot ---------------------------------------------------------------------------------

PILOT = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 3, "--all-arms", "--out", "out")


def test_failed_runs_end_a_pilot_with_one_and_a_reason(
    paramcast: Any, task_file: Callable[..., Path], tmp_path: Path
) -> None:
    task_file(more=at_seeds({1: "os._exit(7)"}))
    ran = paramcast(*PILOT)
    assert ran.code == 1
    assert ran.out == ""
    last = ran.err.splitlines()[-1]
    assert last.startswith("paramcast: 8 of 24 final runs failed twice, so there is no verdict")
    assert "the worker process died (exit code 7)" in last
    assert "out" in last
    assert "trying once more" in ran.err
    assert rows(tmp_path / "out/runs.db", "SELECT count(*), min(status) FROM runs") == [
        (16, "done")
    ]
    assert rows(tmp_path / "out/runs.db", "SELECT count(*), min(status) FROM failures") == [
        (16, "failed")
    ]
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_pilot_survives_a_worker_that_dies_and_one_that_hangs(
    paramcast: Any, task_file: Callable[..., Path], tmp_path: Path
) -> None:
    hangs = once("time.sleep(60)", "hung")
    task_file(more=at_seeds({1: once("os._exit(7)"), 2: hangs}))
    ran = paramcast(*PILOT, "--timeout", 3)
    assert ran.code == 0
    assert "died (exit code 7); trying once more" in ran.err
    assert "took longer than 3 s; trying once more" in ran.err
    assert rows(tmp_path / "out/runs.db", "SELECT count(*), min(status) FROM runs") == [
        (24, "done")
    ]
    assert sorted(rows(tmp_path / "out/runs.db", "SELECT status FROM failures")) == [
        ("failed",), ("timeout",)
    ]  # fmt: skip
    again = paramcast(*PILOT, "--json")
    assert again.result["reused_runs"] == 24
