"""Tests whose body runs in two real processes (gloo, one thread each).

    @on_ranks
    def test_something(ranks): ...          the body runs in both, with their `Ranks`

    @on_ranks(cases=["a", "b"], quick=["a"])
    def test_another(ranks, case): ...      one test per case; those that are not quick are slow

Starting torch takes seconds, so all chosen bodies run one after the other in one pair of processes,
started once per test run. A body that fails in one process makes the other's next collective time
out; the process group is then made again for the next body.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

WORLD = 2
HERE = Path(__file__).parent
BODIES: dict[str, Callable[..., None]] = {}
WAIT = 30.0
"""Seconds that a collective may take."""


class Ranks(NamedTuple):
    """What a body is told: its rank, how many there are, a folder that both see."""

    rank: int
    world: int
    folder: Path


def on_ranks(
    body: Any = None, *, cases: Iterable[str] | None = None, quick: Iterable[str] | None = None
) -> Any:
    """Turn the body into a test that asks how it went in the two processes."""
    if body is None:
        return functools.partial(on_ranks, cases=cases, quick=quick)
    name = f"{Path(inspect.unwrap(body).__code__.co_filename).stem}::{body.__name__}"
    BODIES[name] = body
    if cases is None:

        def test(outcome: Callable[..., None]) -> None:
            outcome(name)

    else:

        def test(outcome: Callable[..., None], case: str) -> None:  # type: ignore[misc]
            outcome(name, case)

        fast = set(cases if quick is None else quick)
        marked = [pytest.param(c, marks=() if c in fast else pytest.mark.slow) for c in cases]
        test = pytest.mark.parametrize("case", marked)(test)
    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    test.check = name
    return test


def chosen(items: Sequence[Any]) -> list[tuple[str, str | None]]:
    """The bodies of the collected tests, with their cases."""
    found = []
    for item in items:
        name = getattr(getattr(item, "function", None), "check", None)
        if name is not None:
            case = item.callspec.params["case"] if hasattr(item, "callspec") else None
            found.append((name, case))
    return found


def run_all(plan: Sequence[tuple[str, str | None]], folder: Path, limit: float) -> dict[str, str]:
    """Run the bodies in two processes; say for each what went wrong, "" if nothing did.

    A body may kill a process (gloo does so when two collectives do not match): the bodies after it
    then run in a new pair.
    """
    problems: dict[str, str] = {}
    end = time.monotonic() + limit
    while len(problems) < len(plan):
        todo = plan[len(problems) :]
        here = folder / f"pair-{len(problems)}"
        here.mkdir()
        _run_pair(todo, here, end)
        done = [
            json.loads(file.read_text()) if file.exists() else {}
            for file in (here / f"results-{rank}.json" for rank in range(WORLD))
        ]
        for row in todo:
            key = _key(*row)
            if all(key in results for results in done):
                problems[key] = _report([results[key] for results in done])
                continue
            tails = [(here / f"log-{rank}.txt").read_text()[-3000:] for rank in range(WORLD)]
            problems[key] = _report([f"a process died or hung\n{tail}" for tail in tails])
            break
        if time.monotonic() > end:
            rest = (_key(*row) for row in plan[len(problems) :])
            problems.update(dict.fromkeys(rest, f"not run: {limit:g} s were over"))
    return problems


def _run_pair(plan: Sequence[tuple[str, str | None]], folder: Path, end: float) -> None:
    """Run two processes to their end; one does not outlive the other for long."""
    (folder / "plan.json").write_text(json.dumps(plan))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(WORLD)}
    logs = [(folder / f"log-{rank}.txt").open("w") for rank in range(WORLD)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(folder)],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        for rank, log in enumerate(logs)
    ]
    while any(process.poll() is None for process in processes):
        if any(process.poll() is not None for process in processes):
            end = min(end, time.monotonic() + 5.0)
        if time.monotonic() > end:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    for log in logs:
        log.close()


def _report(problems: Sequence[str]) -> str:
    return "\n".join(f"--- rank {rank}\n{text}" for rank, text in enumerate(problems) if text)


def _key(name: str, case: str | None) -> str:
    return name if case is None else f"{name}[{case}]"


def _work(folder: Path) -> None:
    """One of the two processes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    sys.modules["two_processes"] = sys.modules["__main__"]  # one table of bodies
    rank = int(os.environ["RANK"])
    plan = json.loads((folder / "plan.json").read_text())
    # as in pyproject.toml: torch.jit is imported by torch itself
    warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
    told = dist.FileStore(str(folder / "told"), WORLD)
    told.set_timeout(timedelta(seconds=2 * WAIT))
    results: dict[str, str] = {}
    for number, (name, case) in enumerate(plan):
        if not dist.is_initialized():
            store = f"file://{folder}/group-{number}"
            wait = timedelta(seconds=WAIT)
            dist.init_process_group(
                "gloo", init_method=store, rank=rank, world_size=WORLD, timeout=wait
            )
        torch.manual_seed(0)
        own = folder / f"check-{number}"
        own.mkdir(exist_ok=True)
        ranks = Ranks(rank, WORLD, own)
        began = time.perf_counter()
        try:
            importlib.import_module(name.split("::")[0])
            with warnings.catch_warnings():
                BODIES[name](ranks) if case is None else BODIES[name](ranks, case)
            problem = ""
        except BaseException:
            problem = traceback.format_exc()
        print(f"{time.perf_counter() - began:6.2f} s  {_key(name, case)}", flush=True)
        results[_key(name, case)] = problem
        (folder / f"results-{rank}.json").write_text(json.dumps(results))
        told.set(f"{number}/{rank}", "bad" if problem else "good")
        if any(told.get(f"{number}/{other}") == b"bad" for other in range(WORLD)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dist.destroy_process_group()
    told.set(f"end/{rank}", "")
    for other in range(WORLD):
        told.get(f"end/{other}")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    tempfile.tempdir = str(arguments.folder)
    _work(arguments.folder)
