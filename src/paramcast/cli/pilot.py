"""The command line of the pilot: `paramcast pilot`."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import StudyError
from ..study.options import PilotOptions, continuing, flag_of
from ..study.reading import printable, tell
from .options import COMMAND, GroupedCommand, RunOptions, check_device, make_engine, takes
from .running import finished, followed, planned, starting

if TYPE_CHECKING:
    from ..report.progress import LiveProgress
    from ..study.own.training import OwnTraining, Subject
    from ..study.plan import Options, Plan
    from ..study.stored import Result
    from ..study.tasks.source import Source
    from ..study.tasks.task import Task
    from .options import AnyEngine


@dataclass(frozen=True)
class PilotCommand(PilotOptions, RunOptions):
    """All options of the command."""


@click.command(cls=GroupedCommand)
@click.argument("task", default="digits")
@takes(PilotCommand)
def pilot(task: str, given: PilotCommand) -> None:
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
      paramcast pilot train.py:train --budget 30m         a training loop of yours
      paramcast pilot --metric accuracy --lr-range 1e-4:1e-1 -- \\
          python train.py --lr {lr} --seed {seed}
      paramcast pilot --engine ray --address ray://head:10001

    Exit codes: 0 finished whatever the verdict, 2 bad input, 1 runs failed, 130 interrupted.
    """
    own = click.get_current_context().meta[COMMAND] is not None or given.candidate
    with starting("torch" if own else f"torch and task {task}", given):
        text = _pilot(task, given)
    click.echo(text, nl=False)


def _pilot(task: str, given: PilotCommand) -> str:
    """Run the pilot, or only plan it; return what goes to standard output."""
    plan, engine = plan_of(_source(task, given), given)
    if given.dry_run:
        with engine:
            return _dry_run(plan, engine.workers, as_json=given.as_json)
    return _run(plan, engine, given)


def _run(plan: Plan, engine: AnyEngine, given: PilotCommand) -> str:
    from ..report.terminal import render

    with followed(plan.out, engine, given) as progress:
        result = run(plan, engine, given, progress)
    return finished(result, render, plan.out, as_json=given.as_json)


def plan_of(source: Source, given: PilotCommand) -> tuple[Plan, AnyEngine]:
    """Load what is trained, plan it, and say what one should know before it runs.

    Returns:
        The plan, and what runs it.

    Raises:
        StudyError: the options do not fit what is trained, each other or this machine.
    """
    from ..study.judging.sentences import note
    from ..study.judging.verdict import Metric
    from ..study.plan import Plan
    from ..study.result import cautions
    from ..study.tasks.description import lines
    from ..study.tasks.own_file import HERE
    from ..study.tasks.source import load, load_subject
    from ..study.words import Words

    source = replace(
        source,
        metric=given.metric or "",
        tune_by=given.tune_by or "",
        test_examples=given.test_examples,
        higher_is_better=given.higher_is_better,
    )
    check_device(given)
    engine, subject = make_engine(given, here=source.where in HERE), load_subject(source)
    source = getattr(subject, "source", source)  # of a training: the function has said its kind
    options = _options(given, source, subject)
    # the splits of the seeds after the first, loaded one at a time
    others = (
        load(replace(source, split=split), quiet=True)
        for split in range(1, options.seeds if options.splits else 1)
    )
    again = functools.partial(continuing, given, source)
    plan = Plan(options, subject, given.out, others, again)
    # a dry run prints the description with its plan
    if not given.dry_run or given.as_json:
        for line in lines(subject.description):
            tell(f"data: {line}")
    # what the comparison cannot show is said before anything is trained
    for caution in cautions(plan):
        tell(note(caution, Metric(subject.metric_name, True, 0.0), Words("en")))
    return plan, engine


def run(plan: Plan, engine: AnyEngine, given: PilotCommand, progress: LiveProgress) -> Result:
    """Run what was planned, inside `followed`."""
    from ..study.grid.run import run_pilot
    from ..study.price import price, within

    o = plan.options
    progress.expected = (price(o) if o.max_runs is None else within(o, o.max_runs)[0]).usual
    return run_pilot(plan, engine=engine, watcher=progress, store_url=given.store)


def _source(task: str, given: PilotCommand) -> Source:
    """What is trained: a task, a function of one trial, or commands.

    Raises:
        StudyError: the options do not say one of them.
    """
    from ..study.own.command import of_candidates, of_command
    from ..study.tasks.source import find

    context = click.get_current_context()
    command = context.meta[COMMAND]
    searched = [each.name for each in given.search]
    if command is None and not given.candidate:
        return find(task, given.target, given.data_dir, given.table)
    if context.get_parameter_source("task") != click.core.ParameterSource.DEFAULT:
        raise StudyError(f"a pilot trains a TASK or a command, got both; leave out {task}")
    if command is not None and given.candidate:
        raise StudyError("--candidate goes with --base COMMAND; leave out what follows --")
    if command is not None:
        return of_command(command, searched)
    return of_candidates(given.base, given.candidate, searched)


def _options(given: PilotCommand, source: Source, subject: Subject) -> Options:
    """The subject's defaults, overridden by the user's choices; check that the choices fit."""
    from ..study.own.training import OwnTraining
    from ..study.plan import QUICK, usual_options
    from ..study.spec import ALWAYS, NEVER, OPEN
    from ..study.tasks.task import check_lr_range
    from ..study.training.methods import parse_methods

    # options that exclude each other
    searched = [each.name for each in given.search]
    if twice := [name for name in searched if searched.count(name) > 1]:
        raise StudyError(f"--search {twice[0]} is given twice; give it once, with all its values")
    if given.lr is not None:
        for name in ("lr_range", "search", "trials", "trial_seeds", "tuned_base"):
            if getattr(given, name) not in (None, ()):
                raise StudyError(
                    f"--lr tunes nothing, so {flag_of(name)} has no use; give one of them"
                )
    if given.tuned_base is not None and given.search:
        raise StudyError("--tuned-base knows the base's rate alone; leave out --search or it")
    if given.tuned_base is not None and given.lr_range is not None:
        raise StudyError("--tuned-base searches around its rate, so --lr-range has no use")
    if given.splits is not None:
        if given.seeds is not None:
            raise StudyError("--splits is also the number of seeds; leave out --seeds")
        if source.kind not in ("table", "images"):
            raise StudyError(
                "--splits is for tables and folders of images, which are split here; "
                "this task has a test split of its own"
            )

    # fields of the same name override the defaults
    usual = usual_options(source, subject)
    asked: dict[str, Any] = {**(QUICK if given.quick else {})}
    asked |= {k: v for k, v in vars(given).items() if v is not None and hasattr(usual, k)}
    # options that a plan holds in another form than the command line
    asked["splits"] = given.splits is not None
    if given.methods is not None:
        asked["methods"] = parse_methods(given.methods)
    asked["lazy"] = not given.all_arms
    if given.all_arms or given.speed is not None:
        asked["speed"] = NEVER if given.speed is False else ALWAYS
    else:
        asked["speed"] = OPEN
    if given.margin is not None:
        asked["margin"], asked["relative_margin"] = given.margin
    if given.splits is not None:
        asked["seeds"] = given.splits
    if isinstance(subject, OwnTraining):
        options = _of_training(given, subject, usual, asked)
    else:
        options = _of_task(given, subject.task, usual, asked)
    if options.lr is None:
        check_lr_range(options.lr_range, "--lr-range")
    return options


def _of_task(given: PilotCommand, task: Task, usual: Options, asked: dict[str, Any]) -> Options:
    """The options of a comparison on a task."""
    from ..study.spec import BASES
    from ..study.training.build import check_methods, check_search

    # first what this kind of subject cannot follow
    for name in TRAINING_ONLY:
        if getattr(given, name) not in (None, ()):
            raise StudyError(
                f"{flag_of(name)} is for trainings of your own; leave it out for a task"
            )
    if given.base is not None and given.base not in (*BASES, "own"):
        raise StudyError(f"--base must be one of {', '.join(BASES)}, own, got {given.base!r}")
    if given.base == "own" and not callable(task.base):
        raise StudyError("--base own needs a task whose base is a function; name an optimizer")
    options = replace(usual, **asked, numerics=given.numerics())
    check_methods(task, options.base, options.methods)
    check_search(options.base, options.methods, options.search)
    return options


def _of_training(
    given: PilotCommand, training: OwnTraining, usual: Options, asked: dict[str, Any]
) -> Options:
    """The options of a comparison of a training of the user's."""
    from ..study.options import parse_margin
    from ..study.own.wrapping import check_own_methods

    # a training makes its own base, schedule and batches
    for name in TASK_ONLY:
        if getattr(given, name) is not None and (name != "base" or training.wraps):
            raise StudyError(f"{flag_of(name)} is for tasks; this training decides that itself")
    # the command line takes precedence over the file
    if given.margin is None and training.declared.margin:
        asked["margin"], asked["relative_margin"] = parse_margin(training.declared.margin)
    options = replace(usual, **{**asked, "base": "own"})
    if not training.wraps:
        options = _of_candidates(given, training, options)
    # neither the file nor the command says where to search
    if options.lr is None and options.lr_range == (0.0, 0.0):
        raise StudyError(
            "which learning rates may be tried? Say it with --lr-range LOW:HIGH, or tune nothing "
            "with --lr X"
        )
    check_own_methods(options.methods)
    return options


def _of_candidates(given: PilotCommand, training: OwnTraining, options: Options) -> Options:
    """The options of a comparison of commands, which differ in more than what wraps a base."""
    from ..study.own.command import takes
    from ..study.spec import NEVER
    from ..study.training.methods import Candidate

    if given.methods is not None:
        raise StudyError("--methods go on one command; here each --candidate is a method")
    commands = dict(training.source.commands)
    # commands that bring their rates are compared as they are
    if not takes(commands["base"], "lr"):
        for name in ("lr", "lr_range", "search", "trials", "trial_seeds"):
            if getattr(given, name) not in (None, ()):
                raise StudyError(f"{flag_of(name)} has no use: no command has {{lr}} in it")
        options = replace(options, lr=0.0)  # each at its own
    return replace(
        options,
        methods=tuple(Candidate(name) for name in commands if name != "base"),
        speed=options.speed if all(takes(w, "share") for w in commands.values()) else NEVER,
        random_jump=False,
    )


TASK_ONLY = (
    "base", "epochs", "batch_size", "schedule", "precision", "compile", "channels_last",
)  # fmt: skip
TRAINING_ONLY = ("tune_by", "higher_is_better", "test_examples", "candidate")
"""Options that only a task, or only a training of the user's, can follow."""


def _dry_run(plan: Plan, workers: int, *, as_json: bool) -> str:
    from ..study.judging.stats import could_show
    from ..study.price import affordable, within
    from ..study.search import described, settings_at
    from ..study.tasks.description import lines

    description = plan.subject.description
    o = plan.options
    trials = o.trials if o.max_runs is None else affordable(o, o.max_runs)[0]
    rates = plan.rates(trials) if o.lr is None else (o.lr,)
    # any rate will do: only the names are shown
    rows = [row.name for row in plan.rows(dict.fromkeys(plan.with_own_rate, 1.0))]
    looks = o.looks if o.max_runs is None else within(o, o.max_runs)[1]
    shows = [(look.seeds, could_show(look.seeds)) for look in looks]
    facts = {
        "learning_rates": rates,
        **({"settings": [dict(settings_at(lr)) for lr in rates]} if plan.options.search else {}),
        "rows": rows,
        "description": description,
        "looks": [{"seeds": n, "spread_in_margins": round(spread, 2)} for n, spread in shows],
    }
    told = planned([plan], workers, plan.out, facts, as_json=as_json)
    if as_json:
        return told
    return (
        printable("".join(f"{line}\n" for line in lines(description)))
        + f"{told}learning rates: {', '.join(map(described, rates))}\n"
        + f"arms: {', '.join(rows)}"
        + (" (controls only where they can change a verdict)\n" if plan.options.lazy else "\n")
        + "what it could show: differences of a margin, if the pairs spread (sd) by less than "
        + ", ".join(f"{spread:.2f} margins with {n} seeds" for n, spread in shows)
        + "\n"
    )
