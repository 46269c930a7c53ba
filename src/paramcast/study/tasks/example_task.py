"""A task for `paramcast pilot`: replace the data, the model and the loss with your own.

Run it with:  paramcast pilot THIS_FILE.py:task --quick
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from paramcast.study import Task


def make_model() -> torch.nn.Module:
    """A fresh model each time: every run of the comparison starts from its own weights."""
    return torch.nn.Sequential(
        torch.nn.Linear(64, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )


def task() -> Task:
    """What `paramcast pilot` calls."""
    # Your data: tensors or arrays whose first dimension counts examples, or datasets of
    # (input, target) pairs. This example: 1,797 handwritten digits, 8 x 8 pixels.
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)

    # Three splits. Learning rates are chosen on validation, the verdict is read off test: an
    # example must not be in two of them. Fix the seed, or the splits change from run to run.
    # One test example must be worth less than the margin, 0.5 points: give test 1,000 or more.
    rest, test = train_test_split(range(len(y)), test_size=1100, stratify=y, random_state=0)
    train, validation = train_test_split(rest, train_size=0.5, stratify=y[rest], random_state=0)
    x = (x - x[train].mean()) / x[train].std()  # scale with what training may know

    return Task(
        name="my-digits",
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
