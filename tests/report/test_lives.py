"""Random lives of a pilot's drivers in one folder, against a model of what must be stored.

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
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from synthetic import EXAMPLES, draw, make_task

from paramcast.errors import ParamcastError, StoreError
from paramcast.report.watch.following import Follower
from paramcast.study.course import Course
from paramcast.study.engines import ATTEMPTS, Engine, Finished, Job
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
REFUSED = ("StoreError", "StudyError")
"""Ends of a driver that may do nothing in a folder."""
MEASURED = {"environment", "reused_runs", "wall_seconds"}
COLUMNS = "key, phase, spec, outcome, curve, environment, finished_at"


# --- what is run --------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A pilot; those that differ in `trials` or `lazy` share runs."""

    seeds: int
    trials: int
    lazy: bool


@cache
def plan(asked: Asked) -> Plan:
    """Up to 14 tuning runs, and 8 final ones a seed where it is not lazy."""
    seeds, trials, lazy = asked
    options = Options(
        source=find("digits"), methods=parse_methods("plp"), base="sgd", lr=None,
        lr_range=(0.003, 0.3), trials=trials, trial_seeds=2, seeds=seeds, epochs=2, batch_size=10,
        schedule="cosine", margin=None, device="cpu", lazy=lazy, speed=OPEN if lazy else ALWAYS,
    )  # fmt: skip
    return Plan(options, make_task("digits", 10), OUT)


@cache
def outcome(spec: RunSpec) -> dict[str, Any]:
    return draw(
        spec, total_steps(EXAMPLES, spec.batch_size, spec.epochs, spec.share), 10, {"plp": 0.02}
    )


class Alone(NamedTuple):
    """A pilot that was left alone: its course, the outcomes, and every run by its key."""

    course: Course
    outcomes: dict[str, Any]
    specs: dict[str, RunSpec]


@cache
def course(asked: Asked, first: int) -> Alone:
    """A pilot that was left alone.

    Args:
        first: the seeds that it was planned with.
    """
    specs: dict[str, RunSpec] = {}

    def run(wanted: list[RunSpec]) -> dict[str, Any]:
        specs.update({spec.key: spec for spec in wanted})
        return {spec.key: outcome(spec) for spec in wanted}

    looks = extended(looks_of(first), asked.seeds)
    assert looks is not None
    return Alone(*follow(plan(asked), run, looks=looks), specs)


@cache
def verdict(asked: Asked, first: int) -> dict[str, Any]:
    """What result.json holds of a pilot that was left alone, without what is measured."""
    planned, (ended, outcomes, _) = plan(asked), course(asked, first)
    more = [n for n in (2 * asked.seeds, 4 * asked.seeds) if extended(looks_of(first), n)]
    found = summarise(planned, ended, outcomes, more, 2)
    out, command = str(planned.out), planned.command(asked.seeds)
    made = whole(found, identity=planned.identity, out=out, command=command)
    return {k: v for k, v in json.loads(to_json(made)).items() if k not in MEASURED}


def fails(spec: RunSpec, failing: int) -> bool:
    return spec.phase == "final" and spec.seed == failing


class Drawn(Engine):
    """An engine whose trainings are drawn; it logs what it begins, and what its driver took in."""

    workers = 2

    def __init__(self, log: Path, failures: int, failing: int) -> None:
        self._log, self._failures, self._failing = log, failures, failing
        self._begun: Counter[str] = Counter()

    def describe(self) -> dict[str, Any]:
        return {"engine": "drawn", "workers": self.workers}

    def run(self, jobs: Iterable[Job], finished: Callable[[Finished], None]) -> None:
        def tell(done: Finished) -> None:
            finished(done)
            self._note("kept", done.spec.key, done.outcome["status"])

        super().run(jobs, tell)

    def start(self, job: Job, running: int) -> tuple[RunSpec, int]:
        key = job.spec.key
        self._begun[key] += 1
        self._note("begun", key, "")
        return job.spec, self._begun[key]

    def wait(self, handles: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        spec, attempt = handles[-1]  # not in the order of their start
        failed = fails(spec, self._failing) and attempt <= self._failures
        return [(handles[-1], {"status": "failed", "reason": "drawn"} if failed else outcome(spec))]

    def _note(self, *words: str) -> None:
        with self._log.open("a") as file:
            file.write(" ".join(words) + "\n")


class Nobody:
    """A watcher."""

    def phase(self, name: str, total: int, reused: int) -> None:
        pass

    def finished(self, finished: Finished) -> None:
        pass


# --- a life -------------------------------------------------------------------------------------


class Life(NamedTuple):
    """How a driver ended, in one word, what it said, and what it and its company saw."""

    how: str
    said: str = ""
    saw: Any = None


def drive_here(asked: Asked, log: Path, failures: int = 0) -> Life:
    try:
        engine = Drawn(log, failures, failing=asked.seeds - 1)
        run_pilot(plan(asked), engine=engine, watcher=Nobody())
    except ParamcastError as error:
        return Life(type(error).__name__, str(error))
    except KeyboardInterrupt:
        return Life("interrupted")
    return Life("finished")


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
    except StoreError as error:
        if not re.search("holds no study|is not of a pilot or study", str(error)):
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
        assert drive_here(Asked(2, 2, lazy=False), Path("log")).how == "finished"
        look()


def live(folder: Path, body: Callable[[], Life]) -> Life:
    """What `body` returns in a forked process; "killed" where it does not come so far."""
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            (folder / "end").write_text(json.dumps(body()))
            os._exit(0)
        except BaseException:
            (folder / "end").write_text(json.dumps(Life("crashed", traceback.format_exc())))
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    end = folder / "end"
    ended = Life(*json.loads(end.read_text())) if end.exists() else Life("killed")
    end.unlink(missing_ok=True)
    assert ended.how != "crashed", ended.said
    return ended


class Stored(NamedTuple):
    """All that a folder holds, read from a copy, so that a driver finds it as it was left."""

    runs: dict[str, tuple[Any, ...]]
    failures: tuple[tuple[Any, ...], ...]
    looks: tuple[int, ...]
    about: dict[str, Any]
    verdict: dict[str, Any] | None


NOTHING = Stored({}, (), (), {}, None)


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
                return NOTHING
            return Stored(
                {row[0]: row for row in query(f"SELECT {COLUMNS} FROM runs")},
                tuple(query("SELECT id, key, status, reason FROM failures ORDER BY id")),
                tuple(n for (n,) in query("SELECT seeds FROM looks ORDER BY seeds")),
                {name: json.loads(value) for name, value in query("SELECT * FROM about")},
                json.loads(result.read_text()) if result.exists() else None,
            )


def heard(folder: Path) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How often the log says that each run was begun, was taken in as good, and as failed."""
    found = Counter[str](), Counter[str](), Counter[str]()
    log = folder / "log"
    for line in log.read_text().splitlines() if log.exists() else ():
        what, key, *status = line.split()
        found[0 if what == "begun" else 1 + (status == ["failed"])][key] += 1
    return found


class Lives(RuleBasedStateMachine):
    """A folder, what it held after the last life, and what each life may make of that."""

    def __init__(self) -> None:
        super().__init__()
        warm_up()
        self.folder = Path(tempfile.mkdtemp(prefix="paramcast-test-"))
        self.log = self.folder / "log"
        self.now = NOTHING
        self.asked = Asked(2, 2, lazy=False)

    def teardown(self) -> None:
        """Whatever has happened, the pilot can be finished, and leaves nothing else."""
        self.life()
        left = {file.name for file in (self.folder / OUT).iterdir()}
        left -= {name for name in left if name.endswith(".partial")}  # of those that were killed
        assert left - {"runs.db-wal", "runs.db-shm"} == {".lock", "runs.db", "result.json"}
        shutil.rmtree(self.folder)

    @rule(
        seeds=st.sampled_from([2, 3, 4, 6, 8, 12]),
        trials=st.sampled_from([2, 4]),
        lazy=st.booleans(),
    )
    def something_else_is_asked(self, seeds: int, trials: int, lazy: bool) -> None:
        self.asked, before = Asked(seeds, trials, lazy), self.asked
        if self.life().how != "finished":
            self.asked = before

    @rule(more=st.booleans(), failures=st.integers(1, ATTEMPTS))
    def runs_fail(self, more: bool, failures: int) -> None:
        self.life(more, failures)

    @rule(more=st.booleans(), at=STEPS)
    def killed(self, more: bool, at: Step) -> None:
        self.life(more, at=at, do=lambda: os._exit(9))

    @rule(more=st.booleans(), at=STEPS)
    def interrupted(self, more: bool, at: Step) -> None:
        pressed = self.folder / "pressed"

        def press() -> None:
            pressed.touch()
            signal.raise_signal(signal.SIGINT)

        life = self.life(more, at=at, do=press)
        assert (life.how == "interrupted") == pressed.exists()
        pressed.unlink(missing_ok=True)

    @rule(more=st.booleans(), at=STEPS)
    def another_driver_comes(self, more: bool, at: Step) -> None:
        life = self.life(more, at=at, do=lambda: drive_here(self.asked, self.log))
        for how, said, _ in life.saw:
            assert how == "finished" or "another paramcast is running in lives" in said

    @rule(more=st.booleans(), at=STEPS)
    def somebody_looks(self, more: bool, at: Step) -> None:
        before = self.now
        for saw in self.life(more, at=at, do=look).saw:
            assert before.runs.keys() <= set(saw) <= self.now.runs.keys()

    def life(
        self,
        more: bool = False,
        failures: int = 0,
        *,
        at: Step = Step("", 0),  # noqa: B008 - it is frozen
        do: Callable[[], Any] | None = None,
    ) -> Life:
        """A driver's life in the folder, checked; it may ask for more seeds, and be disturbed."""
        if more and self.now.looks and 2 * self.asked.seeds <= 4 * self.first:
            self.asked = self.asked._replace(seeds=2 * self.asked.seeds)
        asked, before = self.asked, self.now
        expected = self.expected(failures)
        self.log.unlink(missing_ok=True)

        def body() -> Life:
            saw: list[Any] = []
            if do is not None:
                at_step(at, lambda: saw.append(do()))
            return drive_here(asked, self.log, failures)._replace(saw=saw)

        life = live(self.folder, body)
        assert life.how in ({expected, "killed", "interrupted"} if do else {expected}), life
        self.now = read(self.folder)
        if expected in REFUSED:
            assert self.now == before
            assert not any(heard(self.folder))
            return life
        self.check_runs(before)
        self.check_verdict(before, finished=life.how == "finished")
        return life

    def expected(self, failures: int) -> str:
        """How a life ends that is left alone."""
        owner = self.now.about.get("specification", {}).get("identity")
        if owner not in (None, plan(self.asked).identity):
            return "StoreError"
        if self.asked.seeds not in (self.first, 2 * self.first, 4 * self.first):
            return "StudyError"
        missing = [s for key, s in self.planned.items() if key not in self.now.runs]
        doomed = any(fails(spec, self.asked.seeds - 1) for spec in missing)
        return "RunError" if doomed and failures == ATTEMPTS else "finished"

    @property
    def first(self) -> int:
        """The seeds that it was planned with, which count from its first look on."""
        return int(self.now.about[SEEDS]) if self.now.looks else self.asked.seeds

    @property
    def planned(self) -> dict[str, RunSpec]:
        return course(self.asked, self.first).specs

    def check_runs(self, before: Stored) -> None:
        """What had finished stays and is not run again; what was taken in is stored, whole."""
        planned = self.planned
        begun, good, bad = heard(self.folder)
        now, new = self.now, self.now.runs.keys() - before.runs.keys()
        assert before.runs.items() <= now.runs.items()
        assert not begun.keys() & before.runs.keys()
        assert good.keys() <= new <= begun.keys() <= planned.keys()
        for key in new:
            _, phase, spec, ended, curve, *_ = now.runs[key]
            assert stored_spec(json.loads(spec)) == planned[key]
            assert phase == planned[key].phase
            assert json.loads(ended) | {"curve": json.loads(curve)} == outcome(planned[key])
        phases = Counter(planned[key].phase for key in new)
        if phases["final"]:
            assert {key for key, spec in planned.items() if spec.phase == "tune"} <= now.runs.keys()
        assert now.failures[: len(before.failures)] == before.failures
        failed = Counter(key for _, key, *_ in now.failures[len(before.failures) :])
        assert bad <= failed <= begun
        assert all(begun[key] <= 1 + failed[key] for key in begun)  # none was begun for nothing

    def check_verdict(self, before: Stored, *, finished: bool) -> None:
        """A verdict that can be read is of whole data, and its look counts."""
        now, planned, first = self.now, self.planned, self.first
        taken = {look.seeds for look in course(self.asked, first).course.taken}
        assert set(before.looks) <= set(now.looks) <= {*before.looks, *taken}
        if now.verdict != before.verdict or finished:
            assert now.verdict is not None
            assert taken <= set(now.looks)
            assert planned.keys() <= now.runs.keys()
            found = {k: v for k, v in now.verdict.items() if k not in MEASURED}
            assert found == verdict(self.asked, first)
            phases = Counter(spec.phase for spec in planned.values())
            assert {k: v for k, v in now.about["planned"].items() if k != "price"} == {
                "tuning": phases["tune"], "final": phases["final"], "seeds": self.asked.seeds,
            }  # fmt: skip


USUAL = settings(
    stateful_step_count=6,
    phases=[Phase.generate],  # to shrink a failure would take minutes; six lives are readable
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX may be loaded by another test
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestSomeLives(Lives.TestCase):
    settings = settings(USUAL, max_examples=5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX may be loaded by another test
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestManyLives(Lives.TestCase):
    settings = settings(USUAL, max_examples=LIVES)
