"""PLP under Lightning, and evaluation and checkpoints with averaged weights."""

import logging
import tempfile

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits

import paramcast
from paramcast.averaging import EMA
from paramcast.integrations.lightning import ForecastCallback
from paramcast.predictors import Midline

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
torch.set_num_threads(1)  # the network is small
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
data = torch.utils.data.TensorDataset(images, torch.tensor(digits.target))
train, test = torch.utils.data.random_split(data, [1200, len(data) - 1200])


class Digits(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * 4 * 4, 10),
        )

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        # PLP(optimizer) would do; with an average the callback has something to evaluate.
        optimizer = paramcast.Forecast(optimizer, Midline(), average=EMA(half_life=30))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * 38)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


with tempfile.TemporaryDirectory() as folder:
    best = ModelCheckpoint(folder, monitor="accuracy", mode="max")
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[best, ForecastCallback()],
        logger=False,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Digits(),
        torch.utils.data.DataLoader(train, batch_size=32, shuffle=True),
        torch.utils.data.DataLoader(test, batch_size=200),
    )
    print(f"best accuracy of the averaged weights: {100 * best.best_model_score:.2f} %")
    for name, value in trainer.callback_metrics.items():
        print(f"{name:24s} {value:.4f}")
    averaged = Digits.load_from_checkpoint(best.best_model_path)  # the averaged weights
print("parameters loaded:", sum(p.numel() for p in averaged.parameters()))
