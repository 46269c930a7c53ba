"""A LightningModule and its Trainer; averaged weights are shown by the callback."""

import logging
import warnings

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paramcast.integrations.lightning import ForecastCallback

metric = "accuracy"
lr_range = (0.003, 0.3)
warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    def __init__(self, trial):
        super().__init__()
        self.trial = trial
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, index):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        if index % 10 == 0:
            self.trial.report(self.global_step, train_loss=loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("validation_loss", nn.functional.cross_entropy(self.net(x), y))

    def test_step(self, batch, index):
        x, y = batch
        self.log("accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.trial.lr, momentum=0.9)
        return self.trial.wrap(optimizer)


def train(trial):
    lightning.seed_everything(trial.seed, verbose=False)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    parts = torch.utils.data.random_split(
        data, [900, 400, 497], generator=torch.Generator().manual_seed(0)
    )
    train_part, validation_part, test_part = parts
    average = [ForecastCallback()] if trial.method != "base" else []
    trainer = lightning.Trainer(
        max_steps=trial.steps(80), accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=average,
        default_root_dir=trial.folder, check_val_every_n_epoch=None, val_check_interval=10**6,
    )  # fmt: skip
    model = Classifier(trial)
    trainer.fit(model, DataLoader(train_part, batch_size=32, shuffle=True))
    (validated,) = trainer.validate(model, DataLoader(validation_part, 400), verbose=False)
    (tested,) = trainer.test(model, DataLoader(test_part, 497), verbose=False)
    return {**validated, **tested}
