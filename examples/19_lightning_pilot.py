"""A pilot on a Lightning module: paramcast pilot 19_lightning_pilot.py:train --quick"""

import logging
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import paramcast

metric = "accuracy"  # judged, on the test split
tune_by = "validation_loss"  # chooses the learning rates
lr_range = (0.01, 0.5)

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*(does not have many workers|have no `val_dataloader`)")
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
data = TensorDataset(images, torch.tensor(digits.target))


def part(start, stop):
    return torch.utils.data.Subset(data, range(start, stop))


class Digits(LightningModule):
    def __init__(self, trial, steps):
        super().__init__()
        self.trial, self.steps = trial, steps
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 4 * 4, 10),
        )

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        outputs = self.net(batch[0])
        self.log("loss", torch.nn.functional.cross_entropy(outputs, batch[1]))
        self.log("accuracy", (outputs.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.trial.lr, momentum=0.9)
        optimizer = self.trial.wrap(optimizer)  # PLP, another method or nothing
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def train(trial):
    torch.manual_seed(trial.seed)
    steps = trial.steps(150)
    module = Digits(trial, steps)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(part(0, 800), batch_size=32, shuffle=True))
    with trial.eval_weights(module):
        (validation,), (test,) = (
            trainer.validate(module, DataLoader(split, batch_size=1000), verbose=False)
            for split in (part(800, 1200), part(1200, 1797))
        )
    return {"validation_loss": validation["loss"], "accuracy": test["accuracy"]}


if __name__ == "__main__":
    print(train(paramcast.Trial(lr=0.1)))  # outside a pilot: nothing of ours happens
