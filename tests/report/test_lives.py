"""Random lives of a pilot's drivers in one folder, against what must be stored.

A life is a forked process, in which all but the trainings is real: plan, retries, store, files.
Between any two of its steps (a statement of SQL, a file opened or moved, a run begun or ended) it
may be killed or interrupted, another driver may come, or somebody may look.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from synthetic import EXAMPLES, draw, make_task

from paramcast.errors import ParamcastError, StudyError
from paramcast.report.watch.following import Follower
from paramcast.study.engines import ATTEMPTS, Engine, Job
from paramcast.study.grid.run import SEEDS, run_pilot
from paramcast.study.judging.looks import extended
from paramcast.study.judging.looks import planned as looks_of
from paramcast.study.plan import Options, Plan
from paramcast.study.result import summarise
from paramcast.study.spec import ALWAYS, OPEN, RunSpec
from paramcast.study.store.folder import to_json
from paramcast.study.tasks.source import find
from paramcast.study.tasks.task import total_steps
from paramcast.study.training.methods import parse_methods
from runs import follow, stored_spec, whole

LIVES = int(os.environ.get("PARAMCAST_LIVES", "1000"))
"""Folders of the long test, with up to 6 lives each and one more."""
OUT = Path("lives")
FILES = {"open", "sqlite3.connect", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
"""What Python tells an audit hook before it does it."""
STATEMENTS = ("before_cursor_execute", "after_cursor_execute", "commit")
"""What SQLAlchemy tells."""
MEASURED = {"environment", "reused_runs", "wall_seconds"}


# --- what is run --------------------------------------------------------------------------------


@cache
def plan(seeds: int, lazy: bool) -> Plan:
    """Up to 14 tuning runs, and 8 final ones a seed where it is not lazy."""
    options = Options(
        source=find("digits"), methods=parse_methods("plp"), base="sgd", lr=None,
        lr_range=(0.003, 0.3), trials=4, trial_seeds=2, seeds=seeds, epochs=2, batch_size=10,
        schedule="cosine", margin=None, device="cpu", lazy=lazy, speed=OPEN if lazy else ALWAYS,
    )  # fmt: skip
    return Plan(options, make_task("digits", 10), OUT)


@cache
def outcome(spec: RunSpec) -> dict[str, Any]:
    steps = total_steps(EXAMPLES, spec.batch_size, spec.epochs, spec.share)
    return draw(spec, steps, 10, {"plp": 0.02})


@cache
def alone(seeds: int, lazy: bool, first: int) -> tuple[dict[str, RunSpec], dict[str, Any]]:
    """The runs and the result.json of a pilot that is left alone, from its first seeds on."""
    specs: dict[str, RunSpec] = {}

    def run(wanted: list[RunSpec]) -> dict[str, Any]:
        specs.update({spec.key: spec for spec in wanted})
        return {spec.key: outcome(spec) for spec in wanted}

    planned, looks = plan(seeds, lazy), extended(looks_of(first), seeds)
    assert looks is not None
    course, outcomes = follow(planned, run, looks=looks)
    more = [n for n in (2 * seeds, 4 * seeds) if extended(looks_of(first), n)]
    made = whole(
        summarise(planned, course, outcomes, more, 2), identity=planned.identity,
        out=str(planned.out), command=planned.command(seeds),
    )  # fmt: skip
    return specs, unmeasured(json.loads(to_json(made)))


def unmeasured(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in MEASURED}


class Drawn(Engine):
    """An engine whose trainings are drawn, and logged; the first ones of the last seed may fail."""

    workers = 2

    def __init__(self, failures: int, failing: int) -> None:
        self._failures, self._failing = failures, failing
        self._begun: Counter[str] = Counter()

    def describe(self) -> dict[str, Any]:
        return {"engine": "drawn", "workers": self.workers}

    def start(self, job: Job, running: int) -> tuple[RunSpec, int]:
        self._begun[job.spec.key] += 1
        with open("log", "a") as file:
            file.write(job.spec.key + "\n")
        return job.spec, self._begun[job.spec.key]

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        spec, attempt = handles[-1]  # not in the order of their start
        last = spec.phase == "final" and spec.seed == self._failing
        failed = last and attempt <= self._failures
        return [(handles[-1], {"status": "failed", "reason": "drawn"} if failed else outcome(spec))]


class Nobody:
    """A watcher."""

    def phase(self, name: str, total: int, reused: int) -> None:
        pass

    def finished(self, finished: Any) -> None:
        pass


# --- a life -------------------------------------------------------------------------------------


def drive(seeds: int, lazy: bool, failures: int = 0) -> str:
    """How a driver ends, in a word."""
    try:
        run_pilot(plan(seeds, lazy), engine=Drawn(failures, seeds - 1), watcher=Nobody())
    except ParamcastError as error:
        second = "another paramcast is running in lives" in str(error)
        return "refused" if second else type(error).__name__
    except KeyboardInterrupt:
        return "interrupted"
    return "finished"


class Step(NamedTuple):
    """The how manieth of one kind: "sql", "file", or "verdict" for the writing of result.json."""

    kind: str
    number: int


STEPS = st.one_of(
    st.builds(Step, st.just("sql"), st.integers(0, 100)),
    st.builds(Step, st.just("file"), st.integers(0, 25)),
    *2 * [st.builds(Step, st.just("verdict"), st.integers(0, 2))],
)


def at_step(wanted: Step, action: Callable[[], None]) -> None:
    """Call `action` before that step of this process, which will end with its life."""
    left = iter(range(wanted.number, -1, -1))

    def step(kind: str) -> None:
        if kind == wanted.kind and next(left, None) == 0:
            action()

    def hear(name: str, arguments: tuple[Any, ...]) -> None:
        if name in FILES and OUT.name in (path := str(arguments[0])):
            # the folder itself is opened to bring the new name to the disk
            of_verdict = ".partial" in path or (name, Path(path).name) == ("open", OUT.name)
            step("verdict" if of_verdict else "file")

    sys.addaudithook(hear)
    for name in STATEMENTS:
        sqlalchemy.event.listen(sqlalchemy.Engine, name, lambda *_: step("sql"))


def look() -> list[str]:
    """The keys that one sees who watches the folder; none before it says what it is of."""
    try:
        found = Follower(OUT).look().ended
    except StudyError as error:
        if not re.search("holds no (study|pilot)|is not of a pilot or study", str(error)):
            raise
        return []
    for run in found:
        assert run.outcome | {"curve": [*run.curve]} == outcome(stored_spec(run.spec))
    return [run.key for run in found]


@cache
def warm_up() -> None:
    """A life in this process, so that those forked from it find everything imported and cached."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert drive(2, lazy=False) == "finished"
        look()


def live(folder: Path, body: Callable[[], Any]) -> Any:
    """What `body` returns in a forked process; "killed" where it does not come so far."""
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            (folder / "end").write_text(json.dumps(body()))
            os._exit(0)
        except BaseException:
            (folder / "end").write_text(json.dumps(["crashed", traceback.format_exc()]))
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    end = folder / "end"
    ended = json.loads(end.read_text()) if end.exists() else ["killed", []]
    end.unlink(missing_ok=True)
    return ended


class Stored(NamedTuple):
    """What a folder holds, read from a copy, so that a driver finds it as it was left."""

    runs: dict[str, tuple[Any, ...]]
    first: int | None = None
    verdict: dict[str, Any] | None = None


def read(folder: Path) -> Stored:
    files = [folder / OUT / name for name in ("runs.db", "runs.db-wal", "runs.db-journal")]
    result = folder / OUT / "result.json"
    with tempfile.TemporaryDirectory() as copies:
        for file in files:
            if file.exists():
                shutil.copy(file, copies)
        with closing(sqlite3.connect(f"{copies}/runs.db")) as connection:
            query = connection.execute
            assert query("PRAGMA integrity_check").fetchall() == [("ok",)]
            if not query("SELECT * FROM sqlite_master").fetchall():
                return Stored({})
            runs = query("SELECT key, spec, outcome, curve, finished_at FROM runs")
            looked = query("SELECT * FROM looks").fetchall()
            about = dict(query("SELECT * FROM about")) if looked else {}
            return Stored(
                {row[0]: row for row in runs},
                int(json.loads(about[SEEDS])) if looked else None,
                unmeasured(json.loads(result.read_text())) if result.exists() else None,
            )


EVENTS = ("left alone", "runs fail", "killed", "interrupted", "another driver", "a look")


def check_lives(lives: list[tuple[str, bool, int, Step]], lazy: bool) -> None:
    """What had finished is kept and never run again; a verdict is that of a pilot left alone."""
    warm_up()
    folder, seeds, now = Path(tempfile.mkdtemp(prefix="paramcast-test-")), 2, Stored({})
    for event, more, failures, at in [*lives, ("left alone", False, 0, Step("", 0))]:
        before = now
        if more and now.first and seeds < 4 * now.first:
            seeds *= 2
        (folder / "log").unlink(missing_ok=True)
        do = {
            "killed": lambda: os._exit(9),
            "interrupted": lambda: signal.raise_signal(signal.SIGINT),
            "another driver": lambda: drive(seeds, lazy),  # noqa: B023 - called in this life
            "a look": look,
        }.get(event)

        def body() -> tuple[str, list[Any]]:
            saw: list[Any] = []
            if do is not None:  # noqa: B023
                at_step(at, lambda: saw.append(do()))  # noqa: B023
            failing = failures if event == "runs fail" else 0  # noqa: B023
            return drive(seeds, lazy, failing), saw  # noqa: B023

        how, saw = live(folder, body)
        now = read(folder)
        possible = {"runs fail": {"finished", "RunError"}, "killed": {"finished", "killed"},
                    "interrupted": {"finished", "interrupted"}}  # fmt: skip
        assert how in possible.get(event, {"finished"}), (how, saw)

        # the runs: what was there is there, what was begun was missing, what is new is whole
        first = now.first or seeds
        planned, verdict = alone(seeds, lazy, first)
        log = folder / "log"
        begun = Counter(log.read_text().split() if log.exists() else ())
        new = now.runs.keys() - before.runs.keys()
        assert before.runs.items() <= now.runs.items()
        assert not begun.keys() & before.runs.keys()
        assert new <= begun.keys() <= planned.keys()
        if event not in ("runs fail", "another driver"):
            assert max(begun.values(), default=1) == 1  # none was begun for nothing
        for key in new:
            _, spec, ended, curve, _ = now.runs[key]
            assert stored_spec(json.loads(spec)) == planned[key]
            assert json.loads(ended) | {"curve": json.loads(curve)} == outcome(planned[key])
        # the verdict: of whole data
        if now.verdict != before.verdict or how == "finished":
            assert now.verdict == verdict
            assert planned.keys() <= now.runs.keys()
        # who came or looked
        if event == "another driver":
            assert {*saw} <= {"finished", "refused"}
        elif event == "a look":
            assert all(before.runs.keys() <= {*keys} <= now.runs.keys() for keys in saw)
    left = {file.name for file in (folder / OUT).iterdir()}
    left -= {name for name in left if name.endswith(".partial")}  # of those that were killed
    assert left - {"runs.db-wal", "runs.db-shm"} == {".lock", "runs.db", "result.json"}
    shutil.rmtree(folder)


USUAL = settings(
    phases=[Phase.generate],  # to shrink a failure would take minutes; six lives are readable
    suppress_health_check=[HealthCheck.too_slow],
)
ANY = given(
    st.lists(
        st.tuples(st.sampled_from(EVENTS), st.booleans(), st.integers(1, ATTEMPTS), STEPS),
        min_size=3, max_size=6,
    ),
    st.booleans(),
)  # fmt: skip
pytestmark = [
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),  # JAX may be loaded by others
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
test_some_lives = settings(USUAL, max_examples=5)(ANY(check_lives))
test_many_lives = pytest.mark.slow(settings(USUAL, max_examples=LIVES)(ANY(check_lives)))
