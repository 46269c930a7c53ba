"""A training for `paramcast pilot`: keep your own loop, and let the trial say what differs.

Run it with:  paramcast pilot THIS_FILE.py:train --quick
"""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from paramcast import Trial

# What the results below mean. Names such as "accuracy" or "..._loss" say which way is better; for
# any other, state higher_is_better = True or False.
metric = "accuracy"  # judged: measure it on data that nothing else sees
tune_by = "validation_loss"  # chooses the learning rates
lr_range = (0.01, 1.0)  # searched, unless you give --lr
margin = 0.5  # differences below half a point do not matter


class Digits(Dataset[dict[str, torch.Tensor]]):
    """1797 digits of 8x8 pixels, as dicts: nothing here has to fit paramcast."""

    def __init__(self, first: int, last: int) -> None:
        x, y = load_digits(return_X_y=True)
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[first:last]
        self.images = torch.tensor(x / 16, dtype=torch.float32)[order]
        self.labels = torch.tensor(y)[order]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int | slice) -> dict[str, torch.Tensor]:
        return {"image": self.images[i], "label": self.labels[i]}


def train(trial: Trial) -> dict[str, float]:
    """One training. It is called for each seed, learning rate and method."""
    # Seed everything that is random: runs are compared seed by seed.
    torch.manual_seed(trial.seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    ).to(trial.device)

    # Your number of steps: 0.8 of them in the runs that judge speed. A schedule spans `steps`.
    steps = trial.steps(300)

    # Your optimizer, at the trial's learning rate, and the one line that a method needs.
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.lr, momentum=0.9)
    optimizer = trial.wrap(optimizer)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    def loss_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = model(batch["image"].to(trial.device))
        return functional.cross_entropy(outputs, batch["label"].to(trial.device))

    loader, step = DataLoader(Digits(0, 400), batch_size=32, shuffle=True), 0
    # One test example must be worth less than the margin: 1,100 of them.
    validation, test = Digits(400, 697), Digits(697, 1797)
    while step < steps:
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if (
                step % 50 == 0
            ):  # optional: a curve, `paramcast watch`, and an early end if it is NaN
                trial.report(step, train_loss=loss)
            if step == steps:
                break

    # The averaged weights where the method has them, and the results by name.
    model.eval()
    with trial.eval_weights(model), torch.no_grad():
        correct = model(test.images.to(trial.device)).argmax(1).cpu() == test.labels
        return {
            "validation_loss": loss_of(validation[:]).item(),
            "accuracy": correct.float().mean().item(),
        }
