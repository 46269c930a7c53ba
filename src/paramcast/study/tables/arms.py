"""From a frame to the arms that are judged: pairs, roles, rates, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._directions import share_named
from ...errors import StudyError
from ..judging.table import BASE, CONTROL, METHOD, REFERENCE
from ..judging.verdict import Arm
from ..reading import MOST_SEEDS, is_text, shown
from .columns import FOLD, Columns, plain
from .numbers import numbers_of, place
from .options import OF_VALUES, JudgeOptions

MOST_METHODS, MOST_NAME = 100, 100
"""The most methods in a table, and characters of a method's name."""
FINISHED = ("finished", "done", "success", "completed", "complete", "")
USUAL_BASES = ("base", "baseline", "sgd", "adamw", "adam")
"""The names taken for the base if none is given; the first one found counts."""
Array = npt.NDArray[np.float64]


@dataclass
class Arms:
    """The arms of a table, the base first.

    Attributes:
        columns: those that were read.
        arms: with the values that are judged; a diverged run's is the worst of the table.
        seconds: by arm, those of its runs; [] where they are not known.
        places: by arm, where the table holds its runs.
        metric, in_percent: the name of the values, and whether they lie between 0 and 1 and are
            shown in per cent.
        pairs: the names of the pairs; () if nothing pairs the rows.
        overlap: test examples per training example, where pairs are folds.
        facts: what was read, for `tasks.description`.
        worst: what a diverged run counts as.
    """

    columns: Columns
    arms: list[Arm]
    seconds: dict[str, list[float]]
    places: dict[str, list[str]]
    metric: str
    in_percent: bool
    pairs: tuple[str, ...]
    overlap: float
    worst: float
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


def arms_of(frame: Any, columns: Columns, given: JudgeOptions, *, higher: bool) -> Arms:
    """The arms of a table.

    Args:
        frame, columns: the table, and what its columns hold.
        given: the roles that were named, and how numbers are written.
        higher: whether a higher value is better.

    Raises:
        StudyError: the table cannot be judged; the message says what to do.
    """
    facts: dict[str, dict[str, Any]] = {"results": {"rows": len(frame)}}
    spelling = {key: value for key, value in given.read if key in OF_VALUES}
    long, signed = _long(frame, columns, facts, spelling)
    if given.only and columns.method:
        _all_there(given.only, long["method"], "--only")
        long = long[long["method"].isin(given.only)]
    methods = list(dict.fromkeys(long["method"]))
    _check_methods(methods, columns)
    roles = _roles(methods, given)
    name = columns.value or "value"
    metric, in_percent, scale = _unit(long["value"], name, facts, signed=signed)
    long = long.assign(value=long["value"] / scale)
    # values by pair and method, in the order of the pairs
    first = next(name for name, (role, _) in roles.items() if role == BASE)
    order = [first, *(name for name in methods if name != first)]
    paired = bool(columns.seed) or (bool(columns.wide) and not given.unpaired)
    pairs = _paired(long, order, columns, facts) if paired else ()
    by_method: dict[str, Any] = dict(iter(long.groupby("method", sort=False)))
    if paired:
        by_method = {n: each.set_index("pair").loc[[*pairs]] for n, each in by_method.items()}
    _check_counts(by_method, order, paired=paired)
    # a diverged run counts as the worst value that any run has
    known = long["value"].dropna()
    if known.empty:
        raise StudyError(f"no run of the table has a value in {name!r}; name another column")
    worst = float(known.min() if higher else known.max())
    arms, seconds, places = [], {}, {}
    for name in order:
        rows = by_method[name]
        values = rows["value"].to_numpy(dtype=float)
        lost = np.isnan(values)
        rates = rows["lr"].dropna().unique()
        arms.append(
            Arm(
                name, roles[name][0], float(rates[0]) if len(rates) == 1 else 0.0,
                tuple(map(float, np.where(lost, worst, values))), (),
                tuple(map(bool, lost)), (), roles[name][1], "use",
            )
        )  # fmt: skip
        places[name] = [*rows["place"]]
        took = rows["seconds"].to_numpy(dtype=float)
        seconds[name] = [] if np.isnan(took).any() else [*map(float, took)]
    overlap = 0.0
    folds = [name for name in columns.seed if plain(name) in FOLD]
    if folds and paired:
        # of k folds each trains on k - 1 and tests on one
        k = frame[folds[0]].astype(str).nunique()
        overlap = 1 / (k - 1) if k > 1 else 0.0
        facts["results_folds"] = {"column": folds[0], "k": k}
    facts["results"] |= {"methods": len(order)}
    return Arms(columns, arms, seconds, places, metric, in_percent, pairs, overlap, worst, facts)


def _long(
    frame: Any, columns: Columns, facts: dict[str, dict[str, Any]], spelling: dict[str, str]
) -> tuple[Any, bool]:
    """A row per run, and whether its values had percent signs.

    The columns are method, pair, value, lr and seconds; the index is the line.
    """
    import pandas as pd

    # runs that have not finished have no result yet
    if columns.state is not None:
        state = frame[columns.state].fillna("").astype(str).str.strip().str.lower()
        going = ~state.isin(FINISHED)
        if going.any():
            counts = state[going].value_counts()
            facts["results_unfinished"] = {
                "rows": int(going.sum()), "states": [[k, int(n)] for k, n in counts.items()],
            }  # fmt: skip
            frame = frame[~going]

    def read(name: str) -> Any:
        return numbers_of(frame[name], **spelling)

    def optional(name: str | None) -> Any:
        return np.nan if name is None else read(name).values

    pair = _names(frame, columns.seed, whole=True) if columns.seed else None
    if columns.wide:
        # a column per method; an empty cell means that there was no run
        parts, written = [], []
        for name in columns.wide:
            numbers = read(name)
            written.append(numbers)
            part = pd.DataFrame({"value": numbers.values, "method": name}, index=frame.index)
            part["pair"] = part.index.astype(str) if pair is None else pair
            parts.append(part[~numbers.empty])
        long = pd.concat(parts)
        long.index.name = frame.index.name
        long["lr"] = long["seconds"] = np.nan
    else:
        written = [read(columns.value)] if columns.value else []
        long = pd.DataFrame(
            {
                "value": written[0].values,
                "method": _names(frame, columns.method),
                "lr": optional(columns.lr),
                "seconds": optional(columns.seconds),
            },
            index=frame.index,
        )
        long["pair"] = "" if pair is None else pair
    # the columns of a wide table are compared with each other: one unit for all
    percents = {numbers.percent for numbers in written if not np.isnan(numbers.values).all()}
    if len(percents) > 1:
        raise StudyError(
            "some columns have percent signs and others have none; write all values the same way"
        )
    if any(numbers.comma for numbers in written):
        facts["results_comma"] = {}
    # rows without a method or a seed belong to no pair
    nameless = (long["method"] == "") | (bool(columns.seed) & (long["pair"] == ""))
    if nameless.any():
        facts["results_nameless"] = {"rows": int(nameless.sum())}
        long = long[~nameless].copy()
    if long.empty:
        raise StudyError("no row of the table has a method and a finished run; nothing to judge")
    # where a value stands, for messages and the report's table of runs
    long["place"] = f"{long.index.name or 'row'} " + long.index.astype(str)
    if columns.wide:
        long["place"] += ", " + long["method"]
    return long, percents == {True}


def _names(frame: Any, names: Sequence[str], *, whole: bool = False) -> Any:
    """The texts of one column, or of several with their names.

    Args:
        whole: write whole numbers without a fraction; pandas makes floats of a column with gaps.
    """
    parts = []
    for name in names:
        column = frame[name]
        if whole and column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
            column = column.astype("Int64")
        texts = column.astype(object).where(column.notna(), "").astype(str).str.strip()
        if len(names) > 1:
            texts = (plain(name) + "=" + texts).where(texts != "", "")
        parts.append(texts)
    # "optimizer=sgd, lr=0.1", and nothing where one of them is empty
    found = parts[0]
    for each in parts[1:]:
        found = (found + ", " + each).where((found != "") & (each != ""), "")
    return found


def _check_methods(methods: Sequence[str], columns: Columns) -> None:
    where = " and ".join(map(repr, columns.method)) or "the columns"
    if len(methods) < 2:
        raise StudyError(
            f"there is only one method in {where}, {shown(methods[0], 40)}, and nothing to compare "
            "it with; add the base's rows, or name the column of the methods with --method"
        )
    # such as a column of run names
    if len(methods) > MOST_METHODS:
        raise StudyError(
            f"there are {len(methods)} different methods in {where}, such as "
            f"{shown(methods[0], 40)}, at most {MOST_METHODS} can be judged; name the column of "
            "the methods with --method, or some of them with --only"
        )
    for name in methods:
        if len(name) > MOST_NAME or not is_text(name):
            raise StudyError(
                f"method {shown(name, 40)} is not a name of at most {MOST_NAME} characters; "
                "shorten it, or name the column of the methods with --method"
            )


def _check_counts(by_method: dict[str, Any], order: Sequence[str], *, paired: bool) -> None:
    for name in order:
        n = len(by_method[name])
        if n < 2:
            raise StudyError(
                f"{shown(name, 40)} has {n} value{'' if n == 1 else 's'}"
                f"{' in pairs' if paired else ''}, and without two there is no spread; add runs"
            )
        if n > MOST_SEEDS:
            raise StudyError(
                f"{shown(name, 40)} has {n} values, at most {MOST_SEEDS} can be judged; leave one "
                "row per training, such as its last"
            )


def _paired(
    long: Any, order: Sequence[str], columns: Columns, facts: dict[str, dict[str, Any]]
) -> tuple[str, ...]:
    """The pairs that every method has, in the order of their seeds.

    Raises:
        StudyError: a method has two values for a pair, or fewer than two pairs are complete.
    """
    # which of two values counts would be a choice that could be made after looking
    twice = long.duplicated(["method", "pair"], keep=False)
    if twice.any():
        first = long[twice].iloc[0]
        same = long[(long["method"] == first["method"]) & (long["pair"] == first["pair"])]
        lines = " and ".join(str(label) for label in same.index[:3])
        raise StudyError(
            f"{shown(first['method'], 40)} with {_seed_name(columns)} {shown(first['pair'], 40)} "
            f"is in {long.index.name or 'row'}s {lines}; keep one of them or, if they differ "
            "in another column, such as the learning rate, name both: --method A --method B"
        )
    # only seeds that every method has: differences are taken seed by seed
    there = long.groupby("pair", sort=False)["method"].count()
    complete = there.index[there == len(order)]
    pairs = tuple(sorted(complete, key=_natural))
    alone = long[~long["pair"].isin(complete)]
    if len(pairs) < 2:
        raise StudyError(
            f"{len(pairs)} of {len(there)} values of {_seed_name(columns)} have every method, and "
            f"pairs need 2 or more; give all methods the same, leave methods out with --only, or "
            "compare groups with --unpaired"
        )
    if len(alone):
        listed = alone.groupby("pair", sort=False)["method"].agg(", ".join)
        facts["results_alone"] = {
            "seeds": [[each, listed[each]] for each in sorted(listed.index, key=_natural)],
        }
    return pairs


def _seed_name(columns: Columns) -> str:
    return " and ".join(columns.seed) or "the row"


def _natural(text: str) -> tuple[bool, float, str]:
    """Sorts numbers as numbers, before texts."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _roles(methods: Sequence[str], given: JudgeOptions) -> dict[str, tuple[str, str]]:
    """The role of each method, and what it is a control of."""
    roles = dict.fromkeys(methods, (METHOD, ""))
    for text in given.control:
        name, _, whose = (text, "", "") if text in roles else text.rpartition("=")
        _all_there([name or text, *([whose] if whose else [])], methods, "--control")
        roles[name] = CONTROL, whose
    _all_there(given.reference, methods, "--reference")
    for name in given.reference:
        if roles[name][0] == CONTROL:
            raise StudyError(
                f"{shown(name, 40)} is named with --control and --reference; say which it is"
            )
        roles[name] = REFERENCE, ""
    # the base: as named, or by its name
    usual = (name for usual in USUAL_BASES for name in methods if name.lower() == usual)
    base = given.base or next(usual, None)
    if base is None:
        raise StudyError(
            "say with --base which method the others are compared with: "
            f"{', '.join(shown(name, 40) for name in methods[:12])}"
        )
    _all_there([base], methods, "--base")
    if (role := roles[base][0]) != METHOD:
        raise StudyError(f"the base {shown(base, 40)} is named as a {role} too; leave that out")
    roles[base] = BASE, ""
    if all(role in (BASE, CONTROL, REFERENCE) for role, _ in roles.values()):
        raise StudyError(
            "every method besides the base is a control or a reference, so none is judged; "
            "leave one without such a role"
        )
    return roles


def _all_there(names: Sequence[str], methods: Any, what: str) -> None:
    known = list(dict.fromkeys(methods))
    for name in names:
        if name not in known:
            listed = ", ".join(shown(each, 40) for each in known[:12])
            raise StudyError(f"{what} {shown(name, 40)} is not a method of the table: {listed}")


def _unit(
    column: Any, name: str, facts: dict[str, dict[str, Any]], *, signed: bool
) -> tuple[str, bool, float]:
    """The metric's name, whether it is in per cent, and the divisor of its values.

    A column with the name of a share is in per cent: its values are shares of 1 if none is above 1,
    else per cent.
    """
    share = share_named(plain(name))
    called = share or plain(name) or "value"
    if signed:
        facts["results_percent_signs"] = {}
        return called, True, 1.0
    values = column.dropna()
    if share is None or values.empty:
        return called, False, 1.0
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 100:
        at = values.index[int(values.argmin() if low < 0 else values.argmax())]
        raise StudyError(
            f"{name!r} has the name of a share, and holds {low if low < 0 else high:g} in "
            f"{place(column, at)}, which lies neither from 0 to 1 nor from 0 to 100; correct it, "
            "or rename the column"
        )
    _check_mixed(values, name)
    shares = high <= 1
    fact = "results_shares" if shares else "results_percent"
    facts[fact] = {"column": name, "low": low, "high": high}
    return called, True, 1.0 if shares else 100.0


def _check_mixed(values: Any, name: str) -> None:
    """Refuse shares of 1 among values in per cent: a hundred times one lies among the others.

    Raises:
        StudyError: they are mixed.
    """
    large, small = values[values > 1], values[(values > 0) & (values <= 1)]
    if large.empty:
        return
    alike = small[(100 * small).between(0.9 * large.min(), 1.1 * large.max())]
    if not alike.empty:
        one, other = alike.index[0], large.index[0]
        raise StudyError(
            f"{name!r} holds {values[one]:g} in {place(values, one)} and {values[other]:g} in "
            f"{place(values, other)}, which look like a share of 1 and per cent; write all alike, "
            "or with percent signs if all are per cent"
        )
