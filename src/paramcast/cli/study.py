"""The command line of studies: `paramcast study run, status, resume, list, show, export`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StoreError, StudyError
from ..study.reading import as_written, printable
from .options import (
    PATH,
    check_device,
    check_numerics,
    computing_options,
    engine_options,
    first_line,
    interruptible,
    make_engine,
    store_option,
)
from .report import beside
from .watch import make_trackers, tracker_options

if TYPE_CHECKING:
    from ..study.grid.cells import Cell
    from ..study.grid.file import StudyFile
    from ..study.store.store import Store

RESUME = "give the folder of a study that this paramcast wrote"


@click.group()
def study() -> None:
    """Run many comparisons as one study, from a file or a ready-made one.

    \b
    Examples:
      paramcast study show                        the ready-made studies
      paramcast study show sensitivity > my.toml  one of them, to change
      paramcast study run sensitivity --dry-run   its runs and the time they take
      paramcast study run my.toml                 Ctrl-C keeps what has finished
      paramcast study list                        where they are and how far
      paramcast study resume paramcast-runs/NAME-HASH
      paramcast study export paramcast-runs/NAME-HASH cells.csv
    """


@study.command()
@click.argument("name")
@click.option("--out", type=PATH, help="Folder for study.json and study.db.")
@engine_options
@computing_options
@click.option("--data-dir", metavar="FOLDER", help="Where built-in tasks' data lie.")
@store_option
@tracker_options
@click.option("--dry-run", is_flag=True, help="Show the runs and the time they take, run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print study.json's content and only that.")
def run(name: str, **given: Any) -> None:
    """Run a study: FILE.toml, or the NAME of a ready-made one.

    Finished runs are kept in the folder: the same command goes on after Ctrl-C.

    \b
    Example:
      paramcast study run sensitivity --engine ray --address ray://head:10001
    """
    from ..study.grid.file import open_study

    opened, text = open_study(name)
    _run(opened, text, given)


@study.command()
@click.argument("folder", type=PATH)
@engine_options
@click.option("--data-dir", metavar="FOLDER", help="Where built-in tasks' data lie.")
@store_option
@tracker_options
@click.option("--json", "as_json", is_flag=True, help="Print study.json's content and only that.")
def resume(folder: Path, **given: Any) -> None:
    """Go on with the study in FOLDER; its file is kept there."""
    from ..study.grid.file import read
    from ..study.grid.place import stored

    with stored(folder, given["store"]) as store, as_written(store.name, RESUME):
        about = _about(store)
        given.update(out=folder, dry_run=False, device=about["device"])
        given.update(_stored_numerics(about))
        opened = read(about["text"], str(folder))
    _run(opened, about["text"], given)


@study.command()
@click.argument("folder", type=PATH)
@store_option
def status(folder: Path, store: str | None) -> None:
    """Say how far the study in FOLDER is."""
    click.echo(printable(_status(folder, store)))


@study.command("list")
@click.argument("parent", type=PATH, default=Path("paramcast-runs"))
def list_(parent: Path) -> None:
    """List the studies in the folders of PARENT."""
    from ..study.grid.place import DATABASE
    from ..study.store.folder import remembers

    folders = sorted(path for path in parent.glob("*") if remembers(path, DATABASE))
    if not folders:
        click.echo(f"no studies in {parent}")
    for folder in folders:
        try:
            click.echo(printable(_status(folder)))
        except StudyError as error:
            click.echo(printable(f"{folder}: {error}"))


@study.command()
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """Print a ready-made study's file, or what there is."""
    from ..study.grid.file import read, ready_made, ready_text

    if name is not None:
        click.echo(ready_text(name), nl=False)
        return
    for each in ready_made():
        click.echo(f"{each:14} {read(ready_text(each), each).question}")


@study.command()
@click.argument("folder", type=PATH)
@click.argument("file", type=PATH)
@click.option("--runs", is_flag=True, help="A row per run instead of a row per cell and method.")
@store_option
def export(folder: Path, file: Path, *, runs: bool, store: str | None) -> None:
    """Write the study in FOLDER to FILE.csv or FILE.parquet."""
    from ..study.grid.export import comparison_rows, read_result, run_rows, write

    rows = run_rows(folder, store) if runs else comparison_rows(read_result(folder))
    write(rows, file)
    click.echo(f"wrote {len(rows)} rows to {file}")


def _run(opened: StudyFile, text: str, given: dict[str, Any]) -> None:
    first_line(f"study {opened.name}")
    if not given["dry_run"] and given["engine"] == "local":
        from ..study.engines.server import start_early

        start_early()
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our output
        output = _output(opened, text, given)
    click.echo(output, nl=False)


def _output(opened: StudyFile, text: str, given: dict[str, Any]) -> str:
    from ..report.trackers import Following
    from ..study.grid.cells import make_cells
    from ..study.grid.run import default_folder, run_study

    device, engine = check_device(given["device"], given["engine"]), make_engine(given)
    numerics = check_numerics(_asked(opened, given), device)
    out = given["out"] or default_folder(opened, text, numerics)
    if given["dry_run"]:
        cells = make_cells(
            opened, out, device=device, numerics=numerics, data_dir=given["data_dir"]
        )
        with engine:
            return _dry_run(opened, cells, out, engine.workers, as_json=given["as_json"])
    trackers = make_trackers(given, out)
    with (
        interruptible(f"kept in {out}") as watcher,
        engine,
        Following(out, given["store"], trackers, watcher.say),
    ):
        engine.say = watcher.say
        result = run_study(
            opened,
            text,
            out,
            engine=engine,
            watcher=watcher,
            device=device,
            numerics=numerics,
            data_dir=given["data_dir"],
            store_url=given["store"],
        )
    from ..report.study import render

    note = beside(out)
    if given["as_json"]:
        return json.dumps(result, indent=1, allow_nan=False) + "\n"
    return render(result) + note


def _asked(opened: StudyFile, given: dict[str, Any]) -> dict[str, Any]:
    """The numerics of the command line or, where it says nothing, of the study's file."""
    names = ("precision", "compile", "channels_last")
    return {n: getattr(opened, n) if given[n] is None else given[n] for n in names}


def _stored_numerics(about: dict[str, Any]) -> dict[str, Any]:
    """What a stored study computes with, as options; a CPU's usual ones where it tells nothing."""
    from ..study.spec import DEFAULT

    stored = {**DEFAULT._asdict(), **about.get("numerics", {})}
    return {**stored, "compile": stored["compiled"]}


def _dry_run(
    opened: StudyFile, cells: list[Cell], out: Path, workers: int, *, as_json: bool
) -> str:
    from ..report.watch.terminal import duration
    from ..study.grid.run import count, estimate

    tuning, final = count(cells)
    seconds = estimate(cells, workers)
    if as_json:
        facts = {
            "cells": len(cells),
            "tuning_runs": tuning,
            "final_runs": final,
            "workers": workers,
            "estimated_seconds": round(seconds, 1),
            "out": str(out),
        }
        return json.dumps(facts, indent=1) + "\n"
    return (
        f"{opened.name}: {len(cells)} cells, {tuning} tuning runs and {final} final runs on "
        f"{workers} workers, about {duration(seconds)}; results would go to {out}\n"
    )


def _status(folder: Path, url: str | None = None) -> str:
    from ..study.grid.place import RESULT, stored
    from ..study.store.live import driver

    with stored(folder, url) as store, as_written(store.name, RESUME):
        about, at_work = _about(store), store.driver or driver(folder)
        counts, planned = store.counts(), dict(store.about("planned") or {})
    done = f"{counts.get('tune', 0)} of {planned.get('tuning', '?')} tuning runs, "
    done += f"{counts.get('final', 0)} of at most {planned.get('final', '?')} final runs"
    failed = f", {counts['failed']} failed attempts" if counts["failed"] else ""
    failed += f"; at work: {at_work}" if at_work else ""
    state = "finished" if (folder / RESULT).is_file() else "not finished"
    return f"{folder}: study {about['name']}, {state}; {done}{failed}"


def _about(store: Store) -> dict[str, Any]:
    """What a store says of its study."""
    about = store.about("study")
    if not isinstance(about, dict) or not {"name", "text", "device"} <= about.keys():
        raise StoreError(f"{store.name} is of no study; give the folder of a study")
    return about
