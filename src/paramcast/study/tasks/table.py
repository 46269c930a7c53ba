"""A task from a table: numbers standardised, texts one-hot, a small network; and what was read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as nnf
from pandas.api.types import is_datetime64_any_dtype, is_integer_dtype, is_numeric_dtype
from sklearn.metrics import r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ...errors import TaskError
from ..reading import shown
from .frames import AS_IT_IS, ENDINGS, TableOptions, read_frame
from .networks import mlp
from .splits import check_classes, split_at_random
from .task import Task

MOST_CATEGORIES = 50
MOST_WHOLE = 20  # up to that many distinct whole numbers are taken for classes
CLIP = 10.0  # standard deviations at which an input is clipped
# standard deviation over half the range of the middle 68 %: 1 for a normal distribution
HEAVY = 5.0
LEAK = 0.99
LOOKED_AT = 2000  # rows of a split that are searched for leaks
# names of columns that only number the rows
COUNTING = re.compile(
    r"unnamed: 0|__index_level_0__|id|idx|index|row|row.?(id|nr|number)|no|nr|#", re.IGNORECASE
)
DATE = r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?"
# A number as people write it
WRITTEN = r"[-+]?[$€£¥]?\s?\d{1,3}(?:[.,' ]?\d{3})*(?:[.,]\d+)?\s?[%$€£¥]?"

Array = npt.NDArray[np.float64]


def task_from_table(
    path: Path, target: str, options: TableOptions = AS_IT_IS, split: int = 0, *, look: bool = True
) -> Task:
    """A table: numbers standardised, texts one-hot, a small network; 60/20/20.

    `look`: whether to look for columns that give the target away, which takes a second or more.
    """
    # read, and refuse what cannot be meant
    frame, read = read_frame(path, target, options)
    name, facts = path.name, dict[str, dict[str, Any]](table={})
    if read:
        facts["read"] = {"options": read}
    if target not in frame.columns:
        raise TaskError(
            f"{name} has no column {target!r}; it has {', '.join(map(str, frame.columns))}; "
            "if those are not its names, say how it is written with --read sep=, skiprows=, "
            "comment="
        )
    if frame.shape[1] == 1:
        raise TaskError(f"{name} has no column besides the target; nothing to predict from")
    _check_numbers(frame, name)
    # columns that tell nothing, rows with empty cells
    given, frame = frame.columns.drop(target), _leave_out(frame, target, facts)
    if frame.shape[1] == 1:
        raise TaskError(
            f"{name} has no column left besides the target; these hold one value, nothing, dates "
            f"or row numbers: {', '.join(map(shown, given[:12]))}"
        )
    frame = _without_missing(frame, target, name, options.missing, facts)
    empty = int(frame.isna().to_numpy().sum())
    column, features = frame[target], frame.drop(columns=target)
    texts = [c for c in features.columns if not is_numeric_dtype(features[c])]
    for text in texts:
        if features[text].nunique() > MOST_CATEGORIES:
            raise TaskError(
                f"column {text!r} of {name} holds {features[text].nunique()} different texts "
                f"(at most {MOST_CATEGORIES}); drop it or turn it into numbers"
            )
    # targets, splits, inputs: scaled by what training knows
    codes, labels = _classes(column, name, options.kind, facts)
    targets = torch.tensor(codes)
    splits = split_at_random(len(frame), targets if labels else None, name, split)
    if look:
        facts.update(_leaks(features, codes, splits, classes=bool(labels)))
    inputs = _inputs(features, texts, splits[0], facts)
    facts["table"].update(file=name, rows=len(frame), numbers=features.shape[1] - len(texts),
                          texts=len(texts), inputs=inputs.shape[1], empty=empty)  # fmt: skip
    scale = 1.0
    if not labels:
        targets, scale = _standardised_target(codes, splits[0], name, target)
    train, validation, test = ((inputs[part], targets[part]) for part in splits)
    return Task(
        name=ENDINGS.sub("", name),
        model=partial(mlp, inputs.shape[1], len(labels) if labels else 1),
        train=train,
        validation=validation,
        test=test,
        loss=nnf.cross_entropy if labels else nnf.mse_loss,
        metric="accuracy" if labels else "mse",
        target_scale=scale,
        epochs=20,
        lr_range=(0.001, 0.3),
        description=facts,
    )


def _check_numbers(frame: Any, name: str) -> None:
    """Refuse infinite cells and numbers that were read as text, with how to read them."""
    numbers = frame.select_dtypes("number")
    endless = numbers.columns[numbers.isin([np.inf, -np.inf]).any()].tolist()
    for text in (c for c in frame.columns if not is_numeric_dtype(frame[c])):
        values = frame[text].dropna().astype(str)
        parsed = pd.to_numeric(values, errors="coerce")
        # read as they are; written some other way, such as 1.234,5
        plain, written = parsed.notna(), values.str.fullmatch(WRITTEN)
        if len(values) and plain.all():  # longer than 64 bits
            endless += [text] if np.isinf(parsed.astype(float)).any() else []
        elif len(values) and (
            (plain | written).all() or (plain.mean() > 0.5 and values.nunique() > MOST_CATEGORIES)
        ):
            such = values[~plain].iloc[0]
            raise TaskError(
                f"column {text!r} of {name} holds numbers and text, such as {shown(such)}; say how "
                "numbers are written with --read decimal= or --read thousands=, or what marks a "
                f"missing value with --read na_values={such!r}, or write plain numbers"
            )
    if endless:
        raise TaskError(
            f"{name} has infinite cells in {', '.join(map(str, endless))}; replace them"
        )


def _leave_out(frame: Any, target: str, facts: dict[str, Any]) -> Any:
    """The table without the columns that tell nothing, which become facts by reason."""
    found: dict[str, list[str]] = {}
    for column in frame.columns.drop(target):
        values = frame[column]
        if values.nunique() <= 1:
            reason = "left_out_constant" if values.notna().all() else "left_out_empty"
            if values.notna().any() and values.isna().any():
                continue  # a value or none makes two
        elif is_datetime64_any_dtype(values) or (
            not is_numeric_dtype(values) and values.dropna().astype(str).str.fullmatch(DATE).all()
        ):
            reason = "left_out_dates"
        elif is_integer_dtype(values) and (values.diff().iloc[1:] == 1).all():
            reason = "left_out_counts" if COUNTING.fullmatch(column) else "counts_rows"
        else:
            continue
        found.setdefault(reason, []).append(str(column))
    facts.update({reason: {"columns": columns} for reason, columns in found.items()})
    out = [c for reason, columns in found.items() if reason != "counts_rows" for c in columns]
    return frame.drop(columns=out)


def _without_missing(
    frame: Any, target: str, name: str, missing: str | None, facts: dict[str, Any]
) -> Any:
    """The table with empty cells treated as the user wants, without rows that lack the target."""
    empty = frame.isna()
    if not empty.to_numpy().any():
        return frame
    counts = [(str(c), int(n)) for c, n in empty.sum().items() if n]
    rows = int(empty.any(axis=1).sum())
    if missing is None:
        columns = ", ".join(f"{c} ({n})" for c, n in counts)
        only_target = empty[target].sum() == rows
        impute = "" if only_target else ", or fill the cells with --missing impute"
        raise TaskError(
            f"{name} has {sum(n for _, n in counts)} empty or NaN cells in {rows} of {len(frame)} "
            f"rows, in {columns}; leave those rows out with --missing drop{impute}"
        )
    facts[f"missing_{missing}"] = {
        "columns": list(map(list, counts)), "rows": rows, "all": len(frame)
    }  # fmt: skip
    kept = ~empty[target] if missing == "impute" else ~empty.any(axis=1)
    if missing == "impute" and not kept.all():
        facts["no_target"] = {"dropped": int((~kept).sum())}
    return frame[kept].reset_index(drop=True)


def _classes(
    column: Any, name: str, kind: str | None, facts: dict[str, Any]
) -> tuple[npt.NDArray[Any], list[str]]:
    """The targets: codes and their labels, or numbers and no labels; with the reason."""
    number = is_numeric_dtype(column) and column.dtype != bool
    if is_datetime64_any_dtype(column) or (kind == "regression" and not is_numeric_dtype(column)):
        raise TaskError(
            f"column {column.name!r} of {name} holds no numbers, such as "
            f"{shown(str(column.iloc[0]))}; a regression needs numbers"
        )
    # what it is to be, and why
    distinct = column.nunique()
    whole = number and bool((column == column.round()).all())
    if distinct == 1 and (kind == "regression" or (number and not whole)):
        raise TaskError(f"column {column.name!r} of {name} holds one value only; nothing to learn")
    because = "asked" if kind else "text"
    if kind is None and number:
        because = "fractions" if not whole else "few" if distinct <= MOST_WHOLE else "many"
    told = {"column": str(column.name), "because": because, "distinct": distinct}
    if (kind or ("classes" if because in ("text", "few") else "regression")) == "regression":
        values = column.astype(float)
        facts["regression"] = told | {
            key: float(getattr(values, key)()) for key in ("min", "max", "median")
        }
        return values.to_numpy(), []
    # classes: codes in the order of the sorted labels
    codes, labels = pd.factorize(column.astype("int64") if whole else column, sort=True)
    labels = [str(label) for label in labels]
    try:
        check_classes(name, labels, torch.tensor(codes))
    except TaskError as error:
        more = ", or read the column as a number with --kind regression" if number else ""
        raise TaskError(f"{error}{more}") from None
    counts = np.bincount(codes).tolist()
    facts["classes"] = told | {"classes": [list(pair) for pair in zip(labels, counts, strict=True)]}
    return codes.astype(np.int64), labels


def _leaks(
    features: Any, targets: npt.NDArray[Any], splits: Sequence[list[int]], *, classes: bool
) -> dict[str, Any]:
    """Columns that alone give the target away, if there are any.

    A decision tree of one column is fitted on training rows and scored on others: by the mean
    share of each class that it finds, or R2; a number is also ranked beside the target (Spearman).
    """
    train, rest = splits[0][:LOOKED_AT], [*splits[1], *splits[2]][:LOOKED_AT]
    ranked = targets if classes else pd.Series(targets).rank().to_numpy()
    found = []
    for name in features.columns:
        column, number = features[name], is_numeric_dtype(features[name])
        x = column.rank().to_numpy() if number else pd.factorize(column)[0]
        tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(random_state=0)
        guess = tree.fit(x[train, None], ranked[train]).predict(x[rest, None])
        if classes:
            score = pd.Series(guess == ranked[rest]).groupby(ranked[rest]).mean().mean()
        else:
            order = abs(pd.Series(x).corr(pd.Series(ranked))) if number else 0.0
            score = np.nanmax([r2_score(ranked[rest], guess), order])
        if score > LEAK:
            found.append([str(name), f"{score:.3f}"])
    return {"leaks": {"columns": found}} if found else {}


def _inputs(
    features: Any, texts: list[str], train: list[int], facts: dict[str, Any]
) -> torch.Tensor:
    """Every column centred, scaled and clipped, by what the training split knows of it.

    A missing number becomes the median, a missing text none of the known ones.
    """
    frame = features.copy()
    for text in texts:
        frame[text] = frame[text].astype(object).map(str, na_action="ignore")
    frame = frame.astype({c: float for c in frame.columns if c not in texts})
    frame = pd.get_dummies(frame, columns=texts, dtype=float)
    frame = frame.fillna(frame.iloc[train].median()).fillna(0.0)
    # every column over its largest, centred and scaled by training
    values = _over_largest(frame.to_numpy(dtype=float))[0]
    known = values[train]
    std = known.std(0, ddof=1)
    constant = np.ptp(known, axis=0) <= 1e-14  # of values up to 1: nothing but rounding
    std[constant] = 1.0
    scaled = (values - known.mean(0)) / std
    # numbers with heavy tails are scaled by their middle 68 % instead
    numbers = features.shape[1] - len(texts)
    low, middle, high = np.quantile(known[:, :numbers], [0.16, 0.5, 0.84], axis=0)
    spread = (high - low) / 2  # for a normal distribution one standard deviation
    heavy = np.flatnonzero((spread > 0) & (std[:numbers] > HEAVY * spread))
    if len(heavy):
        with np.errstate(over="ignore"):
            scaled[:, heavy] = (values[:, heavy] - middle[heavy]) / spread[heavy]
        facts["heavy_tails"] = {"columns": frame.columns[heavy].tolist(), "clip": CLIP}
    return torch.tensor(scaled.clip(-CLIP, CLIP)).float()


def _standardised_target(
    values: Array, train: list[int], name: str, target: str
) -> tuple[torch.Tensor, float]:
    """Targets of mean 0 and standard deviation 1 in training, and that deviation."""
    relative, largest = _over_largest(values[:, None])
    known = relative[train]
    std = float(known.std(ddof=1)) * float(largest[0])
    if np.ptp(known) <= 1e-14:
        raise TaskError(f"column {target!r} of {name} holds one value only; nothing to learn")
    if not 1e-150 < std < 1e150:
        raise TaskError(
            f"column {target!r} of {name} has a standard deviation of {std:.3g}, whose square is "
            "out of range; give it in other units"
        )
    return torch.tensor((relative - known.mean()) / known.std(ddof=1)).float(), std


def _over_largest(values: Array) -> tuple[Array, Array]:
    """Columns over their largest magnitude, as squares of 1e200 overflow; and that magnitude."""
    largest = np.abs(values).max(0)
    largest[largest == 0] = 1.0
    return values / largest, largest
