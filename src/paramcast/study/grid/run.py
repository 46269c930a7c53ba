"""Run a comparison: train what is missing of all cells, then make each cell's table and verdicts.

A pilot is a study of one cell whose verdict may be read again with more seeds.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...errors import StudyError
from ..course import Course
from ..engines import Engine
from ..engines.environment import describe_environment
from ..judging.looks import extended, planned
from ..plan import Plan
from ..price import price
from ..reading import RUNS
from ..result import summarise
from ..runner import PLANNED, Runner, Watcher
from ..spec import DEFAULT, Numerics, RunSpec, hash_of
from ..store.folder import opened
from ..store.live import Live
from ..store.store import Store
from ..stored import Judged, Result, write_result
from ..tasks.source import Source
from ..tasks.task import Prepared
from ..training.loop import run
from .cells import make_cells, once
from .file import StudyFile

Outcomes = dict[str, dict[str, Any]]
SEEDS, SEARCH = "seeds", "search"
"""Names under which a store remembers the seeds that a pilot was planned with, and the search that
its budget allowed."""


def run_pilot(
    plan: Plan, *, engine: Engine, watcher: Watcher, store_url: str | None = None
) -> Result:
    """Train what is not stored yet, judge, and write result.json.

    Args:
        plan: what to run, and where the results go.
        engine: what runs it.
        watcher: told how far it is.
        store_url: of the PostgreSQL database that holds the runs; None for the one that the
            folder names, else runs.db in the folder.

    Returns:
        The content of result.json, with one cell.

    Raises:
        StoreError: the folder cannot be used, or holds another specification's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    specification = {"kind": "pilot", "identity": plan.identity, **plan.specification()}
    source = plan.options.source
    with _running(plan.out, specification, source, engine, watcher, store_url) as runner:
        course = _pilot_course(plan, runner.store, engine.workers)
        asked = {"seeds": plan.options.seeds, "price": price(plan.options)}
        runner.store.set_about(PLANNED, asked)
        outcomes = _follow(runner, [course])
        # the seeds to which it may be extended, one after another
        looks, now = planned(runner.store.about(SEEDS)), plan.options.seeds
        more = [seeds for seeds in (2 * now, 4 * now) if extended(looks, seeds) is not None]
        judged = summarise(plan, course, outcomes, more, engine.workers)
        for look in course.taken:  # before anyone can read the verdict: it must count
            runner.store.add_look(look.seeds)
        return write_result(
            plan.out, begun, kind="pilot", identity=plan.identity, name=judged["task"],
            cells=[judged], command=plan.command(plan.options.seeds),
            environment=runner.environment, reused_runs=runner.reused,
        )  # fmt: skip


def run_study(
    study: StudyFile,
    text: str,
    out: Path,
    *,
    engine: Engine,
    watcher: Watcher,
    device: str = "cpu",
    numerics: Numerics = DEFAULT,
    data_dir: str | None = None,
    store_url: str | None = None,
) -> Result:
    """Train what is not stored yet, judge, and write result.json.

    Args:
        study, text: the study and the text that it was read from, which the store keeps.
        out: the folder.
        engine, watcher, store_url: as those of `run_pilot`.
        device, numerics, data_dir: as those of `make_cells`.

    Returns:
        The content of result.json, with a cell for each comparison.

    Raises:
        StudyError: a grid that cannot be run as asked.
        StoreError: the folder cannot be used, or holds another study's results.
        RunError: runs failed twice.
    """
    begun = time.perf_counter()
    cells = make_cells(study, out, device=device, numerics=numerics, data_dir=data_dir)
    plans = [cell.plan for cell in cells]
    specification: dict[str, Any] = {
        "kind": "study",
        "identity": _identity(text, numerics),
        "name": study.name,
        "text": text,
        "device": device,
        "numerics": numerics._asdict(),
    }
    source = plans[0].options.source
    with _running(out, specification, source, engine, watcher, store_url) as runner:
        runner.store.set_about(PLANNED, {})
        # all cells' runs at once, so that no worker waits for the end of a cell; then cell by cell
        courses = [Course(plan, plan.options.looks) for plan in plans]
        outcomes = _follow(runner, courses)
        judged: list[Judged] = []
        for cell, plan, course in zip(cells, plans, courses, strict=True):
            made = summarise(plan, course, outcomes)
            judged.append({**made, "settings": cell.settings, "label": cell.label})
        return write_result(
            out, begun, kind="study", identity=specification["identity"], name=study.name,
            question=study.question, notes=list(study.notes), cells=judged, text=text,
            command=f"paramcast study resume {shlex.quote(str(out))}",
            environment=runner.environment, reused_runs=runner.reused,
        )  # fmt: skip


@contextmanager
def _running(
    out: Path,
    specification: dict[str, Any],
    source: Source,
    engine: Engine,
    watcher: Watcher,
    store_url: str | None,
) -> Iterator[Runner]:
    """A runner for a comparison, whose folder is locked meanwhile."""
    with opened(out, specification, store_url) as store, Live(out) as live:
        environment = describe_environment(source, engine)
        if code := specification.get("code"):  # of methods that are the user's
            environment["methods"] = ", ".join(f"{name}: {own}" for name, own in code.items())
        yield Runner(store, out, environment, engine=engine, watcher=watcher, live=live)


def _pilot_course(plan: Plan, store: Store, workers: int) -> Course:
    """The course of a pilot, which goes on from the looks and the search that its store remembers.

    Raises:
        StudyError: seeds that do not follow from those of its looks.
    """
    # the looks follow from the seeds of the first call, not from today's
    seeds, taken = plan.options.seeds, store.looks()
    if not taken:
        store.set_about(SEEDS, seeds)
    # seeds that were looked at stay; fewer would hide a look
    first = store.about(SEEDS) or seeds
    least = (store.about(PLANNED) or {}).get("seeds", first) if taken else seeds
    looks = extended(planned(first), seeds)
    if looks is None or seeds < least:
        left = [str(n) for n in (first, 2 * first, 4 * first) if n >= least]
        raise StudyError(
            f"{plan.out} was planned with {least} seeds and judged at {taken[-1]}; --seeds can be "
            f"{' or '.join(left)}, got {seeds} (looking after every few seeds finds differences "
            "that are not there)"
        )
    size = store.about(SEARCH)
    return Course(plan, looks, workers, None if size is None else (size[0], size[1]))


def _follow(runner: Runner, courses: Sequence[Course]) -> Outcomes:
    """Run what the comparisons want, as long as they want something: all outcomes by key."""
    outcomes: Outcomes = {}
    on_their_way = list(courses)
    while on_their_way:
        wanted: dict[str, list[tuple[Plan, list[RunSpec]]]] = {}
        # courses of the same phase share the workers
        for course in [*on_their_way]:
            following = course.next(outcomes)
            if following is None:
                on_their_way.remove(course)
            else:
                wanted.setdefault(following.phase, []).append((course.plan, following.specs))
            # what the budget allowed stays when the pilot goes on
            if course.plan.options.limited and course.search_size is not None:
                runner.store.adopt(SEARCH, list(course.search_size))
        for phase, runs in wanted.items():
            outcomes |= runner.phase(phase, once(runs))
    return outcomes


def estimate(plans: Sequence[Plan], workers: int) -> float:
    """Estimate the seconds from one run's end to the next, from one epoch here per task."""
    torch.set_num_threads(1)
    epochs: dict[tuple[Source, int], float] = {}
    total = 0.0
    for plan in plans:
        options = plan.options
        kind = options.source, options.batch_size
        if kind not in epochs:
            lr = options.lr or options.lr_range[0]
            spec = replace(plan.common, lr=lr, epochs=1, method="base")
            if not isinstance(plan.subject, Prepared):
                return math.nan
            prepared = plan.subject.to(spec.device)
            try:  # the first run warms up, the second is timed
                run(spec, prepared)
            except Exception as error:
                raise StudyError(
                    f"one epoch of the task failed with {type(error).__name__}: {error}"
                ) from error
            start = time.perf_counter()
            run(spec, prepared)
            epochs[kind] = time.perf_counter() - start
        total += epochs[kind] * options.epochs
    return total / len(plans) / workers


def default_folder(study: StudyFile, text: str, numerics: Numerics = DEFAULT) -> Path:
    """The folder for a study's results if the user names none."""
    return RUNS / f"{study.name}-{_identity(text, numerics)[:8]}"


def _identity(text: str, numerics: Numerics) -> str:
    """The hash that identifies a study: of its file and, unless they are DEFAULT, its numerics."""
    return hash_of(text if numerics == DEFAULT else [text, *numerics])
