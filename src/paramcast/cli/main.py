"""The command line: `paramcast pilot`, `new-task`, `methods`, `tasks`."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import click
except ImportError:  # pragma: no cover - the library alone has no command line
    sys.exit("paramcast: the command line needs more packages: pip install 'paramcast[study]'")

from ..errors import ParamcastError, RunError, StudyError
from ..study.reading import MOST_SEEDS, printable, tell
from .options import (
    PATH,
    Interrupted,
    check_device,
    check_numerics,
    computing_options,
    engine_options,
    first_line,
    interruptible,
    leave,
    make_engine,
    store_option,
)
from .report import beside, report
from .roi import roi
from .study import study
from .watch import check_task_was_not_taken, make_trackers, tracker_options, watch

if TYPE_CHECKING:
    from ..study.engines.local import LocalEngine
    from ..study.engines.ray import RayEngine
    from ..study.plan import Options, Plan
    from ..study.tasks.task import Prepared

MOST_TRIALS = 1024


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paramcast")
def cli() -> None:
    """Predict parameters while a network trains, and find out whether that helps.

    \b
    Start with the pilot, which compares SGD with PLP fairly and says whether to adopt it:
        paramcast pilot                      on scikit-learn's digits, about a minute
        paramcast new-task my_task.py        write an example task to fill with your own
        paramcast pilot my_task.py:task      on your own data, model and loss
    """


@cli.command()
@click.argument("task", default="digits")
@click.option("--target", metavar="COLUMN", help="The column to predict, if TASK is a table.")
@click.option("--kind", help="Of a table's task: classes or regression [by the target's values].")
@click.option("--missing", help="Rows of a table with empty cells: drop or impute [refused].")
@click.option("--read", metavar="KEY=VALUE", multiple=True,
              help="How a table is written: sep, decimal, thousands, comment, encoding, na_values, "
              "skiprows; may be repeated.")  # fmt: skip
@click.option("--data-dir", metavar="FOLDER", help="Where a built-in task's data lie.")
@click.option("--methods", metavar="LIST", help="What to compare with the base [demon, plp].")
@click.option("--base", help="sgd, nesterov, adamw, rmsprop, demon, lookahead, ema [the task's].")
@click.option("--lr", type=float, help="Tune nothing: everything runs at this learning rate.")
@click.option("--lr-range", type=float, nargs=2, help="Learning rates to search [the task's].")
@click.option("--trials", type=int, help="Learning rates to try, a power of 2 [8].")
@click.option("--trial-seeds", type=int, help="Seeds per learning rate [3].")
@click.option("--seeds", type=int, help="Paired final seeds [12].")
@click.option(
    "--splits", type=int, help="As many seeds, each with a random split of its own (small data)."
)
@click.option("--epochs", type=int, help="Passes over the training data [the task's].")
@click.option("--batch-size", type=int, help="Examples per step [the task's].")
@click.option("--schedule", help="constant, warmup, cosine, cyclic or wsd [the task's].")
@click.option("--metric", help="What is judged, such as auroc or r2 (docs/tasks.md) [the task's].")
@click.option(
    "--margin",
    metavar="X|X%",
    help="Differences within it do not matter, X% of the base's value [0.5 points; 5%].",
)
@engine_options
@click.option("--quick", is_flag=True, help="4 learning rates x 2 seeds, 8 final seeds.")
@computing_options
@click.option("--out", type=PATH, help="Folder for pilot.json and pilot.db.")
@store_option
@tracker_options
@click.option("--dry-run", is_flag=True, help="Show the runs and the time they take, run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print pilot.json's content and only that.")
def pilot(**given: Any) -> None:
    """Compare SGD with PLP on TASK and say whether to adopt PLP.

    TASK is a built-in name (`paramcast tasks`), FILE.py:FUNCTION, a table DATA.csv (with
    --target; also .tsv, .parquet, .csv.gz), or a folder that holds one folder of images per class.
    A built-in name may choose a network and a number of training examples: digits/mlp,
    fashion@10000.

    Every method is tuned on the same learning rates; the final runs are paired by seed and judged
    on the test split, beside controls that tell a better method from a larger step and from noise.
    Finished runs are kept: after Ctrl-C the same command goes on.

    \b
    Examples:
      paramcast pilot
      paramcast pilot --quick
      paramcast pilot --lr 0.001 --schedule constant      as the paper trains
      paramcast pilot my_task.py:task --base adamw
      paramcast pilot data.csv --target price
      paramcast pilot photos/ --methods 'plp, plp(horizon=0.5), lookahead'
      paramcast pilot --engine ray --address ray://head:10001

    Exit codes: 0 finished whatever the verdict, 2 bad input, 1 runs failed, 130 interrupted.
    """
    first_line(f"task {given['task']}")
    if not given["dry_run"] and given["engine"] == "local":
        from ..study.engines.server import start_early

        start_early()
    with contextlib.redirect_stdout(sys.stderr):  # what the task prints is not our output
        text = _pilot(given)
    click.echo(text, nl=False)


def _pilot(given: dict[str, Any]) -> str:
    """The pilot command; returns what goes to standard output."""
    from ..study.judging.cautions import cautions
    from ..study.plan import Plan
    from ..study.tasks.description import lines
    from ..study.tasks.frames import table_options
    from ..study.tasks.scores import SCORES
    from ..study.tasks.source import find, load

    check_task_was_not_taken(given)
    table = table_options(given["kind"], given["missing"], given["read"])
    source = find(given["task"], given["target"], given["data_dir"], table)
    if given["metric"] is not None:
        _one_of("--metric", given["metric"], tuple(SCORES))
        source = replace(source, metric=given["metric"])
    device = check_device(given["device"], given["engine"])
    engine, numerics = make_engine(given), check_numerics(given, device)
    prepared = load(source)
    options = _options(given, source, prepared, device)
    others = (
        load(replace(source, split=split), quiet=True)
        for split in range(1, options.seeds if options.splits else 1)
    )
    plan = Plan(replace(options, numerics=numerics), prepared, given["out"], others)
    if not given["dry_run"] or given["as_json"]:
        for line in lines(prepared.description):
            tell(f"data: {line}")
    for sentence in cautions(plan):
        tell(sentence)
    if given["dry_run"]:
        with engine:
            return _dry_run(plan, engine.workers, as_json=given["as_json"])
    return _run(plan, engine, given)


def _run(plan: Plan, engine: LocalEngine | RayEngine, given: dict[str, Any]) -> str:
    from ..report.terminal import render
    from ..report.trackers import Following
    from ..study.pilot import run_pilot

    store, trackers = given["store"], make_trackers(given, plan.out)
    with (
        interruptible(f"kept in {plan.out}") as progress,
        engine,
        Following(plan.out, store, trackers, progress.say),
    ):
        engine.say = progress.say
        result = run_pilot(plan, engine=engine, watcher=progress, store_url=store)
    note = beside(plan.out)
    if given["as_json"]:
        return json.dumps(result, indent=1, allow_nan=False) + "\n"
    return render(result) + note


def _dry_run(plan: Plan, workers: int, *, as_json: bool) -> str:
    from ..report.watch.terminal import duration
    from ..study.pilot import estimate_seconds
    from ..study.tasks.description import lines

    description = plan.prepared.description
    tuning, final = plan.count()
    seconds = estimate_seconds(plan, workers)
    rates = plan.rates() if plan.options.lr is None else (plan.options.lr,)
    rows = [row.name for row in plan.rows(dict.fromkeys(plan.with_own_rate, 1.0))]
    if as_json:
        facts = {
            "tuning_runs": tuning,
            "final_runs": final,
            "workers": workers,
            "estimated_seconds": round(seconds, 1),
            "learning_rates": rates,
            "rows": rows,
            "description": description,
            "out": str(plan.out),
        }
        return json.dumps(facts, indent=1) + "\n"
    return printable("".join(f"{line}\n" for line in lines(description))) + (
        f"{tuning} tuning runs and {final} final runs on {workers} workers, "
        f"about {duration(seconds)}; results would go to {plan.out}\n"
        f"learning rates: {', '.join(f'{lr:.4g}' for lr in rates)}\n"
        f"final rows: {', '.join(rows)}\n"
    )


def _options(given: dict[str, Any], source: Any, prepared: Prepared, device: str) -> Options:
    """The user's choices over the task's, checked."""
    from ..study.plan import FULL, QUICK, Options, default_methods, parse_margin
    from ..study.tasks.task import BASES, SCHEDULES, check_lr_range
    from ..study.training.build import check_methods
    from ..study.training.methods import parse_methods

    task = prepared.task
    defaults = QUICK if given["quick"] else FULL
    own = task.base if isinstance(task.base, str) else "own"
    base = own if given["base"] is None else given["base"]
    _one_of("--base", base, (*BASES, *(["own"] if callable(task.base) else [])))
    schedule = task.schedule if given["schedule"] is None else given["schedule"]
    _one_of("--schedule", schedule, SCHEDULES)
    lr = given["lr"]
    if lr is not None:
        if not 0 < lr < math.inf:
            raise StudyError(f"--lr must be a finite number above 0, got {lr:g}")
        for name in ("lr_range", "trials", "trial_seeds"):
            if given[name] is not None:
                option = "--" + name.replace("_", "-")
                raise StudyError(f"--lr tunes nothing, so {option} has no use; give one of them")
    lr_range = given["lr_range"] or task.lr_range
    check_lr_range(lr_range, "--lr-range")
    if given["splits"] is not None:
        if given["seeds"] is not None:
            raise StudyError("--splits is also the number of seeds; leave out --seeds")
        if source.kind not in ("table", "images"):
            raise StudyError(
                "--splits is for tables and folders of images, which are split here; "
                "this task has a test split of its own"
            )
    margin, relative = parse_margin(given["margin"])
    default = default_methods(base)
    methods = parse_methods(default if given["methods"] is None else given["methods"])
    check_methods(task, base, methods)
    return Options(
        source=source,
        methods=methods,
        base=base,
        lr=lr,
        lr_range=(float(lr_range[0]), float(lr_range[1])),
        trials=_trials(defaults["trials"] if given["trials"] is None else given["trials"]),
        trial_seeds=_whole(given, "trial_seeds", 1, defaults["trial_seeds"]),
        seeds=_whole(
            given,
            "seeds" if given["splits"] is None else "splits",
            2,
            defaults["seeds"],
            "one seed has no spread, so no interval is possible",
        ),
        epochs=_whole(given, "epochs", 1, task.epochs),
        batch_size=_whole(given, "batch_size", 1, task.batch_size),
        schedule=schedule,
        margin=margin,
        relative_margin=relative,
        splits=given["splits"] is not None,
        device=device,
    )


def _whole(given: dict[str, Any], name: str, least: int, default: int, why: str = "") -> int:
    value = default if given[name] is None else given[name]
    if not least <= value <= MOST_SEEDS:
        option = "--" + name.replace("_", "-")
        reason = f" ({why})" if why else ""
        raise StudyError(f"{option} must be from {least} to {MOST_SEEDS}, got {value}{reason}")
    return int(value)


def _trials(trials: int) -> int:
    if not 1 <= trials <= MOST_TRIALS or trials & (trials - 1):
        raise StudyError(f"--trials must be a power of 2 up to {MOST_TRIALS}, got {trials}")
    return trials


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise StudyError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


@cli.command("new-task")
@click.argument("file", type=PATH)
def new_task(file: Path) -> None:
    """Write a commented example task to FILE, which runs as it is.

    \b
    Example:
      paramcast new-task my_task.py
      paramcast pilot my_task.py:task --quick
    """
    from importlib.resources import files

    if file.suffix != ".py":
        raise StudyError(f"FILE must end in .py, got {str(file)!r}")
    template = files("paramcast.study.tasks").joinpath("example_task.py").read_text("utf-8")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template)
    except FileExistsError:
        raise StudyError(f"{file} exists already and was left alone; choose another name") from None
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {file}; run it with: paramcast pilot {file}:task --quick")


@cli.command()
def methods() -> None:
    """List the methods, their roles and knobs."""
    from ..study.training.methods import METHODS, knobs

    for name, kind in METHODS.items():
        inside = f"({', '.join(knobs(name))})" if knobs(name) else ""
        click.echo(f"{name + inside:42} {kind.role:10} {kind.line}")


@cli.command()
@click.option("--data-dir", metavar="FOLDER", help="Where to look for data first.")
def tasks(data_dir: str | None) -> None:
    """List the built-in tasks, their networks and where their data are.

    TASK means its first network, TASK/NETWORK another one, TASK@N or TASK/NETWORK@N the same with
    N examples of the training set, always the same ones: fashion, fashion/mlp, fashion/mlp@10000.
    """
    from ..study.tasks.builtin import BUILTIN

    lines = []
    for name, task in BUILTIN.items():
        lines.append(f"{name:12} {task.line}")
        lines.append(f"{'':12} networks: {', '.join(task.networks)}")
        if task.data is not None:
            lines.append(f"{'':12} data: {task.data.whereabouts(data_dir)}")
    click.echo("\n".join(lines))


cli.add_command(study)
cli.add_command(roi)
cli.add_command(report)
cli.add_command(watch)


def main(command: click.Command = cli) -> None:
    """Run the command line, or another command; every mistake of the user ends in one sentence."""
    _open_what_is_closed()
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        # before anything runs: an exception would be raised in, and lost by, some import
        signal.signal(signal.SIGINT, leave)
    if isinstance(sys.stdout, io.TextIOWrapper):  # or a name that its encoding lacks is an error
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _main(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; Python would tell where it was
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Standard streams that were closed (`2>&-`) lead nowhere; else the next file gets their number
    and whatever is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _main(command: click.Command = cli) -> int:
    try:
        command.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        return _say(error.format_message().rstrip(".") + hint, 2)
    except RunError as error:
        return _say(str(error), 1)
    except ParamcastError as error:
        return _say(str(error), 2)
    except Interrupted as error:
        return _say(str(error), 130)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", 130)
    except PermissionError as error:
        return _say(f"{error.filename} may not be used ({error.strerror}); give access to it", 2)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes nowhere
        return _say(f"what it prints cannot be written ({error.strerror})", 2)
    return 0


def _say(message: str, code: int) -> int:
    click.echo(f"paramcast: {printable(' '.join(message.split()))}", err=True)
    return code
