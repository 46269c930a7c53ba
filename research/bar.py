"""The bar, task by task: `python research/bar.py STAGE TASK...` trains what is missing, keeps rows.

STAGE is a study file research/studies/bar-STAGE.toml, of which only the named tasks run. Rows of
finished runs are read from results/bar/TASK.csv first and written there at the end, also after
Ctrl-C, so that another session or machine goes on where this one stopped.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path

import click

import kept
from paramcast.cli.main import main
from paramcast.cli.study import run
from paramcast.study.spec import hash_of
from paramcast.study.store.folder import DATABASE
from paramcast.study.store.store import Store
from paramcast.study.training.methods import parse_methods

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "results" / "bar"
TASKS = {
    "digits": "research/tasks/digits.py",
    "california": "california",
    "clinc150": "clinc150",
    "gpt": "shakespeare/gpt-tiny",
    "fashion": "fashion/cnn-wide",
    "cifar": "cifar100-coarse",
    "fashion-5000": "fashion@5000",  # where rules of selection are compared
}
"""The bar's tasks by the name that its files bear."""
GRID = r"^(?=\[\[grid\]\]$)"  # where a study file is cut into its head and its grids


def stages() -> list[str]:
    return sorted(f.stem[4:] for f in (ROOT / "research" / "studies").glob("bar-*.toml"))


def having(stage: str) -> list[str]:
    """The tasks of which a stage has grids."""
    return [name for name in TASKS if grids_of(stage, name)[1]]


def grids_of(stage: str, task: str) -> tuple[str, list[str]]:
    """What stands above a stage's grids, and the grids of one task."""
    text = (ROOT / "research" / "studies" / f"bar-{stage}.toml").read_text("utf-8")
    head, *grids = re.split(GRID, text, flags=re.MULTILINE)
    mine = rf'^task = "{re.escape(TASKS[task])}[":]'
    return head, [grid for grid in grids if re.search(mine, grid, re.MULTILINE)]


def text_of(stage: str, task: str) -> str:
    """The study of a stage with the grids of one task alone, which bears the task in its name."""
    head, mine = grids_of(stage, task)
    if not mine:
        raise click.UsageError(f"stage {stage} has no grid of task {task}")
    named = head.replace(f'name = "bar-{stage}"', f'name = "bar-{stage}-{task}"')
    return named + "".join(mine)


def narrowed(text: str, seeds: int | None, methods: str | None) -> str:
    """A study with fewer seeds, or without settled methods and the grids that have no other."""
    if seeds is not None:
        text = re.sub(r"^seeds = \d+$", f"seeds = {seeds}", text, flags=re.MULTILINE)
    if methods is None:
        return text
    wanted = {method.label for method in parse_methods(methods)} if methods else set()

    def left(line: re.Match[str]) -> str:
        names = re.findall(r'"([^"]*)"', line[1])
        kept_names = [n for n in names if parse_methods(n)[0].label in wanted]
        return f"methods = [{', '.join(map(json.dumps, kept_names))}]"

    text = re.sub(r"^methods = \[(.*)\]$", left, text, flags=re.MULTILINE)
    head, *grids = re.split(GRID, text, flags=re.MULTILINE)
    return head + "".join(grid for grid in grids if not wanted or "\nmethods = []\n" not in grid)


def start(
    stage: str,
    task: tuple[str, ...],
    out: Path,
    workers: int,
    dry_run: bool,
    seeds: int | None,
    methods: str | None,
) -> None:
    for name in task or having(stage):
        text = narrowed(text_of(stage, name), seeds, methods)
        folder = out / f"bar-{stage}-{name}-{hash_of(text)[:8]}"
        rows = ROWS / f"{name}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "study.toml"
        file.write_text(text, "utf-8")
        with contextlib.closing(Store(folder / DATABASE)) as store:
            known, other = kept.restore(rows, store)
        click.echo(
            f"{rows.name}: {known} rows" + f", {other} of other code" * bool(other), err=True
        )
        begun = time.perf_counter()
        words = [str(file), "--out", str(folder), "--workers", str(workers)]
        try:
            run.main([*words, *["--dry-run"] * dry_run], standalone_mode=False)
        finally:
            if not dry_run:
                with contextlib.closing(Store(folder / DATABASE)) as store:
                    count = kept.keep(store, rows)
                took = time.perf_counter() - begun
                click.echo(f"{rows.name}: {count} rows after {took:.0f} s", err=True)


command = click.Command(
    "bar",
    params=[
        click.Argument(["stage"], type=click.Choice(stages())),
        click.Argument(["task"], type=click.Choice([*TASKS]), nargs=-1),
        click.Option(["--out"], type=Path, default=Path("runs"), help="Where the stores are kept."),
        click.Option(["--workers"], type=int, default=2, help="Runs at once."),
        click.Option(["--seeds"], type=int, help="Instead of the study's: 6, then 12, then 24."),
        click.Option(["--methods"], help="Only these of its methods, '' for none."),
        click.Option(["--dry-run"], is_flag=True, help="Only say what would run, and how long."),
    ],
    callback=start,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=__doc__,
)

if __name__ == "__main__":
    main(command)
