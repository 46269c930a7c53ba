"""The cells of a study: each is a comparison like a pilot, at its own settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ParamcastError, StudyError
from ..engines import Job
from ..options import parse_margin
from ..plan import MOST_RUNS, Plan, too_many, usual_options
from ..price import price
from ..reading import tell, usable_path
from ..spec import ALWAYS, DEFAULT, NEVER, Numerics, RunSpec
from ..tasks.description import lines
from ..tasks.frames import TableOptions, read_setting
from ..tasks.source import find, is_table, load
from ..tasks.task import Prepared
from ..training.build import check_methods
from ..training.loop import adjusted
from ..training.methods import Method, parse_methods
from ..training.probes import check_probes
from .file import AXES, Grid, StudyFile, Tune


@dataclass(frozen=True)
class Cell:
    """One comparison of a study.

    Attributes:
        settings: the values of the axes, with the task's own filled in; lr is None if tuned.
        plan: its runs.
    """

    settings: dict[str, Any]
    plan: Plan

    @property
    def label(self) -> str:
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in self.settings.items()}
        return ", ".join(f"{k} {v}" for k, v in shown.items() if v is not None)


def make_cells(
    study: StudyFile,
    out: Path,
    *,
    device: str,
    numerics: Numerics = DEFAULT,
    data_dir: str | None,
) -> list[Cell]:
    """Make every cell of a study: load its tasks and check its methods.

    Args:
        study: the study.
        out: the folder for its results.
        device, numerics: where and how its runs compute.
        data_dir: where the data of built-in tasks are.

    Raises:
        StudyError: a task or method does not exist or does not fit; the message names the grid.
    """
    tasks: dict[tuple[Any, ...], tuple[Any, Prepared]] = {}
    cells, runs = [], 0
    for number, grid in enumerate(study.grid, 1):
        try:
            methods = parse_methods(", ".join(grid.methods)) if grid.methods else ()
            read = sorted(read_setting(f"{key}={value}") for key, value in grid.read.items())
            table = TableOptions(grid.kind, grid.missing, tuple(read))
            for settings in grid.cells():
                name = settings["task"]
                chosen = name, grid.target, table, grid.metric
                if chosen not in tasks:  # loaded once for all cells
                    # a task of the user's has its data where it is; --data-dir is for built-in ones
                    own = is_table(name) or ".py" in name or usable_path(name, "task").is_dir()
                    source = find(name, grid.target, None if own else data_dir, table)
                    source = replace(source, metric=grid.metric or "")
                    prepared = load(source)
                    tasks[chosen] = source, prepared
                    for line in lines(prepared.description if prepared.task.description else {}):
                        tell(f"data: {name}: {line}")
                # the same table with another target is another task
                if grid.target is not None:
                    settings["task"] = f"{name}:{grid.target}"
                cell = _cell(grid, settings, methods, *tasks[chosen], out, device, numerics)
                cells.append(cell)
                runs += price(cell.plan.options).most
                if runs > MOST_RUNS:
                    raise StudyError(too_many(runs))
        except ParamcastError as error:
            raise StudyError(f"grid[{number}]: {error}") from None
    return cells


def once(planned: Iterable[tuple[Plan, list[RunSpec]]]) -> list[Job]:
    """Each run once, task by task, so that workers load each task once; the longest runs first.

    Near the end some workers are idle, for a shorter time if the last runs are short.
    """
    # equal specifications are one run, whichever cells ask for it
    jobs: dict[RunSpec, Job] = {}
    work: dict[RunSpec, float] = {}
    longest: dict[str, float] = {}
    for plan, specs in planned:
        for job in plan.jobs(specs):
            spec, task = job.spec, job.source.where
            jobs[spec], work[spec] = job, plan.work(job.spec)
            longest[task] = max(longest.get(task, 0.0), work[spec])

    def order(job: Job) -> tuple[float, str, float]:
        task = job.source.where
        return -longest[task], task, -work[job.spec]

    return sorted(jobs.values(), key=order)


def _cell(
    grid: Grid,
    settings: dict[str, Any],
    methods: tuple[Method, ...],
    source: Any,
    prepared: Prepared,
    out: Path,
    device: str,
    numerics: Numerics,
) -> Cell:
    usual, tune = usual_options(source, prepared), grid.tune or Tune()
    given = {name: value for name, value in settings.items() if value is not None}
    task = given.pop("task")
    # methods and probes are checked now, not in the first of many runs
    margin, relative = (None, False) if grid.margin is None else parse_margin(str(grid.margin))
    changed = (settings[name] for name in ("momentum", "weight_decay", "beta2"))
    base = given.get("base", usual.base)
    check_methods(adjusted(prepared.task, *changed), base, methods)
    check_probes(grid.probes)
    # a study runs every arm on every seed, so that its cells can be laid side by side
    options = replace(
        usual,
        **given,
        methods=methods,
        lr_range=tune.range or usual.lr_range,
        trials=tune.trials,
        trial_seeds=tune.seeds,
        tune_rule=tune.rule,
        seeds=grid.seeds,
        margin=margin,
        relative_margin=relative,
        device=device,
        speed=ALWAYS if grid.speed else NEVER,
        lazy=False,
        once=True,
        random_jump=grid.random_jump,
        numerics=numerics,
        probes=tuple(grid.probes),
    )
    # what a report shows: an axis that the grid leaves out has the task's value
    shown = {name: task if name == "task" else getattr(options, name) for name in AXES}
    return Cell(shown, Plan(options, prepared, out))
