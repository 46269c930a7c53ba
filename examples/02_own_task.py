"""Judge PLP on a task of your own: diabetes, a regression where a lower error is better.

Run it as a script, or let the command line do it:  paramcast pilot 02_own_task.py:task --quick
"""

import subprocess
import sys
import tempfile

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from paramcast.study import Task


def task() -> Task:
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.tensor(x).float(), torch.tensor(y).float()[:, None]
    train, rest = train_test_split(range(len(y)), train_size=0.6, random_state=0)
    validation, test = train_test_split(rest, train_size=0.5, random_state=0)
    x = (x - x[train].mean(0)) / x[train].std(0)
    y = (y - y[train].mean()) / y[train].std()
    return Task(
        name="diabetes",
        model=lambda: torch.nn.Sequential(
            torch.nn.Linear(10, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)
        ),
        train=(x[train], y[train]),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
        loss=torch.nn.functional.mse_loss,
        metric="mae",
        epochs=10,
        lr_range=(0.001, 0.1),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "paramcast", "pilot", f"{__file__}:task", "--quick"]
        sys.exit(subprocess.run([*command, "--out", out]).returncode)
