"""Which columns of a table hold the method, the seed and the value: as given, or by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._directions import in_words, known_direction
from ...errors import StudyError
from ..reading import shown
from .numbers import numbers_of
from .options import JudgeOptions

# the names that say what a column holds, as `plain` writes them
METHOD = ("method", "model", "algorithm", "algo", "optimizer", "optimiser", "opt", "variant", "arm",
          "treatment", "system", "classifier", "regressor", "estimator", "learner")  # fmt: skip
SEED = ("seed", "random_seed", "random_state", "rng_seed", "rng", "fold", "cv_fold", "split",
        "repeat", "replicate", "replication")  # fmt: skip
FOLD = ("fold", "cv_fold")
LR = ("lr", "learning_rate", "learningrate")
SECONDS = ("seconds", "time", "time_s", "duration", "duration_s", "runtime", "train_time",
           "training_time", "fit_time", "wall_time", "elapsed")  # fmt: skip
STATE = ("state", "status")
TRAINING = {"train", "training", "step", "epoch"}
PREFIX = re.compile(r"^(params|metrics|tags|config|summary|hparams|data)[./]", re.IGNORECASE)
MOST_NAMED = 12
"""Columns that an error lists."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold; None or () if it has no such column.

    Attributes:
        method: the columns whose texts together name a method; in a wide table () with `wide`.
        wide: the columns that hold the values, one per method.
        seed: the columns that together name a pair; () if nothing pairs the rows.
        value: the column of the values or, in a wide table, the name of what they are.
        lr, seconds, state: further columns.
    """

    method: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    value: str | None = None
    lr: str | None = None
    seconds: str | None = None
    state: str | None = None
    wide: tuple[str, ...] = ()


def plain(name: object) -> str:
    """A column's name without its tracker's prefix, in lower case, words joined by _."""
    return in_words(PREFIX.sub("", str(name)))


def find_columns(frame: Any, given: JudgeOptions) -> Columns:
    """The columns, with those that were not given found by their names.

    Raises:
        StudyError: a column is missing, or none or several may be meant.
    """
    names = [str(name) for name in frame.columns]
    frame.columns = names
    if not len(frame) or not names:
        raise StudyError("the table has no rows; it needs one row per training")
    # as named, exactly or by the plain form of a name that no other column has
    told = Columns(
        method=tuple(_named(frame, name, "--method") for name in given.method),
        seed=tuple(_named(frame, name, "--seed") for name in given.seed),
        value=given.value,
        lr=given.lr and _named(frame, given.lr, "--lr"),
        seconds=given.seconds and _named(frame, given.seconds, "--seconds"),
    )
    seed: tuple[str, ...] = ()
    if not given.unpaired:
        seed = told.seed or _one(frame, SEED, "--seed", "seed that pairs the rows")
    if given.wide or (given.base in names and not given.method):
        return _wide(frame, replace(told, seed=seed), given.only)
    method = told.method or _one(frame, METHOD, "--method", "method")
    if not method:
        raise StudyError(
            f"no column name says that it holds the methods; name it with --method, or say "
            f"--wide if every method has a column. There are {_listed(names)}"
        )
    taken = {*method, *seed}
    value = _value(frame, taken) if told.value is None else _named(frame, told.value, "--value")
    return _others(frame, replace(told, method=method, seed=seed, value=value))


def _wide(frame: Any, told: Columns, only: Sequence[str]) -> Columns:
    """A column per method: those asked for, or all that are not known to be something else."""
    if told.method:
        raise StudyError(
            "--method names the column of a long table, and --wide says that every method has a "
            "column; leave out one of them"
        )
    others = _others(frame, told)
    known = {*told.seed, *filter(None, (others.lr, others.seconds, others.state))}
    # what the user names, else every column of numbers that nothing else claims
    columns = [_named(frame, name, "--only") for name in only] or [
        name
        for name in frame.columns
        if name not in known and plain(name) not in SEED and _numeric(frame[name])
    ]
    if not columns:
        raise StudyError("no column of the table holds numbers, so there is nothing to compare")
    return replace(others, value=told.value or "value", wide=tuple(columns), lr=None, seconds=None)


def _others(frame: Any, told: Columns) -> Columns:
    """Add the columns that a table may also have."""
    taken = {*told.method, *told.seed, told.value}
    found = {
        name: next((c for c in frame.columns if plain(c) in known and c not in taken), None)
        for name, known in (("state", STATE), ("lr", LR), ("seconds", SECONDS))
    }
    for name in ("lr", "seconds"):  # a column of texts such as "1.2min" is left out
        if found[name] is not None and not _readable(frame[found[name]]):
            found[name] = None
    more: dict[str, Any] = {name: getattr(told, name) or own for name, own in found.items()}
    return replace(told, **more)


def _named(frame: Any, name: str, option: str) -> str:
    """The column that an option names.

    Raises:
        StudyError: there is none, or it appears twice.
    """
    names = list(frame.columns)
    like = [name] if name in names else [each for each in names if plain(each) == plain(name)]
    # or by its end, as "acc" for "val/acc"
    like = like or [each for each in names if plain(each).endswith(f"_{plain(name)}")]
    if len(like) != 1:
        raise StudyError(
            f"{option} {shown(name)} is not a column of the table; there are {_listed(names)}"
            if not like
            else f"{option} {shown(name)} may be {_listed(like)}; give the whole name"
        )
    (found,) = like
    if names.count(found) > 1 or f"{found}.1" in names:  # as pandas calls a second one
        raise StudyError(f"column {shown(found)} appears twice in the table; rename or remove one")
    return str(found)


def _one(frame: Any, known: Sequence[str], option: str, what: str) -> tuple[str, ...]:
    """The one column whose name is known and whose values differ; () if no name is known."""
    like = [name for name in frame.columns if plain(name) in known]
    differing = [name for name in like if frame[name].astype(str).nunique() > 1]
    found = differing or like
    if len(found) > 1:
        raise StudyError(
            f"{_listed(found)} may each be the {what}; say which with {option} (given twice, both "
            "together count)"
        )
    return tuple(_named(frame, name, option) for name in found)


def _value(frame: Any, taken: set[str]) -> str:
    """The one column that holds a known kind of value, not measured in training."""
    names = [name for name in frame.columns if name not in taken]
    known = [
        name
        for name in names
        if known_direction(name) is not None and not TRAINING & set(plain(name).split("_"))
    ]
    # of several names, those that hold numbers
    known = [name for name in known if _numeric(frame[name])] if len(known) > 1 else known
    if len(known) == 1:
        return _named(frame, known[0], "--value")
    if known:
        raise StudyError(f"{_listed(known)} may each be judged; say which with --value")
    raise StudyError(
        f"no column name says that it holds the values; name it with --value. There are "
        f"{_listed(names)}"
    )


def _numeric(column: Any) -> bool:
    """Whether the first cells that are not empty look like numbers."""
    first = column.dropna().astype(str).str.strip()
    first = first[first != ""].head(20)
    return len(first) > 0 and first.str.fullmatch(LIKE_NUMBER).mean() > 0.5


def _readable(column: Any) -> bool:
    """Whether every cell is a number or empty."""
    try:
        numbers_of(column)
    except StudyError:
        return False
    return True


LIKE_NUMBER = r"[-+]?(\d[\d.,]*|[.,]\d+)([eE][-+]?\d+)?\s?%?|[-+]?(nan|inf|infinity)"


def _listed(names: Sequence[str]) -> str:
    """Names for a message, at most a dozen."""
    cut = [shown(name, 40) for name in names[:MOST_NAMED]]
    more = f", ... ({len(names)} in all)" if len(names) > MOST_NAMED else ""
    return ", ".join(cut) + more
