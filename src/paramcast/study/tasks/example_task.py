"""A task for `paramcast pilot`: replace the data, the model and the loss with your own.

Run it with:  paramcast pilot THIS_FILE.py:task --quick
"""

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from paramcast.study import Task


def make_model() -> torch.nn.Module:
    """A fresh model each time: every run of the comparison starts from its own weights."""
    return torch.nn.Sequential(
        torch.nn.Linear(13, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 3),
    )


def task() -> Task:
    """What `paramcast pilot` calls."""
    # Your data: tensors or arrays whose first dimension counts examples, or datasets of
    # (input, target) pairs. This example: 178 Italian wines, 13 measurements, 3 cultivars.
    x, y = load_wine(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)

    # Three splits. Learning rates are chosen on validation, the verdict is read off test: an
    # example must not be in two of them. Fix the seed, or the splits change from run to run.
    train, rest = train_test_split(range(len(y)), train_size=0.5, stratify=y, random_state=0)
    validation, test = train_test_split(rest, train_size=0.5, stratify=y[rest], random_state=0)
    x = (x - x[train].mean(0)) / x[train].std(0)  # scale with what training may know

    return Task(
        name="wine",
        model=make_model,
        train=(x[train], y[train]),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
        # For a regression: targets of the shape of the model's output,
        #   loss=torch.nn.functional.mse_loss, metric="mse" (or "mae", or your own function
        #   metric(outputs, targets) with higher_is_better=False).
        loss=torch.nn.functional.cross_entropy,
        metric="accuracy",
        epochs=20,
        batch_size=16,
        base="sgd",  # or "nesterov", "adamw", or a function base(parameters, lr) -> optimizer
        schedule="cosine",  # or "constant", "warmup", "cyclic", "wsd"
        lr_range=(0.003, 0.3),  # searched, unless you give --lr
    )
