"""A task from a table: numbers standardised, texts one-hot, a small network."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as nnf

from ...errors import TaskError
from .networks import mlp
from .splits import check_classes, split_at_random
from .task import Task

MOST_CATEGORIES = 50


def task_from_table(path: Path, target: str, split: int = 0) -> Task:
    """A table: numbers standardised, texts one-hot, a small network; 60/20/20."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, low_memory=False)  # or types are guessed part by part
    except (ValueError, OSError, OverflowError) as error:
        raise TaskError(f"{path.name} cannot be read as a table: {error}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # or every cell counts for its neighbour
        raise TaskError(
            f"{path.name} has more cells in its rows than names in its first line; name every "
            "column there"
        )
    if target not in frame.columns:
        raise TaskError(
            f"{path.name} has no column {target!r}; it has {', '.join(map(str, frame.columns))}"
        )
    holes = frame.columns[frame.isna().any()].tolist()
    if holes:
        raise TaskError(
            f"{path.name} has empty or NaN cells in {', '.join(map(str, holes))}; fill or drop them"
        )
    column, features = frame[target], frame.drop(columns=target)
    if features.shape[1] == 0:
        raise TaskError(f"{path.name} has no column beside the target; nothing to predict from")
    if column.nunique() == 1 and pd.api.types.is_float_dtype(column):
        raise TaskError(f"column {target!r} of {path.name} holds one value only; nothing to learn")
    numbers = frame.select_dtypes("number")
    endless = numbers.columns[numbers.isin([math.inf, -math.inf]).any()].tolist()
    if endless:
        raise TaskError(
            f"{path.name} has infinite cells in {', '.join(map(str, endless))}; replace them"
        )
    texts = [c for c in features.columns if not pd.api.types.is_numeric_dtype(features[c])]
    for name in texts:
        if features[name].nunique() > MOST_CATEGORIES:
            raise TaskError(
                f"column {name!r} of {path.name} holds {features[name].nunique()} different texts "
                f"(at most {MOST_CATEGORIES}); drop it or turn it into numbers"
            )
    inputs = torch.tensor(
        pd.get_dummies(features, columns=texts, dtype=float).to_numpy(dtype=float)
    )
    numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
    if numeric and (column.nunique() > 20 or pd.api.types.is_float_dtype(column)):
        targets, labels = torch.tensor(column.to_numpy(dtype=float))[:, None], None
    else:
        codes, labels = pd.factorize(column, sort=True)
        targets = torch.tensor(codes, dtype=torch.long)
        check_classes(path.name, [str(v) for v in labels], targets)
    train, validation, test = split_at_random(
        len(inputs), targets if labels is not None else None, path.name, split
    )
    mean, std = inputs[train].mean(0), inputs[train].std(0)
    std[std < 1e-12] = 1.0  # a column that is constant in training
    inputs = ((inputs - mean) / std).float()
    if labels is None:
        targets = ((targets - targets[train].mean()) / targets[train].std()).float()
    return Task(
        name=path.stem,
        model=partial(mlp, inputs.shape[1], 1 if labels is None else len(labels)),
        train=(inputs[train], targets[train]),
        validation=(inputs[validation], targets[validation]),
        test=(inputs[test], targets[test]),
        loss=nnf.mse_loss if labels is None else nnf.cross_entropy,
        metric="mse" if labels is None else "accuracy",
        epochs=20,
        lr_range=(0.001, 0.3),
    )
