"""The command line of studies: `paramcast study run, status, resume, show, export`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import StoreError
from ..study.options import PATH, TASK, parse_device
from ..study.reading import as_written, printable
from .options import (
    EngineOptions,
    GroupedCommand,
    OutputOptions,
    RunOptions,
    aside,
    check_device,
    make_engine,
    store_option,
    takes,
)
from .running import finished, followed, planned, starting

if TYPE_CHECKING:
    from ..study.grid.file import StudyFile
    from ..study.store.store import Store

DATA_DIR = aside(TASK, "Where built-in tasks' data lie.", metavar="FOLDER")
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
      paramcast study status paramcast-runs/NAME-HASH
      paramcast study resume paramcast-runs/NAME-HASH
      paramcast study export paramcast-runs/NAME-HASH cells.csv
    """


@dataclass(frozen=True)
class StudyOptions(RunOptions):
    """All options of `study run`."""

    data_dir: str | None = DATA_DIR


@dataclass(frozen=True)
class ResumeOptions(EngineOptions, OutputOptions):
    """All options of `study resume`; the folder holds the others."""

    data_dir: str | None = DATA_DIR


@study.command(cls=GroupedCommand)
@click.argument("name")
@takes(StudyOptions)
def run(name: str, given: StudyOptions) -> None:
    """Run a study: FILE.toml, or the NAME of a ready-made one.

    Finished runs are kept in the folder: the same command goes on after Ctrl-C.

    \b
    Example:
      paramcast study run sensitivity --engine ray --address ray://head:10001
    """
    from ..study.grid.file import open_study

    opened, text = open_study(name)
    _run(opened, text, given)


@study.command(cls=GroupedCommand)
@click.argument("folder", type=PATH)
@takes(ResumeOptions)
def resume(folder: Path, given: ResumeOptions) -> None:
    """Go on with the study in FOLDER; its file is kept there."""
    from ..study.grid.file import read
    from ..study.spec import DEFAULT
    from ..study.store.folder import reading

    with reading(folder, given.store) as store, as_written(store.name, RESUME):
        about = _about(store)
        # device and numerics as the study was started with, because they are in its runs' keys
        numerics = {**DEFAULT._asdict(), **about.get("numerics", {})}
        numerics["compile"] = numerics.pop("compiled")
        device = parse_device(about["device"])
        whole = StudyOptions(**vars(given), **numerics, out=folder, device=device)
        opened = read(about["text"], str(folder))
    _run(opened, about["text"], whole)


@study.command()
@click.argument("folder", type=PATH)
@store_option
def status(folder: Path, store: str | None) -> None:
    """Say how far the study in FOLDER is."""
    click.echo(printable(_status(folder, store)))


@study.command()
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """Print a ready-made study's file, or what there is."""
    from ..study.grid.file import open_study, read, ready_made

    if name is not None:
        click.echo(open_study(name)[1], nl=False)
        return
    for each, text in ready_made().items():
        click.echo(f"{each:14} {read(text, each).question}")


@study.command()
@click.argument("folder", type=PATH)
@click.argument("file", type=PATH)
@click.option("--runs", is_flag=True, help="A row per run instead of a row per cell and method.")
@store_option
def export(folder: Path, file: Path, *, runs: bool, store: str | None) -> None:
    """Write the study in FOLDER to FILE.csv or FILE.parquet."""
    from ..study.grid.export import comparison_rows, run_rows, write
    from ..study.stored import read_result

    rows = run_rows(folder, store) if runs else comparison_rows(read_result(folder, "study"))
    write(rows, file)
    click.echo(f"wrote {len(rows)} rows to {file}")


def _run(opened: StudyFile, text: str, given: StudyOptions) -> None:
    with starting(f"torch and study {opened.name}", given):
        output = _output(opened, text, given)
    click.echo(output, nl=False)


def _output(opened: StudyFile, text: str, given: StudyOptions) -> str:
    from ..report.study import render
    from ..study.grid.cells import make_cells
    from ..study.grid.run import default_folder, run_study

    check_device(given)
    engine = make_engine(given)
    for name in ("precision", "compile", "channels_last"):  # the file's, unless an option says
        if getattr(given, name) is None:
            given = replace(given, **{name: getattr(opened, name)})
    numerics = given.numerics()
    out = given.out or default_folder(opened, text, numerics)
    where: dict[str, Any] = {"device": given.device, "data_dir": given.data_dir}
    # plan only
    if given.dry_run:
        cells = make_cells(opened, out, numerics=numerics, **where)
        facts = {"cells": len(cells)}
        with engine:
            plans = [cell.plan for cell in cells]
            told = planned(plans, engine.workers, out, facts, as_json=given.as_json)
        return told if given.as_json else f"{opened.name}: {len(cells)} cells, {told}"
    with followed(out, engine, given) as progress:
        result = run_study(
            opened, text, out, engine=engine, watcher=progress, store_url=given.store,
            numerics=numerics, **where,
        )  # fmt: skip
    return finished(result, render, out, as_json=given.as_json)


def _status(folder: Path, url: str | None = None) -> str:
    from ..study.store.folder import RESULT, reading
    from ..study.store.live import driver

    with reading(folder, url) as store, as_written(store.name, RESUME):
        about, at_work = _about(store), store.driver or driver(folder)
        counts, planned = store.counts(), dict(store.about("planned") or {})
        unknown = 0 if planned else "?"
    # what is planned is not known before the first look
    done = f"{counts.get('tune', 0)} of {planned.get('tuning', unknown)} tuning runs, "
    done += f"{counts.get('final', 0)} of at most {planned.get('final', unknown)} final runs"
    failed = f", {counts['failed']} failed attempts" if counts["failed"] else ""
    failed += f"; at work: {at_work}" if at_work else ""
    state = "finished" if (folder / RESULT).is_file() else "not finished"
    return f"{folder}: study {about['name']}, {state}; {done}{failed}"


def _about(store: Store) -> dict[str, Any]:
    """The specification of a store's study."""
    from ..study.store.folder import specification_of

    about = specification_of(store)
    if about["kind"] != "study" or not {"name", "text", "device"} <= about.keys():
        raise StoreError(f"{store.name} is not of a study; give the folder of a study")
    return about
